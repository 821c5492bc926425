//! [`UdpListeners`]: from a model's UDP listeners to entries with sockets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use portolan_model::Model;
use portolan_telemetry::Metrics;

use super::sockets::UdpSocketRegistry;
use super::{UdpEntry, UdpSockets};
use crate::build_problem::BuildProblem;
use crate::unbound::Unbound;

/// What the builder keeps of them.
#[derive(Default)]
pub(crate) struct UdpListeners {
    sockets: UdpSocketRegistry,
    unbound: Unbound<UdpSockets>,
}

impl UdpListeners {
    /// The listeners whose addresses are bound. Without `workers` nobody serves, and none is.
    pub(crate) fn build(
        &mut self,
        model: &Model,
        workers: Option<usize>,
        metrics: &Metrics,
        problems: &mut Vec<BuildProblem>,
    ) -> Vec<Arc<UdpEntry>> {
        let mut entries = Vec::with_capacity(model.udp_listeners.len());
        let mut unbound = Vec::new();
        for listener in &model.udp_listeners {
            let bound = match workers {
                Some(workers) => self.sockets.bind(listener.address, workers),
                None => Ok(Arc::new(UdpSockets::none())),
            };
            match bound {
                Ok(sockets) => entries.push(UdpEntry::new(listener, sockets, metrics)),
                Err(error) => {
                    unbound.push(listener.address);
                    metrics.server.listener_create_failure.inc();
                    let message = format!("cannot take datagrams on {}: {error}", listener.address);
                    problems.push(BuildProblem::of_listener(&listener.name, &listener.origins, message));
                }
            }
        }
        self.unbound.replace(unbound);
        self.sockets.retain(|address| model.udp_listeners.iter().any(|listener| listener.address == *address));
        entries
    }

    /// Uses sockets of another process for their addresses, if those are wanted in the next snapshot.
    pub(crate) fn inherit(&mut self, sockets: Vec<UdpSocket>) {
        self.sockets.inherit(sockets);
    }

    /// Binds no address any more that is not in use.
    pub(crate) fn end(&mut self) {
        self.sockets.end();
    }

    pub(crate) fn lacks_sockets(&self) -> bool {
        !self.unbound.is_empty()
    }

    /// Tries addresses again that could not be bound; those that were are the answer.
    pub(crate) fn bind_again(&mut self, workers: usize) -> Vec<SocketAddr> {
        self.unbound.bind_again(|address| self.sockets.bind(address, workers))
    }
}

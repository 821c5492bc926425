//! [`UdpListeners`]: from a model's UDP listeners to entries with sockets.

use std::sync::Arc;

use portolan_model::Model;
use portolan_telemetry::Metrics;

use super::sockets::UdpSocketRegistry;
use super::{UdpEntry, UdpSockets};
use crate::build_problem::BuildProblem;

/// What the builder keeps of them.
#[derive(Default)]
pub(crate) struct UdpListeners(UdpSocketRegistry);

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
        for listener in &model.udp_listeners {
            let bound = match workers {
                Some(workers) => self.0.bind(listener.address, workers),
                None => Ok(Arc::new(UdpSockets::none())),
            };
            match bound {
                Ok(sockets) => entries.push(UdpEntry::new(listener, sockets, metrics)),
                Err(error) => {
                    let message = format!("cannot take datagrams on {}: {error}", listener.address);
                    problems.push(BuildProblem::of_listener(&listener.name, &listener.origins, message));
                }
            }
        }
        self.0.retain(|address| model.udp_listeners.iter().any(|listener| listener.address == *address));
        entries
    }
}

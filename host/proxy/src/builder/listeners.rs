//! Listeners, with the sockets that their addresses have.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_model::{Listener, Model};

use super::Builder;
use crate::build_problem::BuildProblem;
use crate::snapshot::ListenerEntry;
use crate::sockets::Sockets;
use crate::tls::{ChainMaking, FilterChains};

impl Builder {
    pub(super) fn listeners(&mut self, model: &Model, problems: &mut Vec<BuildProblem>) -> Vec<ListenerEntry> {
        let mut entries = Vec::with_capacity(model.listeners.len());
        let mut unbound = Vec::new();
        for listener in &model.listeners {
            let bound = if self.options.bind {
                self.sockets.bind(listener.address, self.options.workers)
            } else {
                Ok(Arc::new(Sockets::none()))
            };
            match bound {
                Ok(sockets) => {
                    let chains = self.chains(model, listener, problems);
                    entries.push(ListenerEntry::new(listener, sockets, chains, &self.options.metrics));
                }
                Err(error) => {
                    unbound.push(listener.address);
                    self.options.metrics.server.listener_create_failure.inc();
                    let message = format!("cannot listen on {}: {error}", listener.address);
                    problems.push(BuildProblem::of_listener(listener.address, &listener.origins, message));
                }
            }
        }
        self.options.metrics.retain_certificates(|name| model.secrets.iter().any(|secret| secret.name == name));
        self.unbound.replace(unbound);
        self.sockets.retain(|address| model.listeners.iter().any(|listener| listener.address == *address));
        entries
    }

    /// True when some listener of the last snapshot has no socket.
    pub fn lacks_sockets(&self) -> bool {
        !self.sockets.ends() && (!self.unbound.is_empty() || self.udp.lacks_sockets())
    }

    /// Tries the addresses again that could not be bound. Those that can be by now are bound, and the next snapshot serves
    /// them: it must be built at once.
    pub fn bind_again(&mut self) -> Vec<SocketAddr> {
        if self.sockets.ends() {
            return Vec::new();
        }
        let workers = self.options.workers;
        let mut bound = self.unbound.bind_again(|address| self.sockets.bind(address, workers));
        bound.extend(self.udp.bind_again(self.options.workers));
        bound
    }

    /// The filter chains of a listener of TLS.
    fn chains(
        &self,
        model: &Model,
        listener: &Listener,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Arc<FilterChains>> {
        if listener.filter_chains.is_empty() {
            return None;
        }
        let mut served = self.last.iter().flat_map(|last| &last.listeners);
        let last = served.find(|entry| entry.address == listener.address).and_then(|entry| entry.chains.as_deref());
        let making = ChainMaking { secrets: &model.secrets, last, metrics: &self.options.metrics };
        Some(Arc::new(making.of(listener, problems)))
    }
}

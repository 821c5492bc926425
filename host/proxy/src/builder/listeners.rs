//! Listeners, with the sockets that their addresses have.

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
                    let message = format!("cannot listen on {}: {error}", listener.address);
                    problems.push(BuildProblem::of_listener(listener.address, &listener.origins, message));
                }
            }
        }
        self.options.metrics.retain_certificates(|name| model.secrets.iter().any(|secret| secret.name == name));
        self.sockets.retain(|address| model.listeners.iter().any(|listener| listener.address == *address));
        entries
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

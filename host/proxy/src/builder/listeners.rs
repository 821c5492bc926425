//! Listeners, with the sockets that their addresses have.

use std::sync::Arc;

use portolan_model::{Listener, Model};

use super::Builder;
use crate::build_problem::BuildProblem;
use crate::module_source::Cause;
use crate::snapshot::ListenerEntry;
use crate::sockets::Sockets;
use crate::tcp::TcpEntry;
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
                Ok(sockets) => entries.push(ListenerEntry {
                    chains: self.chains(model, listener, problems),
                    address: listener.address,
                    server_port: listener.server_port,
                    route_table: listener.route_table,
                    proxy_headers: listener.proxy_headers.clone().map(Arc::new),
                    limits: listener.limits,
                    sockets,
                    metrics: self.options.metrics.listener(listener.address),
                    http: match listener.tcp {
                        None => self.options.metrics.http(&listener.name),
                        Some(_) => Arc::default(),
                    },
                    tcp: listener
                        .tcp
                        .as_ref()
                        .map(|tcp| TcpEntry::new(tcp, self.options.metrics.tcp(&tcp.stat_prefix))),
                }),
                Err(error) => problems.push(BuildProblem {
                    subject: format!("listener {}", listener.address),
                    origin: listener.origins.first().cloned(),
                    message: format!("cannot listen on {}: {error}", listener.address),
                    kept_old: false,
                    cause: Cause::Broken,
                    config: None,
                }),
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

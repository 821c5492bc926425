//! [`FilterChains`]: which filter chain of a listener takes a client, by the server name that it asks for.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::RouteTableId;

use super::ServerTls;
use crate::tcp::TcpEntry;

/// The filter chains of one listener.
#[derive(Default)]
pub(crate) struct FilterChains {
    pub(crate) list: Vec<ChainEntry>,
    by_name: HashMap<Box<str>, usize>,
    /// Wildcards without their star: `.example.com`.
    by_suffix: HashMap<Box<str>, usize>,
    /// The chain of `*`.
    any: Option<usize>,
}

/// One filter chain, made ready from the model.
pub(crate) struct ChainEntry {
    /// What makes it the same chain in another snapshot.
    pub(crate) server_names: Vec<String>,
    pub(crate) transport: Transport,
    pub(crate) route_table: RouteTableId,
    pub(crate) server_port: u16,
    pub(crate) tcp: Option<Arc<TcpEntry>>,
    /// Its Gateway wants HTTP/3 served, too.
    pub(crate) http3: bool,
}

/// What becomes of the client's TLS.
#[derive(Clone)]
pub(crate) enum Transport {
    /// It ends here.
    Tls(Arc<ServerTls>),
    /// It goes through as it is.
    Passthrough,
    /// Its credential cannot be used and never could: handshakes fail.
    Down,
}

impl ChainEntry {
    /// How clients of HTTP/3 are served; none where they are not.
    pub(crate) fn quic(&self) -> Option<&Arc<ServerTls>> {
        match &self.transport {
            Transport::Tls(tls) if self.http3 && self.tcp.is_none() && tls.fits_quic => Some(tls),
            _ => None,
        }
    }
}

impl FilterChains {
    pub(crate) fn new(list: Vec<ChainEntry>) -> Self {
        let mut chains = Self::default();
        for (index, chain) in list.iter().enumerate() {
            for name in &chain.server_names {
                match name.strip_prefix('*') {
                    Some("") => _ = chains.any.get_or_insert(index),
                    Some(suffix) => _ = chains.by_suffix.entry(suffix.into()).or_insert(index),
                    None => _ = chains.by_name.entry(name.as_str().into()).or_insert(index),
                }
            }
        }
        Self { list, ..chains }
    }

    /// The exact name, else the longest suffix, else the chain of `*`, which alone takes clients that name no server.
    pub(crate) fn find(&self, server_name: Option<&str>) -> Option<usize> {
        let Some(name) = server_name else { return self.any };
        if let Some(index) = self.by_name.get(name) {
            return Some(*index);
        }
        let suffixes = name.match_indices('.').map(|(at, _)| &name[at..]);
        suffixes.filter(|suffix| suffix.len() < name.len()).find_map(|s| self.by_suffix.get(s)).copied().or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_name_wins_then_the_longest_suffix_then_the_star() {
        let chain = |names: &[&str]| ChainEntry {
            server_names: names.iter().map(|name| (*name).to_owned()).collect(),
            transport: Transport::Passthrough,
            route_table: 0,
            server_port: 443,
            tcp: None,
            http3: false,
        };
        let chains = FilterChains::new(vec![chain(&["*.example.com", "b.test"]), chain(&["*.a.example.com"])]);
        assert_eq!(chains.find(Some("x.example.com")), Some(0));
        assert_eq!(chains.find(Some("x.y.a.example.com")), Some(1));
        assert_eq!(chains.find(Some("b.test")), Some(0));
        // A wildcard never covers its bare suffix, and nobody else takes clients without a name.
        assert_eq!(chains.find(Some("example.com")), None);
        assert_eq!(chains.find(None), None);
        let chains = FilterChains::new(vec![chain(&["b.test"]), chain(&["*"])]);
        assert_eq!((chains.find(None), chains.find(Some("c.test"))), (Some(1), Some(1)));
    }
}

//! [`Edge`]: limits of what comes in from outside, and what counts towards them over all workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::overload::Overload;

/// Limits of the process. Times of zero are no limit, but for the first two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// A head that was begun must be whole within this time, as must the first one of a connection. Default 15 s.
    pub head_timeout: Duration,
    /// From the accept to the end of the TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a request may take to come in with its body. Envoy's edge default, 5 min.
    pub request_timeout: Duration,
    /// How long a request, an upgraded one too, may go without a byte either way. Envoy's default, 5 min.
    pub stream_idle_timeout: Duration,
    /// How long a connection may be without a request. Envoy's default, 1 h.
    pub idle_timeout: Duration,
    /// Bytes of a request's body. Default none.
    pub max_request_bytes: Option<u64>,
    /// Connections of one listener at once. Default none.
    pub max_connections: Option<u32>,
    /// Connections of one client's address at once, over all listeners. Default none.
    pub max_connections_per_source: Option<u32>,
    /// Resident memory in bytes; near it requests are refused, then connections. Default none.
    pub max_memory: Option<u64>,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            stream_idle_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(3600),
            max_request_bytes: None,
            max_connections: None,
            max_connections_per_source: None,
            max_memory: None,
        }
    }
}

/// Shared by all workers.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) limits: EdgeLimits,
    pub(crate) overload: Overload,
    /// Connections by address; empty without a limit. Locked as connections come and go only.
    sources: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place among those of its source.
#[derive(Debug)]
pub(crate) struct SourcePlace {
    edge: Arc<Edge>,
    source: IpAddr,
}

impl Edge {
    pub(crate) fn new(limits: EdgeLimits) -> Arc<Self> {
        let overload = Overload::new(limits.max_memory);
        Arc::new(Self { limits, overload, sources: Mutex::default() })
    }

    /// A place for one more connection of this address; an error when it has as many as it may.
    pub(crate) fn admit_source(self: &Arc<Self>, source: IpAddr) -> Result<Option<SourcePlace>, SourceLimitError> {
        let Some(limit) = self.limits.max_connections_per_source else { return Ok(None) };
        let source = source.to_canonical();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        if *count >= limit {
            return Err(SourceLimitError);
        }
        *count += 1;
        Ok(Some(SourcePlace { edge: self.clone(), source }))
    }
}

/// The address has as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of one source")]
pub(crate) struct SourceLimitError;

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut sources = self.edge.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_source_has_so_many_places_and_gets_them_back() {
        let edge = Edge::new(EdgeLimits { max_connections_per_source: Some(2), ..EdgeLimits::default() });
        let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let held = (edge.admit_source(source), edge.admit_source(source));
        assert!(held.0.is_ok() && held.1.is_ok() && edge.admit_source(source).is_err());
        assert!(edge.admit_source(IpAddr::V4(Ipv4Addr::BROADCAST)).is_ok(), "another source");
        drop(held.0);
        assert!(edge.admit_source(source).is_ok());
        drop(held.1);
        assert!(edge.sources.lock().is_ok_and(|sources| sources.is_empty()), "nothing is kept of who has gone");
    }
}

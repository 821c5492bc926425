//! Callouts: what a filter asks of other hosts (HTTP, gRPC, Redis), as the proxy gets it to carry out, and its bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, request, uri};

/// Largest body of an HTTP callout and of its answer, in bytes: Envoy's buffer limit. A larger request is refused with
/// INTERNAL_FAILURE, a larger answer becomes a 503.
pub const MAX_CALL_BODY: usize = 1024 * 1024;

/// Largest gRPC message that is received, in bytes: gRPC's usual limit. A larger one ends the call with status 8.
pub const MAX_GRPC_MESSAGE: usize = 4 * 1024 * 1024;

/// Most bytes that one gRPC stream may have waiting to be sent. Beyond it `grpc_send` answers INTERNAL_FAILURE.
pub(crate) const MAX_GRPC_QUEUE: usize = 4 * 1024 * 1024;

/// Most bytes that all callouts of a VM hold at one time, sent and received ones together. Beyond it new ones are refused
/// with INTERNAL_FAILURE, and answers that no longer fit fail like a broken connection.
const MAX_HELD: usize = 32 * 1024 * 1024;

/// What a callout costs beside its bytes.
const COST: usize = 256;

/// Longest that a callout may take. Filters that give no timeout (0) get this one: Envoy would wait for ever.
const MAX_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Something that the proxy is to do for a filter. Ids are unique among the callouts that a VM has in flight.
#[derive(Debug)]
pub enum Callout {
    /// Send a request; the answer goes to [`crate::PluginVm::on_http_call_response`].
    Http(HttpCall),
    /// Begin a gRPC call or stream.
    Grpc(GrpcCall),
    /// Send one more message on a gRPC stream.
    GrpcSend(GrpcSend),
    /// Send nothing more on a gRPC stream.
    GrpcClose(u32),
    /// Give up a gRPC call or stream; nothing more is told of it.
    GrpcCancel(u32),
    /// Send a command to a Redis server; the reply goes to [`crate::PluginVm::on_redis_response`].
    Redis(RedisCall),
}

/// One HTTP request.
#[derive(Debug)]
pub struct HttpCall {
    /// What the filter knows it by.
    pub id: u32,
    /// Where it goes.
    pub upstream: Upstream,
    /// `:authority` is the `host` header; the URI is a path. No framing headers.
    pub request: request::Parts,
    /// May be empty.
    pub body: Bytes,
    /// May be empty.
    pub trailers: HeaderMap,
    /// For everything from the look-up of the host to the last byte of the answer.
    pub timeout: Duration,
    /// What it counts for; to be kept until the answer is delivered.
    pub held: Held,
}

/// The answer to an HTTP callout, the upstream's or the gateway's own.
#[derive(Clone, Debug)]
pub struct CallResponse {
    /// `:status`.
    pub status: StatusCode,
    /// Without pseudo headers.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
    /// May be empty.
    pub trailers: HeaderMap,
}

/// One gRPC call (a message each way) or stream.
#[derive(Debug)]
pub struct GrpcCall {
    /// What the filter knows it by.
    pub id: u32,
    /// Where it goes.
    pub upstream: Upstream,
    /// `:authority`, when the filter names one.
    pub authority: Option<uri::Authority>,
    /// `/SERVICE/METHOD`.
    pub path: uri::PathAndQuery,
    /// Request metadata.
    pub metadata: HeaderMap,
    /// The message of a call, which is the only one in each direction; none for a stream.
    pub message: Option<Bytes>,
    /// For the whole call; a stream may last until either side ends it.
    pub timeout: Option<Duration>,
    /// What it counts for.
    pub held: Held,
}

/// One message on a gRPC stream.
#[derive(Debug)]
pub struct GrpcSend {
    /// The stream.
    pub id: u32,
    /// Without the length in front. None when only the end is to be told.
    pub message: Bytes,
    /// Nothing follows.
    pub end: bool,
    /// What it counts for, until it is sent.
    pub held: Held,
    /// The same in the stream's own count.
    pub queued: Held,
}

/// One command for a Redis server.
#[derive(Debug)]
pub struct RedisCall {
    /// What the filter knows it by.
    pub id: u32,
    /// The server, as `redis_init` has made it known.
    pub server: Arc<RedisServer>,
    /// One array of bulk strings in RESP.
    pub query: Bytes,
    /// What it counts for.
    pub held: Held,
}

/// A Redis server, by `redis_init`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisServer {
    /// Where it is.
    pub upstream: Upstream,
    /// Empty: the default user.
    pub username: String,
    /// Empty: no authentication.
    pub password: String,
    /// Number of the data base, 0 by default.
    pub database: u32,
    /// For one command.
    pub timeout: Duration,
}

/// Where a callout goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// One of the gateway's clusters, for instance `outbound|80||app.test`.
    Cluster(Arc<str>),
    /// `IP:PORT`.
    Address(SocketAddr),
    /// `HOST:PORT`, to be resolved by DNS.
    Name {
        /// Lower case.
        host: String,
        /// Not 0.
        port: u16,
    },
}

impl Upstream {
    /// `IP:PORT`, or `HOST:PORT`; none for any other text.
    pub(crate) fn of_address(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_host(host).then(|| Self::Name { host: host.to_ascii_lowercase(), port })
    }
}

/// A share of the bytes that something may hold; given back when dropped.
#[derive(Debug)]
pub struct Held {
    bytes: usize,
    total: Arc<AtomicUsize>,
    limit: usize,
}

impl Held {
    /// A share of nobody's, of at most `limit` bytes: for calls that the host makes by itself.
    pub fn apart(limit: usize) -> Self {
        Self { bytes: 0, total: Arc::default(), limit }
    }

    /// The share of a callout that brings this many bytes; none when all callouts of the VM would hold too much.
    pub(crate) fn of_callout(total: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        Self::of(total, MAX_HELD, bytes)
    }

    /// A share of `limit` bytes in all; none when it is not left.
    pub(crate) fn of(total: &Arc<AtomicUsize>, limit: usize, bytes: usize) -> Option<Self> {
        let mut held = Self { bytes: 0, total: total.clone(), limit };
        held.grow(bytes.saturating_add(COST)).then_some(held)
    }

    /// Holds more bytes; false, and no change, when that would be too much.
    pub fn grow(&mut self, bytes: usize) -> bool {
        // Only the VM's worker counts up: what another thread takes away in between leaves more room, not less.
        let total = self.total.load(Relaxed).saturating_add(bytes);
        if total > self.limit {
            return false;
        }
        self.total.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        true
    }

    /// Holds fewer bytes.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.total.fetch_sub(bytes, Relaxed);
        self.bytes -= bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Relaxed);
    }
}

/// A timeout in milliseconds as filters give it.
pub(crate) fn timeout(ms: u32) -> Duration {
    if ms == 0 { MAX_TIMEOUT } else { Duration::from_millis(ms.into()).min(MAX_TIMEOUT) }
}

/// A DNS name: letters, digits, `-`, `_`, in labels of 1 to 63.
fn is_host(host: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && host.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
        && !host.bytes().all(|c| c.is_ascii_digit() || c == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_with_a_port_are_upstreams() {
        let name = |host: &str, port| Some(Upstream::Name { host: host.to_owned(), port });
        assert_eq!(
            Upstream::of_address("127.0.0.1:80"),
            Some(Upstream::Address(SocketAddr::from(([127, 0, 0, 1], 80))))
        );
        assert!(matches!(Upstream::of_address("[::1]:80"), Some(Upstream::Address(_))));
        assert_eq!(Upstream::of_address("Auth.Example.com:8080"), name("auth.example.com", 8080));
        assert_eq!(Upstream::of_address("redis:6379"), name("redis", 6379));
        for bad in ["", "a", "a:", ":80", "a:0", "a:65536", "127.0.0.1:0", "1.2.3:80", "a b:80", "a\r\n:80", "a..b:80"]
        {
            assert_eq!(Upstream::of_address(bad), None, "{bad:?}");
        }
        assert_eq!(Upstream::of_address("outbound|80||app.test"), None);
    }

    #[test]
    fn shares_are_bounded_and_come_back() {
        let total = Arc::new(AtomicUsize::new(0));
        let mut first = Held::of(&total, 1000, 400).expect("room");
        assert!(!first.grow(400));
        assert!(first.grow(300));
        assert!(Held::of(&total, 1000, 0).is_none());
        drop(first);
        assert_eq!(total.load(Relaxed), 0);
    }

    #[test]
    fn no_timeout_and_a_very_long_one_are_an_hour() {
        assert_eq!(timeout(0), Duration::from_secs(3_600));
        assert_eq!(timeout(u32::MAX), Duration::from_secs(3_600));
        assert_eq!(timeout(5), Duration::from_millis(5));
    }
}

//! [`Course`]: what properties tell of how a stream has gone. Kept where a user's filter could ask.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// Times, sizes and the upstream connection of one stream.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) start: SystemTime,
    started: Instant,
    /// Body bytes from the client so far.
    pub(crate) received: u64,
    /// Body bytes to the client so far.
    pub(crate) sent: u64,
    /// From start to end, once it has ended.
    pub(crate) duration: Option<Duration>,
    /// When the last try was sent.
    upstream_sent: Option<Instant>,
    /// From there to the end of the response, once that is there.
    pub(crate) backend_latency: Option<Duration>,
    /// How long the last try waited for a connection.
    pub(crate) pool_ready: Option<Duration>,
    /// Our address on the upstream connection.
    pub(crate) upstream_local: Option<SocketAddr>,
    /// Why the last try had no connection; empty when it had.
    pub(crate) transport_failure: String,
}

impl Course {
    /// A stream that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            start: SystemTime::now(),
            started: Instant::now(),
            received: 0,
            sent: 0,
            duration: None,
            upstream_sent: None,
            backend_latency: None,
            pool_ready: None,
            upstream_local: None,
            transport_failure: String::new(),
        }
    }

    /// A try has its connection, after so long.
    pub(crate) fn connected(&mut self, waited: Duration, local: Option<SocketAddr>) {
        self.pool_ready = Some(waited);
        self.upstream_local = local;
        self.transport_failure.clear();
        self.upstream_sent = Some(Instant::now());
    }

    /// The stream is over.
    pub(crate) fn end(&mut self) {
        let now = Instant::now();
        self.duration = Some(now - self.started);
        self.backend_latency = self.upstream_sent.map(|sent| now - sent);
    }
}

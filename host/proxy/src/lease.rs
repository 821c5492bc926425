//! [`Lease`]: a connection while a request has it, and [`OpenConnection`], what is known of it for as long as it is open.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;

use crate::body::RequestBody;
use crate::clock;
use crate::cluster::Permit;
use crate::endpoint::EndpointState;
use crate::pool::{ClusterPool, EndpointPool, Idle};
use crate::sent::SentHead;
use crate::upstream::{ConnectionKey, Http2Stream, UpstreamTransport};

/// What a request is sent by.
pub(crate) enum Sender {
    Http1(SendRequest<RequestBody>),
    Http2(Http2Stream),
}

/// A connection in use. Goes back to the pool by [`Lease::give_back`], is closed when dropped.
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    /// Counts the connection as open, also when a tunnel has taken it over from HTTP.
    pub(crate) open: Rc<OpenConnection>,
    /// Requests sent on it before this one.
    pub(crate) requests: u32,
    pub(crate) cluster: Rc<ClusterPool>,
    pub(crate) pool: Rc<EndpointPool>,
    pub(crate) max_requests: u32,
    pub(crate) max_age_ms: u64,
}

impl Lease {
    /// The connection's endpoint.
    pub(crate) fn endpoint(&self) -> &Arc<EndpointState> {
        &self.pool.endpoint
    }

    /// Our address on it.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.open.local
    }

    /// The head that the connection was last asked to write.
    pub(crate) fn sent(&self) -> &SentHead {
        &self.open.sent
    }

    /// Sends a request on it.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(stream) => stream.sender().try_send_request(request).await,
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether its peer takes extended CONNECT, once that is known: none over HTTP/1.
    pub(crate) async fn takes_websockets(&self) -> bool {
        match &self.sender {
            Sender::Http1(_) => false,
            Sender::Http2(stream) => stream.takes_websockets().await,
        }
    }

    /// No further request goes on the connection.
    pub(crate) fn retire(&self) {
        if let Sender::Http2(stream) = &self.sender {
            stream.retire();
        }
    }

    /// Keeps the connection for the next request, unless it has served its number or nobody may want it.
    pub(crate) fn give_back(self) {
        let Self { sender, open, requests, cluster, pool, max_requests, max_age_ms } = self;
        let requests = requests + 1;
        match sender {
            Sender::Http1(sender) => {
                let spent = max_requests != 0 && requests >= max_requests;
                if spent {
                    cluster.state.metrics.upstream_cx_max_requests.inc();
                }
                if spent || !open.is_younger_than(max_age_ms) || pool.closed.get() || sender.is_closed() {
                    return;
                }
                pool.idle.borrow_mut().push(Idle { sender, open, requests, since_ms: clock::coarse_ms() });
            }
            Sender::Http2(stream) => drop(stream),
        }
        if cluster.state.waiting.load(Relaxed) > 0 {
            cluster.state.available.notify_waiters();
        }
    }
}

/// An upstream connection, counted until its task and its user have let go of it.
pub(crate) struct OpenConnection {
    /// Our side.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) sent: Arc<SentHead>,
    pub(crate) transport: Arc<UpstreamTransport>,
    pub(crate) key: Option<Rc<ConnectionKey>>,
    /// Coarse stamp.
    opened_ms: u64,
    _counted: Counted,
}

impl OpenConnection {
    pub(crate) fn new(
        local: Option<SocketAddr>,
        transport: &Arc<UpstreamTransport>,
        key: Option<Rc<ConnectionKey>>,
        (endpoint, place): (&Arc<EndpointState>, Permit),
    ) -> Rc<Self> {
        let _counted = Counted::new(endpoint, place);
        let (sent, opened_ms) = (Arc::default(), clock::coarse_ms());
        Rc::new(Self { local, sent, transport: transport.clone(), key, opened_ms, _counted })
    }

    pub(crate) fn is_younger_than(&self, max_age_ms: u64) -> bool {
        clock::coarse_ms().saturating_sub(self.opened_ms) < max_age_ms
    }
}

/// Counts a connection of its endpoint as open.
struct Counted {
    endpoint: Arc<EndpointState>,
    _place: Permit,
}

impl Counted {
    fn new(endpoint: &Arc<EndpointState>, place: Permit) -> Self {
        endpoint.seen.connections.fetch_add(1, Relaxed);
        Self { endpoint: endpoint.clone(), _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.endpoint.seen.connections.fetch_sub(1, Relaxed);
    }
}

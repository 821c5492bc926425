//! Upstream connections of one worker: kept by endpoint, newest first, bounded by the cluster's limits over all workers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portolan_model::CircuitBreakers;
use portolan_telemetry::UpstreamAddress;
use rand::Rng;
use tokio::sync::Mutex;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::balancer::{Avoid, Balancer};
use crate::body::RequestBody;
use crate::cluster::{ClusterState, EndpointSet, Permit};
use crate::dynamic::Hosts;
use crate::endpoint::EndpointState;
use crate::lease::{Lease, OpenConnection, Sender};
use crate::principals;
use crate::sent::Recorded;
use crate::upstream::{
    Application, ConnectError, ConnectionKey, Http2Connection, Http2Stream, Socket, UpstreamTransport, connect,
};
use crate::worker::Worker;

/// Most bytes of an answer's head, as Envoy's parser has it; a longer one is a protocol error. It bounds what is read ahead
/// of a body, too.
pub(crate) const MAX_ANSWER_HEAD: usize = 80 * 1024;

/// A waiting request looks again after this time even when nothing woke it: a wake-up between two looks of another
/// worker may have been missed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One worker's connections to one cluster.
pub(crate) struct ClusterPool {
    pub(crate) state: Arc<ClusterState>,
    pub(crate) balancer: RefCell<Balancer>,
    set: RefCell<Arc<EndpointSet>>,
    endpoints: RefCell<Vec<Rc<EndpointPool>>>,
    yields: RefCell<Option<AbortHandle>>,
    /// Of a cluster whose requests name their hosts.
    pub(crate) dynamic: Hosts,
}

/// One worker's connections to one endpoint.
pub(crate) struct EndpointPool {
    pub(crate) endpoint: Arc<EndpointState>,
    pub(crate) idle: RefCell<Vec<Idle>>,
    /// Connections that requests share, newest last.
    shared: RefCell<Vec<Shared>>,
    /// Held while such a connection is made, so that many requests at once make one.
    dialing: Mutex<()>,
    /// How often that failed, and how last: whoever waited for it fails in the same way.
    failed: RefCell<(u32, Option<ConnectError>)>,
    /// The endpoint left the cluster: connections are not kept.
    pub(crate) closed: Cell<bool>,
    /// Requests of this worker that wait for one of its connections.
    waiters: Cell<u32>,
}

pub(crate) struct Idle {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) open: Rc<OpenConnection>,
    pub(crate) requests: u32,
    pub(crate) since_ms: u64,
}

/// An HTTP/2 connection with what it was made for.
struct Shared {
    connection: Rc<Http2Connection>,
    open: Rc<OpenConnection>,
}

/// What a checkout needs to know of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    pub(crate) breakers: CircuitBreakers,
    pub(crate) connect_timeout: Duration,
    /// Requests on one connection; 0 is no limit.
    pub(crate) max_requests: u32,
    /// A connection that is older serves no further request.
    pub(crate) max_age_ms: u64,
}

/// The connection that a request needs.
pub(crate) struct Wanted<'a> {
    pub(crate) limits: PoolLimits,
    pub(crate) transport: &'a Arc<UpstreamTransport>,
    /// None where all requests of the cluster are alike.
    pub(crate) key: Option<Rc<ConnectionKey>>,
    pub(crate) is_http2: bool,
    /// Not one that has served before.
    pub(crate) fresh: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckoutError {
    /// One more request than `http1MaxPendingRequests` would wait.
    #[error("pending requests overflow")]
    Overflow,
    /// The endpoint did not take the connection, or there is no TLS to be had with it.
    #[error("connection to {0} failed: {1}")]
    Connect(UpstreamAddress, ConnectError),
    /// HTTP could not start on it.
    #[error("connection to {0} could not start: {1}")]
    Handshake(UpstreamAddress, hyper::Error),
}

impl ClusterPool {
    pub(crate) fn new(state: Arc<ClusterState>, rng: &mut impl Rng) -> Rc<Self> {
        Rc::new(Self {
            state,
            balancer: RefCell::new(Balancer::new(rng)),
            set: RefCell::new(Arc::default()),
            endpoints: RefCell::default(),
            yields: RefCell::default(),
            dynamic: Hosts::default(),
        })
    }

    /// The endpoints now, as this worker knows them.
    pub(crate) fn endpoints(&self) -> Arc<EndpointSet> {
        if self.set.borrow().version != self.state.version() {
            self.renew();
        }
        self.set.borrow().clone()
    }

    /// The pool of an endpoint of the set that [`Self::endpoints`] gave last.
    fn endpoint(&self, index: usize) -> Option<Rc<EndpointPool>> {
        self.endpoints.borrow().get(index).cloned()
    }

    /// The pool of an endpoint by the cluster's policy, other than those to avoid when one is found in a few picks.
    pub(crate) fn pick(&self, worker: &Worker, hash: Option<u64>, avoid: Avoid<'_>) -> Option<Rc<EndpointPool>> {
        let set = self.endpoints();
        self.endpoint(worker.with_rng(|rng| self.balancer.borrow_mut().pick(&set, hash, avoid, rng))?)
    }

    fn renew(&self) {
        let set = self.state.endpoints();
        let mut old = self.endpoints.take();
        let pools = set.endpoints.iter().map(|endpoint| {
            let known = old.iter().position(|pool| pool.endpoint.address == endpoint.address);
            match known.map(|at| old.swap_remove(at)) {
                Some(pool) if Arc::ptr_eq(&pool.endpoint, endpoint) => pool,
                Some(pool) => EndpointPool::new(endpoint, pool.idle.take(), pool.shared.take()),
                None => EndpointPool::new(endpoint, Vec::new(), Vec::new()),
            }
        });
        let pools = pools.collect();
        self.endpoints.replace(pools);
        self.set.replace(set);
        for gone in old {
            gone.closed.set(true);
            gone.idle.take();
            gone.shared.take();
        }
    }

    /// A connection to the endpoint: an idle one unless it must be `fresh`, or a new one, waiting for a place when there
    /// is none.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        wanted: &Wanted<'_>,
    ) -> Result<Lease, CheckoutError> {
        if !wanted.fresh
            && let Some(lease) = self.reuse(pool, wanted)
        {
            return Ok(lease);
        }
        // Boxed: the state of connecting and of handshakes is large, and would be moved with every request, though few need it.
        Box::pin(self.wait_and_connect(pool, wanted)).await
    }

    async fn wait_and_connect(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        wanted: &Wanted<'_>,
    ) -> Result<Lease, CheckoutError> {
        let pending = self.state.wait_for_connection(wanted.limits.breakers.max_pending_requests);
        let Some(_pending) = pending else { return Err(CheckoutError::Overflow) };
        if !wanted.is_http2 {
            return self.place_and_dial(pool, wanted).await;
        }
        let before = pool.failed.borrow().0;
        let _dialing = pool.dialing.lock().await;
        // Another request may have made one in the meantime, or tried to.
        if let Some(lease) = self.reuse(pool, wanted) {
            return Ok(lease);
        }
        if let (now, Some(error)) = &*pool.failed.borrow()
            && *now != before
        {
            return Err(CheckoutError::Connect(pool.endpoint.address, error.clone()));
        }
        let dialed = self.place_and_dial(pool, wanted).await;
        if let Err(CheckoutError::Connect(_, error)) = &dialed {
            pool.failed.replace_with(|(times, _)| (times.wrapping_add(1), Some(error.clone())));
        }
        dialed
    }

    fn reuse(self: &Rc<Self>, pool: &Rc<EndpointPool>, wanted: &Wanted<'_>) -> Option<Lease> {
        if wanted.is_http2 {
            let (stream, open) = pool.take_stream(wanted)?;
            return Some(self.lease_stream(pool, stream, open));
        }
        pool.take(wanted).map(|idle| self.lease(pool, idle, wanted.limits))
    }

    async fn place_and_dial(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        wanted: &Wanted<'_>,
    ) -> Result<Lease, CheckoutError> {
        match self.state.open_connection(wanted.limits.breakers.max_connections) {
            Some(place) => self.dial(pool, wanted, place).await,
            None => self.wait(pool, wanted).await,
        }
    }

    async fn wait(self: &Rc<Self>, pool: &Rc<EndpointPool>, wanted: &Wanted<'_>) -> Result<Lease, CheckoutError> {
        self.state.metrics.upstream_cx_overflow.inc();
        let _waiting = Waiting::new(&self.state, pool);
        loop {
            let available = self.state.available.notified();
            tokio::pin!(available);
            available.as_mut().enable();
            if let Some(lease) = self.reuse(pool, wanted) {
                return Ok(lease);
            }
            // One for another host, client or version holds a place that it does not use.
            pool.give_up_unfit(wanted);
            if let Some(place) = self.state.open_connection(wanted.limits.breakers.max_connections) {
                return self.dial(pool, wanted, place).await;
            }
            self.state.demand.notify_one();
            // Running out is as good as being woken: look again.
            let _ = timeout(LOOK_AGAIN, available).await;
        }
    }

    fn lease(self: &Rc<Self>, pool: &Rc<EndpointPool>, idle: Idle, limits: PoolLimits) -> Lease {
        Lease {
            sender: Sender::Http1(idle.sender),
            open: idle.open,
            requests: idle.requests,
            cluster: self.clone(),
            pool: pool.clone(),
            max_requests: limits.max_requests,
            max_age_ms: limits.max_age_ms,
        }
    }

    fn lease_stream(self: &Rc<Self>, pool: &Rc<EndpointPool>, stream: Http2Stream, open: Rc<OpenConnection>) -> Lease {
        let requests = stream.requests_before();
        let sender = Sender::Http2(stream);
        Lease {
            sender,
            open,
            requests,
            cluster: self.clone(),
            pool: pool.clone(),
            max_requests: 0,
            max_age_ms: u64::MAX,
        }
    }

    async fn dial(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        wanted: &Wanted<'_>,
        place: Permit,
    ) -> Result<Lease, CheckoutError> {
        let Wanted { limits, is_http2, .. } = wanted;
        let address = pool.endpoint.address;
        let application = if *is_http2 { Application::Http2 } else { Application::Http1 };
        let (socket, open) = self.open(pool, wanted, application, place).await?;
        self.yield_on_demand(limits.breakers.max_connections);
        if *is_http2 {
            return self.start_http2(pool, wanted, socket, open).await;
        }
        self.state.metrics.upstream_cx_http1_total.inc();
        // Lines that go on in the next one are joined, as Envoy does with responses.
        let (sender, connection) = http1::Builder::new()
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_buf_size(MAX_ANSWER_HEAD)
            .handshake(TokioIo::new(Recorded::new(socket, &open.sent)))
            .await
            .map_err(|error| CheckoutError::Handshake(address, error))?;
        let held = open.clone();
        spawn_local(async move {
            // How it ended is told by the request on it, if there is one.
            let _ = connection.with_upgrades().await;
            drop(held);
        });
        Ok(self.lease(pool, Idle { sender, open, requests: 0, since_ms: 0 }, *limits))
    }

    /// Opens a socket to an endpoint.
    pub(crate) async fn open(
        &self,
        pool: &EndpointPool,
        wanted: &Wanted<'_>,
        application: Application,
        place: Permit,
    ) -> Result<(Socket, Rc<OpenConnection>), CheckoutError> {
        let Wanted { limits, transport, key, .. } = wanted;
        let address = pool.endpoint.address;
        let socket = connect(&self.state, address, limits.connect_timeout, transport, key.as_deref(), application)
            .await
            .map_err(|error| CheckoutError::Connect(address, error))?;
        pool.endpoint.seen.principals.store(principals::number(&socket, transport), Relaxed);
        let open = OpenConnection::new(socket.local(), transport, key.clone(), (&pool.endpoint, place));
        Ok((socket, open))
    }

    async fn start_http2(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        wanted: &Wanted<'_>,
        socket: Socket,
        open: Rc<OpenConnection>,
    ) -> Result<Lease, CheckoutError> {
        let address = pool.endpoint.address;
        self.state.metrics.upstream_cx_http2_total.inc();
        let streams = wanted.transport.settings.max_concurrent_streams;
        let started = Http2Connection::start(socket, streams, open.clone()).await;
        let connection = started.map_err(|error| CheckoutError::Handshake(address, error))?;
        // A new connection has a place, unless a limit is 0, which there is none of.
        let stream = connection.stream(wanted.limits.max_requests).ok_or(CheckoutError::Overflow)?;
        if !pool.closed.get() {
            pool.shared.borrow_mut().push(Shared { connection, open: open.clone() });
        }
        Ok(self.lease_stream(pool, stream, open))
    }

    /// With a connection limit, gives up an idle connection whenever another worker needs the place.
    fn yield_on_demand(self: &Rc<Self>, max_connections: u32) {
        if max_connections == u32::MAX || self.yields.borrow().is_some() {
            return;
        }
        let (state, pool) = (self.state.clone(), Rc::downgrade(self));
        let task = spawn_local(async move {
            loop {
                state.demand.notified().await;
                let Some(pool) = pool.upgrade() else { return };
                let endpoints = pool.endpoints.borrow().clone();
                let mut spare = endpoints.iter().filter(|endpoint| endpoint.waiters.get() == 0);
                spare.any(|endpoint| endpoint.give_up_idle());
            }
        });
        self.yields.replace(Some(task.abort_handle()));
    }

    /// Closes connections that were idle for longer than `idle_timeout_ms`.
    pub(crate) fn sweep(&self, now_ms: u64, idle_timeout_ms: u64) {
        self.dynamic.sweep(now_ms, idle_timeout_ms);
        for pool in self.endpoints.borrow().iter() {
            pool.idle
                .borrow_mut()
                .retain(|idle| !idle.sender.is_closed() && now_ms.saturating_sub(idle.since_ms) < idle_timeout_ms);
            pool.shared.borrow_mut().retain(|shared| shared.connection.is_wanted(now_ms, idle_timeout_ms));
        }
    }
}

impl Drop for ClusterPool {
    fn drop(&mut self) {
        if let Some(task) = self.yields.take() {
            task.abort();
        }
    }
}

impl EndpointPool {
    fn new(endpoint: &Arc<EndpointState>, idle: Vec<Idle>, shared: Vec<Shared>) -> Rc<Self> {
        Rc::new(Self {
            endpoint: endpoint.clone(),
            idle: RefCell::new(idle),
            shared: RefCell::new(shared),
            dialing: Mutex::default(),
            failed: RefCell::default(),
            closed: Cell::new(false),
            waiters: Cell::new(0),
        })
    }

    /// The newest idle connection that fits: warm in the caches, and old ones may expire. What was made in another way than
    /// the cluster's now is closed.
    fn take(&self, wanted: &Wanted<'_>) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let max_age_ms = wanted.limits.max_age_ms;
        if max_age_ms != u64::MAX {
            idle.retain(|idle| idle.open.is_younger_than(max_age_ms));
        }
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let is_current = Arc::ptr_eq(&idle[at].open.transport, wanted.transport);
            if is_current && idle[at].sender.is_ready() {
                if idle[at].open.key == wanted.key {
                    return Some(idle.remove(at));
                }
                continue;
            }
            // Neither ready nor closed: its task has not run since the last answer ended; the next request finds it.
            if !is_current || idle[at].sender.is_closed() {
                idle.remove(at);
            }
        }
        None
    }

    /// A place on the newest shared connection that has one. Those that take no more are forgotten: their requests hold them.
    fn take_stream(&self, wanted: &Wanted<'_>) -> Option<(Http2Stream, Rc<OpenConnection>)> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| {
            shared.connection.is_usable()
                && Arc::ptr_eq(&shared.open.transport, wanted.transport)
                && shared.open.is_younger_than(wanted.limits.max_age_ms)
        });
        let mut fitting = shared.iter().rev().filter(|shared| shared.open.key == wanted.key);
        fitting.find_map(|shared| Some((shared.connection.stream(wanted.limits.max_requests)?, shared.open.clone())))
    }

    /// Closes an idle connection that this request cannot use, if there is one.
    fn give_up_unfit(&self, wanted: &Wanted<'_>) {
        let is_unfit = |open: &OpenConnection, is_http2| is_http2 != wanted.is_http2 || open.key != wanted.key;
        let mut idle = self.idle.borrow_mut();
        if let Some(at) = idle.iter().position(|idle| is_unfit(&idle.open, false)) {
            idle.remove(at);
            return;
        }
        let mut shared = self.shared.borrow_mut();
        let unfit = |shared: &Shared| shared.connection.is_idle() && is_unfit(&shared.open, true);
        if let Some(at) = shared.iter().position(unfit) {
            shared.remove(at);
        }
    }

    /// Closes an idle connection, if there is one.
    fn give_up_idle(&self) -> bool {
        // Dropped only after the borrow: closing wakes others.
        let idle = self.idle.borrow_mut().pop();
        let shared = || {
            let mut shared = self.shared.borrow_mut();
            let at = shared.iter().position(|shared| shared.connection.is_idle())?;
            Some(shared.remove(at))
        };
        idle.is_some() || shared().is_some()
    }
}

/// Counts a request that waits while all places for connections are taken.
struct Waiting(Arc<ClusterState>, Rc<EndpointPool>);

impl Waiting {
    fn new(state: &Arc<ClusterState>, pool: &Rc<EndpointPool>) -> Self {
        state.waiting.fetch_add(1, Relaxed);
        pool.waiters.set(pool.waiters.get() + 1);
        Self(state.clone(), pool.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
        self.1.waiters.set(self.1.waiters.get() - 1);
    }
}

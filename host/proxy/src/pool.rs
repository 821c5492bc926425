//! Upstream connections of one worker: kept by endpoint, newest first, bounded by the cluster's limits over all workers.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use portolan_model::CircuitBreakers;
use rand::Rng;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::balancer::Balancer;
use crate::body::RequestBody;
use crate::clock;
use crate::cluster::{ClusterState, EndpointSet, Permit};
use crate::endpoint::EndpointState;
use crate::sent::{Recorded, SentHead};

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
}

/// One worker's connections to one endpoint.
pub(crate) struct EndpointPool {
    pub(crate) endpoint: Arc<EndpointState>,
    idle: RefCell<Vec<Idle>>,
    /// The endpoint left the cluster: connections are not kept.
    closed: Cell<bool>,
    /// Requests of this worker that wait for one of its connections.
    waiters: Cell<u32>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    open: Rc<OpenConnection>,
    requests: u32,
    since_ms: u64,
}

/// A connection in use. Goes back to the pool by [`Lease::give_back`], is closed when dropped.
pub(crate) struct Lease {
    pub(crate) sender: SendRequest<RequestBody>,
    /// Counts the connection as open, also when a tunnel has taken it over from HTTP.
    open: Rc<OpenConnection>,
    /// Requests sent on it before this one.
    pub(crate) requests: u32,
    cluster: Rc<ClusterPool>,
    pool: Rc<EndpointPool>,
    max_requests: u32,
    max_age_ms: u64,
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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckoutError {
    /// One more request than `http1MaxPendingRequests` would wait.
    #[error("pending requests overflow")]
    Overflow,
    /// The endpoint did not take the connection.
    #[error("connection to {0} failed: {1}")]
    Connect(SocketAddr, std::io::Error),
    /// No answer to the connection attempt within `connectTimeout`.
    #[error("connection to {0} timed out")]
    ConnectTimeout(SocketAddr),
    /// HTTP could not start on it.
    #[error("connection to {0} could not start: {1}")]
    Handshake(SocketAddr, hyper::Error),
}

impl ClusterPool {
    pub(crate) fn new(state: Arc<ClusterState>, rng: &mut impl Rng) -> Rc<Self> {
        Rc::new(Self {
            state,
            balancer: RefCell::new(Balancer::new(rng)),
            set: RefCell::new(Arc::default()),
            endpoints: RefCell::default(),
            yields: RefCell::default(),
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
    pub(crate) fn endpoint(&self, index: usize) -> Option<Rc<EndpointPool>> {
        self.endpoints.borrow().get(index).cloned()
    }

    fn renew(&self) {
        let set = self.state.endpoints();
        let mut old = self.endpoints.take();
        let pools = set.endpoints.iter().map(|endpoint| {
            let known = old.iter().position(|pool| pool.endpoint.address == endpoint.address);
            match known.map(|at| old.swap_remove(at)) {
                Some(pool) if Arc::ptr_eq(&pool.endpoint, endpoint) => pool,
                Some(pool) => EndpointPool::new(endpoint, pool.idle.take()),
                None => EndpointPool::new(endpoint, Vec::new()),
            }
        });
        let pools = pools.collect();
        self.endpoints.replace(pools);
        self.set.replace(set);
        for gone in old {
            gone.closed.set(true);
            gone.idle.take();
        }
    }

    /// A connection to the endpoint: an idle one unless it must be `fresh`, or a new one, waiting for a place when there
    /// is none.
    pub(crate) async fn checkout(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        limits: PoolLimits,
        fresh: bool,
    ) -> Result<Lease, CheckoutError> {
        if !fresh && let Some(idle) = pool.take(limits.max_age_ms) {
            return Ok(self.lease(pool, idle, limits));
        }
        let pending = self.state.wait_for_connection(limits.breakers.max_pending_requests);
        let Some(_pending) = pending else { return Err(CheckoutError::Overflow) };
        let Some(place) = self.state.open_connection(limits.breakers.max_connections) else {
            return self.wait(pool, limits).await;
        };
        self.dial(pool, limits, place).await
    }

    async fn wait(self: &Rc<Self>, pool: &Rc<EndpointPool>, limits: PoolLimits) -> Result<Lease, CheckoutError> {
        self.state.metrics.upstream_cx_overflow.inc();
        let _waiting = Waiting::new(&self.state, pool);
        loop {
            let available = self.state.available.notified();
            tokio::pin!(available);
            available.as_mut().enable();
            if let Some(idle) = pool.take(limits.max_age_ms) {
                return Ok(self.lease(pool, idle, limits));
            }
            if let Some(place) = self.state.open_connection(limits.breakers.max_connections) {
                return self.dial(pool, limits, place).await;
            }
            self.state.demand.notify_one();
            // Running out is as good as being woken: look again.
            let _ = timeout(LOOK_AGAIN, available).await;
        }
    }

    fn lease(self: &Rc<Self>, pool: &Rc<EndpointPool>, idle: Idle, limits: PoolLimits) -> Lease {
        Lease {
            sender: idle.sender,
            open: idle.open,
            requests: idle.requests,
            cluster: self.clone(),
            pool: pool.clone(),
            max_requests: limits.max_requests,
            max_age_ms: limits.max_age_ms,
        }
    }

    async fn dial(
        self: &Rc<Self>,
        pool: &Rc<EndpointPool>,
        limits: PoolLimits,
        place: Permit,
    ) -> Result<Lease, CheckoutError> {
        let address = pool.endpoint.address;
        let stream = connect(&self.state, address, limits.connect_timeout).await?;
        let open = Rc::new(OpenConnection::new(&pool.endpoint, stream.local_addr().ok(), place));
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(Recorded::new(stream, &open.sent)))
            .await
            .map_err(|error| CheckoutError::Handshake(address, error))?;
        let held = open.clone();
        spawn_local(async move {
            // How it ended is told by the request on it, if there is one.
            let _ = connection.with_upgrades().await;
            drop(held);
        });
        self.yield_on_demand(limits.breakers.max_connections);
        Ok(self.lease(pool, Idle { sender, open, requests: 0, since_ms: 0 }, limits))
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
                let endpoints = pool.endpoints.borrow();
                let spare = endpoints.iter().filter(|endpoint| endpoint.waiters.get() == 0);
                let idle = { spare }.find_map(|endpoint| endpoint.idle.borrow_mut().pop());
                drop(endpoints);
                drop(idle);
            }
        });
        self.yields.replace(Some(task.abort_handle()));
    }

    /// Closes connections that were idle for longer than `idle_timeout_ms`.
    pub(crate) fn sweep(&self, now_ms: u64, idle_timeout_ms: u64) {
        for pool in self.endpoints.borrow().iter() {
            pool.idle
                .borrow_mut()
                .retain(|idle| !idle.sender.is_closed() && now_ms.saturating_sub(idle.since_ms) < idle_timeout_ms);
        }
    }
}

/// A socket connected to an endpoint; failures are counted in the cluster's metrics.
pub(crate) async fn connect(
    cluster: &ClusterState,
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, CheckoutError> {
    let metrics = &cluster.metrics;
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // A socket that refuses the option still works, only slower.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => {
            metrics.upstream_cx_connect_fail.inc();
            Err(CheckoutError::Connect(address, error))
        }
        Err(_) => {
            metrics.upstream_cx_connect_timeout.inc();
            metrics.upstream_cx_connect_fail.inc();
            Err(CheckoutError::ConnectTimeout(address))
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
    fn new(endpoint: &Arc<EndpointState>, idle: Vec<Idle>) -> Rc<Self> {
        Rc::new(Self {
            endpoint: endpoint.clone(),
            idle: RefCell::new(idle),
            closed: Cell::new(false),
            waiters: Cell::new(0),
        })
    }

    /// The newest idle connection: warm in the caches, and old ones may expire.
    fn take(&self, max_age_ms: u64) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        if max_age_ms != u64::MAX {
            idle.retain(|idle| idle.open.is_younger_than(max_age_ms));
        }
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            if idle[at].sender.is_ready() {
                return Some(idle.remove(at));
            }
            // Neither ready nor closed: its task has not run since the last answer ended; the next request finds it.
            if idle[at].sender.is_closed() {
                idle.remove(at);
            }
        }
        None
    }
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

    /// Keeps the connection for the next request, unless it has served its number or nobody may want it.
    pub(crate) fn give_back(self) {
        let requests = self.requests + 1;
        let spent = self.max_requests != 0 && requests >= self.max_requests;
        let is_old = !self.open.is_younger_than(self.max_age_ms);
        if spent || is_old || self.pool.closed.get() || self.sender.is_closed() {
            return;
        }
        let idle = Idle { sender: self.sender, open: self.open, requests, since_ms: clock::coarse_ms() };
        self.pool.idle.borrow_mut().push(idle);
        if self.cluster.state.waiting.load(Relaxed) > 0 {
            self.cluster.state.available.notify_waiters();
        }
    }
}

/// An upstream connection, counted until its task and its user have let go of it.
struct OpenConnection {
    endpoint: Arc<EndpointState>,
    /// Our side.
    local: Option<SocketAddr>,
    sent: Arc<SentHead>,
    /// Coarse stamp.
    opened_ms: u64,
    _place: Permit,
}

impl OpenConnection {
    fn new(endpoint: &Arc<EndpointState>, local: Option<SocketAddr>, place: Permit) -> Self {
        endpoint.connections.fetch_add(1, Relaxed);
        let opened_ms = clock::coarse_ms();
        Self { endpoint: endpoint.clone(), local, sent: Arc::default(), opened_ms, _place: place }
    }
}

impl OpenConnection {
    fn is_younger_than(&self, max_age_ms: u64) -> bool {
        clock::coarse_ms().saturating_sub(self.opened_ms) < max_age_ms
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Relaxed);
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

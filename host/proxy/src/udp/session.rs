//! [`Session`]: the datagrams of one source, from the first to the last.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::ClusterId;
use portolan_telemetry::{UdpMetrics, UpstreamAddress};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::UdpEntry;
use super::sockets::Place;
use crate::clock;
use crate::cluster::{ClusterState, EndpointSet};
use crate::connection;
use crate::context::ConnectionInfo;
use crate::endpoint::EndpointState;
use crate::tcp::{Held, Record, pick};
use crate::view::View;
use crate::worker::Worker;

/// What one client has with one endpoint.
pub(super) struct Session {
    info: Arc<ConnectionInfo>,
    metrics: Arc<UdpMetrics>,
    upstream: UdpSocket,
    cluster: Arc<ClusterState>,
    endpoint: Arc<EndpointState>,
    /// What it was last seen to fit.
    fitted: RefCell<Fitted>,
    /// Whose access logs tell of it.
    view: Rc<View>,
    record: Record,
    /// Coarse stamp of the last datagram.
    active_ms: Cell<u64>,
    has_ended: Cell<bool>,
    ended: Notify,
    held: Held,
    _place: Place,
}

/// A configuration, and the endpoints of the session's cluster.
struct Fitted {
    entry: Arc<UdpEntry>,
    endpoints: Arc<EndpointSet>,
}

/// Where a new session goes.
struct Target {
    id: ClusterId,
    endpoint: Arc<EndpointState>,
    held: Held,
}

impl Target {
    /// None when there is no route, no endpoint or no place, which is counted.
    fn of(worker: &Worker, view: &View, entry: &UdpEntry, peer: SocketAddr) -> Option<Self> {
        let destination = entry.destinations.next().map(|destination| destination.cluster);
        let Some((id, cluster)) = destination.and_then(|id| Some((id, view.snapshot.cluster(id)?))) else {
            entry.metrics.downstream_sess_no_route.inc();
            return None;
        };
        let metrics = &cluster.state.metrics;
        let Some(endpoint) = pick(worker, view, peer, id as usize) else {
            metrics.upstream_cx_none_healthy.inc();
            return None;
        };
        let model = view.snapshot.model.clusters.get(id as usize);
        let limit = model.map_or(u32::MAX, |cluster| cluster.circuit_breakers.max_connections);
        let Some(permit) = cluster.state.open_connection(limit) else {
            metrics.upstream_cx_overflow.inc();
            return None;
        };
        let held = Held::new(&endpoint, metrics, permit);
        Some(Self { id, endpoint, held })
    }
}

impl Session {
    /// None when there is no place, no route or no endpoint: the datagram is dropped, and that is counted.
    pub(super) fn open(
        worker: &Rc<Worker>,
        entry: &Arc<UdpEntry>,
        (peer, local): (SocketAddr, SocketAddr),
    ) -> Option<Self> {
        let view = worker.view();
        let metrics = &entry.metrics;
        let is_refused = worker.edge.overload.refuses_connections();
        let Some(place) = entry.sockets.place(entry.max_sessions).filter(|_| !is_refused) else {
            metrics.downstream_sess_overflow.inc();
            return None;
        };
        let Target { id, endpoint, held } = Target::of(worker, &view, entry, peer)?;
        let upstream = connected(endpoint.address).inspect_err(|_| metrics.upstream_errors.inc()).ok()?;
        let state = &view.snapshot.cluster(id)?.state;
        let record = Record::new(!view.snapshot.access_logs.is_empty());
        record.upstream(&state.name, Some(endpoint.address));
        record.upstream_local(upstream.local_addr().ok());
        let endpoints = view.pools.get(id as usize)?.endpoints();
        let info = connection::info_of(peer, peer, local)?;
        metrics.downstream_sess_total.inc();
        metrics.downstream_sess_active.inc();
        Some(Self {
            info,
            metrics: metrics.clone(),
            upstream,
            cluster: state.clone(),
            endpoint,
            fitted: RefCell::new(Fitted { entry: entry.clone(), endpoints }),
            view: view.clone(),
            record,
            active_ms: Cell::new(clock::coarse_ms()),
            has_ended: Cell::new(false),
            ended: Notify::new(),
            held,
            _place: place,
        })
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.info.peer
    }

    /// True while its listener still goes to its cluster, and that has its endpoint.
    pub(super) fn fits(&self, worker: &Worker, entry: &Arc<UdpEntry>) -> bool {
        let view = worker.view();
        let is_ours = |id: &u32| {
            let cluster = view.snapshot.cluster(*id);
            cluster.is_some_and(|cluster| Arc::ptr_eq(&cluster.state, &self.cluster))
        };
        let Some(id) = entry.destinations.ids().find(is_ours) else { return false };
        let Some(endpoints) = view.pools.get(id as usize).map(|pool| pool.endpoints()) else { return false };
        let mut fitted = self.fitted.borrow_mut();
        if Arc::ptr_eq(&fitted.entry, entry) && Arc::ptr_eq(&fitted.endpoints, &endpoints) {
            return true;
        }
        let has_endpoint = endpoints.endpoints.iter().any(|endpoint| endpoint.is_same(&self.endpoint));
        *fitted = Fitted { entry: entry.clone(), endpoints };
        has_endpoint
    }

    /// To its endpoint; what the socket does not take at once is dropped.
    pub(super) fn send(&self, datagram: &[u8]) {
        self.touch();
        self.record.received(datagram.len());
        // Asked of the system at once: the event queue does not know yet that a new socket can be written to.
        if SockRef::from(&self.upstream).send(datagram).is_err() {
            self.note_upstream_error();
        }
    }

    /// True when something may have come from its endpoint, false when the session has ended.
    pub(super) async fn readable(&self) -> bool {
        tokio::select! {
            biased;
            () = self.ended.notified() => false,
            readable = self.upstream.readable() => readable.is_ok() && !self.has_ended.get(),
        }
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.upstream.try_recv(buffer)
    }

    /// An answer was given to the client, or dropped.
    pub(super) fn answered(&self, datagram: &[u8], sent: io::Result<usize>) {
        self.touch();
        if sent.is_err() {
            return self.metrics.downstream_sess_tx_errors.inc();
        }
        self.record.sent(datagram.len());
        self.metrics.downstream_sess_tx_datagrams.inc();
        self.metrics.downstream_sess_tx_bytes.inc_by(datagram.len() as u64);
    }

    pub(super) fn note_upstream_error(&self) {
        self.metrics.upstream_errors.inc();
    }

    pub(super) fn is_idle(&self, now_ms: u64, limit: Duration) -> bool {
        Duration::from_millis(now_ms.saturating_sub(self.active_ms.get())) >= limit
    }

    pub(super) fn note_idle(&self) {
        self.metrics.idle_timeout.inc();
    }

    /// The last that happens: counted and logged.
    pub(super) fn end(&self) {
        if self.has_ended.replace(true) {
            return;
        }
        self.metrics.downstream_sess_active.dec();
        self.held.ended(false);
        self.record.write(&self.view.snapshot.access_logs, &self.info);
        self.ended.notify_one();
    }

    fn touch(&self) {
        self.active_ms.set(clock::coarse_ms());
    }
}

/// A socket that knows no other peer.
fn connected(address: UpstreamAddress) -> io::Result<UdpSocket> {
    let address = address.socket().ok_or(io::ErrorKind::Unsupported)?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

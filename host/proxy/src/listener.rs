//! [`ListenerSlot`]: a listener on one worker, from its first connection to its last, over reloads.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use portolan_model::{ListenerLimits, ProxyHeaders, RouteTableId};
use portolan_telemetry::{HttpMetrics, ListenerMetrics};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::connection::{self, Accepted, OpenSocket};
use crate::http3::{self, Http3};
use crate::proxied;
use crate::seldom::Seldom;
use crate::snapshot::{ListenerEntry, Snapshot};
use crate::sockets::{Sockets, refuse_new};
use crate::tcp::{self, TcpEntry};
use crate::tls::{self, ChainEntry, FilterChains, Transport};
use crate::view::View;
use crate::worker::Worker;

/// How long a closed socket is still accepted from: handshakes that were under way come to their end.
const CLOSING: Duration = Duration::from_millis(100);

/// How a listener stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Nobody serves its address any more: later clients are refused.
    Refuse,
    /// Another process has the same sockets and accepts from them.
    HandOver,
}

/// One listener on one worker: what its connections look up on each request.
pub(crate) struct ListenerSlot {
    pub(crate) address: SocketAddr,
    route_table: Cell<RouteTableId>,
    server_port: Cell<u16>,
    http: RefCell<Arc<HttpMetrics>>,
    metrics: RefCell<Arc<ListenerMetrics>>,
    tcp: RefCell<Option<Arc<TcpEntry>>>,
    /// Connections begin with a header of the PROXY protocol; none where they do not.
    proxy_headers: RefCell<Option<Arc<ProxyHeaders>>>,
    limits: Cell<ListenerLimits>,
    /// What TLS clients are given; none where connections are plain.
    chains: RefCell<Option<Chains>>,
    /// Keeps the address in the registry while the slot lives.
    sockets: Arc<Sockets>,
    /// What it was served with when it was removed; none while it is served.
    last: RefCell<Option<Rc<View>>>,
    /// `alt-svc` of answers, where HTTP/3 is served at the same address.
    alt_svc: RefCell<Option<HeaderValue>>,
    /// HTTP/3 beside it.
    http3: Http3,
    /// Clients that were sent away for a flood.
    floods: RefCell<Seldom>,
    closed: watch::Sender<Option<Closing>>,
}

/// The filter chains of a listener, each with a slot of its own, by the same index. A slot lives on over reloads as long as
/// there is a chain with its server names.
struct Chains {
    entries: Arc<FilterChains>,
    slots: Vec<Rc<ListenerSlot>>,
}

impl ListenerSlot {
    pub(crate) fn new(entry: &ListenerEntry) -> Rc<Self> {
        let slot = Self::bare(entry);
        slot.renew_chains(entry);
        Rc::new(slot)
    }

    /// The slot of one filter chain.
    fn of_chain(entry: &ListenerEntry, chain: &ChainEntry) -> Rc<Self> {
        let slot = Self::bare(entry);
        slot.renew_as_chain(entry, chain);
        Rc::new(slot)
    }

    fn bare(entry: &ListenerEntry) -> Self {
        Self {
            address: entry.address,
            route_table: Cell::new(entry.route_table),
            server_port: Cell::new(entry.server_port),
            http: RefCell::new(entry.http.clone()),
            metrics: RefCell::new(entry.metrics.clone()),
            tcp: RefCell::new(entry.tcp.clone()),
            proxy_headers: RefCell::new(entry.proxy_headers.clone()),
            limits: Cell::new(entry.limits),
            chains: RefCell::default(),
            sockets: entry.sockets.clone(),
            last: RefCell::default(),
            alt_svc: RefCell::default(),
            http3: Http3::default(),
            floods: RefCell::default(),
            closed: watch::Sender::new(None),
        }
    }

    pub(crate) fn route_table(&self) -> RouteTableId {
        self.route_table.get()
    }

    pub(crate) fn server_port(&self) -> u16 {
        self.server_port.get()
    }

    pub(crate) fn http(&self) -> Arc<HttpMetrics> {
        self.http.borrow().clone()
    }

    pub(crate) fn metrics(&self) -> Arc<ListenerMetrics> {
        self.metrics.borrow().clone()
    }

    /// What its Gateway says of limits.
    pub(crate) fn limits(&self) -> ListenerLimits {
        self.limits.get()
    }

    /// Where new connections go; none where HTTP is served.
    pub(crate) fn tcp(&self) -> Option<Arc<TcpEntry>> {
        self.tcp.borrow().clone()
    }

    /// The filter chain for a server name.
    pub(crate) fn chain(&self, server_name: Option<&str>) -> Option<(Rc<Self>, Transport)> {
        let chains = self.chains.borrow();
        let chains = chains.as_ref()?;
        let index = chains.entries.find(server_name)?;
        Some((chains.slots.get(index)?.clone(), chains.entries.list.get(index)?.transport.clone()))
    }

    /// The filter chain for a client of HTTP/3 that asks for this server.
    #[cfg(feature = "http3")]
    pub(crate) fn quic_chain(&self, server_name: Option<&str>) -> Option<(Rc<Self>, Arc<crate::tls::ServerTls>)> {
        let chains = self.chains.borrow();
        let chains = chains.as_ref()?;
        let index = chains.entries.find(server_name)?;
        Some((chains.slots.get(index)?.clone(), chains.entries.list.get(index)?.quic()?.clone()))
    }

    /// The filter chain of this index.
    pub(crate) fn chain_at(&self, index: usize) -> Option<Rc<Self>> {
        self.chains.borrow().as_ref()?.slots.get(index).cloned()
    }

    pub(crate) fn has_passthrough(&self) -> bool {
        let passes = |chain: &ChainEntry| matches!(chain.transport, Transport::Passthrough);
        self.chains.borrow().as_ref().is_some_and(|chains| chains.entries.list.iter().any(passes))
    }

    fn is_tls(&self) -> bool {
        self.chains.borrow().is_some()
    }

    /// Takes over the filter chains of a new snapshot; the slots of chains that are gone are the answer.
    fn renew_chains(&self, entry: &ListenerEntry) -> Vec<Rc<Self>> {
        let mut old: Vec<_> = match self.chains.take() {
            Some(chains) => chains.entries.list.iter().map(|c| c.server_names.clone()).zip(chains.slots).collect(),
            None => Vec::new(),
        };
        let slot = |chain: &ChainEntry| match old.iter().position(|(names, _)| *names == chain.server_names) {
            Some(index) => {
                let (_, slot) = old.swap_remove(index);
                slot.renew_as_chain(entry, chain);
                slot
            }
            None => Self::of_chain(entry, chain),
        };
        let mut slot = slot;
        let chains = entry.chains.as_ref().map(|entries| {
            let slots = entries.list.iter().map(&mut slot).collect();
            Chains { entries: entries.clone(), slots }
        });
        self.chains.replace(chains);
        old.into_iter().map(|(_, slot)| slot).collect()
    }

    fn renew_as_chain(&self, entry: &ListenerEntry, chain: &ChainEntry) {
        self.route_table.set(chain.route_table);
        self.server_port.set(chain.server_port);
        self.http.replace(entry.http.clone());
        self.metrics.replace(entry.metrics.clone());
        self.limits.set(entry.limits);
        self.tcp.replace(chain.tcp.clone());
        let offer = chain.quic().map(|_| format!("h3=\":{}\"; ma=86400", chain.server_port));
        self.alt_svc.replace(offer.and_then(|offer| HeaderValue::try_from(offer).ok()));
    }

    /// Says that a client is sent away for a flood of frames: one of many.
    pub(crate) fn tell_flood(&self, peer: SocketAddr) {
        if let Some(unsaid) = self.floods.borrow_mut().say(std::time::Instant::now()) {
            tracing::warn!(%peer, listener = %self.address, unsaid, "a client floods and is sent away: ENHANCE_YOUR_CALM");
        }
    }

    /// `alt-svc` of an answer; none where HTTP/3 is not served.
    pub(crate) fn alt_svc(&self) -> Option<HeaderValue> {
        let offer = self.alt_svc.borrow();
        offer.as_ref().filter(|_| self.sockets.serves_http3()).cloned()
    }

    /// The address's sockets.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    pub(crate) fn http3(&self) -> &Http3 {
        &self.http3
    }

    /// It is gone from the configuration: connections that came before are served with what it was last part of.
    fn retire(&self, last: &Rc<View>) {
        self.last.replace(Some(last.clone()));
        if let Some(chains) = &*self.chains.borrow() {
            chains.slots.iter().for_each(|slot| slot.retire(last));
        }
    }

    /// What a new stream on it is served with.
    pub(crate) fn view(&self, worker: &Worker) -> Rc<View> {
        self.last.borrow().clone().unwrap_or_else(|| worker.view())
    }

    /// True when its connections are to end.
    pub(crate) fn is_retired(&self) -> bool {
        self.last.borrow().is_some()
    }

    fn renew(&self, entry: &ListenerEntry) {
        self.route_table.set(entry.route_table);
        self.server_port.set(entry.server_port);
        self.http.replace(entry.http.clone());
        self.metrics.replace(entry.metrics.clone());
        self.limits.set(entry.limits);
        self.tcp.replace(entry.tcp.clone());
        self.proxy_headers.replace(entry.proxy_headers.clone());
    }

    fn close(&self, how: Closing) {
        self.http3.close();
        self.closed.send_replace(Some(how));
    }
}

/// Opens what the snapshot has and the worker has not, renews what both have, closes the rest; that was served with `last`.
pub(crate) fn reconcile(worker: &Rc<Worker>, snapshot: &Snapshot, last: &Rc<View>) {
    let mut slots = worker.listeners.borrow_mut();
    slots.retain(|address, slot| {
        let same = |entry: &ListenerEntry| entry.address == *address && Arc::ptr_eq(&entry.sockets, &slot.sockets);
        let stays = snapshot.listeners.iter().any(same);
        if !stays {
            slot.close(Closing::Refuse);
            slot.retire(last);
            // Connections of TCP live on until they end by themselves.
            drain_http(worker, *address);
        }
        stays
    });
    for entry in &snapshot.listeners {
        if let Some(slot) = slots.get(&entry.address) {
            if entry.tcp.is_some() || entry.chains.is_some() && !slot.is_tls() {
                // It may have served HTTP before: those connections have no host here any more.
                drain_http(worker, entry.address);
            }
            slot.renew(entry);
            for gone in slot.renew_chains(entry) {
                gone.retire(last);
                drain(worker, |slot| Rc::ptr_eq(slot, &gone));
            }
            http3::reconcile(worker, slot, entry);
            continue;
        }
        let taken = entry.sockets.take(worker.index);
        if !taken.is_empty() {
            let slot = ListenerSlot::new(entry);
            slots.insert(entry.address, slot.clone());
            taken.into_iter().for_each(|socket| open(worker, &slot, socket));
            http3::reconcile(worker, &slot, entry);
        }
    }
}

fn open(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: std::net::TcpListener) {
    match TcpListener::from_std(socket) {
        Ok(socket) => {
            spawn_local(accept(worker.clone(), slot.clone(), socket));
        }
        Err(error) => tracing::error!(address = %slot.address, %error, "the listener cannot be served"),
    }
}

fn drain_http(worker: &Worker, address: SocketAddr) {
    drain(worker, |slot| slot.address == address);
}

fn drain(worker: &Worker, of: impl Fn(&Rc<ListenerSlot>) -> bool) {
    for (_, handle) in worker.connections.borrow().iter().filter(|(_, handle)| of(handle.slot())) {
        handle.drain();
    }
}

/// Closes all listeners. Connections that the system has already taken in are still accepted: none is dropped.
pub(crate) fn close_all(worker: &Worker, how: Closing) {
    for (_, slot) in worker.listeners.borrow_mut().drain() {
        slot.close(how);
    }
}

async fn accept(worker: Rc<Worker>, slot: Rc<ListenerSlot>, socket: TcpListener) {
    // The worker ends only after what has come is taken in.
    let open = worker.open_tunnel();
    let mut closed = slot.closed.subscribe();
    let how = loop {
        if let Some(how) = *closed.borrow_and_update() {
            break how;
        }
        let accepted = tokio::select! {
            biased;
            accepted = socket.accept() => accepted,
            _ = closed.changed() => continue,
        };
        match accepted {
            Ok((stream, peer)) => serve(&worker, &slot, stream, peer),
            Err(error) => pause_after(&error).await,
        }
    };
    if let Ok(socket) = socket.into_std() {
        accept_rest(&worker, &slot, socket, how).await;
    }
    drop(open);
}

fn serve(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: TcpStream, peer: SocketAddr) {
    // One that has no place is closed as it is dropped.
    let Some(open) = OpenSocket::admit(worker, slot) else { return };
    // A socket that refuses the option still works, only slower.
    let _ = socket.set_nodelay(true);
    let headers = slot.proxy_headers.borrow().clone();
    match headers {
        Some(headers) => proxied::serve(worker, slot, &headers, (socket, peer), open),
        None => hand_over(worker, slot, (socket, Bytes::new()), (peer, None), open),
    }
}

/// Serves a socket, of which `early` has been read already, whose client is known: `direct` has opened the connection, for
/// another one where a header of the PROXY protocol has told so, with the address that was called.
pub(crate) fn hand_over(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    (socket, early): (TcpStream, Bytes),
    (direct, told): (SocketAddr, Option<(SocketAddr, SocketAddr)>),
    mut open: OpenSocket,
) {
    let Some(info) = connection::info(slot, &socket, direct, told) else { return };
    if !open.take_source_place(worker, info.peer.ip()) {
        return;
    }
    let accepted = Accepted { socket, early, info, open };
    match slot.tcp() {
        Some(tcp) => tcp::serve(worker, (slot.view(worker), tcp), accepted),
        None if slot.is_tls() => tls::serve(worker, slot, accepted),
        None => connection::serve(worker, slot, accepted),
    }
}

/// Accepts what the system has taken in, and what it is about to, which closing would reset. Asks the system and not the
/// event queue, whose knowledge may be old.
async fn accept_rest(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: std::net::TcpListener, how: Closing) {
    // A socket that the other process closes one day must not stay open here.
    slot.sockets.release();
    if how == Closing::HandOver {
        accept_queue(worker, slot, &socket);
        return;
    }
    refuse_new(&socket);
    let until = Instant::now() + CLOSING;
    while Instant::now() < until {
        accept_queue(worker, slot, &socket);
        sleep(CLOSING / 10).await;
    }
    accept_queue(worker, slot, &socket);
}

fn accept_queue(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: &std::net::TcpListener) {
    loop {
        match socket.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    serve(worker, slot, stream, peer);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

/// Errors of a single connection pass at once; running out of descriptors does not, so wait for some to be freed.
async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | ConnectionRefused) {
        tracing::warn!(%error, "accept failed");
        sleep(Duration::from_millis(50)).await;
    }
}

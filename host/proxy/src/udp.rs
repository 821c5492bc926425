//! UDP listeners: datagrams of one source are a session, which has a socket of its own to one endpoint. Semantics are those
//! of Envoy's `udp_proxy`; nothing waits: what cannot be sent at once is dropped, as the network would.

mod building;
mod session;
mod sockets;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::UdpListener;
use portolan_telemetry::{Metrics, UdpMetrics};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::snapshot::Snapshot;
use crate::tcp::Destinations;
use crate::worker::Worker;
pub(crate) use building::UdpListeners;
use session::Session;
pub(crate) use sockets::UdpSockets;

/// Sessions of one listener at once, unless its Gateway says otherwise; each takes a descriptor.
const MAX_SESSIONS: u32 = 10_000;
/// Datagrams of one socket that are taken before others have their turn.
const BATCH: usize = 64;
/// A port whose datagrams nobody wants (RFC 863).
const DISCARD: u16 = 9;
/// The longest datagram there is.
const LONGEST: usize = 64 * 1024;

/// A UDP listener, made ready from the model.
pub(crate) struct UdpEntry {
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Arc<UdpSockets>,
    metrics: Arc<UdpMetrics>,
    destinations: Destinations,
    idle_timeout: Option<Duration>,
    max_sessions: u32,
}

impl UdpEntry {
    pub(crate) fn new(listener: &UdpListener, sockets: Arc<UdpSockets>, metrics: &Metrics) -> Arc<Self> {
        let proxy = &listener.proxy;
        Arc::new(Self {
            address: listener.address,
            sockets,
            metrics: metrics.udp(&proxy.stat_prefix),
            destinations: Destinations::new(&proxy.destinations),
            idle_timeout: proxy.idle_timeout_ms.map(Duration::from_millis),
            max_sessions: listener.max_sessions.unwrap_or(MAX_SESSIONS),
        })
    }
}

/// The UDP listeners of one worker.
#[derive(Default)]
pub(crate) struct UdpSlots(RefCell<Vec<Rc<UdpSlot>>>);

/// One socket of a UDP listener on one worker, from its first datagram to its last, over reloads.
struct UdpSlot {
    socket: UdpSocket,
    entry: RefCell<Arc<UdpEntry>>,
    sessions: RefCell<HashMap<SocketAddr, Rc<Session>>>,
    /// Where datagrams are read to.
    buffer: RefCell<Vec<u8>>,
    /// Nothing is read any more. Another process may do it, and sessions get their answers.
    is_closed: Cell<bool>,
    closed: Notify,
}

/// Opens what the snapshot has and the worker has not, renews what both have, closes the rest.
pub(crate) fn reconcile(worker: &Rc<Worker>, snapshot: &Snapshot) {
    let mut slots = worker.udp.0.borrow_mut();
    slots.retain(|slot| {
        let stays = snapshot.udp_listeners.iter().find(|entry| slot.is_of(entry));
        match stays {
            Some(entry) => _ = slot.entry.replace(entry.clone()),
            None => slot.remove(),
        }
        stays.is_some()
    });
    for entry in &snapshot.udp_listeners {
        for socket in entry.sockets.take(worker.index) {
            match UdpSocket::from_std(socket) {
                Ok(socket) => {
                    let slot = Rc::new(UdpSlot::new(socket, entry.clone()));
                    slots.push(slot.clone());
                    spawn_local(serve(worker.clone(), slot));
                }
                Err(error) => tracing::error!(address = %entry.address, %error, "the UDP listener cannot be served"),
            }
        }
    }
}

/// Ends all sessions, and takes no datagram any more.
pub(crate) fn end_all(worker: &Worker) {
    worker.udp.0.borrow_mut().drain(..).for_each(|slot| slot.end());
}

/// Another process reads from the same sockets: this one reads no more, and gives the answers that sessions still get.
pub(crate) fn hand_over(worker: &Worker) {
    worker.udp.0.borrow().iter().for_each(|slot| slot.close());
}

/// Ends sessions that were idle for too long. Precise to the worker's sweep, half a second.
pub(crate) fn sweep(worker: &Worker, now_ms: u64) {
    worker.udp.0.borrow_mut().retain(|slot| {
        slot.sweep(now_ms);
        !slot.is_closed.get() || slot.has_sessions()
    });
}

/// True while sessions of sockets that another process reads from may get answers.
pub(crate) fn awaits_answers(worker: &Worker) -> bool {
    worker.udp.0.borrow().iter().any(|slot| slot.is_closed.get() && slot.has_sessions())
}

async fn serve(worker: Rc<Worker>, slot: Rc<UdpSlot>) {
    while !slot.is_closed.get() {
        tokio::select! {
            biased;
            () = slot.closed.notified() => return,
            readable = slot.socket.readable() => if let Err(error) = readable {
                tracing::error!(%error, "the UDP listener is not served any more");
                return;
            }
        }
        slot.take_some(&worker);
    }
}

impl UdpSlot {
    fn new(socket: UdpSocket, entry: Arc<UdpEntry>) -> Self {
        Self {
            socket,
            entry: RefCell::new(entry),
            sessions: RefCell::default(),
            buffer: RefCell::new(vec![0; LONGEST]),
            is_closed: Cell::new(false),
            closed: Notify::new(),
        }
    }

    fn is_of(&self, entry: &UdpEntry) -> bool {
        Arc::ptr_eq(&self.entry.borrow().sockets, &entry.sockets)
    }

    fn has_sessions(&self) -> bool {
        !self.sessions.borrow().is_empty()
    }

    fn close(&self) {
        self.entry.borrow().sockets.release();
        self.is_closed.set(true);
        self.closed.notify_one();
    }

    /// Nobody serves its address any more. A process that this one has taken over from may still have the socket, for its
    /// sessions' answers: it must get no datagrams that sockets of a listener that comes back should get. One that is
    /// connected gets those of its peer alone, and nobody sends any from there.
    fn remove(&self) {
        if !self.is_closed.get() {
            let nobody = match self.local() {
                SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, DISCARD)),
                SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, DISCARD)),
            };
            // Where that is refused it gets them until the other process ends.
            let _ = SockRef::from(&self.socket).connect(&nobody.into());
        }
        self.end();
    }

    fn end(&self) {
        self.close();
        self.sessions.borrow_mut().drain().for_each(|(_, session)| session.end());
    }

    fn sweep(&self, now_ms: u64) {
        let Some(limit) = self.entry.borrow().idle_timeout else { return };
        self.sessions.borrow_mut().retain(|_, session| {
            let is_idle = session.is_idle(now_ms, limit);
            if is_idle {
                session.note_idle();
                session.end();
            }
            !is_idle
        });
    }

    /// Takes datagrams that have come from clients.
    fn take_some(self: &Rc<Self>, worker: &Rc<Worker>) {
        let entry = self.entry.borrow().clone();
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, peer)) => self.take(worker, &entry, peer, &buffer[..length]),
                Err(error) if is_not_yet(&error) => return,
                Err(_) => entry.metrics.downstream_sess_rx_errors.inc(),
            }
        }
    }

    /// A datagram of a client: to its session's endpoint, or to that of a new session.
    fn take(self: &Rc<Self>, worker: &Rc<Worker>, entry: &Arc<UdpEntry>, peer: SocketAddr, datagram: &[u8]) {
        entry.metrics.downstream_sess_rx_datagrams.inc();
        entry.metrics.downstream_sess_rx_bytes.inc_by(datagram.len() as u64);
        let known = self.sessions.borrow().get(&peer).cloned();
        if let Some(session) = known {
            if session.fits(worker, entry) {
                return session.send(datagram);
            }
            session.end();
            self.sessions.borrow_mut().remove(&peer);
        }
        let Some(session) = Session::open(worker, entry, (peer, self.local())) else { return };
        let session = Rc::new(session);
        self.sessions.borrow_mut().insert(peer, session.clone());
        session.send(datagram);
        spawn_local(carry_back(self.clone(), session));
    }

    fn send_to(&self, datagram: &[u8], peer: SocketAddr) -> io::Result<usize> {
        SockRef::from(&self.socket).send_to(datagram, &peer.into())
    }

    fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or_else(|_| self.entry.borrow().address)
    }

    /// Takes answers that have come from a session's endpoint to its client.
    fn give_some(&self, session: &Session) {
        let mut buffer = self.buffer.borrow_mut();
        for _ in 0..BATCH {
            match session.receive(&mut buffer) {
                Ok(length) => session.answered(&buffer[..length], self.send_to(&buffer[..length], session.peer())),
                Err(error) if is_not_yet(&error) => return,
                // What is refused there is known only by this, as in Envoy: the session stays.
                Err(_) => session.note_upstream_error(),
            }
        }
    }
}

async fn carry_back(slot: Rc<UdpSlot>, session: Rc<Session>) {
    while session.readable().await {
        slot.give_some(&session);
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

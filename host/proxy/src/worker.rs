//! [`Worker`]: one OS thread with a current-thread runtime, its own view of the snapshot, pools, VMs and connections.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::callout::Reach;
use crate::clock;
use crate::connection::Handle;
use crate::drain::{Drain, HandedOver, Stage};
use crate::edge::Edge;
use crate::listener::{self, Closing, ListenerSlot};
use crate::snapshot::Snapshot;
use crate::spans::Exporter;
use crate::tcp;
use crate::tls::Handshakes;
use crate::traffic::Recorder;
use crate::udp::{self, UdpSlots};
use crate::view::View;

/// How often deadlines of connections and idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_millis(500);

/// How long connections that were cut may take to end.
const CUT_TIME: Duration = Duration::from_secs(1);

/// One worker. Nothing in it is shared with another thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    view: RefCell<Rc<View>>,
    /// Limits of what comes in, with the counts of all workers.
    pub(crate) edge: Arc<Edge>,
    rng: RefCell<SmallRng>,
    pub(crate) listeners: RefCell<HashMap<SocketAddr, Rc<ListenerSlot>>>,
    pub(crate) connections: RefCell<Slab<Rc<Handle>>>,
    /// Connections of TCP listeners.
    pub(crate) tcp_connections: RefCell<Slab<Rc<tcp::Connection>>>,
    /// UDP listeners with their sessions.
    pub(crate) udp: UdpSlots,
    /// TLS clients that are not yet connections.
    pub(crate) handshakes: Handshakes,
    pub(crate) connection_closed: Notify,
    /// Upgraded connections, which have left the server's care but not ours, and listeners.
    tunnels: Cell<usize>,
    draining: Cell<bool>,
    /// Connections that come now are the last.
    closing: Cell<bool>,
    /// It has taken its first snapshot over.
    has_begun: Cell<bool>,
    cut: Notify,
    /// What callouts of filters keep.
    pub(crate) reach: Reach,
    /// Spans that are on their way to the collector.
    pub(crate) exporter: Exporter,
    /// Copies of requests that are on their way to mirrors.
    pub(crate) copies: Cell<usize>,
    /// Remembers requests; none where nobody serves.
    pub(crate) recorder: OnceCell<Recorder>,
}

impl Worker {
    pub(crate) fn new(index: usize, snapshot: Arc<Snapshot>, edge: Arc<Edge>) -> Rc<Self> {
        let mut rng = SmallRng::from_os_rng();
        let view = Rc::new(View::new(snapshot, None, &mut rng));
        Rc::new(Self {
            index,
            view: RefCell::new(view),
            edge,
            rng: RefCell::new(rng),
            listeners: RefCell::default(),
            connections: RefCell::default(),
            tcp_connections: RefCell::default(),
            udp: UdpSlots::default(),
            handshakes: Handshakes::default(),
            connection_closed: Notify::new(),
            tunnels: Cell::new(0),
            draining: Cell::new(false),
            closing: Cell::new(false),
            has_begun: Cell::new(false),
            cut: Notify::new(),
            reach: Reach::default(),
            exporter: Exporter::default(),
            copies: Cell::new(0),
            recorder: OnceCell::new(),
        })
    }

    /// What new requests are served with.
    pub(crate) fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    pub(crate) fn with_rng<R>(&self, draw: impl FnOnce(&mut SmallRng) -> R) -> R {
        draw(&mut self.rng.borrow_mut())
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// True when the listeners are closed or closing.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Counts a tunnel, or a listener, as open until the guard is dropped.
    pub(crate) fn open_tunnel(self: &Rc<Self>) -> Tunnel {
        self.tunnels.set(self.tunnels.get() + 1);
        Tunnel(self.clone())
    }

    /// Resolves when tunnels must end: the drain's last stage.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Opens the listeners: connections are taken from here on.
    pub(crate) fn begin(self: Rc<Self>, snapshots: &watch::Receiver<Arc<Snapshot>>) {
        self.adopt(snapshots.borrow().clone());
    }

    /// Serves until the drain is over. True when nothing had to be cut.
    pub(crate) async fn run(
        self: Rc<Self>,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut told: watch::Receiver<Drain>,
    ) -> bool {
        self.adopt(snapshots.borrow_and_update().clone());
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = snapshots.changed() => match changed {
                    Ok(()) => self.adopt(snapshots.borrow_and_update().clone()),
                    Err(_) => {
                        self.exporter.close();
                        return true;
                    }
                },
                changed = told.changed() => {
                    let now = *told.borrow_and_update();
                    match (now.stage, now.handed_over) {
                        (Stage::Announced, _) if changed.is_ok() => self.announce(),
                        (Stage::HandedOver, Some(what)) if changed.is_ok() => self.hand_over(what),
                        _ => break,
                    }
                }
                _ = sweep.tick() => self.sweep(),
            }
        }
        self.drain(told).await
    }

    /// Takes a snapshot over for new requests.
    fn adopt(self: &Rc<Self>, snapshot: Arc<Snapshot>) {
        let last = self.view();
        let is_new = !Arc::ptr_eq(&last.snapshot, &snapshot);
        if is_new {
            let view = self.with_rng(|rng| View::new(snapshot.clone(), Some(&last), rng));
            self.view.replace(Rc::new(view));
            self.reach.on_adopted();
        }
        for plugin in &self.view.borrow().all_plugins() {
            plugin.begin(self);
        }
        listener::reconcile(self, &snapshot, &last);
        udp::reconcile(self, &snapshot);
        if is_new || !self.has_begun.replace(true) {
            snapshot.note_adopted();
        }
    }

    fn sweep(&self) {
        let now = clock::tick();
        let view = self.view();
        for plugin in view.all_plugins() {
            plugin.note();
        }
        for (pool, cluster) in view.pools.iter().zip(&view.snapshot.clusters) {
            if self.index == 0 {
                cluster.state.measure();
            }
            pool.sweep(now, u64::try_from(cluster.idle_timeout.as_millis()).unwrap_or(u64::MAX));
        }
        self.reach.sweep(now);
        if self.index == 0 {
            self.edge.overload.measure(&view.snapshot.metrics.edge);
        }
        for (_, handle) in self.connections.borrow().iter() {
            handle.sweep(now, &self.edge.limits, &view.snapshot.access_logs);
        }
        for (_, connection) in self.tcp_connections.borrow().iter() {
            connection.sweep(now);
        }
        udp::sweep(self, now);
    }

    /// Clients are told to go, each in the way of its protocol; whoever comes is still served.
    fn announce(&self) {
        self.draining.set(true);
        for (_, handle) in self.connections.borrow().iter() {
            handle.say_goodbye();
        }
    }

    /// Another process takes in who comes from now on.
    fn hand_over(self: &Rc<Self>, what: HandedOver) {
        self.closing.set(true);
        listener::close_all(self, Closing::HandOver);
        match what {
            HandedOver::All => udp::hand_over(self),
            // Sockets that nobody read from would still get datagrams.
            HandedOver::Tcp => udp::end_all(self),
        }
        self.announce();
    }

    /// Closes listeners, lets requests end, and cuts what is left when the time is over: false when there was something.
    async fn drain(self: &Rc<Self>, mut told: watch::Receiver<Drain>) -> bool {
        let handed_over = told.borrow().handed_over;
        if let Some(what) = handed_over {
            // Its sockets must not be closed as those are that nobody else has.
            self.hand_over(what);
        }
        self.draining.set(true);
        self.closing.set(true);
        listener::close_all(self, Closing::Refuse);
        for (_, handle) in self.connections.borrow().iter() {
            handle.hurry();
        }
        let is_complete = tokio::select! {
            () = self.all_closed() => true,
            () = over(&mut told) => false,
            () = self.keep_sweeping() => false,
        };
        if is_complete {
            // They end when they are idle, or are cut: nobody can tell whether another answer comes.
            tokio::select! {
                () = self.last_answers() => {}
                () = over(&mut told) => {}
            }
        }
        self.cut.notify_waiters();
        udp::end_all(self);
        for (_, handle) in self.connections.borrow().iter() {
            handle.cut();
        }
        for (_, connection) in self.tcp_connections.borrow().iter() {
            connection.cut(tcp::Cut::Drain);
        }
        self.handshakes.cut();
        // What was cut still has its line to log.
        let _ = timeout(CUT_TIME, self.all_closed()).await;
        self.exporter.flush().await;
        is_complete
    }

    /// Resolves when sessions of UDP whose next datagrams go to another process are idle.
    async fn last_answers(&self) {
        while udp::awaits_answers(self) {
            sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// Deadlines hold while it drains, too. Never resolves.
    async fn keep_sweeping(&self) {
        loop {
            sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// Resolves when no connection is open.
    async fn all_closed(&self) {
        loop {
            let closed = self.connection_closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            let open = self.connections.borrow().len() + self.tcp_connections.borrow().len();
            if open + self.handshakes.len() + self.tunnels.get() == 0 {
                return;
            }
            closed.await;
        }
    }
}

/// Resolves when the drain's time is over, or nobody is left to say so.
async fn over(told: &mut watch::Receiver<Drain>) {
    while told.borrow().stage != Stage::Over {
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// An open tunnel.
pub(crate) struct Tunnel(Rc<Worker>);

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.set(self.0.tunnels.get() - 1);
        self.0.connection_closed.notify_waiters();
    }
}

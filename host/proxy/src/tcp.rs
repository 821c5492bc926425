//! One accepted socket of a TCP listener: where it goes, the connection there, and bytes both ways. Semantics are those
//! of Envoy's `tcp_proxy`.

mod chain;
mod client;
mod pump;
mod record;
mod tunnel;
mod upstream;

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt;
use portolan_model::{ClusterId, TcpDestination, TcpProxy, Tunnel};
use portolan_telemetry::{ResponseFlags, TcpMetrics};
use portolan_wasm::Peer;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::balancer::GOLDEN;
use crate::clock;
use crate::connection::{Accepted, OpenSocket};
use crate::context::{ConnectionInfo, StreamContext};
use crate::standard_metrics::Ended;
use crate::view::View;
use crate::worker::Worker;
use chain::Chain;
pub(crate) use client::Client;
use pump::Source;
pub(crate) use record::Record;
pub(crate) use upstream::{Held, pick};

/// What the connections of a TCP listener go by, made ready from the model.
pub(crate) struct TcpEntry {
    pub(crate) metrics: Arc<TcpMetrics>,
    destinations: Destinations,
    idle_timeout: Option<Duration>,
    max_duration: Option<Duration>,
    tunnel: Option<Tunnel>,
}

/// Clusters by weight.
pub(crate) struct Destinations {
    list: Vec<TcpDestination>,
    /// Where the golden-ratio sequence of weighted turns stands, as a fraction of 2^32.
    turn: AtomicU32,
}

impl TcpEntry {
    pub(crate) fn new(proxy: &TcpProxy, metrics: Arc<TcpMetrics>) -> Arc<Self> {
        Arc::new(Self {
            metrics,
            destinations: Destinations::new(&proxy.destinations),
            idle_timeout: proxy.idle_timeout_ms.map(Duration::from_millis),
            max_duration: proxy.max_connection_duration_ms.map(Duration::from_millis),
            tunnel: proxy.tunnel.clone(),
        })
    }
}

impl Destinations {
    pub(crate) fn new(list: &[TcpDestination]) -> Self {
        Self { list: list.to_vec(), turn: AtomicU32::new(rand::random()) }
    }

    /// All clusters.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ClusterId> {
        self.list.iter().map(|destination| destination.cluster)
    }

    /// The next connection's destination: each has its share also among few connections, over all workers.
    pub(crate) fn next(&self) -> Option<&TcpDestination> {
        if let [only] = self.list.as_slice() {
            return Some(only);
        }
        let turn = u64::from(self.turn.fetch_add(GOLDEN, Relaxed));
        let total: u64 = self.list.iter().map(|destination| u64::from(destination.weight)).sum();
        // Below 2^64: a turn has 32 bits, and the model's weights add up to at most 32 bits too.
        let mut rest = (turn * total) >> 32;
        self.list.iter().find(|destination| match rest.checked_sub(u64::from(destination.weight)) {
            Some(left) => {
                rest = left;
                false
            }
            None => true,
        })
    }
}

/// Why the gateway ends a connection in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// No byte went either way for the idle timeout.
    Idle,
    /// It lived as long as it may.
    Duration,
    /// The drain is over.
    Drain,
}

/// One connection: shared by its task and the worker's sweep.
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) tcp: Arc<TcpEntry>,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) record: Record,
    /// None when there are no filters for connections.
    chain: Option<Rc<Chain>>,
    /// The client has ended the connection, not the gateway.
    by_client: Cell<bool>,
    /// It is among those that Istio's metrics call opened.
    counted: Cell<bool>,
    /// Filters have been told that there is an upstream, and not of its end.
    upstream_open: Cell<bool>,
    /// Counts the connection until it is closed.
    socket: Cell<Option<OpenSocket>>,
    key: Cell<usize>,
    opened_ms: u64,
    /// Coarse stamp of the last byte.
    active_ms: Cell<u64>,
    cut: Cell<Option<Cut>>,
    was_cut: Notify,
}

/// Serves an accepted socket in a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, with: (Rc<View>, Arc<TcpEntry>), accepted: Accepted) {
    let Accepted { socket, early, info, open } = accepted;
    serve_client(worker, with, Client::of_socket(socket, early), info, open);
}

/// Serves a client in a task of its own, with what its listener had when it came.
pub(crate) fn serve_client(
    worker: &Rc<Worker>,
    with: (Rc<View>, Arc<TcpEntry>),
    client: Client,
    info: Arc<ConnectionInfo>,
    socket: OpenSocket,
) {
    let connection = Connection::open(worker, with, info, socket);
    spawn_local(async move {
        // A fault of ours in one connection costs that connection.
        if AssertUnwindSafe(run(&connection, client)).catch_unwind().await.is_err() {
            connection.view.snapshot.metrics.server.panics_total.inc();
        }
        connection.close();
    });
}

async fn run(connection: &Rc<Connection>, client: Client) {
    tokio::select! {
        biased;
        () = connection.until_cut() => {}
        () = carry(connection, client) => {}
    }
}

/// From the accepted socket to the end of both directions.
async fn carry(connection: &Rc<Connection>, client: Client) {
    let Client { from: from_client, to: to_client } = client;
    let mut from_client = Source::new(from_client);
    let Some(early) = pump::admit(connection, &mut from_client).await else { return };
    match upstream::connect(connection).await {
        Ok(upstream) => {
            connection.upstream_open.set(true);
            connection.count_opened();
            pump::both(connection, (from_client, to_client), upstream, early).await;
        }
        Err(failure) => connection.record.failed(failure),
    }
}

impl Connection {
    fn open(
        worker: &Rc<Worker>,
        (view, tcp): (Rc<View>, Arc<TcpEntry>),
        info: Arc<ConnectionInfo>,
        socket: OpenSocket,
    ) -> Rc<Self> {
        let now = clock::coarse_ms();
        tcp.metrics.downstream_cx_total.inc();
        let record = Record::new(!view.snapshot.access_logs.is_empty());
        let chain = Chain::new(&view, &info);
        let connection = Rc::new(Self {
            worker: worker.clone(),
            view,
            tcp,
            info,
            record,
            chain,
            by_client: Cell::new(false),
            counted: Cell::new(false),
            upstream_open: Cell::new(false),
            socket: Cell::new(Some(socket)),
            key: Cell::new(0),
            opened_ms: now,
            active_ms: Cell::new(now),
            cut: Cell::new(None),
            was_cut: Notify::new(),
        });
        connection.key.set(worker.tcp_connections.borrow_mut().insert(connection.clone()));
        connection
    }

    /// Bytes went one way or the other.
    pub(crate) fn touch(&self) {
        self.active_ms.set(clock::coarse_ms());
    }

    /// Ends the connection when it was idle, or lived, for too long. Precise to the worker's sweep, half a second.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let passed = |since: u64, limit: Option<Duration>| {
            limit.is_some_and(|limit| Duration::from_millis(now_ms.saturating_sub(since)) >= limit)
        };
        if passed(self.opened_ms, self.tcp.max_duration) {
            self.cut(Cut::Duration);
        } else if passed(self.active_ms.get(), self.tcp.idle_timeout) {
            self.cut(Cut::Idle);
        }
    }

    /// Ends the connection now, whatever is under way.
    pub(crate) fn cut(&self, why: Cut) {
        self.cut.set(Some(why));
        self.was_cut.notify_one();
    }

    /// Resolves when the connection is to end; that is counted before its sockets close.
    async fn until_cut(&self) {
        loop {
            if let Some(cut) = self.cut.get() {
                return self.record.cut(cut, &self.tcp.metrics);
            }
            self.was_cut.notified().await;
        }
    }

    /// Changes what filters are told of the connection.
    fn note(&self, change: impl FnOnce(&mut StreamContext)) {
        if let Some(chain) = &self.chain {
            chain.note(change);
        }
    }

    /// Tells filters of the upstream's end, once.
    fn tell_upstream_end(&self, peer: Peer) {
        if let Some(chain) = self.chain.as_ref().filter(|_| self.upstream_open.replace(false)) {
            chain.upstream_closed(peer);
        }
    }

    /// The last that happens: told to filters, counted, logged, forgotten.
    fn close(&self) {
        self.tell_upstream_end(Peer::Local);
        if let Some(chain) = &self.chain {
            chain.end(if self.by_client.get() { Peer::Remote } else { Peer::Local });
        }
        self.worker.tcp_connections.borrow_mut().remove(self.key.get());
        self.worker.connection_closed.notify_waiters();
        drop(self.socket.take());
        self.count_closed();
        self.record.write(&self.view.snapshot.access_logs, &self.info);
    }

    /// Counts the connection in Istio's standard metrics, as soon as there is an upstream, else at its end.
    fn count_opened(&self) {
        let Some(plan) = &self.view.snapshot.standard else { return };
        if !self.counted.replace(true) {
            self.view.standard.series(plan, self.record.cluster(), self.ended()).connection_opened();
        }
    }

    /// What it is counted by.
    fn ended(&self) -> Ended {
        let record = &self.record;
        let (workload, principals) = (record.workload.get(), record.principals.get());
        Ended { tcp: true, flags: record.flags(), workload, principals, ..Ended::default() }
    }

    fn count_closed(&self) {
        let Some(plan) = &self.view.snapshot.standard else { return };
        self.count_opened();
        let series = self.view.standard.series(plan, self.record.cluster(), self.ended());
        let (received, sent) = self.record.bytes();
        series.connection_closed(sent, received);
    }

    /// Sets a flag for the access log.
    pub(crate) fn flag(&self, flag: ResponseFlags) {
        self.record.flag(flag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portolan_telemetry::Metrics;
    use std::collections::HashMap;

    fn entry(weights: &[u32]) -> Arc<TcpEntry> {
        let destination = |(weight, cluster): (&u32, u32)| TcpDestination {
            cluster,
            cluster_name: String::new(),
            weight: *weight,
            origin: portolan_model::Origin::default(),
        };
        let proxy = TcpProxy {
            stat_prefix: "p".to_owned(),
            destinations: weights.iter().zip(0..).map(destination).collect(),
            idle_timeout_ms: None,
            max_connection_duration_ms: None,
            tunnel: None,
            origin: portolan_model::Origin::default(),
        };
        TcpEntry::new(&proxy, Metrics::new().tcp("p"))
    }

    fn counts(weights: &[u32], n: usize) -> HashMap<u32, usize> {
        let entry = entry(weights);
        let mut counts = HashMap::new();
        for _ in 0..n {
            *counts.entry(entry.destinations.next().map(|d| d.cluster).unwrap_or(u32::MAX)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn few_connections_keep_the_weights() {
        let counts = counts(&[80, 20], 20);
        assert!((15..=17).contains(&counts[&0]), "{counts:?}");
    }

    #[test]
    fn the_largest_weights_overflow_nothing() {
        let counts = counts(&[u32::MAX - 1, 1], 1000);
        assert!(counts[&0] > 990, "{counts:?}");
    }
}

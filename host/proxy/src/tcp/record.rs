//! [`Record`]: what the end of a TCP connection is logged and counted with.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use portolan_model::{ClusterId, MISSING_CLUSTER};
use portolan_telemetry::{ResponseFlags, StreamInfo, TcpMetrics, UpstreamAddress};

use super::Cut;
use super::upstream::ConnectFailure;
use crate::context::ConnectionInfo;
use crate::log_entry::LogEntry;

/// Filled on the way, told at the end.
#[derive(Default)]
pub(crate) struct Record {
    received: Cell<u64>,
    sent: Cell<u64>,
    flags: Cell<ResponseFlags>,
    cluster: Cell<Option<ClusterId>>,
    /// Of the endpoint, as [`crate::workload`] numbers it.
    pub(super) workload: Cell<u32>,
    /// Of the connection, as [`crate::principals`] numbers them.
    pub(super) principals: Cell<u32>,
    /// What only the access log needs; none when there is none.
    log: Option<RefCell<Box<Logged>>>,
}

struct Logged {
    opened: Instant,
    info: StreamInfo,
}

impl Record {
    pub(crate) fn new(logs: bool) -> Self {
        let logged = || Logged {
            opened: Instant::now(),
            info: StreamInfo { start: SystemTime::now(), ..StreamInfo::default() },
        };
        Self { log: logs.then(|| RefCell::new(Box::new(logged()))), ..Self::default() }
    }

    pub(crate) fn flag(&self, flag: ResponseFlags) {
        self.flags.set(self.flags.get() | flag);
    }

    pub(super) fn flags(&self) -> ResponseFlags {
        self.flags.get()
    }

    /// Where the connection goes.
    pub(super) fn set_cluster(&self, id: ClusterId) {
        self.cluster.set(Some(id));
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster.get().unwrap_or(MISSING_CLUSTER)
    }

    /// Bytes that the client has sent, and was sent.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.received.get(), self.sent.get())
    }

    /// Bytes that the client has sent.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }

    /// Bytes that the client was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    pub(crate) fn upstream(&self, cluster: &Arc<str>, host: Option<UpstreamAddress>) {
        self.note(|info| {
            info.upstream_cluster = Some(cluster.clone());
            info.upstream_host = host;
        });
    }

    pub(crate) fn upstream_local(&self, local: Option<SocketAddr>) {
        self.note(|info| info.upstream_local = local);
    }

    /// There is no upstream connection.
    pub(super) fn failed(&self, failure: ConnectFailure) {
        self.flag(failure.flags());
        self.note(|info| info.cause = failure.cause());
    }

    /// The gateway has ended the connection for a reason of its own.
    pub(super) fn cut(&self, cut: Cut, metrics: &TcpMetrics) {
        match cut {
            Cut::Idle => {
                metrics.idle_timeout.inc();
                self.terminated("tcp_session_idle_timeout");
            }
            Cut::Duration => {
                metrics.max_downstream_connection_duration.inc();
                self.flag(ResponseFlags::DT);
                self.terminated("max_connection_duration_reached");
            }
            Cut::Drain => self.terminated("drain"),
        }
    }

    /// Why the gateway ended the connection, `%CONNECTION_TERMINATION_DETAILS%`.
    pub(super) fn terminated(&self, why: &'static str) {
        self.note(|info| info.connection_termination = Some(why));
    }

    pub(crate) fn write(&self, logs: &[LogEntry], connection: &ConnectionInfo) {
        let Some(logged) = &self.log else { return };
        let mut logged = logged.borrow_mut();
        let duration = logged.opened.elapsed();
        let info = &mut logged.info;
        info.duration = duration;
        info.flags = self.flags.get();
        info.bytes_received = self.received.get();
        info.bytes_sent = self.sent.get();
        info.downstream_local = Some(connection.local);
        info.downstream_remote = Some(connection.peer);
        info.downstream_direct = Some(connection.direct);
        info.requested_server_name = connection.state.server_name().cloned();
        logs.iter().for_each(|log| log.record_connection(info));
    }

    fn note(&self, tell: impl FnOnce(&mut StreamInfo)) {
        if let Some(logged) = &self.log {
            tell(&mut logged.borrow_mut().info);
        }
    }
}

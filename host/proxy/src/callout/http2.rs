//! [`Http2`]: the worker's HTTP/2 connections for gRPC callouts: one for each endpoint of a cluster, which all calls share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use portolan_telemetry::UpstreamAddress;
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::frames::Outgoing;
use crate::clock;
use crate::cluster::Permit;
use crate::endpoint::EndpointState;
use crate::on_worker::OnWorker;
use crate::pool::CheckoutError;
use crate::snapshot::ClusterEntry;
use crate::upstream::{Application, ConnectionKey, UpstreamTransport, connect};

/// While there are calls on it, a connection from which nothing comes is asked after this time, and closed after as much
/// again: its peer may have gone without a word, and all further calls would wait for it in vain.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The cluster's name and the address.
type Key = (Arc<str>, UpstreamAddress);

/// All of one worker.
#[derive(Default)]
pub(crate) struct Http2 {
    connections: RefCell<HashMap<Key, Rc<Slot>>>,
}

/// The place of one connection. Locked while it is made, so that many calls at once make one.
#[derive(Default)]
struct Slot {
    made: Mutex<Option<Made>>,
    used_ms: Cell<u64>,
}

/// A connection, and what it was made for.
struct Made {
    sender: SendRequest<Outgoing>,
    transport: Arc<UpstreamTransport>,
    key: Option<Rc<ConnectionKey>>,
}

/// A share of a connection. The connection is not swept while there is one.
pub(super) struct Shared {
    pub(super) sender: SendRequest<Outgoing>,
    _slot: Rc<Slot>,
}

impl Http2 {
    /// The connection to an endpoint, made when there is none that lives.
    pub(super) async fn connect(
        &self,
        cluster: &ClusterEntry,
        endpoint: &Arc<EndpointState>,
        host: Option<&str>,
    ) -> Result<Shared, CheckoutError> {
        let slot_key = (cluster.state.name.clone(), endpoint.address);
        let slot = self.connections.borrow_mut().entry(slot_key).or_default().clone();
        slot.used_ms.set(clock::now_ms());
        let (transport, key) = (&cluster.transport, cluster.transport.key(host, None));
        let mut place = slot.made.lock().await;
        let fits =
            |made: &&Made| !made.sender.is_closed() && Arc::ptr_eq(&made.transport, transport) && made.key == key;
        if let Some(made) = place.as_ref().filter(fits) {
            return Ok(Shared { sender: made.sender.clone(), _slot: slot.clone() });
        }
        let sender = dial(cluster, endpoint.address, key.as_deref()).await?;
        *place = Some(Made { sender: sender.clone(), transport: transport.clone(), key });
        drop(place);
        Ok(Shared { sender, _slot: slot })
    }

    /// Closes connections that were not used for long.
    pub(super) fn sweep(&self, now_ms: u64, kept_ms: u64) {
        self.connections
            .borrow_mut()
            .retain(|_, slot| now_ms.saturating_sub(slot.used_ms.get()) < kept_ms || Rc::strong_count(slot) > 1);
    }
}

async fn dial(
    cluster: &ClusterEntry,
    address: UpstreamAddress,
    key: Option<&ConnectionKey>,
) -> Result<SendRequest<Outgoing>, CheckoutError> {
    let place: Permit = cluster.state.open_connection(u32::MAX).ok_or(CheckoutError::Overflow)?;
    let (limit, transport) = (cluster.limits.connect_timeout, &cluster.transport);
    let stream = connect(&cluster.state, address, limit, transport, key, Application::Http2)
        .await
        .map_err(|error| CheckoutError::Connect(address, error))?;
    let handshake = http2::Builder::new(OnWorker)
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = handshake.map_err(|error| CheckoutError::Handshake(address, error))?;
    spawn_local(async move {
        // How it ended is told by the calls on it.
        let _ = connection.await;
        drop(place);
    });
    Ok(sender)
}

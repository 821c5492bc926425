//! [`Http2`]: the worker's HTTP/2 connections for gRPC callouts: one for each endpoint of a cluster, which all calls share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::frames::Outgoing;
use crate::clock;
use crate::cluster::Permit;
use crate::endpoint::EndpointState;
use crate::pool::{CheckoutError, connect};
use crate::snapshot::ClusterEntry;

/// While there are calls on it, a connection from which nothing comes is asked after this time, and closed after as much
/// again: its peer may have gone without a word, and all further calls would wait for it in vain.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The cluster's name and the address.
type Key = (Arc<str>, SocketAddr);

/// All of one worker.
#[derive(Default)]
pub(crate) struct Http2 {
    connections: RefCell<HashMap<Key, Rc<Slot>>>,
}

/// The place of one connection. Locked while it is made, so that many calls at once make one.
#[derive(Default)]
struct Slot {
    sender: Mutex<Option<SendRequest<Outgoing>>>,
    used_ms: Cell<u64>,
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
    ) -> Result<Shared, CheckoutError> {
        let key = (cluster.state.name.clone(), endpoint.address);
        let slot = self.connections.borrow_mut().entry(key).or_default().clone();
        slot.used_ms.set(clock::now_ms());
        let mut place = slot.sender.lock().await;
        if let Some(sender) = place.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(Shared { sender: sender.clone(), _slot: slot.clone() });
        }
        let sender = dial(cluster, endpoint.address).await?;
        *place = Some(sender.clone());
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

async fn dial(cluster: &ClusterEntry, address: SocketAddr) -> Result<SendRequest<Outgoing>, CheckoutError> {
    let place: Permit = cluster.state.open_connection(u32::MAX).ok_or(CheckoutError::Overflow)?;
    let stream = connect(&cluster.state, address, cluster.limits.connect_timeout).await?;
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

/// Runs what hyper needs beside the connection on this worker.
#[derive(Clone, Copy)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

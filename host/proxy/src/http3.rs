//! HTTP/3 of clients, experimental: one QUIC endpoint for each address, on the first worker. A client's requests go over an
//! HTTP/2 connection within the process to the same code that serves clients of HTTP/2.

mod client;
mod endpoint;
mod frames;
mod quic;
mod request;
mod section;
mod settings;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::listener::ListenerSlot;
use crate::snapshot::ListenerEntry;
use crate::tls::{ChainEntry, FilterChains};
use crate::worker::Worker;

/// The worker that has the endpoints: packets of a connection whose client's address changes could else come to another one.
const WORKER: usize = 0;

/// What a listener's slot knows of its endpoint: how to hand it new filter chains, and by dropping that, to end it.
#[derive(Default)]
pub(crate) struct Http3(RefCell<Option<watch::Sender<Arc<FilterChains>>>>);

impl Http3 {
    /// No further client is taken in, and those that are there are told to go.
    pub(crate) fn close(&self) {
        self.0.take();
    }
}

/// Opens, renews or closes the endpoint beside a listener.
pub(crate) fn reconcile(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, entry: &ListenerEntry) {
    if worker.index != WORKER {
        return;
    }
    let served = |chains: &&Arc<FilterChains>| chains.list.iter().any(|chain: &ChainEntry| chain.quic().is_some());
    let Some(chains) = entry.chains.as_ref().filter(served) else {
        slot.http3().close();
        return;
    };
    let mut known = slot.http3().0.borrow_mut();
    match &*known {
        Some(sender) if !sender.is_closed() => _ = sender.send_replace(chains.clone()),
        _ => {
            let (sender, receiver) = watch::channel(chains.clone());
            *known = Some(sender);
            spawn_local(endpoint::serve(worker.clone(), slot.clone(), receiver));
        }
    }
}

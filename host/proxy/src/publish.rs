//! [`SnapshotCell`]: the one place where a new snapshot takes over.

use std::sync::Arc;

use tokio::sync::watch;

use crate::snapshot::Snapshot;
use crate::traffic::Traffic;

/// The current snapshot, and the signal that there is a new one. Workers keep a view of their own, so that a request
/// touches neither lock nor shared counter.
#[derive(Clone, Debug)]
pub struct SnapshotCell {
    sender: Arc<watch::Sender<Arc<Snapshot>>>,
    traffic: Arc<Traffic>,
}

impl SnapshotCell {
    /// A cell with its first snapshot.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { sender: Arc::new(watch::Sender::new(snapshot)), traffic: Arc::default() }
    }

    /// Makes this snapshot the current one. Streams that began with an older one end with it.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.sender.send_replace(snapshot);
    }

    /// The current snapshot.
    pub fn load(&self) -> Arc<Snapshot> {
        self.sender.borrow().clone()
    }

    /// What the workers remember of requests.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.sender.subscribe()
    }
}

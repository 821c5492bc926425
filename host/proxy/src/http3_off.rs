//! What stands for HTTP/3 in a build without the feature `http3`.

use std::rc::Rc;

use crate::listener::ListenerSlot;
use crate::snapshot::ListenerEntry;
use crate::worker::Worker;

/// Nothing.
#[derive(Default)]
pub(crate) struct Http3;

impl Http3 {
    #[allow(clippy::unused_self, reason = "there is something to close with the feature")]
    pub(crate) fn close(&self) {}
}

/// Tells that nothing is served.
pub(crate) fn reconcile(worker: &Worker, slot: &Rc<ListenerSlot>, entry: &ListenerEntry) {
    let _ = slot.http3();
    let is_wanted = entry.chains.as_ref().is_some_and(|chains| chains.list.iter().any(|chain| chain.quic().is_some()));
    if worker.index == 0 && is_wanted {
        tracing::warn!(address = %entry.address, "HTTP/3 is not served: it is not in this build");
    }
    slot.sockets().set_http3(false);
}

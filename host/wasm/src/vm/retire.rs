//! How a VM goes: `on_done` and `on_delete` of its root context, and `proxy_done` between them.

use super::PluginVm;
use crate::context::{ContextId, Phase};
use crate::host_state::Retirement;
use crate::stream::StreamHost;
use crate::trap::VmError;

impl<H: StreamHost> PluginVm<H> {
    /// Asks the root context to go: runs `on_done`, and `on_delete` when it agrees (or has no say). True: the VM may be
    /// dropped. False: the filter has work left; it calls `proxy_done` in a later callback, so ask again after each.
    /// Dropping the VM all the same is harmless, as Envoy does it when the process ends.
    pub fn retire(&mut self) -> Result<bool, VmError> {
        let root = ContextId::ROOT.number();
        if self.running.store.data().retirement == Retirement::Serving {
            let agrees = match &self.exports.done {
                Some(done) => self.running.with_root(Phase::Other, |store| done.call(store, root))? != 0,
                None => true,
            };
            let state = self.running.store.data_mut();
            state.retirement = if agrees { Retirement::Done } else { Retirement::Waiting };
        }
        if self.running.store.data().retirement == Retirement::Done {
            self.running.store.data_mut().retirement = Retirement::Deleted;
            if let Some(delete) = &self.exports.delete {
                self.running.with_root(Phase::Other, |store| delete.call(store, root))?;
            }
        }
        Ok(self.running.store.data().retirement == Retirement::Deleted)
    }
}

//! What a [`PluginVm`] costs: told to an observer, and held against the budget of a second.

use std::sync::Arc;
use std::time::Duration;

use super::PluginVm;
use crate::meter::CostObserver;
use crate::stream::StreamHost;

impl<H: StreamHost> PluginVm<H> {
    /// From now on this observer is told of calls and their time.
    pub fn observe(&mut self, observer: Arc<dyn CostObserver>) {
        self.running.store.data_mut().meter.observe(observer);
    }

    /// Tells the observer what it has not heard of yet: calls are told a few at a time.
    pub fn tell_costs(&mut self) {
        self.running.store.data_mut().meter.tell();
    }

    /// From now on a callback may take this much CPU time, in place of [`crate::VmLimits::callback_deadline`].
    pub fn set_callback_deadline(&mut self, deadline: Duration) {
        self.running.store.data_mut().meter.set_limit(deadline);
    }

    /// CPU time of the longest callback that ended well, as far as they were timed.
    pub fn longest_callback(&self) -> Duration {
        self.running.store.data().meter.longest()
    }

    /// Calls into the guest since its start.
    pub fn calls(&self) -> u64 {
        self.running.store.data().meter.calls()
    }

    /// True while this second's CPU time ([`crate::VmLimits::cpu_per_second`]) is used up. Only what ends streams should
    /// be called then.
    pub fn is_overdrawn(&mut self) -> bool {
        self.running.store.data_mut().meter.is_overdrawn()
    }

    /// Goes on with the budget of the VM that this one replaces, so that failing pays for nothing.
    pub fn inherit_budget(&mut self, failed: &Self) {
        self.running.store.data_mut().meter.inherit(&failed.running.store.data().meter);
    }
}

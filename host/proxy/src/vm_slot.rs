//! [`VmSlot`]: a worker's place for one VM of a generation: filled when it is needed, and again when the VM has failed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use portolan_wasm::{PluginVm, VmError};

use crate::context::StreamContext;
use crate::generation::{PluginGeneration, Usage};

/// One VM, or the lack of one.
pub(crate) struct VmSlot {
    generation: Arc<PluginGeneration>,
    vm: RefCell<Option<PluginVm<StreamContext>>>,
    /// What the generation has been told of the VM.
    noted: Cell<Usage>,
}

impl VmSlot {
    /// A slot with a VM of this generation, if one is ready.
    pub(crate) fn new(generation: Arc<PluginGeneration>) -> Self {
        let vm = RefCell::new(generation.take());
        let slot = Self { generation, vm, noted: Cell::default() };
        slot.note();
        slot
    }

    pub(crate) fn generation(&self) -> &Arc<PluginGeneration> {
        &self.generation
    }

    /// Whether the filter may be called now: not while it is put aside for failing again and again, and not when it has
    /// used up its CPU time on this worker. Ends of streams are told to it all the same.
    pub(crate) fn is_available(&self) -> bool {
        let Ok(mut vm) = self.vm.try_borrow_mut() else { return false };
        vm.as_mut().is_none_or(|vm| self.generation.admits(vm))
    }

    /// True while not every call is admitted. Unlike [`VmSlot::is_available`] this takes no leave to try a filter that was put
    /// aside.
    pub(crate) fn is_put_off(&self) -> bool {
        let Ok(mut vm) = self.vm.try_borrow_mut() else { return false };
        self.generation.is_held() || vm.as_mut().is_some_and(PluginVm::is_overdrawn)
    }

    /// Runs `call` on the VM; none while there is no VM. A VM that is new here is announced by `filled`.
    pub(crate) fn with<R>(
        &self,
        call: impl FnOnce(&mut PluginVm<StreamContext>) -> R,
        filled: impl FnOnce(),
    ) -> Option<R> {
        // A second borrow would be a callback inside a callback, which the host never makes.
        let mut vm = self.vm.try_borrow_mut().ok()?;
        if vm.is_none() {
            *vm = self.generation.take();
            if vm.is_some() {
                filled();
            }
        }
        if let Some(vm) = vm.as_mut() {
            return Some(call(vm));
        }
        self.generation.refill();
        None
    }

    /// Drops the VM after a failure, and takes a spare.
    pub(crate) fn replace(&self, error: &VmError) {
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            let failed = vm.take();
            *vm = self.generation.replace(failed, error);
        }
        self.note();
    }

    /// Tells the generation what the VM uses now. Once in a while is enough.
    pub(crate) fn note(&self) {
        let Ok(mut vm) = self.vm.try_borrow_mut() else { return };
        let last = self.noted.get();
        let now = match vm.as_mut() {
            Some(vm) => {
                vm.tell_costs();
                self.generation.set_deadline(vm);
                Usage::of(vm)
            }
            None => last.ended(),
        };
        self.generation.note(last, now);
        self.noted.set(now);
    }
}

impl Drop for VmSlot {
    /// The last stream has ended: `on_done` and `on_delete` of the root context. One that is not done yet goes all the same.
    fn drop(&mut self) {
        if let Some(vm) = self.vm.get_mut()
            && let Err(error) = vm.retire()
        {
            tracing::debug!(%error, "the filter failed when it was told to go");
        }
        let last = self.noted.get();
        self.generation.note(last, last.ended());
    }
}

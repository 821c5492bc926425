//! `Limiter`: what a guest may allocate.

use wasmtime::ResourceLimiter;

use crate::settings::VmLimits;

/// Refuses growth beyond a plugin's limits and remembers that it did, so that the trap which follows gets its name.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    table_elements: usize,
    /// Bytes of the guest's memory so far.
    memory_used: usize,
    /// Entries of all tables so far.
    table_used: usize,
    /// The guest has been refused memory since this was last set to false.
    pub(crate) refused_memory: bool,
}

impl Limiter {
    pub(crate) fn new(limits: &VmLimits) -> Self {
        let VmLimits { memory_bytes, table_elements, .. } = *limits;
        Self { memory_bytes, table_elements, memory_used: 0, table_used: 0, refused_memory: false }
    }

    /// Bytes of the guest's memory.
    pub(crate) fn memory_used(&self) -> usize {
        self.memory_used
    }

    /// The memory limit in bytes when the guest has run into it.
    pub(crate) fn refused(&self) -> Option<usize> {
        self.refused_memory.then_some(self.memory_bytes)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = desired <= self.memory_bytes;
        self.refused_memory |= !granted;
        if granted {
            self.memory_used = desired;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.table_used + desired.saturating_sub(current);
        let granted = used <= self.table_elements;
        if granted {
            self.table_used = used;
        }
        Ok(granted)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        16
    }
}

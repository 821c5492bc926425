//! `VmError`: why a VM has ended, told from the error that wasmtime gives.

use wasmtime::{Trap, WasmBacktrace};

/// Why a callback failed. After any of these the VM is unusable and must be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmError {
    /// The guest's code trapped, for instance by a panic.
    #[error("{reason}{backtrace}")]
    Trap {
        /// What happened.
        reason: String,
        /// The guest's frames, one a line, each after a line break; empty when there are none.
        backtrace: String,
    },
    /// The callback took longer than it may.
    #[error("deadline exceeded{backtrace}")]
    Deadline {
        /// Where the guest was.
        backtrace: String,
    },
    /// The guest needed more memory than it may have.
    #[error("memory limit of {limit} bytes reached{backtrace}")]
    Memory {
        /// The limit.
        limit: usize,
        /// Where the guest was.
        backtrace: String,
    },
    /// The guest called `proc_exit` outside its start-up.
    #[error("the filter called exit({0})")]
    Exit(u32),
    /// An earlier callback has ended this VM already.
    #[error("the VM has ended before")]
    Ended,
}

impl VmError {
    /// The reason behind what wasmtime says. `refused_memory` is the limit, when the guest has run into it.
    pub(crate) fn new(error: &wasmtime::Error, refused_memory: Option<usize>) -> Self {
        if let Some(ProcExit(code)) = error.downcast_ref() {
            return Self::Exit(*code);
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
        if error.downcast_ref() == Some(&Trap::Interrupt) {
            return Self::Deadline { backtrace };
        }
        match refused_memory {
            Some(limit) => Self::Memory { limit, backtrace },
            None => Self::Trap { reason: error.root_cause().to_string(), backtrace },
        }
    }
}

/// How `proc_exit` leaves the guest.
#[derive(Debug, thiserror::Error)]
#[error("the filter called exit({0})")]
pub(crate) struct ProcExit(pub(crate) u32);

/// wasmtime's rendering, with demangled names, less its headline.
fn frames(backtrace: &WasmBacktrace) -> String {
    let text = backtrace.to_string();
    let mut frames = String::with_capacity(text.len());
    for line in text.lines().skip(1) {
        frames.push('\n');
        frames.push_str(line);
    }
    frames
}

//! The trace: which callbacks of a filter ran, and what each asked of the host, as plain data with a text form for people.
//!
//! It is switched on for a plugin by [`VmSettings::trace`](crate::VmSettings::trace). Its imports are then wrapped when an
//! instance is made, as in strict mode; without it a callback costs one look at a field.

mod decode;
mod functions;
mod recorder;
mod text;
mod value;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::functions::function;
pub(crate) use self::recorder::{Recorder, Words, leave_call, note_call};
pub use self::value::{Argument, Value};
use crate::context::VmToken;

/// Where traces go. Called on the thread of the VM, when a callback has ended: it should not take long.
pub trait TraceSink: Send + Sync {
    /// A callback has ended.
    fn callback(&self, trace: CallbackTrace);
}

/// A sink, and how much of each callback it gets.
#[derive(Clone)]
pub struct Tracer {
    /// Where traces go.
    pub sink: Arc<dyn TraceSink>,
    /// How much is kept.
    pub limits: TraceLimits,
}

/// How much of a callback is kept. What is beyond is counted and not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLimits {
    /// Host calls of one callback, 200 by default.
    pub calls: usize,
    /// Bytes of one text, 256 by default.
    pub bytes: usize,
    /// Pairs of one list, 32 by default.
    pub pairs: usize,
}

/// One callback of a filter, with what it asked of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct CallbackTrace {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Its VM.
    pub vm: VmToken,
    /// The context that the callback ran on; 1 is the root context.
    pub context: u32,
    /// The stream that it was about: its own, else the first that it named with `set_effective_context`.
    pub stream: Option<TracedStream>,
    /// The ABI's name, e.g. `proxy_on_request_headers`, or that of an initialiser.
    pub function: &'static str,
    /// Its arguments but for the context.
    pub arguments: Vec<Argument>,
    /// How it ended.
    pub outcome: Outcome,
    /// Time by the wall clock, less what the trace itself took as far as that was measured.
    pub took: Duration,
    /// CPU time of the thread, the trace's own part included; none where the system does not tell it.
    pub cpu: Option<Duration>,
    /// What it asked of the host, in order.
    pub calls: Vec<HostCall>,
    /// Calls beyond [`TraceLimits::calls`].
    pub left_out: usize,
}

/// The stream of a callback, as it was when the callback began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedStream {
    /// Unique in the process; the same for all plugins of the stream.
    pub number: u64,
    /// The method; empty for a TCP connection.
    pub method: String,
    /// Path and query, cut at [`TraceLimits::bytes`]; empty for a TCP connection.
    pub path: String,
    /// `x-request-id`.
    pub request_id: Option<String>,
}

/// How a callback ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has nothing to answer.
    Done,
    /// The stream goes on.
    Continue,
    /// The stream waits for the filter.
    Pause,
    /// The filter has answered with `send_local_response`.
    Reply,
    /// It answered true: the configuration is accepted, the context is done.
    True,
    /// It answered false.
    False,
    /// It trapped, or was ended: reason and guest's backtrace.
    Failed(String),
}

/// One call of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostCall {
    /// The ABI's name, e.g. `proxy_replace_header_map_value`.
    pub function: Arc<str>,
    /// What it does in a word, e.g. `set_header`. Maps and bodies of the direction that the callback is about have no
    /// prefix; others do, as in `get_request_header` from a callback of the response.
    pub word: String,
    /// Its arguments. Texts that may be secret, such as a password, are left out.
    pub arguments: Vec<Argument>,
    /// What the host answered.
    pub status: CallStatus,
    /// What was handed to the guest; empty but for [`CallStatus::Ok`].
    pub results: Vec<Argument>,
    /// Host functions around this one: 1 when the guest's allocator made the call while another was answered.
    pub depth: u32,
    /// The context that it was about, if not the callback's own.
    pub context: Option<u32>,
}

/// What a host function answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStatus {
    /// Done.
    Ok,
    /// Refused or absent, by the ABI's name.
    Status(&'static str),
    /// An error number of WASI's.
    Errno(u32),
    /// It did not return: the guest's allocator trapped, or the guest has called `proc_exit`.
    Failed,
}

impl Tracer {
    /// A tracer with the default limits.
    pub fn new(sink: Arc<dyn TraceSink>) -> Self {
        Self { sink, limits: TraceLimits::default() }
    }
}

impl Default for TraceLimits {
    fn default() -> Self {
        Self { calls: 200, bytes: 256, pairs: 32 }
    }
}

impl CallbackTrace {
    /// Its name in words: the ABI's without `proxy_`.
    pub fn name(&self) -> &'static str {
        self.function.strip_prefix("proxy_").unwrap_or(self.function)
    }

    /// True when it failed.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl HostCall {
    /// True for WASI's functions, which a guest's runtime calls by itself.
    pub fn is_wasi(&self) -> bool {
        !self.function.starts_with("proxy_")
    }
}

/// Tracers are equal when their sinks are the same.
impl PartialEq for Tracer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.sink, &other.sink) && self.limits == other.limits
    }
}

impl Eq for Tracer {}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("limits", &self.limits).finish_non_exhaustive()
    }
}

//! `VmSettings`: what one plugin's VMs are started with.

use std::time::Duration;

use crate::trace::Tracer;

/// Names, configuration and limits of a plugin. The same for all its VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmSettings {
    /// Property `plugin_name`, field `plugin` of its log lines.
    pub plugin_name: String,
    /// Property `plugin_root_id`; an Istio WasmPlugin's `pluginName`.
    pub root_id: String,
    /// Property `plugin_vm_id`; shared data and queues belong to it.
    pub vm_id: String,
    /// What `on_vm_start` can read.
    pub vm_configuration: Vec<u8>,
    /// What `on_configure` can read; JSON in Istio.
    pub configuration: Vec<u8>,
    /// The guest's environment variables. Nothing of the host's own environment is visible.
    pub env: Vec<(String, String)>,
    /// Body callbacks run while the filter holds the head, as in Envoy with `allow_on_headers_stop_iteration`; always so
    /// for ABI 0.2.100.
    pub headers_stop_iteration: bool,
    /// Calls that are not honoured are counted ([`crate::PluginVm::unhonoured`]) and each kind of them is logged once. Off
    /// by default: every call of the host costs more with it.
    pub strict: bool,
    /// Where each callback is told with all that it asks of the host. None by default: every call of the host costs more
    /// with it.
    pub trace: Option<Tracer>,
    /// What the guest may use up.
    pub limits: VmLimits,
}

/// What a filter may use up. Each VM has these limits for itself; there is one VM for each worker.
///
/// Where a limit is met: memory and tables refuse to grow, time ends the VM (the stream of the callback gets what
/// `failStrategy` says), the CPU budget makes the filter unavailable until the second is over, log lines are dropped and
/// counted, the rest is refused by the status of the host function that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmLimits {
    /// Linear memory in bytes, 64 MiB by default. Beyond it `memory.grow` fails.
    pub memory_bytes: usize,
    /// Entries of all tables together, 100,000 by default.
    pub table_elements: usize,
    /// CPU time that one callback may take, 50 ms by default. The clock has a grain of 1 ms, and of 10 ms for the first
    /// callback after a quiet time. Time in which the system runs something else does not count.
    pub callback_deadline: Duration,
    /// CPU time in one second of all callbacks on one worker, 500 ms by default. What is overdrawn is taken from the
    /// next second.
    pub cpu_per_second: Duration,
    /// CPU time that the whole start may take, initialisers included, 5 s by default.
    pub start_deadline: Duration,
    /// Log lines per second, 1,000 by default; more are dropped and counted.
    pub log_lines_per_second: u32,
    /// Bytes of one body that may wait for the filter, 1 MiB by default as in Envoy.
    pub buffer_bytes: usize,
    /// Time that a stream may wait for the filter to resume it, 15 s by default; the route's timeout may be shorter.
    pub paused_deadline: Duration,
    /// Callouts in flight in one VM (HTTP, gRPC and Redis together), 1,000 by default: about as many streams as a worker
    /// has at one time.
    pub callouts_in_flight: usize,
    /// Bytes of shared data under the VM id, with keys, 16 MiB by default.
    pub shared_data_bytes: usize,
    /// Bytes in the queues of the VM id, 16 MiB by default.
    pub queue_bytes: usize,
}

impl Default for VmLimits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            memory_bytes: 64 * MIB,
            table_elements: 100_000,
            callback_deadline: Duration::from_millis(50),
            cpu_per_second: Duration::from_millis(500),
            start_deadline: Duration::from_secs(5),
            log_lines_per_second: 1_000,
            buffer_bytes: MIB,
            paused_deadline: Duration::from_secs(15),
            callouts_in_flight: 1_000,
            shared_data_bytes: 16 * MIB,
            queue_bytes: 16 * MIB,
        }
    }
}

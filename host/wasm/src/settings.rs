//! `VmSettings`: what one plugin's VMs are started with.

use std::time::Duration;

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
    /// What the guest may use up.
    pub limits: VmLimits,
}

/// What one VM may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmLimits {
    /// Linear memory in bytes, 64 MiB by default. Beyond it `memory.grow` fails.
    pub memory_bytes: usize,
    /// Entries of all tables together, 100,000 by default.
    pub table_elements: usize,
    /// Time that one callback may take, 100 ms by default; the clock has a grain of 10 ms.
    pub callback_deadline: Duration,
    /// Time that each callback of the start may take, 5 s by default.
    pub start_deadline: Duration,
    /// Log lines per second, 1,000 by default; more are dropped and counted.
    pub log_lines_per_second: u32,
}

impl Default for VmLimits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 * 1024 * 1024,
            table_elements: 100_000,
            callback_deadline: Duration::from_millis(100),
            start_deadline: Duration::from_secs(5),
            log_lines_per_second: 1_000,
        }
    }
}

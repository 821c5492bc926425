//! [`limits`]: what a plugin asks for, over the defaults of the host.

use std::time::Duration;

use portolan_model::PluginLimits;
use portolan_wasm::VmLimits;

/// The limits of a plugin's VMs.
pub(crate) fn limits(wanted: &PluginLimits) -> VmLimits {
    let default = VmLimits::default();
    let bytes = |wanted: Option<u64>, default| wanted.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let time = |wanted: Option<u64>, default| wanted.map_or(default, Duration::from_millis);
    VmLimits {
        memory_bytes: bytes(wanted.memory_bytes, default.memory_bytes),
        callback_deadline: time(wanted.callback_deadline_ms, default.callback_deadline),
        cpu_per_second: time(wanted.cpu_per_second_ms, default.cpu_per_second),
        log_lines_per_second: wanted.log_lines_per_second.unwrap_or(default.log_lines_per_second),
        buffer_bytes: bytes(wanted.buffer_bytes, default.buffer_bytes),
        paused_deadline: time(wanted.paused_deadline_ms, default.paused_deadline),
        callouts_in_flight: bytes(wanted.callouts_in_flight.map(u64::from), default.callouts_in_flight),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_its_default() {
        let wanted = PluginLimits { cpu_per_second_ms: Some(20), memory_bytes: Some(65536), ..PluginLimits::default() };
        let found = limits(&wanted);
        assert_eq!((found.cpu_per_second, found.memory_bytes), (Duration::from_millis(20), 65536));
        assert_eq!(found.callback_deadline, VmLimits::default().callback_deadline);
        assert_eq!(limits(&PluginLimits::default()), VmLimits::default());
    }
}

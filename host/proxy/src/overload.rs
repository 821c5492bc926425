//! [`Overload`]: what is refused when memory runs out: new requests first, then new connections. Envoy's overload manager
//! with the actions and thresholds of its edge guide, on the resident memory that the system reports.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use portolan_telemetry::EdgeMetrics;

/// From this share of the limit on new requests get 503, in percent.
const SHED_REQUESTS: u64 = 95;
/// And from this on new connections are closed.
const REFUSE_CONNECTIONS: u64 = 98;

/// How near the memory is to its limit. One worker measures, all look.
#[derive(Debug)]
pub(crate) struct Overload {
    limit: Option<u64>,
    level: AtomicU8,
}

/// In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Fine,
    ShedRequests,
    RefuseConnections,
}

impl Overload {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.filter(|limit| *limit > 0), level: AtomicU8::new(Level::Fine as u8) }
    }

    /// Whether new requests are refused.
    pub(crate) fn sheds_requests(&self) -> bool {
        self.level.load(Relaxed) >= Level::ShedRequests as u8
    }

    /// Whether new connections are refused.
    pub(crate) fn refuses_connections(&self) -> bool {
        self.level.load(Relaxed) >= Level::RefuseConnections as u8
    }

    /// Looks at the memory. Nothing without a limit.
    pub(crate) fn measure(&self, metrics: &EdgeMetrics) {
        let Some(limit) = self.limit else { return };
        let Some(resident) = resident() else { return };
        let level = level(resident, limit);
        let last = self.level.swap(level as u8, Relaxed);
        metrics.heap_pressure.set(i64::try_from(percent(resident, limit)).unwrap_or(i64::MAX));
        metrics.stop_accepting_requests.set(i64::from(level >= Level::ShedRequests));
        metrics.stop_accepting_connections.set(i64::from(level >= Level::RefuseConnections));
        if last != level as u8 {
            tell(level, resident, limit);
        }
    }
}

fn tell(level: Level, resident: u64, limit: u64) {
    match level {
        Level::Fine => tracing::info!(resident, limit, "memory is below its limit again"),
        Level::ShedRequests => tracing::warn!(resident, limit, "memory is short: new requests get 503"),
        Level::RefuseConnections => tracing::warn!(resident, limit, "memory is short: new connections are closed"),
    }
}

fn level(resident: u64, limit: u64) -> Level {
    match percent(resident, limit) {
        percent if percent >= REFUSE_CONNECTIONS => Level::RefuseConnections,
        percent if percent >= SHED_REQUESTS => Level::ShedRequests,
        _ => Level::Fine,
    }
}

fn percent(resident: u64, limit: u64) -> u64 {
    resident.saturating_mul(100) / limit
}

/// Resident memory of this process in bytes; none where the system does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_refused_before_connections() {
        assert_eq!(level(94, 100), Level::Fine);
        assert_eq!((level(95, 100), level(97, 100)), (Level::ShedRequests, Level::ShedRequests));
        assert_eq!((level(98, 100), level(500, 100)), (Level::RefuseConnections, Level::RefuseConnections));
    }

    #[test]
    fn memory_is_measured_against_the_limit() {
        let metrics = EdgeMetrics::default();
        let of = |limit| {
            let overload = Overload::new(limit);
            overload.measure(&metrics);
            (overload.sheds_requests(), overload.refuses_connections())
        };
        assert_eq!(of(None), (false, false));
        assert_eq!(of(Some(1 << 40)), (false, false));
        assert_eq!(of(Some(4096)), (true, true));
        assert_eq!(metrics.stop_accepting_requests.value(), 1);
        let resident = resident().unwrap_or_default();
        assert!(resident > 1 << 20, "{resident}");
    }
}

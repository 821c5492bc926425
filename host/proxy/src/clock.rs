//! Time as the data plane sees it: exact milliseconds for decisions, a coarse stamp for idle deadlines.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();
static COARSE: AtomicU64 = AtomicU64::new(1);

/// Milliseconds since the process first asked, never 0.
pub(crate) fn now_ms() -> u64 {
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// The stamp of the last [`tick`]: what connections are marked with on each read and write, since a clock call there
/// would cost more than the mark.
pub(crate) fn coarse_ms() -> u64 {
    COARSE.load(Relaxed)
}

/// Moves the coarse stamp to now. Every worker's sweep calls it.
pub(crate) fn tick() -> u64 {
    let now = now_ms();
    COARSE.store(now, Relaxed);
    now
}

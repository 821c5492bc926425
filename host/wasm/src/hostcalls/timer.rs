//! `get_current_time_nanoseconds` and `set_tick_period_milliseconds`.

use std::time::{Duration, SystemTime};

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::guest::{serve, serve_early, write_u64};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_get_current_time_nanoseconds", |mut caller: Caller<'_, HostState<H>>, out: u32| {
        serve_early(&mut caller, |memory, _| write_u64(memory, out, unix_nanoseconds()))
    })?;
    linker.func_wrap(ENV, "proxy_set_tick_period_milliseconds", |mut caller: Caller<'_, HostState<H>>, ms: u32| {
        serve(&mut caller, |_, state| {
            state.tick_period = (ms > 0).then(|| Duration::from_millis(ms.into()));
            state.asks = true;
            Ok(())
        })
    })?;
    Ok(())
}

/// Time since 1970 in nanoseconds; fits until the year 2554.
pub(super) fn unix_nanoseconds() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

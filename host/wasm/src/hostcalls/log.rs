//! `log` and `get_log_level`.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{LogLevel, Status};
use crate::filter_log::least_level;
use crate::guest::{bytes, serve_early, write_u32};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_log",
        |mut caller: Caller<'_, HostState<H>>, level: u32, line: u32, length: u32| {
            serve_early(&mut caller, |memory, state| {
                let level = LogLevel::new(level).ok_or(Status::BadArgument)?;
                let line = bytes(memory, line, length)?;
                if state.log.wants(level) {
                    state.log.write(level, line);
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_get_log_level", |mut caller: Caller<'_, HostState<H>>, out: u32| {
        serve_early(&mut caller, |memory, _| write_u32(memory, out, least_level() as u32))
    })?;
    Ok(())
}

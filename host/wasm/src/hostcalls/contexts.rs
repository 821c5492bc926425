//! `set_effective_context`, `done`, `get_status`.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{Out, answer, serve, write_u32};
use crate::host_state::{HostState, Retirement};
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_set_effective_context", |mut caller: Caller<'_, HostState<H>>, id: u32| {
        serve(&mut caller, |_, state| {
            let id = state.contexts.find(id).ok_or(Status::BadArgument)?;
            state.set_effective(id);
            Ok(())
        })
    })?;
    // Streams end without asking; only a root context can hold its end back.
    linker.func_wrap(ENV, "proxy_done", |mut caller: Caller<'_, HostState<H>>| {
        serve(&mut caller, |_, state| {
            if state.retirement != Retirement::Waiting {
                return Err(Status::NotFound);
            }
            state.retirement = Retirement::Done;
            Ok(())
        })
    })?;
    // How a gRPC callout has ended, while `on_grpc_close` runs.
    linker.func_wrap(
        ENV,
        "proxy_get_status",
        |mut caller: Caller<'_, HostState<H>>, code: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                let (status, message) = &state.callouts.status;
                value.extend_from_slice(message);
                write_u32(memory, code, *status)
            })
        },
    )?;
    Ok(())
}

//! `call_foreign_function`: the host's own functions, and Envoy's `clear_route_cache`.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{Answer, Out, answer, bytes};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |mut caller: Caller<'_, HostState<H>>, name: u32, nl: u32, args: u32, al: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                call(state, bytes(memory, name, nl)?, bytes(memory, args, al)?, value)
            })
        },
    )?;
    Ok(())
}

fn call<H: StreamHost>(state: &mut HostState<H>, name: &[u8], args: &[u8], value: &mut Vec<u8>) -> Answer {
    let stream = state.stream_mut().ok_or(Status::NotFound)?;
    if name == b"clear_route_cache" {
        stream.route_cleared = true;
        return Ok(());
    }
    stream.host.call_foreign(name, args, value).into_answer()
}

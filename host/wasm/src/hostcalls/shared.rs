//! Shared data and shared queues.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{Out, answer, bytes, serve, write_u32};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    link_data(linker)?;
    link_queues(linker)
}

fn link_data<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_shared_data",
        |mut caller: Caller<'_, HostState<H>>, key: u32, kl: u32, pointer: u32, length: u32, cas_out: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                let key = bytes(memory, key, kl)?;
                let cas = state.shared.data.read(&state.settings.vm_id, key, value).ok_or(Status::NotFound)?;
                write_u32(memory, cas_out, cas)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_shared_data",
        |mut caller: Caller<'_, HostState<H>>, key: u32, kl: u32, value: u32, vl: u32, cas: u32| {
            serve(&mut caller, |memory, state| {
                let (key, value) = (bytes(memory, key, kl)?, bytes(memory, value, vl)?);
                let settings = &state.settings;
                let limit = settings.limits.shared_data_bytes;
                state.shared.data.set(&settings.vm_id, key, value, cas, limit).into_answer()
            })
        },
    )?;
    Ok(())
}

fn link_queues<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_register_shared_queue",
        |mut caller: Caller<'_, HostState<H>>, name: u32, length: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                let name = bytes(memory, name, length)?;
                let settings = &state.settings;
                let id = state.shared.queues.register(&settings.vm_id, name, settings.limits.queue_bytes);
                let id = id.ok_or(Status::InternalFailure)?;
                if !state.queues.contains(&id) {
                    state.queues.push(id);
                }
                // A VM that no worker has taken yet may be a spare: it hears only once it serves.
                if let Some(waker) = &state.queue_waker {
                    state.shared.queues.listen(id, state.token, waker);
                }
                write_u32(memory, out, id)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        |mut caller: Caller<'_, HostState<H>>, vm: u32, vl: u32, name: u32, nl: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                let vm_id = std::str::from_utf8(bytes(memory, vm, vl)?).map_err(|_| Status::NotFound)?;
                let vm_id = if vm_id.is_empty() { &state.settings.vm_id } else { vm_id };
                let id = state.shared.queues.resolve(vm_id, bytes(memory, name, nl)?).ok_or(Status::NotFound)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_enqueue_shared_queue",
        |mut caller: Caller<'_, HostState<H>>, id: u32, value: u32, length: u32| {
            serve(&mut caller, |memory, state| {
                state.shared.queues.enqueue(id, bytes(memory, value, length)?).into_answer()
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_dequeue_shared_queue",
        |mut caller: Caller<'_, HostState<H>>, id: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |_, state, value| {
                value.extend_from_slice(&state.shared.queues.dequeue(id)?);
                Ok(())
            })
        },
    )?;
    Ok(())
}

//! Bodies, configurations and arguments: `get_buffer_bytes`, `set_buffer_bytes`, `get_buffer_status`, and 0.1.0's
//! `get_configuration`.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{BufferKind, Status};
use crate::context::{Direction, Phase};
use crate::guest::{Answer, Out, answer, bytes, serve, write_u32};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_bytes",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, start: u32, max: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |_, state, value| {
                let buffer = buffer(state, kind)?;
                let start = (start as usize).min(buffer.len());
                let end = start.saturating_add(max as usize).min(buffer.len());
                value.extend_from_slice(&buffer[start..end]);
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, start: u32, size: u32, data: u32, length: u32| {
            serve(&mut caller, |memory, state| {
                splice(state, kind, start as usize, size as usize, bytes(memory, data, length)?)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_status",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, length: u32, flags: u32| {
            serve(&mut caller, |memory, state| {
                let size = buffer(state, kind)?.len() as u32;
                write_u32(memory, length, size)?;
                write_u32(memory, flags, 0)
            })
        },
    )?;
    Ok(())
}

/// 0.1.0's `get_configuration`: the plugin's in `on_configure`, else the VM's, as in Envoy.
pub(super) fn link_configuration<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_configuration",
        |mut caller: Caller<'_, HostState<H>>, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |_, state, value| {
                let settings = &state.settings;
                let configuration = match state.phase {
                    Phase::Configure => &settings.configuration,
                    _ => &settings.vm_configuration,
                };
                value.extend_from_slice(configuration);
                Ok(())
            })
        },
    )?;
    Ok(())
}

/// The buffer of this kind. Bodies are empty, not absent, while the stream has not come to them.
fn buffer<H>(state: &HostState<H>, kind: u32) -> Result<&[u8], Status> {
    let settings = &state.settings;
    match (BufferKind::new(kind).ok_or(Status::BadArgument)?, state.phase) {
        (BufferKind::RequestBody, _) => {
            let stream = state.stream().ok_or(Status::NotFound)?;
            let there = shows_body(state.phase_of(Direction::Request), Direction::Request);
            Ok(if there { stream.request_body.as_slice() } else { &[] })
        }
        (BufferKind::ResponseBody, _) => {
            let stream = state.stream().ok_or(Status::NotFound)?;
            let there = shows_body(state.phase_of(Direction::Response), Direction::Response);
            Ok(if there { stream.response_body.as_slice() } else { &[] })
        }
        (BufferKind::DownstreamData, _) => {
            let stream = state.stream().ok_or(Status::NotFound)?;
            let there = state.phase_of(Direction::Request) == Phase::DownstreamData;
            Ok(if there { stream.request_body.as_slice() } else { &[] })
        }
        (BufferKind::UpstreamData, _) => {
            let stream = state.stream().ok_or(Status::NotFound)?;
            let there = state.phase_of(Direction::Response) == Phase::UpstreamData;
            Ok(if there { stream.response_body.as_slice() } else { &[] })
        }
        (BufferKind::VmConfiguration, _) => Ok(&settings.vm_configuration),
        (BufferKind::PluginConfiguration, Phase::VmStart | Phase::Configure) => Ok(&settings.configuration),
        (BufferKind::ForeignArguments, Phase::Foreign) => Ok(&state.foreign_args),
        (kind @ (BufferKind::CallBody | BufferKind::GrpcMessage), _) => {
            state.callouts.buffer(kind).ok_or(Status::NotFound)
        }
        // Not of the ABI but of Higress's: without a reply it is a number like any other.
        (kind @ BufferKind::RedisReply, _) => state.callouts.buffer(kind).ok_or(Status::BadArgument),
        _ => Err(Status::NotFound),
    }
}

/// True when this callback, or the pause that it has begun, is about a body of this direction.
fn shows_body(phase: Phase, direction: Direction) -> bool {
    let is_body = matches!(
        phase,
        Phase::RequestBody { .. } | Phase::RequestTrailers | Phase::ResponseBody { .. } | Phase::ResponseTrailers
    );
    is_body && phase.direction() == Some(direction)
}

/// Changes a body: in the callback of its direction, or while that callback's pause lasts.
fn splice<H>(state: &mut HostState<H>, kind: u32, start: usize, size: usize, data: &[u8]) -> Answer {
    let kind = BufferKind::new(kind).ok_or(Status::BadArgument)?;
    let direction = match kind {
        BufferKind::RequestBody | BufferKind::DownstreamData => Direction::Request,
        BufferKind::ResponseBody | BufferKind::UpstreamData => Direction::Response,
        _ => return Err(Status::BadArgument),
    };
    let phase = state.phase_of(direction);
    let fits = match kind {
        BufferKind::DownstreamData => phase == Phase::DownstreamData,
        BufferKind::UpstreamData => phase == Phase::UpstreamData,
        _ => shows_body(phase, direction),
    };
    if !fits {
        return Err(Status::BadArgument);
    }
    let stream = state.stream_mut().ok_or(Status::BadArgument)?;
    let body = match direction {
        Direction::Request => &mut stream.request_body,
        Direction::Response => &mut stream.response_body,
    };
    if body.splice(start, size, data) { Ok(()) } else { Err(Status::BadArgument) }
}

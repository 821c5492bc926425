//! Header maps: size, pairs, value, add, replace, remove, set.

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{AbiVersion, MapKind, Status, pairs};
use crate::callouts::is_answer;
use crate::context::Phase;
use crate::guest::{Answer, Out, answer, bytes, serve, write_u32};
use crate::headers;
use crate::host_state::HostState;
use crate::stream::{StreamHost, StreamState};

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    link_readers(linker)?;
    link_writers(linker)
}

fn link_readers<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, name: u32, nl: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                read_value(state, kind, bytes(memory, name, nl)?, value)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_pairs",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |_, state, value| {
                // A map that is not there is an empty list here, and an error for all other functions, as in Envoy.
                let kind = MapKind::new(kind).ok_or(Status::BadArgument)?;
                if is_answer(kind) {
                    pairs::encode(&state.callouts.pairs(kind).unwrap_or_default(), value);
                } else if let Ok(stream) = readable(state, kind) {
                    pairs::encode(&headers::pairs(stream, kind), value);
                }
                Ok(())
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_size",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                let kind = MapKind::new(kind).ok_or(Status::BadArgument)?;
                let pairs = match is_answer(kind) {
                    true => state.callouts.pairs(kind)?,
                    false => headers::pairs(readable(state, kind)?, kind),
                };
                let size: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
                write_u32(memory, out, u32::try_from(size).unwrap_or(u32::MAX))
            })
        },
    )?;
    Ok(())
}

fn link_writers<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_add_header_map_value",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, name: u32, nl: u32, value: u32, vl: u32| {
            serve(&mut caller, |memory, state| {
                let (name, value) = (bytes(memory, name, nl)?, bytes(memory, value, vl)?);
                write(state, kind, |stream, kind| headers::add(stream, kind, name, value))
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, name: u32, nl: u32, value: u32, vl: u32| {
            serve(&mut caller, |memory, state| {
                let (name, value) = (bytes(memory, name, nl)?, bytes(memory, value, vl)?);
                write(state, kind, |stream, kind| headers::replace(stream, kind, name, value))
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_remove_header_map_value",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, name: u32, nl: u32| {
            serve(&mut caller, |memory, state| {
                let name = bytes(memory, name, nl)?;
                write(state, kind, |stream, kind| headers::remove(stream, kind, name))
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_header_map_pairs",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, list: u32, length: u32| {
            serve(&mut caller, |memory, state| {
                let list = pairs::decode(bytes(memory, list, length)?).ok_or(Status::BadArgument)?;
                write(state, kind, |stream, kind| headers::set_pairs(stream, kind, &list))
            })
        },
    )?;
    Ok(())
}

/// Appends the first value of a name. An absent one is NOT_FOUND, and in ABI 0.1.0 an empty value.
fn read_value<H>(state: &HostState<H>, kind: u32, name: &[u8], value: &mut Vec<u8>) -> Answer {
    let kind = MapKind::new(kind).ok_or(Status::BadArgument)?;
    let found = match is_answer(kind) {
        true => state.callouts.value(kind, name)?,
        false => headers::value(readable(state, kind)?, kind, name),
    };
    match found {
        Some(found) => value.extend_from_slice(found),
        None if state.abi == AbiVersion::V0_1_0 => {}
        None => return Err(Status::NotFound),
    }
    Ok(())
}

fn readable<H>(state: &HostState<H>, kind: MapKind) -> Result<&StreamState<H>, Status> {
    let stream = state.stream().ok_or(Status::BadArgument)?;
    if headers::readable(stream, kind, phase(state, kind)) { Ok(stream) } else { Err(Status::BadArgument) }
}

/// The callback that decides whether this map may be used.
fn phase<H>(state: &HostState<H>, kind: MapKind) -> Phase {
    match kind.direction() {
        Some(direction) => state.phase_of(direction),
        None => state.phase,
    }
}

/// Changes a map in a phase that allows it. A changed request is routed anew, as in Envoy.
fn write<H>(
    state: &mut HostState<H>,
    kind: u32,
    change: impl FnOnce(&mut StreamState<H>, MapKind) -> Answer,
) -> Answer {
    let kind = MapKind::new(kind).ok_or(Status::BadArgument)?;
    if !headers::writable(kind, phase(state, kind)) && !writes_held_head(state, kind) {
        return Err(Status::BadArgument);
    }
    let stream = state.stream_mut().ok_or(Status::BadArgument)?;
    change(stream, kind)?;
    stream.route_cleared |= kind == MapKind::RequestHeaders;
    Ok(())
}

/// With the rule that bodies run past a held head, the head can be changed until it goes on.
fn writes_held_head<H>(state: &HostState<H>, kind: MapKind) -> bool {
    let is_head = matches!(kind, MapKind::RequestHeaders | MapKind::ResponseHeaders);
    is_head && kind.direction().is_some_and(|direction| state.contexts.holds_head(state.effective, direction))
}

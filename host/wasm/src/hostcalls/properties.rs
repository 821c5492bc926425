//! `get_property` and `set_property`. Most calls are for well-known names, so nothing is parsed before it must be.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::ENV;
use super::foreign::Declared;
use crate::abi::{MapKind, Status, pairs};
use crate::attributes;
use crate::guest::{Answer, Out, answer, bytes, serve};
use crate::headers;
use crate::host_state::HostState;
use crate::stream::{StreamHost, StreamState};

/// Most properties that filters may keep on one stream, and the longest path and value in bytes.
const MAX_KEPT: usize = 128;
const MAX_PATH: usize = 1024;
const MAX_VALUE: usize = 64 * 1024;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_property",
        |mut caller: Caller<'_, HostState<H>>, path: u32, pl: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                read(state, trim(bytes(memory, path, pl)?), value)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |mut caller: Caller<'_, HostState<H>>, path: u32, pl: u32, value: u32, vl: u32| {
            serve(&mut caller, |memory, state| set(state, trim(bytes(memory, path, pl)?), bytes(memory, value, vl)?))
        },
    )?;
    Ok(())
}

/// A path may end with a NUL.
fn trim(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"\0").unwrap_or(path)
}

/// Appends the value: the plugin's own names, the host's properties, then what filters have set.
pub(super) fn read<H: StreamHost>(state: &HostState<H>, path: &[u8], value: &mut Vec<u8>) -> Answer {
    if let Some(name) = path.strip_prefix(b"plugin_")
        && own(state, name, value)
    {
        return Ok(());
    }
    let Some(stream) = state.stream() else {
        return if H::property_without_stream(path, value) { Ok(()) } else { Err(Status::NotFound) };
    };
    read_of(stream, path, value)
}

/// The same without a plugin.
pub(super) fn read_of<H: StreamHost>(stream: &StreamState<H>, path: &[u8], value: &mut Vec<u8>) -> Answer {
    if stream.host.property(path, stream.parts(), value) {
        return Ok(());
    }
    if let Some(kept) = kept(stream, path) {
        value.extend_from_slice(kept);
        return Ok(());
    }
    let map = whole_map(stream, path).ok_or(Status::NotFound)?;
    pairs::encode(&headers::pairs(stream, map), value);
    Ok(())
}

/// The header map that a path names as a whole, when it is there.
fn whole_map<H>(stream: &StreamState<H>, path: &[u8]) -> Option<MapKind> {
    match path {
        b"request\0headers" => Some(MapKind::RequestHeaders),
        b"response\0headers" => stream.response.is_some().then_some(MapKind::ResponseHeaders),
        b"response\0trailers" => stream.response_trailers.is_some().then_some(MapKind::ResponseTrailers),
        _ => None,
    }
}

/// The plugin's own names, without `plugin_`.
fn own<H>(state: &HostState<H>, name: &[u8], value: &mut Vec<u8>) -> bool {
    let settings = &state.settings;
    let text = match name {
        b"name" => &settings.plugin_name,
        b"root_id" => &settings.root_id,
        b"vm_id" => &settings.vm_id,
        // Higress's: what the guest's memory takes, in bytes.
        b"vm_memory" => {
            value.extend_from_slice(&(state.limiter.memory_used() as u64).to_le_bytes());
            return true;
        }
        _ => return false,
    };
    value.extend_from_slice(text.as_bytes());
    true
}

/// What a filter has set under this path, or under Envoy's names for it: `wasm.X` and `filter_state` NUL `wasm.X`.
fn kept<'a, H: StreamHost>(stream: &'a StreamState<H>, path: &[u8]) -> Option<&'a [u8]> {
    let find = |path: &[u8]| stream.properties.iter().find(|(kept, _)| **kept == *path).map(|(_, value)| &**value);
    find(path).or_else(|| {
        let path = path.strip_prefix(b"filter_state\0").unwrap_or(path);
        find(path.strip_prefix(b"wasm.")?)
    })
}

/// Keeps a property, for this stream or its connection. The host's own names cannot be written: BAD_ARGUMENT.
fn set<H: StreamHost>(state: &mut HostState<H>, path: &[u8], value: &[u8]) -> Answer {
    let declared = declared(state, path).map(|declared| (declared.read_only, declared.for_connection));
    let stream = state.stream_mut().ok_or(Status::NotFound)?;
    if stream.host.set_property(path, value) {
        return Ok(());
    }
    if attributes::is_known(path) || stream.read_only.iter().any(|kept| **kept == *path) {
        return Err(Status::BadArgument);
    }
    keep(stream, path, value)?;
    if let Some((read_only, for_connection)) = declared {
        if read_only {
            stream.read_only.push(path.into());
        }
        if for_connection {
            stream.host.keep_for_connection(path, value);
        }
    }
    Ok(())
}

/// What this plugin has declared of a property.
pub(super) fn declared<'a, H>(state: &'a HostState<H>, path: &[u8]) -> Option<&'a Declared> {
    state.declared.iter().find(|declared| *declared.name == *path)
}

/// Keeps a value under a path. An empty or too long path, and a too long value: BAD_ARGUMENT. Too many: INTERNAL_FAILURE.
pub(super) fn keep<H>(stream: &mut StreamState<H>, path: &[u8], value: &[u8]) -> Answer {
    if path.is_empty() || path.len() > MAX_PATH || value.len() > MAX_VALUE {
        return Err(Status::BadArgument);
    }
    let value = Bytes::copy_from_slice(value);
    if let Some((_, kept)) = stream.properties.iter_mut().find(|(kept, _)| **kept == *path) {
        *kept = value;
    } else if stream.properties.len() < MAX_KEPT {
        stream.properties.push((path.into(), value));
    } else {
        return Err(Status::InternalFailure);
    }
    Ok(())
}

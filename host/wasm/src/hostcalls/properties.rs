//! `get_property` and `set_property`. Most calls are for well-known names, so nothing is parsed before it must be.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{Answer, Out, answer, bytes, serve};
use crate::host_state::HostState;
use crate::settings::VmSettings;
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
            serve(&mut caller, |memory, state| {
                let (path, value) = (trim(bytes(memory, path, pl)?), bytes(memory, value, vl)?);
                let stream = state.stream_mut().ok_or(Status::NotFound)?;
                if stream.host.set_property(path, value) { Ok(()) } else { keep(stream, path, value) }
            })
        },
    )?;
    Ok(())
}

/// A path may end with a NUL.
fn trim(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"\0").unwrap_or(path)
}

/// Appends the value: the plugin's own names, the host's properties, then what filters have set.
fn read<H: StreamHost>(state: &HostState<H>, path: &[u8], value: &mut Vec<u8>) -> Answer {
    if let Some(name) = path.strip_prefix(b"plugin_").and_then(|name| own(&state.settings, name)) {
        value.extend_from_slice(name.as_bytes());
        return Ok(());
    }
    let stream = state.stream().ok_or(Status::NotFound)?;
    if stream.host.property(path, stream.parts(), value) {
        return Ok(());
    }
    value.extend_from_slice(kept(stream, path).ok_or(Status::NotFound)?);
    Ok(())
}

fn own<'a>(settings: &'a VmSettings, name: &[u8]) -> Option<&'a str> {
    Some(match name {
        b"name" => &settings.plugin_name,
        b"root_id" => &settings.root_id,
        b"vm_id" => &settings.vm_id,
        _ => return None,
    })
}

/// What a filter has set under this path, or under Envoy's names for it: `wasm.X` and `filter_state` NUL `wasm.X`.
fn kept<'a, H>(stream: &'a StreamState<H>, path: &[u8]) -> Option<&'a [u8]> {
    let find = |path: &[u8]| stream.properties.iter().find(|(kept, _)| **kept == *path).map(|(_, value)| &**value);
    find(path).or_else(|| {
        let path = path.strip_prefix(b"filter_state\0").unwrap_or(path);
        find(path.strip_prefix(b"wasm.")?)
    })
}

fn keep<H>(stream: &mut StreamState<H>, path: &[u8], value: &[u8]) -> Answer {
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

//! The host's functions with the ABI's signatures, answered from [`State`](super::state::State).
//!
//! SAFETY of all functions: `raw::calls` is the only caller. It passes pointers and lengths of live values, and out
//! pointers to live variables.

#![allow(clippy::too_many_arguments, reason = "the ABI's own signatures")]

mod callouts;
mod sharing;

use std::slice;

pub(crate) use callouts::*;
pub(crate) use sharing::*;

use super::state::{self, Lines, State};
use crate::{BufferType, LogLevel, MapType, Status, pairs};

type Outcome<T> = Result<T, Status>;

unsafe fn bytes<'a>(pointer: *const u8, length: usize) -> &'a [u8] {
    // SAFETY: see the module.
    unsafe { slice::from_raw_parts(pointer, length) }
}

/// Writes an answer where the guest says, as a host does.
unsafe fn give(outcome: Outcome<Vec<u8>>, pointer: *mut *mut u8, length: *mut usize) -> i32 {
    match outcome {
        Ok(value) => {
            let memory = crate::raw::scratch::allocate(value.len());
            // SAFETY: `allocate` gave as much; the out pointers see the module.
            unsafe {
                memory.copy_from_nonoverlapping(value.as_ptr(), value.len());
                *pointer = memory;
                *length = value.len();
            }
            0
        }
        Err(status) => status as i32,
    }
}

fn done(outcome: Outcome<()>) -> i32 {
    outcome.map_or_else(|status| status as i32, |()| 0)
}

fn call<T>(name: &'static str, f: impl FnOnce(&mut State) -> Outcome<T>) -> Outcome<T> {
    state::with(|state| {
        state.enter(name)?;
        f(state)
    })
}

pub(crate) unsafe fn proxy_log(level: i32, message: *const u8, length: usize) -> i32 {
    let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    let level = levels.into_iter().find(|known| *known as i32 == level).unwrap_or(LogLevel::Critical);
    // SAFETY: see the module.
    let text = String::from_utf8_lossy(unsafe { bytes(message, length) }).into_owned();
    state::with(|state| state.logs.push((level, text)));
    0
}

pub(crate) unsafe fn proxy_get_current_time_nanoseconds(time: *mut u64) -> i32 {
    let outcome = call("proxy_get_current_time_nanoseconds", |state| Ok(state.now().as_nanos() as u64));
    // SAFETY: see the module.
    done(outcome.map(|now| unsafe { *time = now }))
}

pub(crate) unsafe fn proxy_get_buffer_bytes(
    kind: i32,
    start: usize,
    max: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    let outcome = call("proxy_get_buffer_bytes", |state| {
        let buffer = buffer(state, kind).ok_or(Status::NotFound)?;
        let end = start.saturating_add(max).min(buffer.len());
        Ok(buffer.get(start..end).unwrap_or_default().to_vec())
    });
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

/// What the running callback can see of this kind.
fn buffer(state: &mut State, kind: i32) -> Option<&Vec<u8>> {
    const OF_ANSWERS: [i32; 3] =
        [BufferType::HttpCallResponseBody as i32, BufferType::GrpcReceiveBuffer as i32, BufferType::RedisReply as i32];
    if OF_ANSWERS.contains(&kind) {
        return state.answer.as_ref().map(|answer| &answer.body);
    }
    if kind == BufferType::PluginConfiguration as i32 {
        return state.root.buffers.get(&kind);
    }
    state.current().buffers.get(&kind)
}

/// Header lines that the running callback can see.
fn lines(state: &mut State, kind: i32) -> Option<Lines> {
    let line = |(name, value): &(String, String)| (name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec());
    if kind == MapType::HttpCallResponseHeaders as i32 {
        let answer = state.answer.as_ref()?;
        let status = (b":status".to_vec(), answer.status[0].to_string().into_bytes());
        return Some(std::iter::once(status).chain(answer.headers.iter().map(line)).collect());
    }
    if kind == MapType::HttpCallResponseTrailers as i32 {
        return state.answer.as_ref().map(|answer| answer.trailers.iter().map(line).collect());
    }
    state.current().maps.get(&kind).cloned()
}

pub(crate) unsafe fn proxy_set_buffer_bytes(
    kind: i32,
    start: usize,
    size: usize,
    value: *const u8,
    length: usize,
) -> i32 {
    // SAFETY: see the module.
    let value = unsafe { bytes(value, length) };
    done(call("proxy_set_buffer_bytes", |state| {
        let buffer = state.current().buffers.entry(kind).or_default();
        match (start, size) {
            (0, 0) => drop(buffer.splice(..0, value.iter().copied())),
            (0, size) if size >= buffer.len() => *buffer = value.to_vec(),
            (start, _) if start >= buffer.len() => buffer.extend_from_slice(value),
            _ => return Err(Status::BadArgument),
        }
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_get_header_map_pairs(kind: i32, pointer: *mut *mut u8, length: *mut usize) -> i32 {
    let outcome =
        call("proxy_get_header_map_pairs", |state| Ok(pairs::encode(&lines(state, kind).unwrap_or_default())));
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_get_header_map_value(
    kind: i32,
    key: *const u8,
    key_length: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    // SAFETY: see the module.
    let key = unsafe { bytes(key, key_length) };
    let outcome = call("proxy_get_header_map_value", |state| {
        let lines = lines(state, kind).ok_or(Status::BadArgument)?;
        let line = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
        line.map(|(_, value)| value.clone()).ok_or(Status::NotFound)
    });
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

/// Changes a header map: removes the name's lines when `replace`, then appends the value when there is one.
unsafe fn change(
    name: &'static str,
    kind: i32,
    replace: bool,
    key: (*const u8, usize),
    value: Option<(*const u8, usize)>,
) -> i32 {
    // SAFETY: see the module.
    let key = unsafe { bytes(key.0, key.1) }.to_ascii_lowercase();
    // SAFETY: see the module.
    let value = value.map(|(pointer, length)| unsafe { bytes(pointer, length) }.to_vec());
    done(call(name, |state| {
        let lines = state.current().maps.get_mut(&kind).ok_or(Status::BadArgument)?;
        if replace {
            lines.retain(|(known, _)| *known != key);
        }
        lines.extend(value.map(|value| (key, value)));
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_add_header_map_value(
    kind: i32,
    key: *const u8,
    key_length: usize,
    value: *const u8,
    value_length: usize,
) -> i32 {
    let value = Some((value, value_length));
    // SAFETY: see the module.
    unsafe { change("proxy_add_header_map_value", kind, false, (key, key_length), value) }
}

pub(crate) unsafe fn proxy_replace_header_map_value(
    kind: i32,
    key: *const u8,
    key_length: usize,
    value: *const u8,
    value_length: usize,
) -> i32 {
    let value = Some((value, value_length));
    // SAFETY: see the module.
    unsafe { change("proxy_replace_header_map_value", kind, true, (key, key_length), value) }
}

pub(crate) unsafe fn proxy_remove_header_map_value(kind: i32, key: *const u8, key_length: usize) -> i32 {
    // SAFETY: see the module.
    unsafe { change("proxy_remove_header_map_value", kind, true, (key, key_length), None) }
}

pub(crate) unsafe fn proxy_get_property(
    path: *const u8,
    path_length: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    // SAFETY: see the module.
    let path = unsafe { bytes(path, path_length) };
    let outcome =
        call("proxy_get_property", |state| state.current().properties.get(path).cloned().ok_or(Status::NotFound));
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_set_property(
    path: *const u8,
    path_length: usize,
    value: *const u8,
    value_length: usize,
) -> i32 {
    // SAFETY: see the module.
    let (path, value) = unsafe { (bytes(path, path_length), bytes(value, value_length)) };
    done(call("proxy_set_property", |state| {
        state.current().properties.insert(path.to_vec(), value.to_vec());
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_send_local_response(
    status: u32,
    details: *const u8,
    details_length: usize,
    body: *const u8,
    body_length: usize,
    headers: *const u8,
    headers_length: usize,
    grpc_status: i32,
) -> i32 {
    // SAFETY: see the module.
    let (details, body, headers) =
        unsafe { (bytes(details, details_length), bytes(body, body_length), bytes(headers, headers_length)) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reply = super::TestReply {
        status,
        details: text(details),
        headers: pairs::Headers::new(headers).map(|(name, value)| (text(name), text(value))).collect(),
        body: text(body),
        grpc_status,
    };
    done(call("proxy_send_local_response", |state| {
        // The first of two wins, as in Envoy.
        state.current().reply.get_or_insert(reply);
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_continue_stream(stream: i32) -> i32 {
    done(call("proxy_continue_stream", |state| {
        let body = if stream == 0 { BufferType::HttpRequestBody } else { BufferType::HttpResponseBody };
        state.current().go_on(body);
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_call_foreign_function(
    name: *const u8,
    name_length: usize,
    arguments: *const u8,
    arguments_length: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    // SAFETY: see the module.
    let (name, arguments) = unsafe { (bytes(name, name_length), bytes(arguments, arguments_length)) };
    let found = call("proxy_call_foreign_function", |state| {
        state.foreign_calls.push((String::from_utf8_lossy(name).into_owned(), arguments.to_vec()));
        state.foreign.get(name).cloned().ok_or(Status::NotFound)
    });
    // The answer runs with the state free: it may look at the host.
    let outcome = found.and_then(|answer| answer(arguments));
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

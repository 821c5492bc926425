//! The host's functions with the ABI's signatures, answered from [`State`](super::state::State).
//!
//! SAFETY of all functions: `raw::calls` is the only caller. It passes pointers and lengths of live values, and out
//! pointers to live variables.

#![allow(clippy::too_many_arguments, reason = "the ABI's own signatures")]

use std::slice;

use super::state::{self, State};
use crate::{LogLevel, Status, pairs};

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
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // SAFETY: see the module.
    unsafe { *time = since.as_nanos() as u64 };
    0
}

pub(crate) unsafe fn proxy_get_buffer_bytes(
    kind: i32,
    start: usize,
    max: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
) -> i32 {
    let outcome = call("proxy_get_buffer_bytes", |state| {
        let buffer = state.buffers.get(&kind).ok_or(Status::NotFound)?;
        let end = start.saturating_add(max).min(buffer.len());
        Ok(buffer.get(start..end).unwrap_or_default().to_vec())
    });
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
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
        let buffer = state.buffers.entry(kind).or_default();
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
    let outcome = call("proxy_get_header_map_pairs", |state| {
        Ok(pairs::encode(state.maps.get(&kind).map(Vec::as_slice).unwrap_or_default()))
    });
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
        let lines = state.maps.get(&kind).ok_or(Status::BadArgument)?;
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
        let lines = state.maps.get_mut(&kind).ok_or(Status::BadArgument)?;
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
    let outcome = call("proxy_get_property", |state| state.properties.get(path).cloned().ok_or(Status::NotFound));
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
        state.properties.insert(path.to_vec(), value.to_vec());
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
        state.reply.get_or_insert(reply);
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_continue_stream(_stream: i32) -> i32 {
    done(call("proxy_continue_stream", |_| Ok(())))
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

pub(crate) unsafe fn proxy_get_shared_data(
    key: *const u8,
    key_length: usize,
    pointer: *mut *mut u8,
    length: *mut usize,
    version: *mut u32,
) -> i32 {
    // SAFETY: see the module.
    let key = unsafe { bytes(key, key_length) };
    let found = call("proxy_get_shared_data", |state| state.shared.get(key).cloned().ok_or(Status::NotFound));
    // SAFETY: see the module.
    let outcome = found.map(|(value, newest)| unsafe {
        *version = newest;
        value
    });
    // SAFETY: see the module.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_set_shared_data(
    key: *const u8,
    key_length: usize,
    value: *const u8,
    value_length: usize,
    version: u32,
) -> i32 {
    // SAFETY: see the module.
    let (key, value) = unsafe { (bytes(key, key_length), bytes(value, value_length)) };
    done(call("proxy_set_shared_data", |state| {
        let newest = state.shared.get(key).map_or(0, |(_, newest)| *newest);
        if version != 0 && newest != 0 && version != newest {
            return Err(Status::CasMismatch);
        }
        state.shared.insert(key.to_vec(), (value.to_vec(), newest + 1));
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_define_metric(_kind: i32, name: *const u8, name_length: usize, id: *mut u32) -> i32 {
    // SAFETY: see the module.
    let name = unsafe { bytes(name, name_length) };
    done(call("proxy_define_metric", |state| {
        let found = state.metrics.iter().position(|(known, _)| known == name);
        let index = found.unwrap_or_else(|| {
            state.metrics.push((name.to_vec(), 0));
            state.metrics.len() - 1
        });
        // SAFETY: see the module.
        unsafe { *id = index as u32 };
        Ok(())
    }))
}

fn with_metric<T>(name: &'static str, id: u32, f: impl FnOnce(&mut u64) -> T) -> Outcome<T> {
    call(name, |state| {
        let (_, value) = state.metrics.get_mut(id as usize).ok_or(Status::NotFound)?;
        Ok(f(value))
    })
}

pub(crate) unsafe fn proxy_increment_metric(id: u32, offset: i64) -> i32 {
    done(with_metric("proxy_increment_metric", id, |value| *value = value.wrapping_add_signed(offset)))
}

pub(crate) unsafe fn proxy_record_metric(id: u32, value: u64) -> i32 {
    done(with_metric("proxy_record_metric", id, |current| *current = value))
}

pub(crate) unsafe fn proxy_get_metric(id: u32, value: *mut u64) -> i32 {
    let outcome = with_metric("proxy_get_metric", id, |current| *current);
    // SAFETY: see the module.
    done(outcome.map(|current| unsafe { *value = current }))
}

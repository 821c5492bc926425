//! Safe forms of the host's functions.
//!
//! Values are lent for any lifetime `'a` that the caller names; callers inside this crate bind it to the running
//! [`Callback`](super::scratch::Callback).

use std::{ptr, slice};

use super::imports as host;
use crate::{BufferType, HostError, LogLevel, MapType, MetricType, Status};

pub(super) type Outcome<T> = Result<T, HostError>;

pub(super) fn check(call: &'static str, raw: i32) -> Outcome<()> {
    if raw == Status::Ok as i32 { Ok(()) } else { Err(HostError { call, status: Status::from_raw(raw) }) }
}

/// "Not there" as a value instead of an error.
fn optional<'a>(call: &'static str, raw: i32, bytes: &'a [u8]) -> Outcome<Option<&'a [u8]>> {
    match check(call, raw) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.status == Status::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a host function that answers with bytes.
pub(super) fn receive<'a>(call: impl FnOnce(*mut *mut u8, *mut usize) -> i32) -> (i32, &'a [u8]) {
    let (mut bytes, mut length) = (ptr::null_mut(), 0);
    let status = call(&raw mut bytes, &raw mut length);
    if status != Status::Ok as i32 || bytes.is_null() {
        return (status, &[]);
    }
    // SAFETY: the host asked `proxy_on_memory_allocate` for memory and wrote `length` bytes there; it stays until the
    // running callback ends, and callers lend it no longer.
    (status, unsafe { slice::from_raw_parts(bytes, length) })
}

pub(crate) fn log(level: LogLevel, message: &str) {
    // SAFETY: pointer and length of a live `str`. The answer is of no use: there is nowhere to complain.
    unsafe { host::proxy_log(level as i32, message.as_ptr(), message.len()) };
}

pub(crate) fn now() -> Outcome<u64> {
    let mut time = 0;
    // SAFETY: the host writes 8 bytes to a live `u64`.
    check("proxy_get_current_time_nanoseconds", unsafe { host::proxy_get_current_time_nanoseconds(&raw mut time) })?;
    Ok(time)
}

pub(crate) fn buffer<'a>(kind: BufferType, start: usize, max: usize) -> Outcome<Option<&'a [u8]>> {
    let (status, bytes) =
        // SAFETY: out pointers of `receive`.
        receive(|bytes, length| unsafe { host::proxy_get_buffer_bytes(kind as i32, start, max, bytes, length) });
    optional("proxy_get_buffer_bytes", status, bytes)
}

pub(crate) fn set_buffer(kind: BufferType, start: usize, size: usize, value: &[u8]) -> Outcome<()> {
    // SAFETY: pointer and length of a live slice.
    let status = unsafe { host::proxy_set_buffer_bytes(kind as i32, start, size, value.as_ptr(), value.len()) };
    check("proxy_set_buffer_bytes", status)
}

pub(crate) fn header_pairs<'a>(kind: MapType) -> Outcome<&'a [u8]> {
    // SAFETY: out pointers of `receive`.
    let (status, bytes) =
        receive(|bytes, length| unsafe { host::proxy_get_header_map_pairs(kind as i32, bytes, length) });
    check("proxy_get_header_map_pairs", status)?;
    Ok(bytes)
}

pub(crate) fn header<'a>(kind: MapType, name: &str) -> Outcome<Option<&'a [u8]>> {
    // SAFETY: a live `str`, and out pointers of `receive`.
    let (status, bytes) = receive(|bytes, length| unsafe {
        host::proxy_get_header_map_value(kind as i32, name.as_ptr(), name.len(), bytes, length)
    });
    optional("proxy_get_header_map_value", status, bytes)
}

pub(crate) fn add_header(kind: MapType, name: &str, value: &[u8]) -> Outcome<()> {
    // SAFETY: pointers and lengths of live slices.
    let status = unsafe {
        host::proxy_add_header_map_value(kind as i32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    check("proxy_add_header_map_value", status)
}

pub(crate) fn set_header(kind: MapType, name: &str, value: &[u8]) -> Outcome<()> {
    // SAFETY: pointers and lengths of live slices.
    let status = unsafe {
        host::proxy_replace_header_map_value(kind as i32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    };
    check("proxy_replace_header_map_value", status)
}

pub(crate) fn remove_header(kind: MapType, name: &str) -> Outcome<()> {
    // SAFETY: pointer and length of a live `str`.
    let status = unsafe { host::proxy_remove_header_map_value(kind as i32, name.as_ptr(), name.len()) };
    check("proxy_remove_header_map_value", status)
}

pub(crate) fn property<'a>(key: &str) -> Outcome<Option<&'a [u8]>> {
    // SAFETY: a live `str`, and out pointers of `receive`.
    let (status, bytes) =
        receive(|bytes, length| unsafe { host::proxy_get_property(key.as_ptr(), key.len(), bytes, length) });
    optional("proxy_get_property", status, bytes)
}

pub(crate) fn set_property(key: &str, value: &[u8]) -> Outcome<()> {
    // SAFETY: pointers and lengths of live slices.
    let status = unsafe { host::proxy_set_property(key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
    check("proxy_set_property", status)
}

pub(crate) fn send_local_response(
    status: u32,
    details: &str,
    body: &[u8],
    headers: &[u8],
    grpc_status: i32,
) -> Outcome<()> {
    // SAFETY: pointers and lengths of live slices.
    let answer = unsafe {
        host::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    };
    check("proxy_send_local_response", answer)
}

pub(crate) fn continue_stream(stream: i32) -> Outcome<()> {
    // SAFETY: no pointer crosses.
    check("proxy_continue_stream", unsafe { host::proxy_continue_stream(stream) })
}

pub(crate) fn call_foreign<'a>(name: &str, arguments: &[u8]) -> Outcome<&'a [u8]> {
    // SAFETY: live slices, and out pointers of `receive`.
    let (status, bytes) = receive(|bytes, length| unsafe {
        host::proxy_call_foreign_function(name.as_ptr(), name.len(), arguments.as_ptr(), arguments.len(), bytes, length)
    });
    check("proxy_call_foreign_function", status)?;
    Ok(bytes)
}

pub(crate) fn shared_data<'a>(key: &str) -> Outcome<Option<(&'a [u8], u32)>> {
    let mut version = 0;
    // SAFETY: a live `str`, out pointers of `receive`, and 4 bytes for a live `u32`.
    let (status, bytes) = receive(|bytes, length| unsafe {
        host::proxy_get_shared_data(key.as_ptr(), key.len(), bytes, length, &raw mut version)
    });
    Ok(optional("proxy_get_shared_data", status, bytes)?.map(|bytes| (bytes, version)))
}

pub(crate) fn set_shared_data(key: &str, value: &[u8], version: u32) -> Outcome<()> {
    // SAFETY: pointers and lengths of live slices.
    let status = unsafe { host::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), version) };
    check("proxy_set_shared_data", status)
}

pub(crate) fn register_queue(name: &str) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: a live `str`, and 4 bytes for a live `u32`.
    let status = unsafe { host::proxy_register_shared_queue(name.as_ptr(), name.len(), &raw mut id) };
    check("proxy_register_shared_queue", status)?;
    Ok(id)
}

/// None when nobody registered it.
pub(crate) fn resolve_queue(vm: &str, name: &str) -> Outcome<Option<u32>> {
    let mut id = 0;
    // SAFETY: live `str`s, and 4 bytes for a live `u32`.
    let status =
        unsafe { host::proxy_resolve_shared_queue(vm.as_ptr(), vm.len(), name.as_ptr(), name.len(), &raw mut id) };
    Ok(optional("proxy_resolve_shared_queue", status, &[])?.map(|_| id))
}

pub(crate) fn enqueue(id: u32, value: &[u8]) -> Outcome<()> {
    // SAFETY: pointer and length of a live slice.
    let status = unsafe { host::proxy_enqueue_shared_queue(id, value.as_ptr(), value.len()) };
    check("proxy_enqueue_shared_queue", status)
}

/// None when the queue is empty.
pub(crate) fn dequeue<'a>(id: u32) -> Outcome<Option<&'a [u8]>> {
    // SAFETY: out pointers of `receive`.
    let (status, bytes) = receive(|bytes, length| unsafe { host::proxy_dequeue_shared_queue(id, bytes, length) });
    match check("proxy_dequeue_shared_queue", status) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.status == Status::Empty => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn define_metric(kind: MetricType, name: &str) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: a live `str`, and 4 bytes for a live `u32`.
    let status = unsafe { host::proxy_define_metric(kind as i32, name.as_ptr(), name.len(), &raw mut id) };
    check("proxy_define_metric", status)?;
    Ok(id)
}

pub(crate) fn increment_metric(id: u32, offset: i64) -> Outcome<()> {
    // SAFETY: no pointer crosses.
    check("proxy_increment_metric", unsafe { host::proxy_increment_metric(id, offset) })
}

pub(crate) fn record_metric(id: u32, value: u64) -> Outcome<()> {
    // SAFETY: no pointer crosses.
    check("proxy_record_metric", unsafe { host::proxy_record_metric(id, value) })
}

pub(crate) fn metric(id: u32) -> Outcome<u64> {
    let mut value = 0;
    // SAFETY: the host writes 8 bytes to a live `u64`.
    check("proxy_get_metric", unsafe { host::proxy_get_metric(id, &raw mut value) })?;
    Ok(value)
}

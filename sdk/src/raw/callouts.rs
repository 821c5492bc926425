//! Safe forms of the host's functions for ticks, callouts, and the stream that an answer is for.

use super::calls::{Outcome, check, receive};
use super::imports as host;

/// The pieces of a gRPC call.
pub(crate) struct GrpcRequest<'a> {
    pub(crate) upstream: &'a str,
    pub(crate) service: &'a str,
    pub(crate) method: &'a str,
    /// In the ABI's form of a header map.
    pub(crate) metadata: &'a [u8],
    pub(crate) message: &'a [u8],
    pub(crate) timeout_ms: u32,
}

/// From here on host functions mean this stream.
pub(crate) fn set_effective_context(context: u32) -> Outcome<()> {
    // SAFETY: no pointer crosses.
    check("proxy_set_effective_context", unsafe { host::proxy_set_effective_context(context) })
}

/// 0 ends the ticks.
pub(crate) fn set_tick_period(period_ms: u32) -> Outcome<()> {
    // SAFETY: no pointer crosses.
    check("proxy_set_tick_period_milliseconds", unsafe { host::proxy_set_tick_period_milliseconds(period_ms) })
}

/// Headers and trailers are in the ABI's form of a header map.
pub(crate) fn http_call(upstream: &str, headers: &[u8], body: &[u8], trailers: &[u8], timeout_ms: u32) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: pointers and lengths of live slices, and 4 bytes for a live `u32`.
    let status = unsafe {
        host::proxy_http_call(
            upstream.as_ptr(),
            upstream.len(),
            headers.as_ptr(),
            headers.len(),
            body.as_ptr(),
            body.len(),
            trailers.as_ptr(),
            trailers.len(),
            timeout_ms,
            &raw mut id,
        )
    };
    check("proxy_http_call", status)?;
    Ok(id)
}

pub(crate) fn grpc_call(call: &GrpcRequest<'_>) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: pointers and lengths of live slices, and 4 bytes for a live `u32`.
    let status = unsafe {
        host::proxy_grpc_call(
            call.upstream.as_ptr(),
            call.upstream.len(),
            call.service.as_ptr(),
            call.service.len(),
            call.method.as_ptr(),
            call.method.len(),
            call.metadata.as_ptr(),
            call.metadata.len(),
            call.message.as_ptr(),
            call.message.len(),
            call.timeout_ms,
            &raw mut id,
        )
    };
    check("proxy_grpc_call", status)?;
    Ok(id)
}

/// How a gRPC call has ended, in words; during `on_grpc_close`.
pub(crate) fn grpc_message<'a>() -> Outcome<&'a [u8]> {
    let mut code = 0;
    // SAFETY: 4 bytes for a live `u32`, and out pointers of `receive`.
    let (status, bytes) = receive(|bytes, length| unsafe { host::proxy_get_status(&raw mut code, bytes, length) });
    check("proxy_get_status", status)?;
    Ok(bytes)
}

pub(crate) fn redis_init(upstream: &str, username: &str, password: &str, timeout_ms: u32) -> Outcome<()> {
    // SAFETY: pointers and lengths of live `str`s.
    let status = unsafe {
        host::proxy_redis_init(
            upstream.as_ptr(),
            upstream.len(),
            username.as_ptr(),
            username.len(),
            password.as_ptr(),
            password.len(),
            timeout_ms,
        )
    };
    check("proxy_redis_init", status)
}

pub(crate) fn redis_call(upstream: &str, query: &[u8]) -> Outcome<u32> {
    let mut id = 0;
    // SAFETY: pointers and lengths of live slices, and 4 bytes for a live `u32`.
    let status =
        unsafe { host::proxy_redis_call(upstream.as_ptr(), upstream.len(), query.as_ptr(), query.len(), &raw mut id) };
    check("proxy_redis_call", status)?;
    Ok(id)
}

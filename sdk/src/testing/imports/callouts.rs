//! Ticks, calls to other hosts, and the stream that an answer is for.

use std::time::Duration;

use super::super::calls::{TestCall, TestCallKind};
use super::super::state::State;
use super::{Outcome, bytes, call, done, give};
use crate::Status;
use crate::pairs::Headers;

pub(crate) unsafe fn proxy_set_effective_context(context: u32) -> i32 {
    done(call("proxy_set_effective_context", |state| {
        if !state.knows(context) {
            return Err(Status::BadArgument);
        }
        state.context = context;
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_set_tick_period_milliseconds(period: u32) -> i32 {
    done(call("proxy_set_tick_period_milliseconds", |state| {
        state.tick_period = (period > 0).then(|| Duration::from_millis(period.into()));
        Ok(())
    }))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(pairs: &[u8]) -> Vec<(String, String)> {
    Headers::new(pairs).map(|(name, value)| (text(name), text(value))).collect()
}

/// Notes a call; its id.
fn note(state: &mut State, call: TestCall) -> u32 {
    state.last_call += 1;
    state.pending.push(TestCall { id: state.last_call, ..call });
    state.last_call
}

/// The answer is an id for the guest.
unsafe fn number(outcome: Outcome<u32>, id: *mut u32) -> i32 {
    // SAFETY: see the module above.
    done(outcome.map(|number| unsafe { *id = number }))
}

pub(crate) unsafe fn proxy_http_call(
    upstream: *const u8,
    upstream_length: usize,
    headers: *const u8,
    headers_length: usize,
    body: *const u8,
    body_length: usize,
    trailers: *const u8,
    trailers_length: usize,
    timeout: u32,
    id: *mut u32,
) -> i32 {
    // SAFETY: see the module above.
    let (upstream, headers) = unsafe { (bytes(upstream, upstream_length), bytes(headers, headers_length)) };
    // SAFETY: see the module above.
    let (body, trailers) = unsafe { (bytes(body, body_length), bytes(trailers, trailers_length)) };
    let outcome = call("proxy_http_call", |state| {
        let headers = lines(headers);
        let pseudo = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let (method, path) = (pseudo(":method").unwrap_or_default(), pseudo(":path").unwrap_or_default());
        if method.is_empty() || path.is_empty() || pseudo(":authority").is_none() {
            return Err(Status::BadArgument);
        }
        Ok(note(
            state,
            TestCall {
                id: 0,
                kind: TestCallKind::Http,
                upstream: text(upstream),
                method,
                path,
                headers,
                body: body.to_vec(),
                trailers: lines(trailers),
                timeout: Duration::from_millis(timeout.into()),
            },
        ))
    });
    // SAFETY: see the module above.
    unsafe { number(outcome, id) }
}

pub(crate) unsafe fn proxy_grpc_call(
    upstream: *const u8,
    upstream_length: usize,
    service: *const u8,
    service_length: usize,
    method: *const u8,
    method_length: usize,
    metadata: *const u8,
    metadata_length: usize,
    message: *const u8,
    message_length: usize,
    timeout: u32,
    id: *mut u32,
) -> i32 {
    // SAFETY: see the module above.
    let (upstream, service) = unsafe { (bytes(upstream, upstream_length), bytes(service, service_length)) };
    // SAFETY: see the module above.
    let (method, metadata) = unsafe { (bytes(method, method_length), bytes(metadata, metadata_length)) };
    // SAFETY: see the module above.
    let message = unsafe { bytes(message, message_length) };
    let outcome = call("proxy_grpc_call", |state| {
        Ok(note(
            state,
            TestCall {
                id: 0,
                kind: TestCallKind::Grpc,
                upstream: text(upstream),
                method: "POST".to_owned(),
                path: format!("/{}/{}", text(service), text(method)),
                headers: lines(metadata),
                body: message.to_vec(),
                trailers: Vec::new(),
                timeout: Duration::from_millis(timeout.into()),
            },
        ))
    });
    // SAFETY: see the module above.
    unsafe { number(outcome, id) }
}

pub(crate) unsafe fn proxy_get_status(status: *mut u32, pointer: *mut *mut u8, length: *mut usize) -> i32 {
    let found = call("proxy_get_status", |state| {
        Ok(state.answer.as_ref().map_or((0, Vec::new()), |answer| (answer.status[1], answer.body.clone())))
    });
    // SAFETY: see the module above.
    let outcome = found.map(|(code, message)| unsafe {
        *status = code;
        message
    });
    // SAFETY: see the module above.
    unsafe { give(outcome, pointer, length) }
}

pub(crate) unsafe fn proxy_redis_init(
    upstream: *const u8,
    upstream_length: usize,
    _username: *const u8,
    _username_length: usize,
    _password: *const u8,
    _password_length: usize,
    _timeout: u32,
) -> i32 {
    // SAFETY: see the module above.
    let upstream = text(unsafe { bytes(upstream, upstream_length) });
    done(call("proxy_redis_init", |state| {
        let (name, parameters) = upstream.split_once('?').unwrap_or((&upstream, ""));
        state.redis.insert(name.to_owned(), parameters.to_owned());
        Ok(())
    }))
}

pub(crate) unsafe fn proxy_redis_call(
    upstream: *const u8,
    upstream_length: usize,
    query: *const u8,
    query_length: usize,
    id: *mut u32,
) -> i32 {
    // SAFETY: see the module above.
    let (upstream, query) = unsafe { (bytes(upstream, upstream_length), bytes(query, query_length)) };
    let outcome = call("proxy_redis_call", |state| {
        let upstream = text(upstream);
        if !state.redis.contains_key(&upstream) {
            return Err(Status::BadArgument);
        }
        Ok(note(
            state,
            TestCall {
                id: 0,
                kind: TestCallKind::Redis,
                upstream,
                method: String::new(),
                path: String::new(),
                headers: Vec::new(),
                body: query.to_vec(),
                trailers: Vec::new(),
                timeout: Duration::ZERO,
            },
        ))
    });
    // SAFETY: see the module above.
    unsafe { number(outcome, id) }
}

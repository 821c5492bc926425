//! The callbacks of a stream, and those of the plugin itself.

use super::{NO_CONTEXT, Registered, complain, recover, settle, with_stream};
use crate::message::{At, Part};
use crate::raw::scratch::Callback;
use crate::{Action, Exchange, Queue, Request, Response};

/// `proxy_on_request_headers`.
pub fn request_headers<F: Registered>(context: u32, _count: usize, end: bool) -> u32 {
    message::<F>(At::new(context, Part::RequestHeaders, 0, end))
}

/// `proxy_on_request_body`.
pub fn request_body<F: Registered>(context: u32, size: usize, end: bool) -> u32 {
    message::<F>(At::new(context, Part::RequestBody, size, end))
}

/// `proxy_on_request_trailers`.
pub fn request_trailers<F: Registered>(context: u32, _count: usize) -> u32 {
    message::<F>(At::new(context, Part::RequestTrailers, 0, true))
}

/// `proxy_on_response_headers`.
pub fn response_headers<F: Registered>(context: u32, _count: usize, end: bool) -> u32 {
    message::<F>(At::new(context, Part::ResponseHeaders, 0, end))
}

/// `proxy_on_response_body`.
pub fn response_body<F: Registered>(context: u32, size: usize, end: bool) -> u32 {
    message::<F>(At::new(context, Part::ResponseBody, size, end))
}

/// `proxy_on_response_trailers`.
pub fn response_trailers<F: Registered>(context: u32, _count: usize) -> u32 {
    message::<F>(At::new(context, Part::ResponseTrailers, 0, true))
}

/// Inlined, so that each export holds the code of its own callback and no other.
#[inline(always)]
fn message<F: Registered>(at: At) -> u32 {
    let callback = Callback::enter();
    let action = with_stream::<F, _>(at.context, |filter, state, flows| match flows {
        None => hand::<F>(filter, state, &callback, at),
        Some(flows) => {
            let flow = flows.of(at.part);
            if F::CALLS && flow.misses(at, || F::with_plugin(|plugin| plugin.awaits(at.context, at.part))) {
                return Action::Pause;
            }
            let action = hand::<F>(filter, state, &callback, at.with(flow));
            flow.note(at, action);
            action
        }
    });
    action.unwrap_or_else(|| recover::<F>(&Exchange::new(&callback, at), NO_CONTEXT)) as u32
}

/// Gives a part of a message to the filter.
#[inline(always)]
pub(super) fn hand<F: Registered>(filter: &F, state: &mut F::Stream, callback: &Callback, at: At) -> Action {
    let exchange = Exchange::new(callback, at);
    match at.part {
        Part::RequestHeaders => {
            let request = Request::of(exchange);
            settle::<F>(&request, filter.on_request_headers(state, &request))
        }
        Part::RequestBody => {
            let request = Request::of(exchange);
            settle::<F>(&request, filter.on_request_body(state, &request))
        }
        Part::RequestTrailers => {
            let request = Request::of(exchange);
            settle::<F>(&request, filter.on_request_trailers(state, &request))
        }
        Part::ResponseHeaders => {
            let response = Response::of(exchange);
            settle::<F>(&response, filter.on_response_headers(state, &response))
        }
        Part::ResponseBody => {
            let response = Response::of(exchange);
            settle::<F>(&response, filter.on_response_body(state, &response))
        }
        Part::ResponseTrailers => {
            let response = Response::of(exchange);
            settle::<F>(&response, filter.on_response_trailers(state, &response))
        }
        Part::None => Action::Continue,
    }
}

/// `proxy_on_foreign_function`.
pub fn foreign_function<F: Registered>(context: u32, function: u32, size: usize) {
    let callback = Callback::enter();
    let exchange = Exchange::with_call_data(&callback, context, size);
    let answer =
        with_stream::<F, _>(context, |filter, stream, _| filter.on_foreign_function(stream, function, &exchange));
    if let Some(Err(error)) = answer {
        complain(error);
    }
}

/// `proxy_on_log`.
pub fn log<F: Registered>(context: u32) {
    let callback = Callback::enter();
    let exchange = Exchange::new(&callback, At::new(context, Part::None, 0, true));
    let answer = with_stream::<F, _>(context, |filter, stream, _| filter.on_log(stream, &exchange));
    if let Some(Err(error)) = answer {
        complain(error);
    }
}

/// `proxy_on_tick`.
pub fn tick<F: Registered>(root: u32) {
    let _callback = Callback::enter();
    let answer = F::with_plugin(|plugin| {
        plugin.root.set(root);
        plugin.of_root(root)
    });
    if let Some(Err(error)) = answer.map(F::on_tick) {
        complain(error);
    }
}

/// `proxy_on_queue_ready`.
pub fn queue_ready<F: Registered>(root: u32, queue: u32) {
    let _callback = Callback::enter();
    let answer = F::with_plugin(|plugin| {
        plugin.root.set(root);
        plugin.of_root(root)
    });
    if let Some(Err(error)) = answer.map(|filter| filter.on_queue_ready(Queue::of(queue))) {
        complain(error);
    }
}

//! The callbacks of a stream, and those of the plugin itself.

use super::{NO_CONTEXT, Registered, Said, complain, recover, settle, with_stream};
use crate::message::{At, Part};
use crate::raw::scratch::Callback;
use crate::{Action, Exchange, Queue, Request, Response};

/// `proxy_on_request_headers`.
pub fn request_headers<F: Registered>(context: u32, _count: usize, end: bool) -> u32 {
    message(At::new(context, Part::RequestHeaders, 0, end), hand_request_headers::<F>)
}

/// `proxy_on_request_body`.
pub fn request_body<F: Registered>(context: u32, size: usize, end: bool) -> u32 {
    message(At::new(context, Part::RequestBody, size, end), hand_request_body::<F>)
}

/// `proxy_on_request_trailers`.
pub fn request_trailers<F: Registered>(context: u32, _count: usize) -> u32 {
    message(At::new(context, Part::RequestTrailers, 0, true), hand_request_trailers::<F>)
}

/// `proxy_on_response_headers`.
pub fn response_headers<F: Registered>(context: u32, _count: usize, end: bool) -> u32 {
    message(At::new(context, Part::ResponseHeaders, 0, end), hand_response_headers::<F>)
}

/// `proxy_on_response_body`.
pub fn response_body<F: Registered>(context: u32, size: usize, end: bool) -> u32 {
    message(At::new(context, Part::ResponseBody, size, end), hand_response_body::<F>)
}

/// `proxy_on_response_trailers`.
pub fn response_trailers<F: Registered>(context: u32, _count: usize) -> u32 {
    message(At::new(context, Part::ResponseTrailers, 0, true), hand_response_trailers::<F>)
}

/// Each callback brings the function that hands its part over, so that its export holds no code of the others.
#[inline(always)]
fn message<F: Registered>(at: At, hand: impl FnOnce(&F, &mut F::Stream, &Callback, At) -> Said) -> u32 {
    let callback = Callback::enter();
    let action = with_stream::<F, _>(at.context, |filter, state, flows| match flows {
        None => hand(filter, state, &callback, at).action,
        Some(flows) => {
            let flow = flows.of(at.part);
            if F::CALLS && flow.misses(at, || F::with_plugin(|plugin| plugin.awaits(at.context, at.part))) {
                return Action::Pause;
            }
            let said = hand(filter, state, &callback, at.with(flow));
            if F::CALLS && said.answered {
                F::with_plugin(|plugin| plugin.forget(at.context));
            }
            flow.note(at, said.action);
            said.action
        }
    });
    action.unwrap_or_else(|| recover::<F>(&Exchange::new(&callback, at), NO_CONTEXT)) as u32
}

/// Gives the filter a part that came while its stream waited.
pub(super) fn hand_missed<F: Registered>(filter: &F, state: &mut F::Stream, callback: &Callback, at: At) -> Said {
    match at.part {
        Part::RequestTrailers => hand_request_trailers(filter, state, callback, at),
        Part::ResponseTrailers => hand_response_trailers(filter, state, callback, at),
        part if part.is_request() => hand_request_body(filter, state, callback, at),
        _ => hand_response_body(filter, state, callback, at),
    }
}

macro_rules! hand {
    ($name:ident, $message:ident, $method:ident) => {
        fn $name<F: Registered>(filter: &F, state: &mut F::Stream, callback: &Callback, at: At) -> Said {
            let message = $message::of(Exchange::new(callback, at));
            settle::<F>(&message, filter.$method(state, &message))
        }
    };
}

hand!(hand_request_headers, Request, on_request_headers);
hand!(hand_request_body, Request, on_request_body);
hand!(hand_request_trailers, Request, on_request_trailers);
hand!(hand_response_headers, Response, on_response_headers);
hand!(hand_response_body, Response, on_response_body);
hand!(hand_response_trailers, Response, on_response_trailers);

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
    let answer = F::with_plugin(|plugin| plugin.enter_root(root));
    if let Some(Err(error)) = answer.map(F::on_tick) {
        complain(error);
    }
}

/// `proxy_on_queue_ready`.
pub fn queue_ready<F: Registered>(root: u32, queue: u32) {
    let _callback = Callback::enter();
    let answer = F::with_plugin(|plugin| plugin.enter_root(root));
    if let Some(Err(error)) = answer.map(|filter| filter.on_queue_ready(Queue::of(queue))) {
        complain(error);
    }
}

//! Answers to calls: who waits for them, and how a stream goes on with one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::callbacks::hand_missed;
use super::{Plugin, Registered, Said, complain, settle, with_stream};
use crate::call::{Answer, Grpc, GrpcAnswer, Hold, Http, Kind, Redis, RedisAnswer};
use crate::message::{At, Part};
use crate::raw::scratch::Callback;
use crate::raw::{callouts, calls};
use crate::{Action, Exchange, Filter, HostError, Request, Response};

/// Calls of one kind that wait for their answers, by the host's id.
pub(crate) struct Pending<F: Filter, K: Kind> {
    waiting: RefCell<BTreeMap<u32, Waiting<F, K>>>,
}

struct Waiting<F: Filter, K: Kind> {
    root: u32,
    then: Then<F, K>,
}

type OnRequest<F, K> = dyn for<'a> FnOnce(
    &F,
    &mut <F as Filter>::Stream,
    &Request<'a>,
    &<K as Kind>::Answer<'a>,
) -> Result<Action, HostError>;

type OnResponse<F, K> = dyn for<'a> FnOnce(
    &F,
    &mut <F as Filter>::Stream,
    &Response<'a>,
    &<K as Kind>::Answer<'a>,
) -> Result<Action, HostError>;

type OnPlugin<F, K> = dyn for<'a> FnOnce(&F, &<K as Kind>::Answer<'a>) -> Result<(), HostError>;

/// What happens with an answer.
pub(crate) enum Then<F: Filter, K: Kind> {
    /// The request that stands there goes on.
    Request(At, Box<OnRequest<F, K>>),
    /// The response that stands there goes on.
    Response(At, Box<OnResponse<F, K>>),
    /// The filter itself wants it.
    Plugin(Box<OnPlugin<F, K>>),
}

impl<F: Filter, K: Kind> Pending<F, K> {
    pub(super) const fn new() -> Self {
        Self { waiting: RefCell::new(BTreeMap::new()) }
    }

    #[cfg(all(not(target_arch = "wasm32"), feature = "testing"))]
    pub(super) fn clear(&self) {
        let waiting = self.waiting.take();
        drop(waiting);
    }

    fn forget(&self, context: u32) {
        let is_of = |waiting: &Waiting<F, K>| waiting.then.place().is_some_and(|at| at.context == context);
        let gone: Vec<_> = self.waiting.borrow_mut().extract_if(.., |_, waiting| is_of(waiting)).collect();
        // With the table free: what a continuation has captured may look at the plugin when it goes.
        drop(gone);
    }

    fn awaits(&self, context: u32, part: Part) -> bool {
        let of_flow = |at: At| at.context == context && at.part.is_request() == part.is_request();
        self.waiting.borrow().values().any(|waiting| waiting.then.place().is_some_and(of_flow))
    }
}

impl<F: Filter, K: Kind> Then<F, K> {
    fn place(&self) -> Option<At> {
        match self {
            Self::Request(at, _) | Self::Response(at, _) => Some(*at),
            Self::Plugin(_) => None,
        }
    }
}

impl<F: Filter> Plugin<F> {
    /// A stream is over, or answered: nobody waits for its answers any more.
    pub(super) fn forget(&self, context: u32) {
        self.holds.forget(context);
        self.http.forget(context);
        self.grpc.forget(context);
        self.redis.forget(context);
    }

    /// True while a call of the stream waits, made from a callback of this direction.
    pub(super) fn awaits(&self, context: u32, part: Part) -> bool {
        let of_call =
            self.http.awaits(context, part) || self.grpc.awaits(context, part) || self.redis.awaits(context, part);
        of_call || self.holds.awaits(context, part)
    }
}

/// Notes what happens when the answer with this id comes.
pub(crate) fn expect<F: Registered, K: Kind>(id: u32, then: Then<F, K>) {
    F::with_plugin(|plugin| {
        let waiting = Waiting { root: plugin.root.get(), then };
        K::pending(plugin).waiting.borrow_mut().insert(id, waiting);
    });
}

/// Notes what happens when the filter lets a stream go on that it holds.
pub(crate) fn hold<F: Registered>(then: Then<F, Hold>) -> u32 {
    let id = F::with_plugin(|plugin| {
        plugin.last_hold.set(plugin.last_hold.get().wrapping_add(1));
        plugin.last_hold.get()
    });
    expect(id, then);
    id
}

/// Lets a stream go on from the running callback, which is of another context.
pub(crate) fn let_go<F: Registered>(id: u32) {
    let callback = Callback::enter();
    let current = F::with_plugin(|plugin| plugin.context.get());
    arrive::<F, Hold>(id, &callback, || ());
    // What the running callback does next is about its own context again.
    if let Err(error) = callouts::set_effective_context(current) {
        complain(error);
    }
}

/// `proxy_on_http_call_response`.
pub fn http_answer<F: Registered>(id: u32, headers: usize, body_size: usize) {
    let callback = Callback::enter();
    arrive::<F, Http>(id, &callback, || Answer::read(&callback, headers, body_size));
}

/// `proxy_on_grpc_receive`.
pub fn grpc_answer<F: Registered>(id: u32, size: usize) {
    let callback = Callback::enter();
    arrive::<F, Grpc>(id, &callback, || GrpcAnswer::message_of(&callback, size));
}

/// `proxy_on_grpc_close`.
pub fn grpc_failure<F: Registered>(id: u32, status: u32) {
    let callback = Callback::enter();
    arrive::<F, Grpc>(id, &callback, || GrpcAnswer::closed(&callback, status));
}

/// `proxy_on_redis_call_response`.
pub fn redis_answer<F: Registered>(id: u32, status: u32, size: usize) {
    let callback = Callback::enter();
    arrive::<F, Redis>(id, &callback, || RedisAnswer::read(&callback, status, size));
}

/// Hands an answer to who waits for it; one that nobody waits for is dropped.
fn arrive<'a, F: Registered, K: Kind>(id: u32, callback: &'a Callback, answer: impl FnOnce() -> K::Answer<'a>) {
    let waiting = F::with_plugin(|plugin| K::pending(plugin).waiting.borrow_mut().remove(&id));
    let Some(Waiting { root, then }) = waiting else { return };
    let answer = answer();
    match then {
        Then::Plugin(then) => {
            let filter = F::with_plugin(|plugin| plugin.enter_root(root));
            if let Some(Err(error)) = filter.map(|filter| then(filter, &answer)) {
                complain(error);
            }
        }
        Then::Request(at, then) => resume::<F>(callback, at, |filter, state, at| {
            let request = Request::of(Exchange::new(callback, at));
            settle::<F>(&request, then(filter, state, &request, &answer))
        }),
        Then::Response(at, then) => resume::<F>(callback, at, |filter, state, at| {
            let response = Response::of(Exchange::new(callback, at));
            settle::<F>(&response, then(filter, state, &response, &answer))
        }),
    }
}

/// Takes a stream up again where a call left it, then gives the filter what has come meanwhile. It goes on when the
/// filter says so and waits for nothing else.
fn resume<F: Registered>(callback: &Callback, at: At, first: impl FnOnce(&F, &mut F::Stream, At) -> Said) {
    if callouts::set_effective_context(at.context).is_err() {
        return;
    }
    let awaits = || F::with_plugin(|plugin| plugin.awaits(at.context, at.part));
    let goes_on = with_stream::<F, _>(at.context, |filter, state, flows| {
        let Some(flow) = flows.map(|flows| flows.of(at.part)) else { return false };
        let (mut last, mut said) = (at, first(filter, state, at.with(flow)));
        while said.action == Action::Continue && flow.held && !awaits() {
            let Some(missed) = flow.missed() else {
                flow.note(last, Action::Continue);
                return true;
            };
            last = missed.with(flow);
            said = hand_missed::<F>(filter, state, callback, last);
        }
        if said.answered {
            F::with_plugin(|plugin| plugin.forget(at.context));
        }
        false
    });
    if goes_on == Some(true)
        && let Err(error) = calls::continue_stream(if at.part.is_request() { 0 } else { 1 })
    {
        complain(error);
    }
}

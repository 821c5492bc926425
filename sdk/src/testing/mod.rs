//! [`TestHost`]: runs a filter in `cargo test`, without Wasm.
//!
//! A test plays host, client and world: it begins streams, hands them headers, bodies and trailers, answers calls that the
//! filter has made, ticks, sets the clock, and looks at what became of it.
//!
//! ```
//! use std::time::Duration;
//! use portolan_sdk::prelude::*;
//! use portolan_sdk::testing::{TestAnswer, TestHost};
//! use portolan_sdk::{metrics::Counter, now};
//!
//! /// Lets in whom `door.test` lets in, and notes when.
//! struct Door {
//!     refused: Counter,
//! }
//!
//! impl Filter for Door {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         Ok(Self { refused: Counter::named("refused_total").with(&[("door", "front")])? })
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
//!         request.call(&HttpCall::get("outbound|80||door.test", "/"), |door: &Self, _, request, answer| {
//!             if answer.status() != 200 {
//!                 door.refused.increment()?;
//!                 return request.reply(&LocalReply::new(403).details("door_closed"));
//!             }
//!             request.set_header("x-since", (now()? / 1_000_000_000).to_string().as_bytes())?;
//!             Ok(Action::Continue)
//!         })
//!     }
//! }
//!
//! portolan_sdk::filter! { Door: stream, on_request_headers, http_calls }
//!
//! let host = TestHost::<Door>::start("").expect("any configuration will do");
//! host.set_time(Duration::from_secs(1_700_000_000));
//! let (mut first, mut second) = (host.stream(), host.stream());
//! first.request_headers(&[(":path", "/")]);
//! second.request_headers(&[(":path", "/")]);
//! host.answer_call(&host.pending_calls()[1], &TestAnswer::new(200));
//! host.answer_call(&host.pending_calls()[0], &TestAnswer::timed_out());
//! assert_eq!(first.reply().expect("the door is closed").details, "door_closed");
//! assert_eq!(second.request_header("x-since"), ["1700000000"]);
//! assert_eq!(host.counter("refused_total", &[("door", "front")]), 1);
//! ```
//!
//! The filter is the same code: the host functions that it calls are answered from a state that belongs to the test's
//! thread. Needs feature `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! portolan-sdk = { version = "0.1", features = ["testing"] }
//! ```

mod calls;
#[expect(unsafe_code, reason = "plays the host of an ABI that is made of pointers")]
pub(crate) mod imports;
mod state;
mod stream;

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

pub use calls::{TestAnswer, TestCall, TestCallKind};
use state::{ROOT, State, within};
pub use stream::TestStream;

use crate::dispatch::{self, Registered};
use crate::{BufferType, LogLevel, MetricType, Status};

/// A host with one plugin. See [`Filter`](crate::Filter) for a whole test.
///
/// One at a time in each thread: starting another one forgets the first.
pub struct TestHost<F> {
    filter: PhantomData<fn() -> F>,
}

/// A local reply that the filter sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReply {
    /// HTTP status.
    pub status: u32,
    /// Reason for the access log.
    pub details: String,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// -1 when the filter gave none.
    pub grpc_status: i32,
}

impl<F: Registered> TestHost<F> {
    /// Configures the filter with this JSON; the error is what it logged when it refused.
    pub fn start(configuration: &str) -> Result<Self, String> {
        F::with_plugin(dispatch::Plugin::clear);
        state::with(|state| *state = State::default());
        let host = Self { filter: PhantomData };
        if host.configure(configuration) {
            return Ok(host);
        }
        Err(state::with(|state| state.logs.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")))
    }

    /// Configures the filter anew, as a host does that reuses the VM. True when accepted.
    pub fn configure(&self, configuration: &str) -> bool {
        let bytes = configuration.as_bytes().to_vec();
        state::with(|state| state.root.buffers.insert(BufferType::PluginConfiguration as i32, bytes));
        within(ROOT, || dispatch::configure::<F>(ROOT, configuration.len()))
    }

    /// Begins a request. Several may be under way at once.
    pub fn stream(&self) -> TestStream<'_, F> {
        TestStream::begin()
    }

    /// The calls to other hosts that wait for their answers, oldest first.
    pub fn pending_calls(&self) -> Vec<TestCall> {
        state::with(|state| state.pending.clone())
    }

    /// Answers a call: its continuation runs. False when it does not wait (any more).
    pub fn answer_call(&self, call: &TestCall, answer: &TestAnswer) -> bool {
        let known = state::with(|state| {
            let known = state.pending.iter().position(|pending| pending.id == call.id);
            known.map(|index| state.pending.remove(index)).is_some_and(|_| {
                state.answer = Some(answer.clone());
                true
            })
        });
        let [http, grpc, redis] = answer.status;
        within(ROOT, || match call.kind {
            _ if !known => {}
            TestCallKind::Http if http == 0 => dispatch::http_answer::<F>(call.id, 0, 0),
            TestCallKind::Http => {
                dispatch::http_answer::<F>(call.id, answer.headers.len() + 1, answer.body.len());
            }
            TestCallKind::Grpc if grpc == 0 => dispatch::grpc_answer::<F>(call.id, answer.body.len()),
            TestCallKind::Grpc => dispatch::grpc_failure::<F>(call.id, grpc),
            TestCallKind::Redis => dispatch::redis_answer::<F>(call.id, redis, answer.body.len()),
        });
        state::with(|state| state.answer = None);
        known
    }

    /// Runs `on_tick`, whatever the time.
    pub fn tick(&self) {
        within(ROOT, || dispatch::tick::<F>(ROOT));
    }

    /// The period of ticks that the filter asked for; none when it wants none.
    pub fn tick_period(&self) -> Option<Duration> {
        state::with(|state| state.tick_period)
    }

    /// Sets the clock, as time since 1970. It stands still from now on; until then it is the machine's.
    pub fn set_time(&self, since_1970: Duration) {
        state::with(|state| state.time = Some(since_1970));
    }

    /// Moves the clock forwards, and stops it.
    pub fn advance(&self, by: Duration) {
        state::with(|state| state.time = Some(state.now() + by));
    }

    /// What a queue holds, oldest first.
    pub fn queue(&self, name: &str) -> Vec<Vec<u8>> {
        state::with(|state| {
            let queue = state.queues.iter().find(|(known, _)| known == name);
            queue.map(|(_, messages)| messages.iter().cloned().collect()).unwrap_or_default()
        })
    }

    /// Runs `on_queue_ready` for this queue, if the filter has registered it.
    pub fn queue_ready(&self, name: &str) {
        let id = state::with(|state| state.queues.iter().position(|(known, _)| known == name));
        if let Some(id) = id {
            within(ROOT, || dispatch::queue_ready::<F>(ROOT, id as u32 + 1));
        }
    }

    /// Shared data under a key.
    pub fn shared(&self, key: &str) -> Option<Vec<u8>> {
        state::with(|state| state.shared.get(key.as_bytes()).map(|(value, _)| value.clone()))
    }

    /// Changes shared data, as another VM would.
    pub fn set_shared(&self, key: &str, value: &[u8]) {
        state::with(|state| {
            let version = state.shared.get(key.as_bytes()).map_or(0, |(_, version)| *version);
            state.shared.insert(key.as_bytes().to_vec(), (value.to_vec(), version + 1));
        });
    }

    /// What a counter with these labels, in any order, has counted; 0 when the filter has defined none.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        state::with(|state| state.metric(MetricType::Counter, name, labels).map_or(0, |metric| metric.value))
    }

    /// The level of a gauge with these labels; 0 when the filter has defined none.
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        state::with(|state| state.metric(MetricType::Gauge, name, labels).map_or(0, |metric| metric.value))
    }

    /// All values that a histogram with these labels was given.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<u64> {
        let records = |state: &mut State| Some(state.metric(MetricType::Histogram, name, labels)?.records.clone());
        state::with(|state| records(state).unwrap_or_default())
    }

    /// Sets a property of the plugin itself, which callbacks without a stream read.
    pub fn set_property(&self, key: &str, value: &[u8]) {
        state::with(|state| state.root.properties.insert(key.as_bytes().to_vec(), value.to_vec()));
    }

    /// Answers calls of a foreign function from now on.
    pub fn answer(&self, name: &str, answer: impl Fn(&[u8]) -> Result<Vec<u8>, Status> + 'static) {
        state::with(|state| state.foreign.insert(name.as_bytes().to_vec(), Rc::new(answer)));
    }

    /// Makes a host function fail from now on, e.g. `proxy_set_property`.
    pub fn fail(&self, call: &'static str, status: Status) {
        state::with(|state| state.failures.insert(call, status));
    }

    /// The calls of foreign functions so far: name and arguments.
    pub fn foreign_calls(&self) -> Vec<(String, Vec<u8>)> {
        state::with(|state| state.foreign_calls.clone())
    }

    /// The host functions that the filter called so far, log lines left out.
    pub fn calls(&self) -> Vec<&'static str> {
        state::with(|state| state.calls.clone())
    }

    /// The lines logged so far.
    pub fn logs(&self) -> Vec<(LogLevel, String)> {
        state::with(|state| state.logs.clone())
    }
}

#[cfg(test)]
mod tests;

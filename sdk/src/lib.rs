//! Write proxy-wasm filters: typed configuration, typed requests and responses, and tests that need no Wasm.
//!
//! A filter is a type with the trait [`Filter`], in a crate of type `cdylib` that is built for `wasm32-wasip1`; the
//! macro [`filter!`] exports the callbacks that it has. See [`Filter`] for a whole one. The module speaks ABI 0.2.1
//! and runs in every proxy-wasm host.
//!
//! | to | see |
//! |---|---|
//! | read a configuration, refuse a wrong one | [`Filter::configure`], [`ConfigError`], [`NoConfig`] |
//! | keep something for each request | [`Filter::Stream`], name `stream` in [`filter!`] |
//! | read and change headers, paths, queries, cookies | [`Request`], [`Response`] |
//! | know the client, the route, the cluster | [`Exchange`]: properties by name and type |
//! | answer instead of the upstream | [`LocalReply`], [`Exchange::reply`] |
//! | see bodies, in parts or as a whole | [`Request::body`], [`Request::whole_body`], [`Whole`] |
//! | ask another host, go on with its answer | [`call`]: [`HttpCall`], [`GrpcCall`], [`RedisCall`] |
//! | ask for the filter itself, e.g. for keys | [`root::call`], [`timer::every`] |
//! | let requests wait for the filter | [`Held`] |
//! | share with other workers | [`shared`], [`Queue`] |
//! | count and measure | [`metrics`] |
//! | log | [`log`] |
//! | say what an error means | [`OnError`], [`HostError`], [`OrFail`] |
//! | test without a gateway | [`testing::TestHost`] (feature `testing`) |
//!
//! # What it costs
//!
//! - Only listed callbacks are exported, and a host skips the others.
//! - Values that the host hands over are lent from one memory area, not copied to the heap. They live until the
//!   callback returns.
//! - A filter without per-stream state has no contexts at all.
//! - What a filter does not use is not in its module: imports, exports, code. So a filter without [`RedisCall`] runs on hosts
//!   without Redis, and one with [`NoConfig`] has no JSON reader.
//!
//! Nothing here panics, whatever bytes a client or host sends.
//!
//! # Several configurations in one VM
//!
//! Envoy does this for equal `vm_id`: with `stream` listed each stream uses the configuration of its own plugin;
//! without, the configuration that came last.

mod body;
pub mod call;
mod config;
#[doc(hidden)]
pub mod dispatch;
mod error;
mod filter;
mod held;
mod local_reply;
pub mod log;
mod message;
pub mod metrics;
mod pairs;
mod queue;
#[expect(unsafe_code, reason = "the ABI is made of pointers; everything above this module is safe")]
mod raw;
pub mod root;
pub mod schema;
pub mod shared;
mod table;
#[cfg(all(not(target_arch = "wasm32"), feature = "testing"))]
pub mod testing;
pub mod timer;
mod types;

pub use body::Whole;
pub use call::{Answer, Failure, GrpcAnswer, GrpcCall, HttpCall, RedisAnswer, RedisCall, RedisServer, RedisValue};
pub use config::{ConfigError, NoConfig};
pub use error::{HostError, OrFail};
pub use filter::{Filter, OnError};
pub use held::Held;
pub use local_reply::LocalReply;
pub use message::{
    Cookies, Exchange, List, Params, Request, Response, SameSite, Segments, SetCookie, Values, now, percent_decode,
    split_authority, split_target,
};
pub use metrics::Metric;
pub use pairs::Headers;
pub use queue::Queue;
pub use schema::ConfigSchema;
pub use types::{Action, BufferType, LogLevel, MapType, MetricType, Status};

/// The examples of the author's guide are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/writing-filters.md")]
struct Guide;

/// What nearly every filter needs.
pub mod prelude {
    pub use crate::{
        Action, Answer, ConfigError, ConfigSchema, Exchange, Filter, GrpcAnswer, GrpcCall, HostError, HttpCall,
        LocalReply, NoConfig, OnError, OrFail, RedisAnswer, RedisCall, RedisServer, RedisValue, Request, Response,
        Whole,
    };
}

/// Registers a [`Filter`] and exports the listed callbacks.
///
/// The names are those of the trait's methods, and:
///
/// - `stream` when [`Filter::Stream`] holds something, or when a stream waits for anything,
/// - `http_calls`, `grpc_calls`, `redis_calls` for each kind of [`call`] whose answer the filter wants,
/// - `holds` when it makes [`Held`] streams,
/// - `schema` when [`Filter::Config`] has a [`ConfigSchema`]: then the module carries the JSON Schema of its configuration.
///
/// ```
/// use std::cell::Cell;
/// use portolan_sdk::prelude::*;
///
/// /// Numbers the responses of each path that a client asked for.
/// struct Count {
///     seen: Cell<u32>,
/// }
///
/// impl Filter for Count {
///     type Config = NoConfig;
///     type Stream = Vec<u8>;
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self { seen: Cell::new(0) })
///     }
///
///     fn stream(&self) -> Vec<u8> {
///         Vec::new()
///     }
///
///     fn on_request_headers(&self, path: &mut Vec<u8>, request: &Request<'_>) -> Result<Action, HostError> {
///         path.extend_from_slice(request.path()?);
///         Ok(Action::Continue)
///     }
///
///     fn on_response_headers(&self, path: &mut Vec<u8>, response: &Response<'_>) -> Result<Action, HostError> {
///         self.seen.set(self.seen.get() + 1);
///         response.set_header("x-seen", format!("{} {}", self.seen.get(), path.escape_ascii()).as_bytes())?;
///         Ok(Action::Continue)
///     }
/// }
///
/// portolan_sdk::filter! { Count: stream, on_request_headers, on_response_headers }
///
/// let host = portolan_sdk::testing::TestHost::<Count>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.request_headers(&[(":path", "/shop?x")]);
/// stream.response_headers(&[(":status", "200")]);
/// assert_eq!(stream.response_header("x-seen"), ["1 /shop"]);
/// ```
#[macro_export]
macro_rules! filter {
    ($filter:ty : $($callback:ident),+ $(,)?) => {
        const _: () = {
            ::std::thread_local! {
                static PLUGIN: $crate::dispatch::Plugin<$filter> = const { $crate::dispatch::Plugin::new() };
            }

            impl $crate::dispatch::Registered for $filter {
                const PER_STREAM: bool = false $(|| $crate::__is!(stream, $callback))+;
                const CALLS: bool = false $(|| $crate::__is!(calls, $callback))+;

                fn with_plugin<R>(f: impl FnOnce(&$crate::dispatch::Plugin<Self>) -> R) -> R {
                    PLUGIN.with(f)
                }
            }

            $crate::__callback!($filter, configure, []);
            $crate::__callbacks!($filter, [$($callback)+], $($callback)+);
        };
    };
}

/// The exports of each listed callback; each knows the whole list.
#[doc(hidden)]
#[macro_export]
macro_rules! __callbacks {
    ($filter:ty, $all:tt, $($callback:ident)+) => {
        $($crate::__callback!($filter, $callback, $all);)+
    };
}

/// Whether a listed name is `stream`, or a kind of calls.
#[doc(hidden)]
#[macro_export]
macro_rules! __is {
    (stream, stream) => {
        true
    };
    (calls, http_calls) => {
        true
    };
    (calls, grpc_calls) => {
        true
    };
    (calls, redis_calls) => {
        true
    };
    (calls, holds) => {
        true
    };
    ($asked:ident, $other:ident) => {
        false
    };
}

/// The trailers' export of a filter that lists a body callback, unless it lists the trailers itself: a body may end
/// with them.
#[doc(hidden)]
#[macro_export]
macro_rules! __ends {
    ($filter:ty, $trailers:ident, []) => {
        $crate::__callback!($filter, $trailers, []);
    };
    ($filter:ty, on_request_trailers, [on_request_trailers $($rest:ident)*]) => {};
    ($filter:ty, on_response_trailers, [on_response_trailers $($rest:ident)*]) => {};
    ($filter:ty, $trailers:ident, [$other:ident $($rest:ident)*]) => {
        $crate::__ends!($filter, $trailers, [$($rest)*]);
    };
}

/// The export of one callback.
#[doc(hidden)]
#[macro_export]
macro_rules! __callback {
    ($filter:ty, configure, $all:tt) => {
        $crate::__export! { proxy_on_configure(root: u32, size: usize) -> u32 {
            u32::from($crate::dispatch::configure::<$filter>(root, size))
        } }
    };
    ($filter:ty, stream, $all:tt) => {
        impl $crate::dispatch::PerStream for $filter {}
        $crate::__export! { proxy_on_context_create(context: u32, parent: u32) {
            $crate::dispatch::create::<$filter>(context, parent)
        } }
        $crate::__export! { proxy_on_delete(context: u32) {
            $crate::dispatch::delete::<$filter>(context)
        } }
    };
    ($filter:ty, schema, $all:tt) => {
        const NODE: $crate::schema::Node = <<$filter as $crate::Filter>::Config as $crate::ConfigSchema>::SCHEMA;
        const LENGTH: usize = $crate::schema::length(&NODE);

        // A section beside the code. It needs no `#[used]`, which would keep a second copy in the memory of each instance.
        #[cfg(target_arch = "wasm32")]
        #[unsafe(link_section = "portolan.schema")]
        static JSON: [u8; LENGTH] = $crate::schema::json(&NODE);

        // What has no schema does not compile natively either.
        #[cfg(not(target_arch = "wasm32"))]
        const _: usize = LENGTH;
    };
    ($filter:ty, on_request_headers, $all:tt) => {
        $crate::__export! { proxy_on_request_headers(context: u32, count: usize, end: u32) -> u32 {
            $crate::dispatch::request_headers::<$filter>(context, count, end != 0)
        } }
    };
    ($filter:ty, on_request_body, $all:tt) => {
        $crate::__export! { proxy_on_request_body(context: u32, size: usize, end: u32) -> u32 {
            $crate::dispatch::request_body::<$filter>(context, size, end != 0)
        } }
        $crate::__ends!($filter, on_request_trailers, $all);
    };
    ($filter:ty, on_request_trailers, $all:tt) => {
        $crate::__export! { proxy_on_request_trailers(context: u32, count: usize) -> u32 {
            $crate::dispatch::request_trailers::<$filter>(context, count)
        } }
    };
    ($filter:ty, on_response_headers, $all:tt) => {
        $crate::__export! { proxy_on_response_headers(context: u32, count: usize, end: u32) -> u32 {
            $crate::dispatch::response_headers::<$filter>(context, count, end != 0)
        } }
    };
    ($filter:ty, on_response_body, $all:tt) => {
        $crate::__export! { proxy_on_response_body(context: u32, size: usize, end: u32) -> u32 {
            $crate::dispatch::response_body::<$filter>(context, size, end != 0)
        } }
        $crate::__ends!($filter, on_response_trailers, $all);
    };
    ($filter:ty, on_response_trailers, $all:tt) => {
        $crate::__export! { proxy_on_response_trailers(context: u32, count: usize) -> u32 {
            $crate::dispatch::response_trailers::<$filter>(context, count)
        } }
    };
    ($filter:ty, on_foreign_function, $all:tt) => {
        $crate::__export! { proxy_on_foreign_function(context: u32, function: u32, size: usize) {
            $crate::dispatch::foreign_function::<$filter>(context, function, size)
        } }
    };
    ($filter:ty, http_calls, $all:tt) => {
        impl $crate::dispatch::Makes<$crate::call::Http> for $filter {}
        $crate::__export! { proxy_on_http_call_response(
            _root: u32, call: u32, headers: usize, size: usize, _trailers: usize
        ) {
            $crate::dispatch::http_answer::<$filter>(call, headers, size)
        } }
    };
    ($filter:ty, grpc_calls, $all:tt) => {
        impl $crate::dispatch::Makes<$crate::call::Grpc> for $filter {}
        $crate::__export! { proxy_on_grpc_receive(_root: u32, call: u32, size: usize) {
            $crate::dispatch::grpc_answer::<$filter>(call, size)
        } }
        $crate::__export! { proxy_on_grpc_close(_root: u32, call: u32, status: u32) {
            $crate::dispatch::grpc_failure::<$filter>(call, status)
        } }
    };
    ($filter:ty, redis_calls, $all:tt) => {
        impl $crate::dispatch::Makes<$crate::call::Redis> for $filter {}
        $crate::__export! { proxy_on_redis_call_response(_root: u32, call: u32, status: u32, size: usize) {
            $crate::dispatch::redis_answer::<$filter>(call, status, size)
        } }
    };
    ($filter:ty, holds, $all:tt) => {
        impl $crate::dispatch::Makes<$crate::call::Hold> for $filter {}
    };
    ($filter:ty, on_tick, $all:tt) => {
        $crate::__export! { proxy_on_tick(root: u32) {
            $crate::dispatch::tick::<$filter>(root)
        } }
    };
    ($filter:ty, on_queue_ready, $all:tt) => {
        $crate::__export! { proxy_on_queue_ready(root: u32, queue: u32) {
            $crate::dispatch::queue_ready::<$filter>(root, queue)
        } }
    };
    ($filter:ty, on_log, $all:tt) => {
        $crate::__export! { proxy_on_log(context: u32) {
            $crate::dispatch::log::<$filter>(context)
        } }
    };
}

/// A function of the module's surface; only in Wasm, since natively filters of one test binary would share its name.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($name:ident($($argument:ident: $kind:ty),*) $(-> $answer:ty)? $body:block) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $kind),*) $(-> $answer)? $body
    };
}

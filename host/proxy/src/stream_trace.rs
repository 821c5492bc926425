//! [`StreamTrace`]: where the callbacks of users' filters are told, and the ends of the streams that they belong to.

use std::sync::Arc;

use http::request;
use portolan_telemetry::StreamInfo;
use portolan_wasm::{TraceLimits, TraceSink, Tracer};

/// A sink for callbacks and for the streams around them. Called on the workers' threads: it should not take long.
pub trait StreamTrace: TraceSink {
    /// A request has come and no filter has seen it yet; the gateway's own headers, such as `x-request-id`, are there. Not
    /// told of requests that are refused before.
    fn began(&self, number: u64, request: &request::Parts);

    /// A request has ended, its filters' last callbacks included. `number` is what its callbacks have been told with
    /// ([`portolan_wasm::TracedStream::number`]).
    fn ended(&self, number: u64, info: &StreamInfo);
}

/// A sink, and how much of each callback it gets.
#[derive(Clone)]
pub struct StreamTracer {
    /// Where traces go.
    pub sink: Arc<dyn StreamTrace>,
    /// How much is kept of a callback; none: only the ends of streams are told, and filters run as without a trace.
    pub callbacks: Option<TraceLimits>,
}

impl StreamTracer {
    /// The part that the VMs get.
    pub(crate) fn tracer(&self) -> Option<Tracer> {
        self.callbacks.map(|limits| Tracer { sink: self.sink.clone(), limits })
    }
}

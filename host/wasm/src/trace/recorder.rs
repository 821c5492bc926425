//! [`Recorder`]: one VM's part of the trace: the callback that runs, and the calls that it has made so far.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use wasmtime::{Caller, Val};

use super::functions::{Function, Part};
use super::value::cut;
use super::{Argument, CallStatus, CallbackTrace, HostCall, Outcome, TracedStream, Tracer, Value, decode};
use crate::abi::Status;
use crate::context::VmToken;
use crate::host_state::HostState;
use crate::stream::StreamState;
use crate::trap::VmError;

/// What is known of the VM, and of the callback that runs.
pub(crate) struct Recorder {
    tracer: Tracer,
    plugin: Arc<str>,
    vm: VmToken,
    open: Option<Open>,
    /// Host functions that run.
    depth: u32,
    /// Names of the metrics that this VM has defined, by their number; bounded as the metrics are.
    pub(super) metrics: HashMap<u32, String>,
}

/// The callback that runs.
struct Open {
    trace: CallbackTrace,
    started: Instant,
    cpu: Option<Duration>,
    /// Time that the trace itself took since then.
    own: Duration,
    /// The stream had a local reply already.
    replied: bool,
}

/// Parameters of a callback, as words.
pub(crate) trait Words: Copy {
    /// The parameters in order.
    fn words(self) -> Vec<u32>;
}

impl Recorder {
    pub(crate) fn new(tracer: Tracer, plugin: &str, vm: VmToken) -> Self {
        Self { tracer, plugin: plugin.into(), vm, open: None, depth: 0, metrics: HashMap::new() }
    }

    /// A callback begins.
    pub(crate) fn enter<H>(state: &mut HostState<H>, function: &'static str, words: &[u32]) {
        let begun = Instant::now();
        let context = state.current.number();
        let Some(recorder) = &mut state.trace else { return };
        let limits = &recorder.tracer.limits;
        let stream = state.stream.as_deref_mut();
        let replied = stream.as_ref().is_some_and(|stream| stream.local_reply.is_some());
        let trace = CallbackTrace {
            plugin: recorder.plugin.clone(),
            vm: recorder.vm,
            context,
            stream: stream.map(|stream| traced_stream(stream, limits.bytes)),
            function,
            arguments: decode::callback_arguments(function, words),
            outcome: Outcome::Done,
            took: Duration::ZERO,
            cpu: None,
            calls: Vec::new(),
            left_out: 0,
        };
        let cpu = thread_time();
        recorder.depth = 0;
        recorder.open = Some(Open { trace, started: begun, cpu, own: begun.elapsed(), replied });
    }

    /// The callback that began has ended.
    pub(crate) fn leave<H>(state: &mut HostState<H>, result: Result<Option<u32>, &wasmtime::Error>) {
        let (ended, cpu) = (Instant::now(), thread_time());
        let refused = state.limiter.refused();
        let has_reply = state.stream.as_ref().is_some_and(|stream| stream.local_reply.is_some());
        let Some(recorder) = &mut state.trace else { return };
        let Some(open) = recorder.open.take() else { return };
        let mut trace = open.trace;
        trace.took = (ended - open.started).saturating_sub(open.own);
        trace.cpu = cpu.zip(open.cpu).map(|(now, then)| now.saturating_sub(then));
        trace.outcome = match result {
            Ok(answer) => outcome(trace.function, answer, has_reply && !open.replied),
            Err(error) => Outcome::Failed(VmError::new(error, refused).to_string()),
        };
        recorder.tracer.sink.callback(trace);
    }

    /// Takes note of a call's beginning: the place of the call, or none when there are too many.
    fn begin_call(&mut self, call: HostCall) -> Option<usize> {
        let trace = &mut self.open.as_mut()?.trace;
        if trace.calls.len() >= self.tracer.limits.calls {
            trace.left_out += 1;
            return None;
        }
        trace.calls.push(call);
        Some(trace.calls.len() - 1)
    }

    /// Counts time for the trace's own.
    fn add_own(&mut self, since: Instant) {
        if let Some(open) = &mut self.open {
            open.own += since.elapsed();
        }
    }
}

/// Takes note of a call before it is made: its place in the trace.
pub(crate) fn note_call<H>(
    caller: &mut Caller<'_, HostState<H>>,
    name: &Arc<str>,
    function: Option<&'static Function>,
    params: &[Val],
) -> Option<usize> {
    caller.data().trace.as_ref()?;
    let begun = Instant::now();
    let memory = caller.data().memory.or(caller.data().early_memory);
    let (memory, state) = match memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (&mut [][..], caller.data_mut()),
    };
    let mut recorder = state.trace.take()?;
    let (word, arguments) = match function {
        Some(function) => decode::call(function, memory, params, state, &recorder.metrics, &recorder.tracer.limits),
        None => (name.to_string(), decode::numbers(params)),
    };
    let other = (state.effective != state.current).then(|| state.effective.number());
    let place = recorder.begin_call(HostCall {
        function: name.clone(),
        word,
        arguments,
        status: CallStatus::Failed,
        results: Vec::new(),
        depth: recorder.depth,
        context: other,
    });
    recorder.depth += 1;
    recorder.add_own(begun);
    state.trace = Some(recorder);
    place
}

/// Takes note of what a call has answered; none when it did not return.
pub(crate) fn leave_call<H>(
    caller: &mut Caller<'_, HostState<H>>,
    place: Option<usize>,
    function: Option<&'static Function>,
    params: &[Val],
    answer: Option<&[Val]>,
) {
    if caller.data().trace.is_none() {
        return;
    }
    let begun = Instant::now();
    let memory = caller.data().memory.or(caller.data().early_memory);
    let (memory, state) = match memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (&mut [][..], caller.data_mut()),
    };
    let Some(mut recorder) = state.trace.take() else { return };
    recorder.depth = recorder.depth.saturating_sub(1);
    let status = answer.map_or(CallStatus::Failed, |answer| status(answer, function));
    let results = match function {
        Some(function) if status == CallStatus::Ok => {
            decode::results(function, memory, params, &recorder.tracer.limits)
        }
        _ => Vec::new(),
    };
    if function.is_some_and(|function| function.parts.first() == Some(&Part::MetricKind)) {
        recorder.keep_metric(memory, params, &results);
    }
    let bytes = recorder.tracer.limits.bytes;
    if let Some(open) = &mut recorder.open {
        if let Some(call) = place.and_then(|place| open.trace.calls.get_mut(place)) {
            (call.status, call.results) = (status, results);
        }
        // A callback of the root context is about the stream that it names.
        if open.trace.stream.is_none() {
            open.trace.stream = state.lent.as_deref_mut().map(|stream| traced_stream(stream, bytes));
        }
    }
    recorder.add_own(begun);
    state.trace = Some(recorder);
}

impl Recorder {
    /// Remembers the name of a metric that was defined.
    fn keep_metric(&mut self, memory: &[u8], params: &[Val], results: &[Argument]) {
        let number = results.first().map(|result| &result.value);
        if let (Some(Value::Number(number)), Some(name)) = (number, decode::text(memory, params, 1)) {
            let name = cut(name, &self.tracer.limits);
            self.metrics.insert(u32::try_from(*number).unwrap_or_default(), name);
        }
    }
}

/// The stream, which gets its number if it has none.
fn traced_stream<H>(stream: &mut StreamState<H>, limit: usize) -> TracedStream {
    let number = stream.number();
    if stream.is_connection {
        return TracedStream { number, method: String::new(), path: String::new(), request_id: None };
    }
    let request = &stream.request;
    let path = request.uri.path_and_query().map_or("", |path| path.as_str());
    let id = request.headers.get("x-request-id").map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    TracedStream {
        number,
        method: request.method.as_str().to_owned(),
        path: path.chars().take(limit).collect(),
        request_id: id,
    }
}

/// What a callback's answer means.
fn outcome(function: &str, answer: Option<u32>, replies: bool) -> Outcome {
    let acts = ["_headers", "_body", "_trailers", "_connection", "_data"].iter().any(|end| function.ends_with(end));
    match answer {
        Some(_) if acts && replies => Outcome::Reply,
        Some(0) if acts => Outcome::Continue,
        Some(_) if acts => Outcome::Pause,
        Some(0) if function.starts_with("proxy_") => Outcome::False,
        Some(_) if function.starts_with("proxy_") => Outcome::True,
        _ => Outcome::Done,
    }
}

fn status(answer: &[Val], function: Option<&Function>) -> CallStatus {
    let number = answer.first().and_then(Val::i32).unwrap_or(0).cast_unsigned();
    match (number, function.is_some_and(|function| function.name.starts_with("proxy_"))) {
        (0, _) => CallStatus::Ok,
        (number, false) => CallStatus::Errno(number),
        (number, true) => CallStatus::Status(Status::name_of(number)),
    }
}

fn thread_time() -> Option<Duration> {
    ThreadTime::try_now().ok().map(|time| time.as_duration())
}

impl Words for () {
    fn words(self) -> Vec<u32> {
        Vec::new()
    }
}

impl Words for u32 {
    fn words(self) -> Vec<u32> {
        vec![self]
    }
}

/// A tuple of words.
macro_rules! words {
    ($($name:ident),+) => {
        impl Words for ($(words!(@u32 $name),)+) {
            fn words(self) -> Vec<u32> {
                let ($($name,)+) = self;
                vec![$($name),+]
            }
        }
    };
    (@u32 $name:ident) => { u32 };
}

words!(a, b);
words!(a, b, c);
words!(a, b, c, d);
words!(a, b, c, d, e);

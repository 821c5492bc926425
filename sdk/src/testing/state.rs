//! What the test host knows: one state per thread.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::{TestAnswer, TestCall, TestReply};
use crate::{BufferType, LogLevel, MapType, MetricType, Status, metrics};

type Foreign = Rc<dyn Fn(&[u8]) -> Result<Vec<u8>, Status>>;
pub(super) type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// The root context, as everywhere.
pub(super) const ROOT: u32 = 1;

#[derive(Default)]
pub(super) struct State {
    /// Of which context host functions speak.
    pub(super) context: u32,
    streams: BTreeMap<u32, StreamState>,
    last_stream: u32,
    /// Of the plugin itself: its properties and buffers, and the argument of a foreign call.
    pub(super) root: StreamState,
    pub(super) foreign: HashMap<Vec<u8>, Foreign>,
    pub(super) foreign_calls: Vec<(String, Vec<u8>)>,
    pub(super) calls: Vec<&'static str>,
    pub(super) failures: HashMap<&'static str, Status>,
    pub(super) logs: Vec<(LogLevel, String)>,
    /// Value and version.
    pub(super) shared: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    /// The id is the index.
    pub(super) metrics: Vec<TestMetric>,
    /// Name and messages; the id is the index.
    pub(super) queues: Vec<(String, VecDeque<Vec<u8>>)>,
    /// Since 1970; the machine's when the test set none.
    pub(super) time: Option<Duration>,
    pub(super) tick_period: Option<Duration>,
    /// Without an answer.
    pub(super) pending: Vec<TestCall>,
    pub(super) last_call: u32,
    /// What the running callback is about.
    pub(super) answer: Option<TestAnswer>,
    /// By the name without parameters; the value is the database.
    pub(super) redis: HashMap<String, String>,
}

/// One stream.
#[derive(Default)]
pub(super) struct StreamState {
    pub(super) maps: HashMap<i32, Lines>,
    pub(super) properties: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) buffers: HashMap<i32, Vec<u8>>,
    pub(super) reply: Option<TestReply>,
    pub(super) request: Flow,
    pub(super) response: Flow,
}

/// One direction of a stream.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) paused: bool,
    /// What the paused callback holds is a body.
    pub(super) holds_body: bool,
    /// The body's bytes that have gone on.
    pub(super) sent: Vec<u8>,
}

/// A metric with its values: the level, or all that a histogram was given.
pub(super) struct TestMetric {
    pub(super) kind: i32,
    pub(super) name: Vec<u8>,
    pub(super) value: u64,
    pub(super) records: Vec<u64>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub(super) fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

/// Runs a callback: host functions speak of this context until it ends.
pub(super) fn within<R>(context: u32, f: impl FnOnce() -> R) -> R {
    with(|state| state.context = context);
    let answer = f();
    with(|state| state.context = ROOT);
    answer
}

impl State {
    /// Id of a new stream, whose headers and properties are empty.
    pub(super) fn begin_stream(&mut self) -> u32 {
        self.last_stream = self.last_stream.max(ROOT) + 1;
        self.streams.insert(self.last_stream, StreamState::default());
        self.last_stream
    }

    pub(super) fn end_stream(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    pub(super) fn knows(&self, id: u32) -> bool {
        id == ROOT || self.streams.contains_key(&id)
    }

    /// The stream that host functions speak of, or the plugin itself.
    pub(super) fn current(&mut self) -> &mut StreamState {
        let id = self.context;
        self.stream(id)
    }

    pub(super) fn stream(&mut self, id: u32) -> &mut StreamState {
        self.streams.get_mut(&id).unwrap_or(&mut self.root)
    }

    /// Notes a call, and refuses it when the test said so.
    pub(super) fn enter(&mut self, call: &'static str) -> Result<(), Status> {
        self.calls.push(call);
        self.failures.get(call).map_or(Ok(()), |status| Err(*status))
    }

    /// Since 1970.
    pub(super) fn now(&self) -> Duration {
        let machine = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.time.unwrap_or_else(machine)
    }

    /// The metric of this kind and name with these labels.
    pub(super) fn metric(&self, kind: MetricType, name: &str, labels: &[(&str, &str)]) -> Option<&TestMetric> {
        let name = metrics::wire_name(name, labels).ok()?;
        self.metrics.iter().find(|metric| metric.kind == kind as i32 && metric.name == name.as_bytes())
    }
}

impl StreamState {
    pub(super) fn set_map(&mut self, map: MapType, headers: &[(&str, &str)]) {
        let line = |(name, value): &(&str, &str)| (name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec());
        self.maps.insert(map as i32, headers.iter().map(line).collect());
    }

    pub(super) fn values(&self, map: MapType, name: &str) -> Vec<String> {
        let lines = self.maps.get(&(map as i32)).map(Vec::as_slice).unwrap_or_default();
        let hits = lines.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        hits.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub(super) fn flow(&mut self, body: BufferType) -> &mut Flow {
        if body == BufferType::HttpRequestBody { &mut self.request } else { &mut self.response }
    }

    /// A part of a body comes: after the bytes that the filter holds, if it holds any.
    pub(super) fn add_body(&mut self, kind: BufferType, part: &[u8]) -> usize {
        let holds = self.flow(kind).holds_body;
        let buffer = self.buffers.entry(kind as i32).or_default();
        if !holds {
            buffer.clear();
        }
        buffer.extend_from_slice(part);
        buffer.len()
    }

    /// Before trailers: a body that has gone on cannot be seen any more.
    pub(super) fn end_body(&mut self, kind: BufferType) {
        if !self.flow(kind).holds_body {
            self.buffers.remove(&(kind as i32));
        }
    }

    /// What a callback of this direction has said.
    pub(super) fn note(&mut self, kind: BufferType, of_body: bool, paused: bool) {
        let flow = self.flow(kind);
        flow.paused = paused;
        flow.holds_body |= of_body;
        if !paused {
            self.go_on(kind);
        }
    }

    /// Lets a direction go on, with what of its body is held.
    pub(super) fn go_on(&mut self, kind: BufferType) {
        let body = self.buffers.get(&(kind as i32)).cloned().unwrap_or_default();
        let flow = self.flow(kind);
        flow.paused = false;
        if std::mem::take(&mut flow.holds_body) {
            flow.sent.extend_from_slice(&body);
        }
    }
}

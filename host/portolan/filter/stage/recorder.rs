//! [`Recorder`]: the sink of the trace: puts callbacks to their streams, and hands each stream on when it has ended.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, Method, request};
use portolan_proxy::StreamTrace;
use portolan_telemetry::StreamInfo;
use portolan_wasm::{CallbackTrace, TraceSink};
use tokio::sync::{mpsc, oneshot};

/// Streams that are kept while they run; the oldest is told of as it is when there are more.
const MOST_STREAMS: usize = 4096;

/// Callbacks that are kept of one stream.
const MOST_CALLBACKS: usize = 256;

/// What waits to be taken; more is counted and lost.
const MOST_EVENTS: usize = 4096;

/// What a recorder hands on.
#[derive(Debug)]
pub(crate) enum Event {
    /// A stream has ended.
    Stream(Box<Record>),
    /// A callback that belongs to no stream: a start, a tick, an answer to a callout that names no stream.
    Callback(Box<CallbackTrace>),
}

/// A stream that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// The gateway's own account of it.
    pub(crate) info: StreamInfo,
    /// The request's head as the first filter saw it; none for a request that the gateway refused itself.
    pub(crate) head: Option<Head>,
    /// The filters' callbacks, in order.
    pub(crate) callbacks: Vec<CallbackTrace>,
    /// Callbacks beyond the first 256.
    pub(crate) left_out: usize,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Its method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// All headers, the gateway's own included.
    pub(crate) headers: HeaderMap,
}

/// What is known of a stream that runs.
#[derive(Default)]
struct Open {
    head: Option<Head>,
    callbacks: Vec<CallbackTrace>,
    left_out: usize,
}

/// The sink.
pub(super) struct Recorder {
    running: Mutex<Running>,
    events: mpsc::Sender<Event>,
    lost: AtomicU64,
}

#[derive(Default)]
struct Running {
    /// By number; numbers rise.
    streams: BTreeMap<u64, Open>,
    /// Who waits for the stream of a client's address.
    awaited: HashMap<SocketAddr, oneshot::Sender<Record>>,
}

impl Recorder {
    /// A recorder, and where it hands on what nobody waits for.
    pub(super) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(MOST_EVENTS);
        (Self { running: Mutex::default(), events, lost: AtomicU64::new(0) }, receiver)
    }

    /// The stream of the next request from this address.
    pub(super) fn expect(&self, client: SocketAddr) -> oneshot::Receiver<Record> {
        let (sender, receiver) = oneshot::channel();
        let mut running = lock(&self.running);
        running.awaited.retain(|_, waits| !waits.is_closed());
        running.awaited.insert(client, sender);
        receiver
    }

    /// Events that were lost because nobody took them, since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }

    fn hand_on(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl TraceSink for Recorder {
    fn callback(&self, trace: CallbackTrace) {
        let Some(stream) = &trace.stream else { return self.hand_on(Event::Callback(Box::new(trace))) };
        let mut running = lock(&self.running);
        let open = running.streams.entry(stream.number).or_default();
        if open.callbacks.len() < MOST_CALLBACKS {
            open.callbacks.push(trace);
        } else {
            open.left_out += 1;
        }
        if running.streams.len() > MOST_STREAMS {
            // Callbacks without an end: those of TCP connections.
            running.streams.pop_first();
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl StreamTrace for Recorder {
    fn began(&self, number: u64, request: &request::Parts) {
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let head = Head { method: request.method.clone(), path, headers: request.headers.clone() };
        lock(&self.running).streams.entry(number).or_default().head = Some(head);
    }

    fn ended(&self, number: u64, info: &StreamInfo) {
        let mut running = lock(&self.running);
        let Open { head, callbacks, left_out } = running.streams.remove(&number).unwrap_or_default();
        let record = Record { info: info.clone(), head, callbacks, left_out };
        let awaited = info.downstream_direct.and_then(|client| running.awaited.remove(&client));
        drop(running);
        let record = match awaited {
            Some(waits) => match waits.send(record) {
                Ok(()) => return,
                Err(record) => record,
            },
            None => record,
        };
        self.hand_on(Event::Stream(Box::new(record)));
    }
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

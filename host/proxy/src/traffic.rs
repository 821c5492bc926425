//! [`Traffic`]: which kinds of requests there were of late, for whoever asks what another configuration would do with them.
//!
//! Off the request's path: at most [`PER_SECOND`] requests of a second are looked at on each worker, whose own memory of
//! them nobody else touches but who reads it. The others cost an addition and the look at a stamp that a timer keeps.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderName;
use portolan_model::{Model, RouteMatch};

use crate::clock;
use crate::stream::Stream;

/// Requests of a second that a worker looks at.
const PER_SECOND: u32 = 100;

/// Distinct requests that a worker remembers; the oldest is forgotten for the next.
const MAX_REQUESTS: usize = 512;

/// Headers that are looked at; routes that ask for more are judged without the others.
const MAX_HEADERS: usize = 16;

/// Longest host, path and header value, in bytes: a request with a longer one is not remembered.
const MAX_TEXT: usize = 256;

/// Parts of names of headers that may hold a credential: their values are nobody's business.
const SECRET: [&str; 9] = ["auth", "cookie", "token", "secret", "password", "session", "credential", "key", "jwt"];

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKind {
    /// The listener's.
    pub port: u16,
    /// The method.
    pub method: String,
    /// The Host header.
    pub host: String,
    /// Without the query.
    pub path: String,
    /// Lines of those headers that some route asks for.
    pub headers: Vec<(String, String)>,
}

/// What all workers remember.
#[derive(Debug, Default)]
pub struct Traffic {
    workers: Mutex<Vec<Arc<Memory>>>,
}

/// What one worker remembers.
#[derive(Debug, Default)]
struct Memory {
    ring: Mutex<Ring>,
    unseen: AtomicU64,
}

#[derive(Debug, Default)]
struct Ring {
    counts: HashMap<Arc<RequestKind>, u64>,
    /// Oldest first.
    order: VecDeque<Arc<RequestKind>>,
}

/// A worker's way to its memory.
#[derive(Debug)]
pub(crate) struct Recorder {
    memory: Arc<Memory>,
    second: Cell<u64>,
    left: Cell<u32>,
}

impl Traffic {
    /// For one more worker.
    pub(crate) fn recorder(&self) -> Recorder {
        let memory = Arc::<Memory>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(memory.clone());
        Recorder { memory, second: Cell::new(u64::MAX), left: Cell::new(0) }
    }

    /// All that is remembered, the most frequent first, and how many requests were served besides.
    pub fn read(&self) -> (Vec<(RequestKind, u64)>, u64) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut counts: HashMap<RequestKind, u64> = HashMap::new();
        for memory in &workers {
            let ring = memory.ring.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, count) in &ring.counts {
                *counts.entry((**kind).clone()).or_default() += count;
            }
        }
        let unseen = workers.iter().map(|memory| memory.unseen.load(Relaxed)).sum();
        let mut all: Vec<_> = counts.into_iter().collect();
        all.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        (all, unseen)
    }
}

impl Recorder {
    /// A request, after its head was prepared and before filters change it.
    pub(crate) fn note(&self, stream: &Stream) {
        let second = clock::coarse_ms() / 1000;
        if self.second.replace(second) != second {
            self.left.set(PER_SECOND);
        }
        let noted = match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                kind(stream).is_some_and(|kind| self.memory.add(kind))
            }
            None => false,
        };
        if !noted {
            // Nobody else writes it.
            self.memory.unseen.store(self.memory.unseen.load(Relaxed) + 1, Relaxed);
        }
    }
}

impl Memory {
    /// False while somebody reads: the request does not wait for that.
    fn add(&self, kind: RequestKind) -> bool {
        let Ok(mut ring) = self.ring.try_lock() else { return false };
        if let Some(count) = ring.counts.get_mut(&kind) {
            *count += 1;
            return true;
        }
        if ring.order.len() == MAX_REQUESTS
            && let Some(oldest) = ring.order.pop_front()
        {
            ring.counts.remove(&oldest);
        }
        let kind = Arc::new(kind);
        ring.order.push_back(kind.clone());
        ring.counts.insert(kind, 1);
        true
    }
}

/// None for a request with a text that is too long, or that is no text.
fn kind(stream: &Stream) -> Option<RequestKind> {
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        (text.len() <= MAX_TEXT).then(|| text.to_owned())
    };
    stream.with_state(|state| {
        let request = &state.request;
        let mut headers = Vec::new();
        for name in &stream.view.snapshot.asked_headers {
            for value in request.headers.get_all(name) {
                headers.push((name.as_str().to_owned(), text(value.as_bytes())?));
            }
        }
        Some(RequestKind {
            port: stream.slot.address.port(),
            method: text(request.method.as_str().as_bytes())?,
            host: text(request.headers.get(http::header::HOST)?.as_bytes())?,
            path: text(request.uri.path().as_bytes())?,
            headers,
        })
    })
}

/// Headers that some route asks for, but for those of credentials.
pub(crate) fn asked_headers(model: &Model) -> Vec<HeaderName> {
    let of = |matches: &RouteMatch| {
        let lists = matches.headers.iter().chain(matches.without_headers.iter());
        lists.filter_map(|asked| HeaderName::from_bytes(asked.name.as_bytes()).ok()).collect::<Vec<_>>()
    };
    let mut names: Vec<HeaderName> = Vec::new();
    for name in model.routes.iter().flat_map(|route| of(&route.matches)) {
        let is_secret = SECRET.iter().any(|part| name.as_str().contains(part));
        if !is_secret && names.len() < MAX_HEADERS && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use portolan_model::{HeaderMatch, Origin, Route, RouteAction, StringMatch};

    use super::*;

    fn kind(path: usize) -> RequestKind {
        let (method, host) = ("GET".to_owned(), "a".to_owned());
        RequestKind { port: 80, method, host, path: format!("/{path}"), headers: Vec::new() }
    }

    #[test]
    fn the_oldest_is_forgotten_for_the_next() {
        let traffic = Traffic::default();
        let recorder = traffic.recorder();
        for path in 0..MAX_REQUESTS + 3 {
            assert!(recorder.memory.add(kind(path)));
        }
        recorder.memory.add(kind(MAX_REQUESTS));
        let (read, _) = traffic.read();
        assert_eq!(read.len(), MAX_REQUESTS);
        assert_eq!(read[0], (kind(MAX_REQUESTS), 2));
        assert!(read.iter().all(|(kind, _)| !["/0", "/1", "/2"].contains(&kind.path.as_str())));
    }

    #[test]
    fn who_reads_holds_nobody_up() {
        let traffic = Traffic::default();
        let recorder = traffic.recorder();
        let _reading = recorder.memory.ring.lock();
        assert!(!recorder.memory.add(kind(1)));
    }

    #[test]
    fn workers_are_added_up() {
        let traffic = Traffic::default();
        for recorder in [traffic.recorder(), traffic.recorder()] {
            recorder.memory.add(kind(1));
        }
        assert_eq!(traffic.read().0, [(kind(1), 2)]);
    }

    #[test]
    fn credentials_are_not_looked_at() {
        let asked = |name: &str| HeaderMatch { name: name.to_owned(), value: StringMatch::Present };
        let names = ["x-user", "authorization", "cookie", "x-api-key", "x-csrf-token", ":method", "x-user"];
        let route = Route {
            name: String::new(),
            matches: RouteMatch { headers: Vec::from(names.map(asked)).into(), ..RouteMatch::default() },
            action: RouteAction::Forward(Box::default()),
            origin: Origin::default(),
            delegated_from: None,
        };
        let model = Model { routes: vec![std::sync::Arc::new(route)], ..Model::default() };
        assert_eq!(asked_headers(&model), ["x-user"]);
    }
}

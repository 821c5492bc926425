//! What the test host knows: one state per thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::TestReply;
use crate::{LogLevel, MapType, Status};

type Answer = Rc<dyn Fn(&[u8]) -> Result<Vec<u8>, Status>>;
type Lines = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Default)]
pub(super) struct State {
    pub(super) maps: HashMap<i32, Lines>,
    pub(super) properties: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) buffers: HashMap<i32, Vec<u8>>,
    pub(super) foreign: HashMap<Vec<u8>, Answer>,
    pub(super) foreign_calls: Vec<(String, Vec<u8>)>,
    pub(super) calls: Vec<&'static str>,
    pub(super) failures: HashMap<&'static str, Status>,
    pub(super) logs: Vec<(LogLevel, String)>,
    pub(super) reply: Option<TestReply>,
    /// Value and version.
    pub(super) shared: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    /// Name and value; the id is the index.
    pub(super) metrics: Vec<(Vec<u8>, u64)>,
    streams: u32,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::new(State::default());
}

pub(super) fn with<R>(f: impl FnOnce(&mut State) -> R) -> R {
    STATE.with_borrow_mut(f)
}

impl State {
    /// Id of a new stream, whose headers and properties are empty.
    pub(super) fn begin_stream(&mut self) -> u32 {
        self.maps.clear();
        self.properties.clear();
        self.reply = None;
        self.streams += 1;
        self.streams + 1
    }

    pub(super) fn set_map(&mut self, map: MapType, headers: &[(&str, &str)]) {
        let line = |(name, value): &(&str, &str)| (name.to_ascii_lowercase().into_bytes(), value.as_bytes().to_vec());
        self.maps.insert(map as i32, headers.iter().map(line).collect());
    }

    pub(super) fn values(&self, map: MapType, name: &str) -> Vec<String> {
        let lines = self.maps.get(&(map as i32)).map(Vec::as_slice).unwrap_or_default();
        let hits = lines.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        hits.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// Notes a call, and refuses it when the test said so.
    pub(super) fn enter(&mut self, call: &'static str) -> Result<(), Status> {
        self.calls.push(call);
        self.failures.get(call).map_or(Ok(()), |status| Err(*status))
    }
}

//! `Callouts`: what one VM has asked of other hosts: ids, bounds, and the answer that the running callback can read.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::abi::{BufferKind, MapKind, Status};
use crate::callout::{CallResponse, Callout, GrpcSend, Held, MAX_GRPC_QUEUE, RedisServer};
use crate::guest::Answer as Done;
use crate::headers::Pair;

/// Most gRPC streams remembered whose peer has ended them and the filter has not: closing those is no error.
const MAX_ENDED: usize = 1_000;

/// Most Redis servers that a VM can make known.
const MAX_SERVERS: usize = 100;

/// What an id is the id of: its two low bits, as in the C++ host (and Redis, which only Higress's has).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http = 0,
    GrpcCall = 1,
    GrpcStream = 2,
    Redis = 3,
}

/// The callouts of one VM.
#[derive(Debug, Default)]
pub(crate) struct Callouts {
    /// What the proxy has not taken yet.
    asked: Vec<Callout>,
    in_flight: HashMap<u32, InFlight>,
    /// Grows with each callout of any kind.
    last: u32,
    /// Bytes that they hold together.
    held: Arc<AtomicUsize>,
    ended_streams: VecDeque<u32>,
    servers: HashMap<String, Arc<RedisServer>>,
    /// What the running callback can read.
    pub(crate) answer: Answer,
    /// For `get_status`.
    pub(crate) status: (u32, Bytes),
}

/// What is kept of a callout until its answer comes.
#[derive(Debug, Default)]
struct InFlight {
    /// Bytes of a gRPC stream that wait to be sent.
    queued: Arc<AtomicUsize>,
    /// The filter sends nothing more on a gRPC stream.
    closed: bool,
}

/// The answer of another host, while a callback about it runs.
#[derive(Debug, Default)]
pub(crate) enum Answer {
    #[default]
    None,
    Http(CallResponse),
    GrpcInitial(StatusCode, HeaderMap),
    GrpcMessage(Bytes),
    GrpcTrailing(HeaderMap),
    Redis(Bytes),
}

impl Callouts {
    /// An id for a new callout, and its share of the bytes. INTERNAL_FAILURE when too much is in flight.
    pub(crate) fn open(&mut self, kind: Kind, bytes: usize, most: usize) -> Result<(u32, Held), Status> {
        if self.in_flight.len() >= most {
            return Err(Status::InternalFailure);
        }
        let held = Held::of_callout(&self.held, bytes).ok_or(Status::InternalFailure)?;
        let id = self.next_id(kind);
        self.in_flight.insert(id, InFlight::default());
        Ok((id, held))
    }

    /// Ids rise; after 2^30 callouts they start again and pass over those in flight.
    fn next_id(&mut self, kind: Kind) -> u32 {
        loop {
            self.last = (self.last + 1) & (u32::MAX >> 2);
            let id = self.last << 2 | kind as u32;
            if self.last != 0 && !self.in_flight.contains_key(&id) {
                return id;
            }
        }
    }

    /// Hands a callout to the proxy.
    pub(crate) fn ask(&mut self, callout: Callout) {
        self.asked.push(callout);
    }

    /// What the proxy is to do.
    pub(crate) fn take(&mut self) -> Vec<Callout> {
        mem::take(&mut self.asked)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_in_flight(&self, id: u32) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// A callout is over; false when it was not in flight: the filter has given it up.
    pub(crate) fn close(&mut self, id: u32) -> bool {
        let Some(known) = self.in_flight.remove(&id) else { return false };
        if is(id, Kind::GrpcStream) && !known.closed {
            if self.ended_streams.len() == MAX_ENDED {
                self.ended_streams.pop_front();
            }
            self.ended_streams.push_back(id);
        }
        true
    }

    /// Queues a message on a gRPC stream. On one that the peer has ended it is dropped, as in Envoy.
    pub(crate) fn grpc_send(&mut self, id: u32, message: &[u8], end: bool) -> Done {
        if !is(id, Kind::GrpcStream) {
            return Err(Status::BadArgument);
        }
        let Some(stream) = self.in_flight.get_mut(&id) else { return self.ended(id, end) };
        if stream.closed {
            return Err(Status::BadArgument);
        }
        let queued = Held::of(&stream.queued, MAX_GRPC_QUEUE, message.len()).ok_or(Status::InternalFailure)?;
        let held = Held::of_callout(&self.held, message.len()).ok_or(Status::InternalFailure)?;
        stream.closed = end;
        self.asked.push(Callout::GrpcSend(GrpcSend {
            id,
            message: Bytes::copy_from_slice(message),
            end,
            held,
            queued,
        }));
        Ok(())
    }

    /// Ends the filter's side of a stream; gives up a call.
    pub(crate) fn grpc_close(&mut self, id: u32) -> Done {
        if !is(id, Kind::GrpcStream) {
            return self.grpc_cancel(id);
        }
        let Some(stream) = self.in_flight.get_mut(&id) else { return self.ended(id, true) };
        if !mem::replace(&mut stream.closed, true) {
            self.asked.push(Callout::GrpcClose(id));
        }
        Ok(())
    }

    /// Gives up a call or stream.
    pub(crate) fn grpc_cancel(&mut self, id: u32) -> Done {
        if !is(id, Kind::GrpcCall) && !is(id, Kind::GrpcStream) {
            return Err(Status::BadArgument);
        }
        if self.in_flight.remove(&id).is_none() {
            return self.ended(id, true);
        }
        let unbegun = self.asked.iter().any(|asked| matches!(asked, Callout::Grpc(call) if call.id == id));
        self.asked.retain(|asked| grpc_id(asked) != Some(id));
        if !unbegun {
            self.asked.push(Callout::GrpcCancel(id));
        }
        Ok(())
    }

    /// What is said of a stream that is over. `forget` when the filter is done with it too.
    fn ended(&mut self, id: u32, forget: bool) -> Done {
        let at = self.ended_streams.iter().position(|ended| *ended == id).ok_or(Status::NotFound)?;
        if forget {
            self.ended_streams.remove(at);
        }
        Ok(())
    }

    /// Makes a Redis server known under a name, or changes it.
    pub(crate) fn set_server(&mut self, name: &str, server: RedisServer) -> Done {
        if self.servers.len() >= MAX_SERVERS && !self.servers.contains_key(name) {
            return Err(Status::InternalFailure);
        }
        self.servers.insert(name.to_owned(), Arc::new(server));
        Ok(())
    }

    pub(crate) fn server(&self, name: &str) -> Option<&Arc<RedisServer>> {
        self.servers.get(name)
    }

    /// A buffer of the answer; none outside its callback.
    pub(crate) fn buffer(&self, kind: BufferKind) -> Option<&[u8]> {
        match (kind, &self.answer) {
            (BufferKind::CallBody, Answer::Http(response)) => Some(&response.body),
            (BufferKind::GrpcMessage, Answer::GrpcMessage(message)) => Some(message),
            (BufferKind::RedisReply, Answer::Redis(reply)) => Some(reply),
            _ => None,
        }
    }

    /// A map of the answer, `:status` first where it has one; BAD_ARGUMENT outside its callback.
    pub(crate) fn pairs(&self, kind: MapKind) -> Result<Vec<Pair<'_>>, Status> {
        let (status, map) = self.map(kind).ok_or(Status::BadArgument)?;
        let status = status.map(|status| (&b":status"[..], status.as_str().as_bytes()));
        let plain = map.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        Ok(status.into_iter().chain(plain).collect())
    }

    /// The first value of a name in a map of the answer.
    pub(crate) fn value(&self, kind: MapKind, name: &[u8]) -> Result<Option<&[u8]>, Status> {
        let (status, map) = self.map(kind).ok_or(Status::BadArgument)?;
        if name == b":status" {
            return Ok(status.map(|status| status.as_str().as_bytes()));
        }
        let name = std::str::from_utf8(name).ok();
        Ok(name.and_then(|name| map.get(name)).map(HeaderValue::as_bytes))
    }

    fn map(&self, kind: MapKind) -> Option<(Option<&StatusCode>, &HeaderMap)> {
        match (kind, &self.answer) {
            (MapKind::CallHeaders, Answer::Http(response)) => Some((Some(&response.status), &response.headers)),
            (MapKind::CallTrailers, Answer::Http(response)) => Some((None, &response.trailers)),
            (MapKind::GrpcInitialMetadata, Answer::GrpcInitial(status, headers)) => Some((Some(status), headers)),
            (MapKind::GrpcTrailingMetadata, Answer::GrpcTrailing(trailers)) => Some((None, trailers)),
            _ => None,
        }
    }
}

/// True for maps that belong to an answer and not to a stream.
pub(crate) fn is_answer(kind: MapKind) -> bool {
    matches!(
        kind,
        MapKind::CallHeaders | MapKind::CallTrailers | MapKind::GrpcInitialMetadata | MapKind::GrpcTrailingMetadata
    )
}

fn is(id: u32, kind: Kind) -> bool {
    id & 3 == kind as u32
}

fn grpc_id(callout: &Callout) -> Option<u32> {
    match callout {
        Callout::Grpc(call) => Some(call.id),
        Callout::GrpcSend(send) => Some(send.id),
        Callout::GrpcClose(id) | Callout::GrpcCancel(id) => Some(*id),
        Callout::Http(_) | Callout::Redis(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn ids_rise_and_tell_their_kind() {
        let mut callouts = Callouts::default();
        let mut open = |kind| callouts.open(kind, 0, 100).unwrap().0;
        assert_eq!(
            [open(Kind::Http), open(Kind::Http), open(Kind::GrpcCall), open(Kind::GrpcStream), open(Kind::Redis)],
            [4, 8, 13, 18, 23]
        );
    }

    #[test]
    fn ids_start_again_and_pass_over_those_in_flight() {
        let mut callouts = Callouts::default();
        let first = callouts.open(Kind::Http, 0, 100).unwrap().0;
        callouts.last = u32::MAX >> 2;
        assert_eq!(callouts.open(Kind::Http, 0, 100).unwrap().0, first + 4);
    }

    #[test]
    fn callouts_in_flight_are_bounded_in_number_and_bytes() {
        let mut callouts = Callouts::default();
        let (id, held) = callouts.open(Kind::Http, 0, 1).unwrap();
        assert_eq!(callouts.open(Kind::Http, 0, 1).unwrap_err(), Status::InternalFailure);
        assert!(callouts.close(id));
        assert!(!callouts.close(id));
        assert_eq!(callouts.open(Kind::Http, 32 * 1024 * 1024, 9).unwrap_err(), Status::InternalFailure);
        drop(held);
        let (_, _big) = callouts.open(Kind::Http, 31 * 1024 * 1024, 9).unwrap();
        assert_eq!(callouts.open(Kind::Http, 2 * 1024 * 1024, 9).unwrap_err(), Status::InternalFailure);
    }

    #[test]
    fn operations_on_grpc_ids_tell_kinds_and_unknown_ids_apart() {
        let mut callouts = Callouts::default();
        let http = callouts.open(Kind::Http, 0, 100).unwrap().0;
        let (call, _) = callouts.open(Kind::GrpcCall, 0, 100).unwrap();
        let (stream, _) = callouts.open(Kind::GrpcStream, 0, 100).unwrap();
        assert_eq!(callouts.grpc_send(http, b"", false), Err(Status::BadArgument));
        assert_eq!(callouts.grpc_send(call, b"", false), Err(Status::BadArgument));
        assert_eq!(callouts.grpc_send(stream + 4, b"", false), Err(Status::NotFound));
        assert_eq!(callouts.grpc_close(http), Err(Status::BadArgument));
        assert_eq!(callouts.grpc_cancel(call + 4), Err(Status::NotFound));
        assert_eq!(callouts.grpc_close(call), Ok(()));
        assert_eq!(callouts.grpc_close(call), Err(Status::NotFound));
        assert_eq!(callouts.grpc_send(stream, b"m", true), Ok(()));
        assert_eq!(callouts.grpc_send(stream, b"m", true), Err(Status::BadArgument));
        assert_eq!(callouts.grpc_close(stream), Ok(()));
        assert!(matches!(callouts.take().as_slice(), [Callout::GrpcCancel(_), Callout::GrpcSend(_)]));
    }

    #[test]
    fn a_stream_that_its_peer_has_ended_can_be_closed_once() {
        let mut callouts = Callouts::default();
        let (stream, _) = callouts.open(Kind::GrpcStream, 0, 100).unwrap();
        assert!(callouts.close(stream));
        assert_eq!(callouts.grpc_send(stream, b"m", false), Ok(()));
        assert_eq!(callouts.grpc_close(stream), Ok(()));
        assert_eq!(callouts.grpc_close(stream), Err(Status::NotFound));
        assert!(callouts.take().is_empty());
    }

    #[test]
    fn messages_that_wait_are_bounded() {
        let mut callouts = Callouts::default();
        let (stream, _) = callouts.open(Kind::GrpcStream, 0, 100).unwrap();
        let big = vec![0; MAX_GRPC_QUEUE / 2];
        assert_eq!(callouts.grpc_send(stream, &big, false), Ok(()));
        assert_eq!(callouts.grpc_send(stream, &big, false), Err(Status::InternalFailure));
        callouts.take();
        assert_eq!(callouts.grpc_send(stream, &big, false), Ok(()));
    }
}

//! Messages that are refused unseen, by the guard of HTTP/1, by hyper or by h2: counted, told and answered as any request, but with nothing of what they say.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode, Version, request};

use super::{Guard, Stream};
use crate::body::ResponseBody;
use crate::connection::Fault;
use crate::context::ConnectionInfo;
use crate::listener::ListenerSlot;
use crate::local_reply::{Refusal, Reply};
use crate::worker::Worker;

/// The answer to a message that the guard has refused.
pub(super) async fn answer(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    connection: Arc<ConnectionInfo>,
    fault: Fault,
) -> Response<ResponseBody> {
    let (stream, guard) = unseen(worker, slot, connection, Version::HTTP_11);
    stream.http.downstream_cx_protocol_error.inc();
    stream.reply(Reply::refused(Refusal::Malformed(fault)), guard).await
}

/// Tells of a message that hyper has answered with 400.
pub(crate) fn refused(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, connection: &Arc<ConnectionInfo>, fault: Fault) {
    connection.activity.serve_request();
    let (stream, guard) = unseen(worker.clone(), slot.clone(), connection.clone(), Version::HTTP_11);
    stream.http.downstream_cx_protocol_error.inc();
    note(&stream, &guard, Refusal::Malformed(fault), StatusCode::BAD_REQUEST.as_u16());
}

/// Tells of a request of HTTP/2 that h2 has reset, or has answered with 431 for the size of its head. Its connection serves on.
pub(crate) fn refused_by_h2(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    connection: &Arc<ConnectionInfo>,
    refusal: Refusal,
) {
    connection.activity.serve_request();
    let (stream, guard) = unseen(worker.clone(), slot.clone(), connection.clone(), Version::HTTP_2);
    // As in Envoy, no status where there was no answer.
    let status = match refusal {
        Refusal::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.as_u16(),
        _ => 0,
    };
    note(&stream, &guard, refusal, status);
}

/// Keeps what the log tells: flags, details and status.
fn note(stream: &Rc<Stream>, guard: &Guard, refusal: Refusal, status: u16) {
    let _ = Reply::refused(refusal).into_parts(stream, |_| ());
    stream.record.status.set(status);
    guard.complete();
}

fn unseen(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    connection: Arc<ConnectionInfo>,
    version: Version,
) -> (Rc<Stream>, Guard) {
    let (mut parts, ()): (request::Parts, ()) = Request::new(()).into_parts();
    parts.version = version;
    let stream = Stream::new(worker, slot, connection, parts, None);
    stream.note(|info| info.path = None);
    let guard = Guard::new(stream.clone());
    (stream, guard)
}

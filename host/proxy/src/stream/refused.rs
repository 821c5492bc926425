//! Messages of HTTP/1 that are refused unseen: counted, told and answered as any request, but with nothing of what they say.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode, request};

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
    let (stream, guard) = unseen(worker, slot, connection);
    stream.reply(Reply::refused(Refusal::Malformed(fault)), guard).await
}

/// Tells of a message that hyper has answered with 400.
pub(crate) fn refused(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, connection: &Arc<ConnectionInfo>, fault: Fault) {
    connection.activity.serve_request();
    let (stream, guard) = unseen(worker.clone(), slot.clone(), connection.clone());
    // Only flags and details are of interest.
    let _ = Reply::refused(Refusal::Malformed(fault)).into_parts(&stream);
    stream.record.status.set(StatusCode::BAD_REQUEST.as_u16());
    guard.complete();
}

fn unseen(worker: Rc<Worker>, slot: Rc<ListenerSlot>, connection: Arc<ConnectionInfo>) -> (Rc<Stream>, Guard) {
    let (parts, ()): (request::Parts, ()) = Request::new(()).into_parts();
    let stream = Stream::new(worker, slot, connection, parts, None);
    stream.http.downstream_cx_protocol_error.inc();
    stream.note(|info| info.path = None);
    let guard = Guard::new(stream.clone());
    (stream, guard)
}

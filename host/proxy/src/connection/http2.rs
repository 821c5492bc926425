//! HTTP/2 over one connection: hyper's server on the worker's own thread, with Envoy's limits for the edge.

mod frames;
mod goaway;
mod guarded;
pub(crate) mod head_block;
mod heads;
mod parting;
mod streams;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portolan_telemetry::{Http2Metrics, HttpMetrics};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use self::guarded::Guarded;
use self::heads::Heads;
pub(crate) use self::streams::{Ended, StreamClock, Streams};
use super::watched::Watched;
use super::{Handle, Open};
use crate::context::ConnectionInfo;
use crate::local_reply::Refusal;
use crate::stream;

/// Streams of one client at once.
const MAX_STREAMS: u32 = 100;
/// What a client may send of one stream before it is read.
const STREAM_WINDOW: u32 = 64 * 1024;
/// And of all its streams.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Names and values of a head together; hyper answers a longer one with 431.
const MAX_HEADER_LIST: u32 = 60 * 1024;
/// What waits to be written of one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client resets before they were taken; more end the connection ("rapid reset").
const MAX_EARLY_RESETS: usize = 20;
/// Streams that we reset for a client's mistakes; more end the connection.
const MAX_OWN_RESETS: usize = 100;
/// A connection from which nothing comes is asked after this time, and closed without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// In the extensions of a response: none is to be sent, and the stream of HTTP/2 is to be reset.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a filter closed the stream")]
pub(crate) struct StreamReset;

/// What a client of HTTP/3, and the connection within the process that serves it, tell each other.
#[derive(Default)]
pub(crate) struct Link {
    /// The client is to go.
    pub(crate) goaway: Notify,
    /// It has done what HTTP/2 does not take: only floods come through to here.
    pub(crate) is_flooded: Cell<bool>,
}

/// Serves requests until the client goes, or is told to: by GOAWAY, or over its link.
pub(super) async fn serve<S>(
    open: Open,
    io: Watched<S>,
    info: Arc<ConnectionInfo>,
    handle: Rc<Handle>,
    link: Option<Rc<Link>>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let open = Rc::new(open);
    let (http, metrics) = (open.slot.http(), open.worker.view().snapshot.metrics.clone());
    let executor = handle.streams.executor();
    let heads = Rc::new(Heads::before(handle.streams.clone()));
    let tell = {
        let (open, info) = (open.clone(), info.clone());
        Box::new(move |refusal| stream::refused_by_h2(&open.worker, &open.slot, &info, refusal))
    };
    let io = Guarded::new(io, info.clone(), (metrics.clone(), http.clone()), heads.clone(), tell);
    let service = service_fn({
        let (open, executor, info, heads) = (open.clone(), executor.clone(), info.clone(), heads.clone());
        move |request| {
            let clock = executor.clock(heads.served());
            let answer = super::answer(&open, &info, request, Some(clock)).map(|answer| {
                if answer.extensions().get::<StreamReset>().is_some() { Err(StreamReset) } else { Ok(answer) }
            });
            // On its way into a task it is moved eight times: that is 4 KiB each time.
            answer.boxed_local()
        }
    });
    let connection = http2::Builder::new(executor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST)
        .enable_connect_protocol()
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    if open.worker.is_draining() {
        handle.drain.set(true);
    }
    let result = handle
        .run(pin!(connection), |connection| match &link {
            Some(link) => link.goaway.notify_one(),
            // Streams that are open end by themselves.
            None => connection.graceful_shutdown(),
        })
        .await;
    let Some(Err(error)) = result else { return };
    count(&error, &metrics.http2, &http);
    if reason(&error) == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        open.slot.tell_flood(info.peer);
    }
    if ends_for_a_head(&error) {
        // The request that ended it, and those read with it.
        for _ in 0..heads.take_unserved() {
            metrics.http2.rx_messaging_error.inc();
            stream::refused_by_h2(&open.worker, &open.slot, &info, Refusal::Field);
        }
    }
    if let Some(link) = link {
        link.is_flooded.set(is_protocol_error(&error));
    }
}

/// Counts why a connection has ended.
fn count(error: &hyper::Error, http2: &Http2Metrics, http: &HttpMetrics) {
    if error.is_timeout() {
        http2.keepalive_timeout.inc();
    }
    if !is_protocol_error(error) {
        return;
    }
    http.downstream_cx_protocol_error.inc();
}

/// True when a frame or a head was at fault, no flood.
fn ends_for_a_head(error: &hyper::Error) -> bool {
    matches!(reason(error), Some(h2::Reason::PROTOCOL_ERROR | h2::Reason::COMPRESSION_ERROR))
}

/// What the client has done wrong, unlike a connection that is gone.
fn is_protocol_error(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_none_or(|source| source.downcast_ref::<std::io::Error>().is_none()) && !error.is_timeout()
}

/// What GOAWAY says.
fn reason(error: &hyper::Error) -> Option<h2::Reason> {
    std::error::Error::source(error)?.downcast_ref::<h2::Error>()?.reason()
}

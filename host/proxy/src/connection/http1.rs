//! HTTP/1 over one connection: hyper's server on the worker's own thread, and *parked* while no request comes: with its
//! socket alone, without hyper's buffers, which would be most of what ten thousand idle clients cost.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portolan_telemetry::HttpMetrics;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::guard::Fault;
use super::watched::Watched;
use super::{Handle, Open};
use crate::context::ConnectionInfo;
use crate::stream;

/// What hyper keeps of what a client sends. The guard sees to heads: they are smaller.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves requests until the client goes, or is told to.
pub(super) async fn serve<S>(open: Open, mut io: Watched<S>, info: Arc<ConnectionInfo>, handle: Rc<Handle>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    open.slot.http().downstream_cx_http1_total.inc();
    while let Some(rest) = serve_for_now(&open, io, &info, &handle).await {
        io = match rest {
            Rest::Idle(io) => io,
            Rest::Refused(refused) => {
                io = refused;
                continue;
            }
        };
        let more = {
            let _parked = Parked::new(&open);
            handle.await_more(&mut io).await
        };
        info.activity.unpark();
        match more {
            Some(true) => {}
            // The client is gone, or is sent away; what it did not hear of that is its own.
            Some(false) => return drop(io.shutdown().await),
            None => return,
        }
    }
}

/// A connection that hyper has given back.
enum Rest<S> {
    /// It is to be parked.
    Idle(Watched<S>),
    /// hyper does not take the last head: a refusal of ours is to be read in its place.
    Refused(Watched<S>),
}

/// The connection back when it goes on; none when it has ended.
async fn serve_for_now<S>(open: &Open, io: Watched<S>, info: &Arc<ConnectionInfo>, handle: &Handle) -> Option<Rest<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| super::answer(open, info, request, None).map(Ok::<_, Infallible>));
    let builder = http1::Builder::new().max_buf_size(MAX_BUFFER).serve_connection(TokioIo::new(io), service);
    let mut connection = builder.with_upgrades();
    let result = handle.run(Pin::new(&mut connection), |connection| connection.graceful_shutdown()).await;
    if info.activity.has_broken_off() {
        open.slot.http().downstream_cx_protocol_error.inc();
    }
    match result {
        Some(Ok(())) if info.activity.is_parked() => {
            let parts = connection.into_parts()?;
            let mut io = parts.io.into_inner();
            if parts.read_buf.is_empty() && io.is_between_requests() {
                return Some(Rest::Idle(io));
            }
            // hyper was not done with the last request, and has closed behind it.
            info.activity.unpark();
            let _ = io.shutdown().await;
        }
        // hyper has answered 400 by itself.
        Some(Err(error)) if error.is_parse() => {
            let mut io = connection.into_parts()?.io.into_inner();
            if io.refuse_withheld() {
                return Some(Rest::Refused(io));
            }
            // Behind another answer that was not out yet.
            stream::refused(&open.worker, &open.slot, info, Fault::Codec);
        }
        _ => {}
    }
    None
}

/// Counts a connection as parked.
struct Parked(Arc<HttpMetrics>);

impl Parked {
    fn new(open: &Open) -> Self {
        let metrics = open.slot.http();
        metrics.downstream_cx_parked.inc();
        Self(metrics)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.0.downstream_cx_parked.dec();
    }
}

impl Handle {
    /// Waits for a parked client. False when it has gone, or is to go and says nothing more; none when it is cut.
    async fn await_more<S: AsyncRead + Unpin>(&self, io: &mut Watched<S>) -> Option<bool> {
        self.unless_killed(|cx| match io.poll_more(cx) {
            Poll::Pending if self.hurry.get() => Poll::Ready(false),
            polled => polled,
        })
        .await
    }
}

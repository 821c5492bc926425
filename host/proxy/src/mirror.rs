//! Mirrors: copies of requests for other clusters. Nobody waits for them: a copy has its own task, its answer is dropped,
//! and what goes wrong with it is counted in its cluster and told nobody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::Frame;
use portolan_model::{ClusterId, EVERY_REQUEST, Share};
use rand::Rng;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::attempt::tell_no_body;
use crate::balancer::Avoid;
use crate::body::{BodyError, RequestBody, UpstreamBody};
use crate::dynamic::{self, Named};
use crate::forwarded;
use crate::kept_head::KeptHead;
use crate::lease::Lease;
use crate::pool::{ClusterPool, PoolLimits, Wanted};
use crate::router::{Forwarding, Upstream};
use crate::snapshot::ClusterEntry;
use crate::stream::Stream;
use crate::upstream::{ConnectionKey, Form, StreamFailure, as_http2, stream_failure};
use crate::view::View;
use crate::worker::Worker;

const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");

/// Most bytes of a body that wait for a mirror; a copy for a slower one is cut off. Envoy's limit of a connection's buffer.
const MAX_WAITING: usize = 1024 * 1024;

/// Most copies under way on one worker; further ones are not made.
const MAX_COPIES: usize = 4096;

/// How long a copy may take where the route has no timeout.
const LONGEST: Duration = Duration::from_secs(300);

/// A mirror of a route.
pub(crate) struct MirrorEntry {
    pub(crate) cluster: ClusterId,
    pub(crate) share: Share,
}

/// The bodies of a stream's copies, as they come in.
#[derive(Default)]
pub(crate) struct Copies(RefCell<Vec<Rc<RefCell<Queue>>>>);

/// What of a body waits for one mirror.
#[derive(Default)]
struct Queue {
    parts: VecDeque<Part>,
    waiting: usize,
    ended: bool,
    /// The mirror is too slow, or the request has ended early.
    lost: bool,
    waker: Option<Waker>,
}

enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body of a copy, on its way to the mirror.
pub(crate) struct CopiedBody(Rc<RefCell<Queue>>);

/// A copy that is on its way.
struct Copy {
    worker: Rc<Worker>,
    view: Rc<View>,
    cluster: ClusterId,
    /// Whom it is for, where requests of the cluster say that.
    host: Option<Box<str>>,
    /// What its connection must be for.
    key: Option<Rc<ConnectionKey>>,
    is_http2: bool,
}

/// Sends copies of a request whose head is ready, to those of the route's mirrors whose turn it is.
pub(crate) fn send(job: &Forwarding<'_>, has_body: bool) {
    let stream = job.stream;
    let is_upgrade =
        stream.is_connect() || stream.with_state(|state| state.request.headers.contains_key(header::UPGRADE));
    for mirror in &job.forward.mirrors {
        let draw = || stream.worker.with_rng(|rng| rng.random_range(0..EVERY_REQUEST));
        let Some(cluster) = stream.view.snapshot.cluster(mirror.cluster) else { continue };
        if is_upgrade || (mirror.share < EVERY_REQUEST && draw() >= mirror.share) {
            continue;
        }
        if stream.worker.copies.get() >= MAX_COPIES {
            cluster.state.metrics.upstream_rq_pending_overflow.inc();
            continue;
        }
        let Some(head) = stream.with_state(|state| Some(KeptHead::of(&state.request))) else { continue };
        let mut parts = head.into_parts();
        let mut copy = Copy::new(stream, mirror.cluster, cluster);
        if cluster.dynamic.is_some() {
            copy.host = dynamic::host_of(&parts.headers).map(String::into_boxed_str);
        }
        if has_body && stream.view.wants.request_body {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        mark(&mut parts.headers, stream.connection.local.ip());
        stream.tell_mirror(&mut parts.headers);
        if copy.is_http2 {
            as_http2(&mut parts, cluster.transport.scheme());
        } else if !has_body {
            tell_no_body(&mut parts);
        } else if !parts.headers.contains_key(header::CONTENT_LENGTH) {
            parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let body = if has_body { RequestBody::Copied(stream.copies.add()) } else { RequestBody::Empty };
        let limit = job.forward.timeout.unwrap_or(LONGEST);
        spawn_local(copy.send(Request::from_parts(parts, body), limit));
    }
}

/// Says that a copy comes from here and not from a client, as Envoy's do.
fn mark(headers: &mut HeaderMap, own: IpAddr) {
    if let Ok(own) = HeaderValue::try_from(own.to_canonical().to_string()) {
        forwarded::append_peer(headers, &own);
    }
    headers.insert(INTERNAL, HeaderValue::from_static("true"));
}

impl Copy {
    fn new(stream: &Stream, cluster: ClusterId, entry: &ClusterEntry) -> Self {
        let (worker, view) = (stream.worker.clone(), stream.view.clone());
        worker.copies.set(worker.copies.get() + 1);
        let (key, form) = entry.transport.needs(stream);
        let is_http2 = form == Form::Http2;
        Self { worker, view, cluster, host: None, key, is_http2 }
    }

    async fn send(self, request: Request<RequestBody>, limit: Duration) {
        if timeout(limit, self.exchange(request)).await.is_err()
            && let Some(cluster) = self.view.snapshot.cluster(self.cluster)
        {
            cluster.state.metrics.upstream_rq_timeout.inc();
        }
    }

    /// Where the copy goes; nowhere when its host is none of the cluster's, or has no address.
    async fn pool(&self, cluster: &ClusterEntry) -> Option<Rc<ClusterPool>> {
        let pool = self.view.pools.get(self.cluster as usize)?;
        let Some(allowed) = &cluster.dynamic else { return Some(pool.clone()) };
        let named = Named { cluster, allowed, pool };
        let found = Box::pin(dynamic::pool(&self.worker, &self.view, &named, self.host.as_deref())).await;
        if found.is_err() {
            cluster.state.metrics.upstream_cx_none_healthy.inc();
        }
        found.ok()
    }

    async fn exchange(&self, mut request: Request<RequestBody>) -> Option<()> {
        let cluster = self.view.snapshot.cluster(self.cluster)?;
        let pool = self.pool(cluster).await?;
        let metrics = &cluster.state.metrics;
        let breakers = self.view.snapshot.model.clusters.get(self.cluster as usize)?.circuit_breakers;
        let limits = PoolLimits { breakers, ..cluster.limits };
        let Some(_permit) = cluster.state.admit(breakers.max_requests) else {
            metrics.upstream_rq_pending_overflow.inc();
            return None;
        };
        let mut fresh = false;
        loop {
            let Some(endpoint) = pool.pick(&self.worker, None, Avoid::default()) else {
                metrics.upstream_cx_none_healthy.inc();
                return None;
            };
            // The pool has counted why there is none.
            let (transport, key) = (&cluster.transport, self.key.clone());
            let wanted = Wanted { limits, transport, key, is_http2: self.is_http2, fresh };
            let mut lease = pool.checkout(&endpoint, &wanted).await.ok()?;
            let reused = lease.requests > 0;
            lease.sent().begin(false);
            let mut upstream = Upstream::new(cluster, &endpoint.endpoint);
            match lease.send(request).await {
                Ok(response) => {
                    upstream.answered(response.status().as_u16());
                    let mut body = UpstreamBody::new(response.into_body(), lease, upstream, None);
                    while let Some(Ok(_)) = std::future::poll_fn(|cx| body.poll(cx)).await {}
                    return Some(());
                }
                // The pooled connection had ended, and nothing was sent on it.
                Err(mut error) if reused && !fresh => {
                    request = error.take_message()?;
                    broke(&lease, &error.into_error());
                    fresh = true;
                }
                Err(error) => {
                    broke(&lease, &error.into_error());
                    metrics.upstream_rq_rx_reset.inc();
                    return None;
                }
            }
        }
    }
}

/// A stream that was reset leaves the connection as it is.
fn broke(lease: &Lease, error: &hyper::Error) {
    if stream_failure(error) != Some(StreamFailure::Reset) {
        lease.retire();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.worker.copies.set(self.worker.copies.get() - 1);
    }
}

impl Copies {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    fn add(&self) -> CopiedBody {
        let queue: Rc<RefCell<Queue>> = Rc::default();
        self.0.borrow_mut().push(queue.clone());
        CopiedBody(queue)
    }

    /// Passes on what has been read of the body; `last` when nothing follows it.
    pub(crate) fn pass(&self, polled: Option<&Result<Frame<Bytes>, BodyError>>, last: bool) {
        for queue in self.0.borrow().iter() {
            queue.borrow_mut().take_in(polled, last);
        }
    }
}

/// The request is over: what has not come in will not come.
impl Drop for Copies {
    fn drop(&mut self) {
        for queue in self.0.get_mut() {
            let mut queue = queue.borrow_mut();
            if !queue.ended {
                queue.lose();
            }
        }
    }
}

impl Queue {
    fn take_in(&mut self, polled: Option<&Result<Frame<Bytes>, BodyError>>, last: bool) {
        if self.lost || self.ended {
            return;
        }
        match polled {
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => {
                    self.waiting += data.len();
                    self.parts.push_back(Part::Data(data.clone()));
                }
                (None, Some(trailers)) => self.parts.push_back(Part::Trailers(trailers.clone())),
                (None, None) => {}
            },
            Some(Err(_)) => return self.lose(),
            None => {}
        }
        self.ended = last || polled.is_none();
        if self.waiting > MAX_WAITING {
            return self.lose();
        }
        self.wake();
    }

    fn lose(&mut self) {
        self.lost = true;
        self.parts.clear();
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl CopiedBody {
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.0.borrow_mut();
        if queue.lost {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        match queue.parts.pop_front() {
            Some(Part::Data(data)) => {
                queue.waiting -= data.len();
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Part::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let queue = self.0.borrow();
        queue.ended && queue.parts.is_empty() && !queue.lost
    }
}

impl Drop for CopiedBody {
    fn drop(&mut self) {
        // Nobody reads it any more: nothing is kept for it.
        self.0.borrow_mut().lost = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn read(body: &mut CopiedBody) -> Poll<Option<Result<Bytes, ()>>> {
        let polled = body.poll(&Context::from_waker(Waker::noop()));
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()).map_err(|_| ())))
    }

    fn data(size: usize) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from(vec![0; size])))
    }

    #[test]
    fn a_copy_reads_what_has_come_in_and_waits_for_more() {
        let copies = Copies::default();
        let mut body = copies.add();
        assert!(read(&mut body).is_pending());
        copies.pass(Some(&data(3)), false);
        assert!(matches!(read(&mut body), Poll::Ready(Some(Ok(data))) if data.len() == 3));
        assert!(read(&mut body).is_pending() && !body.is_end_stream());
        copies.pass(Some(&data(2)), true);
        drop(copies);
        assert!(matches!(read(&mut body), Poll::Ready(Some(Ok(data))) if data.len() == 2));
        assert!(matches!(read(&mut body), Poll::Ready(None)) && body.is_end_stream());
    }

    #[test]
    fn a_copy_for_a_slow_mirror_is_cut_off_and_another_goes_on() {
        let copies = Copies::default();
        let (mut slow, mut quick) = (copies.add(), copies.add());
        for _ in 0..3 {
            copies.pass(Some(&data(MAX_WAITING / 2)), false);
            assert!(matches!(read(&mut quick), Poll::Ready(Some(Ok(_)))));
        }
        assert!(matches!(read(&mut slow), Poll::Ready(Some(Err(())))));
        assert!(copies.0.borrow()[0].borrow().parts.is_empty(), "nothing is kept for it");
    }

    #[test]
    fn a_request_that_ends_early_ends_its_copies() {
        let copies = Copies::default();
        let mut body = copies.add();
        copies.pass(Some(&data(3)), false);
        drop(copies);
        assert!(matches!(read(&mut body), Poll::Ready(Some(Err(())))));
    }
}

//! HTTP callouts: over the worker's HTTP/1 pools, answered in any case: what fails is told by the response that the
//! gateway would give a client, 503 and 504 as in Envoy.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portolan_wasm::{CallResponse, Held, HttpCall, MAX_CALL_BODY};
use tokio::time::timeout;

use super::reach::{Reach, Target};
use crate::body::{CallBody, RequestBody};
use crate::head;
use crate::lease::Lease;
use crate::local_reply::{Failure, Reply};
use crate::pool::{CheckoutError, EndpointPool, PoolLimits, Wanted};
use crate::router::Upstream;
use crate::snapshot::ClusterEntry;
use crate::upstream::{ConnectError, as_http2};
use crate::worker::Worker;

/// Why there is no answer of the upstream's.
enum CallError {
    Failure(Failure),
    /// The answer's body is larger than a filter may be given.
    TooLarge,
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// Makes the call. The share comes back with the answer's body counted in.
pub(super) async fn call(worker: &Rc<Worker>, call: HttpCall) -> (CallResponse, Held) {
    let HttpCall { upstream, request, body, trailers, timeout: limit, mut held, .. } = call;
    let message = Message::new(request, body, trailers);
    let Some(target) = Reach::find(worker, &upstream).await else {
        return (Reply::failed(Failure::NoCluster, None).into_call_response(), held);
    };
    let answer = match timeout(limit, exchange(worker, &target, &message, &mut held)).await {
        Ok(answer) => answer,
        Err(_) => {
            if let Some(cluster) = target.cluster() {
                cluster.state.metrics.upstream_rq_timeout.inc();
            }
            Err(Failure::Timeout.into())
        }
    };
    let response = answer.unwrap_or_else(|error| match error {
        CallError::Failure(failure) => Reply::failed(failure, None).into_call_response(),
        CallError::TooLarge => Reply::call_response_too_large().into_call_response(),
    });
    (response, held)
}

async fn exchange(
    worker: &Rc<Worker>,
    target: &Target,
    message: &Message,
    held: &mut Held,
) -> Result<CallResponse, CallError> {
    target.resolved().await;
    let (Some(cluster), Some(pool)) = (target.cluster(), target.pool()) else {
        return Err(Failure::NoCluster.into());
    };
    let limits = PoolLimits { breakers: target.limits(), ..cluster.limits };
    let Some(_permit) = cluster.state.admit(limits.breakers.max_requests) else {
        cluster.state.metrics.upstream_rq_pending_overflow.inc();
        return Err(Failure::Overflow.into());
    };
    let mut fresh = false;
    loop {
        let endpoint = target.pick(worker, None).ok_or(Failure::NoHealthyUpstream)?;
        let wanted = message.wants(cluster, limits, fresh);
        let lease = pool.checkout(&endpoint, &wanted).await.map_err(|error| no_connection(cluster, &error))?;
        let reused = lease.requests > 0;
        match send(lease, cluster, &endpoint, message).await {
            Ok(sent) => return receive(sent, held).await,
            // The pooled connection had ended before the answer began.
            Err((Failure::Reset, unsent)) if reused && !fresh && (unsent || message.is_idempotent()) => fresh = true,
            Err((failure, _)) => return Err(failure.into()),
        }
    }
}

fn no_connection(cluster: &ClusterEntry, error: &CheckoutError) -> Failure {
    tracing::debug!(cluster = %cluster.state.name, %error, "no connection for a callout");
    let metrics = &cluster.state.metrics;
    match error {
        CheckoutError::Overflow => {
            metrics.upstream_rq_pending_overflow.inc();
            Failure::Overflow
        }
        CheckoutError::Connect(_, ConnectError::Timeout) => {
            metrics.upstream_rq_pending_failure_eject.inc();
            Failure::ConnectTimeout
        }
        CheckoutError::Connect(..) | CheckoutError::Handshake(..) => {
            metrics.upstream_rq_pending_failure_eject.inc();
            Failure::Connect
        }
    }
}

/// A response whose body has not been read.
struct Sent {
    response: Response<Incoming>,
    lease: Lease,
    upstream: Upstream,
}

async fn send(
    mut lease: Lease,
    cluster: &ClusterEntry,
    endpoint: &EndpointPool,
    message: &Message,
) -> Result<Sent, (Failure, bool)> {
    let upstream = Upstream::new(cluster, &endpoint.endpoint);
    lease.sent().begin(false);
    let mut request = message.request();
    if lease.is_http2() {
        let (mut head, body) = request.into_parts();
        as_http2(&mut head, cluster.transport.scheme());
        request = Request::from_parts(head, body);
    }
    match lease.send(request).await {
        Ok(response) => Ok(Sent { response, lease, upstream }),
        Err(mut error) => {
            let unsent = error.take_message().is_some();
            lease.retire();
            let error = error.into_error();
            cluster.state.metrics.upstream_rq_rx_reset.inc();
            let is_protocol = error.is_parse() || error.is_parse_status();
            Err((if is_protocol { Failure::Protocol } else { Failure::Reset }, unsent))
        }
    }
}

async fn receive(sent: Sent, held: &mut Held) -> Result<CallResponse, CallError> {
    let Sent { response, lease, mut upstream } = sent;
    let (mut parts, mut incoming) = response.into_parts();
    upstream.answered(parts.status.as_u16());
    let is_final = (200..=599).contains(&parts.status.as_u16());
    if head::strip(&mut parts.headers, false).is_err() || !is_final {
        return Err(Failure::Protocol.into());
    }
    let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|_| Failure::Reset)?;
        match frame.into_data() {
            Ok(data) => {
                if body.len() + data.len() > MAX_CALL_BODY || !held.grow(data.len()) {
                    return Err(CallError::TooLarge);
                }
                body.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    upstream.complete();
    lease.give_back();
    Ok(CallResponse { status: parts.status, headers: parts.headers, body: body.freeze(), trailers })
}

/// A request that can be sent again.
struct Message {
    head: request::Parts,
    body: Bytes,
    trailers: HeaderMap,
}

impl Message {
    fn new(mut head: request::Parts, body: Bytes, trailers: HeaderMap) -> Self {
        let usually_has_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if !trailers.is_empty() {
            let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
            if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
                head.headers.insert(header::TRAILER, names);
            }
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        } else if !body.is_empty() || usually_has_body {
            head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Self { head, body, trailers }
    }

    /// The connection that the call needs.
    fn wants<'a>(&self, cluster: &'a ClusterEntry, limits: PoolLimits, fresh: bool) -> Wanted<'a> {
        let host = self.head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| self.head.uri.authority().map(http::uri::Authority::as_str));
        let (transport, is_http2) = (&cluster.transport, cluster.transport.is_http2(http::Version::HTTP_11));
        Wanted { limits, transport, key: transport.key(host, None), is_http2, fresh }
    }

    fn request(&self) -> Request<RequestBody> {
        let body = CallBody::new(self.body.clone(), self.trailers.clone());
        Request::from_parts(self.head.clone(), RequestBody::Call(Box::new(body)))
    }

    /// True when a request that the upstream may have seen can be sent again.
    fn is_idempotent(&self) -> bool {
        use Method as M;
        matches!(self.head.method, M::GET | M::HEAD | M::PUT | M::DELETE | M::OPTIONS | M::TRACE)
    }
}

impl Reply {
    /// An answer to a callout that is larger than a filter may be given.
    fn call_response_too_large() -> Self {
        Self::text(StatusCode::SERVICE_UNAVAILABLE, "response_payload_too_large", "response payload too large")
    }
}

//! gRPC callouts over HTTP/2: calls with one message each way, and streams.
//!
//! What the filter hears is Envoy's: a call ends with `on_grpc_receive` when it succeeds and with `on_grpc_close` when it
//! does not; a stream hears of metadata, messages, trailers and its end. Statuses are those of gRPC: 4 for a deadline, 8
//! for a message over 4 MiB, 13 for what is no gRPC, 14 for a peer that is not there.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, response, uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portolan_wasm::{GrpcCall, Held, Upstream as Name};
use tokio::time::timeout;

use super::Teller;
use super::frames::{self, FrameError, Outgoing, Queue};
use super::reach::{Reach, Target};
use crate::cluster::Permit;
use crate::router::Upstream;
use crate::worker::Worker;

/// gRPC's statuses, as far as the gateway itself gives them.
const UNKNOWN: u32 = 2;
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;

/// How a call or stream has ended.
struct End {
    status: u32,
    message: Bytes,
}

impl End {
    fn new(status: u32, message: &'static str) -> Self {
        Self { status, message: Bytes::from_static(message.as_bytes()) }
    }
}

/// Runs a call or stream to its end.
pub(super) async fn run(worker: &Rc<Worker>, call: GrpcCall, queue: Queue, teller: Teller) {
    let (id, limit) = (call.id, call.timeout);
    let mut told = Told { id, teller, single: call.message.is_some(), message: None };
    let exchange = exchange(worker, call, queue, &mut told);
    let end = match limit {
        None => exchange.await,
        Some(limit) => timeout(limit, exchange).await.unwrap_or(Err(End::new(DEADLINE_EXCEEDED, "deadline exceeded"))),
    };
    told.end(end.unwrap_or_else(|end| end));
}

/// What the filter has been told.
struct Told {
    id: u32,
    teller: Teller,
    /// A call, which has one message.
    single: bool,
    message: Option<Bytes>,
}

impl Told {
    fn initial(&self, status: StatusCode, headers: HeaderMap) {
        if !self.single {
            self.teller.tell(|vm| vm.on_grpc_initial_metadata(self.id, status, headers));
        }
    }

    fn message(&mut self, message: Bytes) -> Result<(), End> {
        if !self.single {
            self.teller.tell(|vm| vm.on_grpc_message(self.id, message, false));
            return Ok(());
        }
        match self.message.replace(message) {
            None => Ok(()),
            Some(_) => Err(End::new(INTERNAL, "more than one message")),
        }
    }

    fn trailing(&self, trailers: HeaderMap) {
        if !self.single {
            self.teller.tell(|vm| vm.on_grpc_trailing_metadata(self.id, trailers));
        }
    }

    fn end(self, end: End) {
        let id = self.id;
        match self.message {
            Some(message) if end.status == 0 => self.teller.end(id, |vm| vm.on_grpc_message(id, message, true)),
            None if end.status == 0 && self.single => {
                self.teller.end(id, |vm| vm.on_grpc_close(id, INTERNAL, Bytes::from_static(b"no message")));
            }
            _ => self.teller.end(id, |vm| vm.on_grpc_close(id, end.status, end.message)),
        }
    }
}

async fn exchange(worker: &Rc<Worker>, call: GrpcCall, queue: Queue, told: &mut Told) -> Result<End, End> {
    let mut held = call.held;
    let head = Head { authority: call.authority, path: call.path, metadata: call.metadata, limit: call.timeout };
    let Opened { parts, body, mut upstream, _permit } = open(worker, &call.upstream, &head, queue).await?;
    let trailers_only = status_of(&parts.headers);
    told.initial(parts.status, parts.headers.clone());
    if let Some(end) = trailers_only {
        told.trailing(parts.headers);
        return Ok(end);
    }
    let end = receive(body, told, &mut held).await?;
    upstream.complete();
    Ok(end)
}

/// A call of the gateway's own, of whose answer only the status counts.
pub(super) struct Tell {
    pub(super) authority: uri::Authority,
    pub(super) path: uri::PathAndQuery,
    pub(super) metadata: HeaderMap,
    /// For the whole call.
    pub(super) limit: std::time::Duration,
}

/// Most bytes of an answer that nobody reads.
const MAX_UNREAD: usize = 64 * 1024;

/// Makes the call. With an error, whether the peer was not there.
pub(super) async fn tell(worker: &Rc<Worker>, name: &Name, call: Tell, message: Bytes) -> Result<(), (bool, String)> {
    let limit = call.limit;
    let end = timeout(limit, told(worker, name, call, message)).await;
    let end = end.unwrap_or(Err(End::new(DEADLINE_EXCEEDED, "deadline exceeded"))).unwrap_or_else(|end| end);
    if end.status == 0 {
        return Ok(());
    }
    let words = format!("gRPC status {}: {}", end.status, String::from_utf8_lossy(&end.message));
    Err((end.status == UNAVAILABLE, words))
}

async fn told(worker: &Rc<Worker>, name: &Name, call: Tell, message: Bytes) -> Result<End, End> {
    let Tell { authority, path, metadata, limit } = call;
    let head = Head { authority: Some(authority), path, metadata, limit: Some(limit) };
    let (_, queue) = frames::queue(Some(message));
    let Opened { parts, mut body, mut upstream, _permit } = open(worker, name, &head, queue).await?;
    if let Some(end) = status_of(&parts.headers) {
        return Ok(end);
    }
    let mut unread = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| End::new(UNAVAILABLE, "connection termination"))?;
        match frame.into_data() {
            Ok(data) if unread + data.len() <= MAX_UNREAD => unread += data.len(),
            Ok(_) => return Err(End::new(RESOURCE_EXHAUSTED, "message too large")),
            Err(frame) => {
                upstream.complete();
                return Ok(status_of(&frame.into_trailers().unwrap_or_default())
                    .unwrap_or(End::new(UNKNOWN, "no grpc-status")));
            }
        }
    }
    Err(End::new(UNKNOWN, "no grpc-status"))
}

/// What a request's head is made of.
struct Head {
    authority: Option<uri::Authority>,
    path: uri::PathAndQuery,
    metadata: HeaderMap,
    limit: Option<std::time::Duration>,
}

impl Head {
    fn request(&self, name: &Name, body: Outgoing) -> Request<Outgoing> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = self.authority.clone().or_else(|| authority(name));
        parts.path_and_query = Some(self.path.clone());
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        let headers = request.headers_mut();
        headers.clone_from(&self.metadata);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if let Some(Ok(limit)) = self.limit.map(|limit| HeaderValue::from_str(&format!("{}m", limit.as_millis()))) {
            headers.insert("grpc-timeout", limit);
        }
        request
    }
}

/// `:authority` when the filter gives none: the host, which is the last part of a cluster's name.
fn authority(name: &Name) -> Option<uri::Authority> {
    let text = match name {
        Name::Cluster(name) => name.rsplit('|').next().unwrap_or_default().to_owned(),
        Name::Address(address) => address.to_string(),
        Name::Name { host, port } => format!("{host}:{port}"),
    };
    text.parse().ok().or_else(|| Some(uri::Authority::from_static("upstream")))
}

/// A call whose answer has begun.
struct Opened {
    parts: response::Parts,
    body: Incoming,
    upstream: Upstream,
    /// Its place among the cluster's requests, until the call has ended.
    _permit: Permit,
}

/// Sends the request as soon as the cluster has room for it, and waits for the head of a good answer.
async fn open(worker: &Rc<Worker>, name: &Name, head: &Head, queue: Queue) -> Result<Opened, End> {
    let target = Reach::find(worker, name).await.ok_or(End::new(UNAVAILABLE, "no such cluster"))?;
    target.resolved().await;
    let cluster = target.cluster().ok_or(End::new(UNAVAILABLE, "no such cluster"))?;
    let Some(_permit) = cluster.state.admit(target.limits().max_requests) else {
        cluster.state.metrics.upstream_rq_pending_overflow.inc();
        return Err(End::new(UNAVAILABLE, "overflow"));
    };
    let (response, mut upstream) = send(worker, &target, head, name, queue).await?;
    let (parts, body) = response.into_parts();
    upstream.answered(parts.status.as_u16());
    check(parts.status, &parts.headers)?;
    Ok(Opened { parts, body, upstream, _permit })
}

/// Sends the request, on a new connection when the one that was there turns out to be dead.
async fn send(
    worker: &Rc<Worker>,
    target: &Target,
    head: &Head,
    name: &Name,
    queue: Queue,
) -> Result<(Response<Incoming>, Upstream), End> {
    let cluster = target.cluster().ok_or(End::new(UNAVAILABLE, "no such cluster"))?;
    let mut request = head.request(name, Outgoing::new(queue));
    let mut fresh = false;
    loop {
        let endpoint = target.pick(worker, None).ok_or(End::new(UNAVAILABLE, "no healthy upstream"))?;
        let host = request.uri().authority().map(|authority| authority.as_str());
        let connection = worker.reach.http2.connect(cluster, &endpoint.endpoint, host).await;
        let mut connection = connection.map_err(|error| {
            tracing::debug!(cluster = %cluster.state.name, %error, "no connection for a gRPC callout");
            End::new(UNAVAILABLE, "connection failed")
        })?;
        let upstream = Upstream::new(cluster, &endpoint.endpoint);
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((response, upstream)),
            Err(mut error) => {
                cluster.state.metrics.upstream_rq_rx_reset.inc();
                match error.take_message() {
                    Some(unsent) if !fresh => {
                        fresh = true;
                        request = unsent;
                    }
                    _ => return Err(End::new(UNAVAILABLE, "connection termination")),
                }
            }
        }
    }
}

/// Refuses what is no gRPC, by the table of gRPC's HTTP statuses.
fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), End> {
    if status != StatusCode::OK {
        let code = match status.as_u16() {
            400 => INTERNAL,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => UNAVAILABLE,
            _ => UNKNOWN,
        };
        return Err(status_of(headers).unwrap_or(End::new(code, "the answer is no gRPC")));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/grpc") { Ok(()) } else { Err(End::new(UNKNOWN, "the answer is no gRPC")) }
}

async fn receive(mut body: Incoming, told: &mut Told, held: &mut Held) -> Result<End, End> {
    let mut messages = frames::Incoming::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| End::new(UNAVAILABLE, "connection termination"))?;
        match frame.into_data() {
            Ok(data) => {
                messages.push(&data, held).map_err(broken)?;
                while let Some(message) = messages.next(held).map_err(broken)? {
                    told.message(message)?;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let end = status_of(&trailers).unwrap_or(End::new(UNKNOWN, "no grpc-status"));
                let cut = !messages.is_empty();
                told.trailing(trailers);
                return if cut { Err(End::new(INTERNAL, "a message is cut")) } else { Ok(end) };
            }
        }
    }
    Err(End::new(UNKNOWN, "no grpc-status"))
}

fn broken(error: FrameError) -> End {
    match error {
        FrameError::TooLarge => End::new(RESOURCE_EXHAUSTED, "message too large"),
        FrameError::Malformed => End::new(INTERNAL, "malformed message"),
    }
}

/// `grpc-status` and `grpc-message`, if they are there.
fn status_of(map: &HeaderMap) -> Option<End> {
    let status = map.get("grpc-status")?.to_str().ok().and_then(|status| status.parse().ok());
    let message = map.get("grpc-message").map(|message| percent_decoded(message.as_bytes())).unwrap_or_default();
    Some(End { status: status.unwrap_or(UNKNOWN), message })
}

/// gRPC writes messages percent-encoded; what is malformed stays as it is.
fn percent_decoded(text: &[u8]) -> Bytes {
    let hex = |digit: u8| (digit as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        out.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_decoded() {
        assert_eq!(percent_decoded(b"a%20b%"), "a b%");
        assert_eq!(percent_decoded(b"%zz%41"), "%zzA");
    }

    #[test]
    fn the_authority_is_the_host_of_the_cluster() {
        let of = |name: Name| authority(&name).map(|authority| authority.to_string());
        assert_eq!(of(Name::Cluster("outbound|80|v1|a.test".into())).as_deref(), Some("a.test"));
        assert_eq!(of(Name::Name { host: "a".to_owned(), port: 1 }).as_deref(), Some("a:1"));
    }
}

//! The last filter: carries out the route's action; forwards with timeout and retries.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use portolan_model::{MISSING_CLUSTER, Redirect};
use portolan_telemetry::{ClusterMetrics, RouteMetrics};

use crate::attempt::{Attempts, Tried};
use crate::body::{ResponseBody, UpstreamBody};
use crate::body_filter::FilteredBody;
use crate::connect;
use crate::deadline::{Deadline, Upload};
use crate::dynamic::{self, Named};
use crate::endpoint::EndpointState;
use crate::expected_timeout;
use crate::filter_chain::{Direction, Outcome};
use crate::grpc_web;
use crate::hash_input::Hashed;
use crate::head;
use crate::header_words::{Head, Known};
use crate::lease::Lease;
use crate::local_reply::{Failure, Reply};
use crate::mirror;
use crate::rewrite;
use crate::route::{Action, ForwardEntry, HeaderChanges, RouteEntry};
use crate::route_stats::count_answers;
use crate::snapshot::ClusterEntry;
use crate::stream::{Guard, Stream};
use crate::upgrade;
use crate::upstream::announce_trailers;

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
pub(crate) const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
pub(crate) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// A request in an endpoint's care: counted as active until it is complete or dropped.
pub(crate) struct Upstream {
    metrics: Arc<ClusterMetrics>,
    /// Those of a route that has its own.
    route: Option<Arc<RouteMetrics>>,
    endpoint: Arc<EndpointState>,
    /// What its time counts from.
    since: Instant,
    /// Of a request that was answered before it had come in whole, for its end.
    early: Option<Rc<Stream>>,
    active: bool,
    answered: bool,
}

impl Upstream {
    pub(crate) fn new(cluster: &ClusterEntry, endpoint: &Arc<EndpointState>) -> Self {
        Self::since(cluster, endpoint, Instant::now())
    }

    /// Of a request that began before: its time is that of all tries and the pauses between them, as in Envoy.
    pub(crate) fn since(cluster: &ClusterEntry, endpoint: &Arc<EndpointState>, since: Instant) -> Self {
        let metrics = cluster.state.metrics.clone();
        metrics.upstream_rq_total.inc();
        metrics.upstream_rq_active.inc();
        endpoint.seen.requests.fetch_add(1, Relaxed);
        endpoint.seen.active_requests.fetch_add(1, Relaxed);
        let endpoint = endpoint.clone();
        Self { metrics, route: None, endpoint, since, early: None, active: true, answered: false }
    }

    /// Counts for a route besides.
    pub(crate) fn of_route(mut self, route: Option<Arc<RouteMetrics>>) -> Self {
        if let Some(route) = &route {
            route.upstream_rq_total.inc();
        }
        self.route = route;
        self
    }

    /// The answer has been received whole.
    pub(crate) fn complete(&mut self) {
        if std::mem::take(&mut self.active) {
            self.metrics.upstream_rq_active.dec();
            let early = self.early.take();
            if early.is_none_or(|stream| self.count_from(stream.upload())) {
                let took = self.since.elapsed();
                self.metrics.upstream_rq_time.observe(took);
                if let Some(route) = &self.route {
                    route.upstream_rq_time.observe(took);
                }
            }
            self.endpoint.seen.active_requests.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.answered = true;
        count_answers(&self.metrics, self.route.as_deref(), status);
        if status >= 500 {
            self.endpoint.seen.errors.fetch_add(1, Relaxed);
        }
    }

    /// How long it has taken since the request had come in whole; none when the client still owes a part.
    fn took(&mut self, stream: &Rc<Stream>) -> Option<Duration> {
        if !self.count_from(stream.upload()) {
            self.early = Some(stream.clone());
            return None;
        }
        Some(self.since.elapsed())
    }

    /// Counts from the end of the request's body, where it has come; false when it has not.
    fn count_from(&mut self, upload: &Upload) -> bool {
        self.since = upload.last().map_or(self.since, |last| last.max(self.since));
        !upload.is_awaited()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if std::mem::take(&mut self.active) {
            self.metrics.upstream_rq_active.dec();
            self.endpoint.seen.active_requests.fetch_sub(1, Relaxed);
            if !self.answered {
                self.endpoint.seen.errors.fetch_add(1, Relaxed);
            }
        }
    }
}

/// How long the upstream took.
fn tell_time(stream: &Stream, headers: &mut HeaderMap, took: Option<Duration>) {
    if let Some(took) = took.filter(|_| stream.view.snapshot.own_headers.debug) {
        headers.insert(SERVICE_TIME, milliseconds(took));
    }
}

/// Milliseconds as a header; the common ones without an allocation.
fn milliseconds(time: Duration) -> HeaderValue {
    const COMMON: [&str; 100] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
        "20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31", "32", "33", "34", "35", "36", "37",
        "38", "39", "40", "41", "42", "43", "44", "45", "46", "47", "48", "49", "50", "51", "52", "53", "54", "55",
        "56", "57", "58", "59", "60", "61", "62", "63", "64", "65", "66", "67", "68", "69", "70", "71", "72", "73",
        "74", "75", "76", "77", "78", "79", "80", "81", "82", "83", "84", "85", "86", "87", "88", "89", "90", "91",
        "92", "93", "94", "95", "96", "97", "98", "99",
    ];
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match usize::try_from(millis).ok().and_then(|millis| COMMON.get(millis)) {
        Some(text) => HeaderValue::from_static(text),
        None => HeaderValue::from(millis),
    }
}

/// Carries out what the filters decided.
pub(crate) async fn route(stream: &Rc<Stream>, body: Incoming, guard: Guard) -> Response<ResponseBody> {
    let view = stream.view.clone();
    let snapshot = &view.snapshot;
    let (route, choice) = stream.with_state(|state| (state.host.route, state.host.choice));
    let Some(route) = route.and_then(|id| snapshot.route(id)) else {
        stream.http.no_route.inc();
        return stream.reply(Reply::no_route(), guard).await;
    };
    let table = snapshot.model.route_tables.get(stream.slot.route_table() as usize);
    if table.is_some_and(|table| table.grpc_web) {
        stream.take_grpc_web();
    }
    match &route.action {
        Action::Forward(forward) => {
            let cluster = choice.map_or(MISSING_CLUSTER, |choice| choice.cluster);
            let destination = choice.and_then(|choice| choice.destination).map(|index| index as usize);
            let Some(entry) = snapshot.cluster(cluster) else {
                stream.http.no_cluster.inc();
                return stream.reply(Reply::failed(Failure::NoCluster, None), guard).await;
            };
            let (hash, cookies, stats) = (None, Vec::new(), stream.route_stats());
            let job = Forwarding { stream, route, forward, destination, cluster: entry, hash, cookies, stats };
            job.run(cluster, body, guard).await
        }
        Action::Redirect(redirect, _) => stream.reply(self::redirect(stream, route, redirect), guard).await,
        Action::Direct(status, body, _) => stream.reply(direct(stream, *status, body), guard).await,
    }
}

/// The answer of a route that redirects.
pub(crate) fn redirect(stream: &Stream, route: &RouteEntry, redirect: &Redirect) -> Reply {
    let location = stream.with_state(|state| {
        let host = state.request.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        let (scheme, uri) = (state.scheme, &state.request.uri);
        let asked = rewrite::Asked { scheme, host, uri, listener_port: stream.slot.server_port() };
        rewrite::location(redirect, route, &asked)
    });
    Reply::redirect(redirect.status, &location)
}

/// The answer of a route that answers by itself. As Envoy does: one that points somewhere points at what was asked for.
pub(crate) fn direct(stream: &Stream, status: StatusCode, body: &Bytes) -> Reply {
    let pointing = status == StatusCode::CREATED || status.is_redirection();
    let location = pointing.then(|| stream.with_state(|state| here(state.scheme, &state.request)));
    Reply::direct(status, body.clone(), location.as_deref())
}

/// The URL of a request.
fn here(scheme: &str, request: &http::request::Parts) -> String {
    let host = request.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    format!("{scheme}://{host}{}", request.uri.path_and_query().map_or("/", |path| path.as_str()))
}

/// One request on its way to a cluster.
pub(crate) struct Forwarding<'a> {
    pub(crate) stream: &'a Rc<Stream>,
    pub(crate) route: &'a RouteEntry,
    pub(crate) forward: &'a ForwardEntry,
    pub(crate) destination: Option<usize>,
    pub(crate) cluster: &'a ClusterEntry,
    /// What a consistent choice of the endpoint goes by.
    pub(crate) hash: Option<u64>,
    /// Made for the hash, and sent with the upstream's answer.
    pub(crate) cookies: Vec<HeaderValue>,
    /// The route's own counters, where it has some.
    pub(crate) stats: Option<Arc<RouteMetrics>>,
}

/// An answer's head, its body, and the connection that it comes on.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    pub(crate) upstream: Upstream,
}

impl Forwarding<'_> {
    async fn run(mut self, cluster: u32, body: Incoming, guard: Guard) -> Response<ResponseBody> {
        self.change_request();
        if self.cluster.is_consistent {
            // What the route has changed is hashed as it is now, as in Envoy.
            let inputs = &self.forward.hash;
            let hashed = self.stream.with_state(|state| Hashed::of(inputs, &state.request, &state.host));
            (self.hash, self.cookies) = (hashed.hash, hashed.cookies);
        }
        let Some(pool) = self.stream.view.pools.get(cluster as usize) else {
            return self.stream.reply(Reply::failed(Failure::NoCluster, None), guard).await;
        };
        // Boxed: hardly any cluster has it, and each future on the way holds its largest part.
        let pool = match &self.cluster.dynamic {
            Some(allowed) => {
                let named = Named { cluster: self.cluster, allowed, pool };
                Box::pin(dynamic::pool_of_request(self.stream, &named)).await
            }
            None => Ok(pool.clone()),
        };
        let pool = match pool {
            Ok(pool) => pool,
            Err(reply) => return self.stream.reply(*reply, guard).await,
        };
        let mut attempts = Attempts::new(&self, &pool, body);
        if self.stream.is_terminated() {
            return Box::pin(connect::terminate(&self, attempts, guard)).await;
        }
        if !self.forward.mirrors.is_empty() {
            mirror::send(&self, attempts.has_body());
        }
        let tried = self.stream.unless_interrupted(pin!(attempts.run())).await;
        drop(attempts);
        match tried {
            Tried::Answered(answer, deadline) => self.answer(answer, deadline, guard).await,
            Tried::Failed(reply) => {
                self.count_failed(&reply);
                self.stream.reply(*reply, guard).await
            }
        }
    }

    /// Rewrites and header operations of the route, then (several destinations: before) of the destination.
    pub(crate) fn change_request(&self) {
        let destination = self.destination.and_then(|index| self.forward.destinations.get(index));
        self.stream.with_state(|state| {
            let known = Known { stream: self.stream, context: &state.host, scheme: state.scheme };
            let request = &mut state.request;
            let head = Head { method: &request.method, uri: &request.uri, version: request.version };
            let headers = &mut request.headers;
            // As in Envoy, the log tells the path as the filters have left it: without a token that one of them took away.
            self.stream.note(|info| {
                if info.path.as_ref() != request.uri.path_and_query() {
                    info.path = request.uri.path_and_query().cloned();
                }
            });
            let per_try = self.forward.retry.per_try_timeout_ms.map(Duration::from_millis);
            let own = &self.stream.view.snapshot.own_headers;
            if own.debug {
                expected_timeout::tell(headers, self.forward.timeout, per_try);
            }
            if own.attempt_count {
                headers.insert(ATTEMPT_COUNT, HeaderValue::from_static("1"));
            }
            let change = |changes: &HeaderChanges, headers: &mut HeaderMap| {
                changes.apply(headers, |headers| known.of_request(&head, headers));
                self.stream.note_headers(headers);
            };
            let of_destination = destination.map(|destination| &destination.headers.request);
            if let Some(changes) = of_destination.filter(|changes| !changes.is_empty()) {
                let asked = headers.get(header::HOST).cloned();
                change(changes, headers);
                // As in Envoy, where this rewrite is no route's, nobody is told of the host that was asked for.
                if headers.get(header::HOST) != asked.as_ref() {
                    self.stream.note(|info| info.authority = headers.get(header::HOST).cloned());
                }
            }
            let of_route = &self.forward.headers.request;
            let new_authority = self.forward.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
            // Kept only where something may change it.
            let may_change = new_authority.is_some() || !of_route.is_empty();
            let host = if may_change { headers.get(header::HOST).cloned() } else { None };
            if !of_route.is_empty() {
                change(of_route, headers);
            }
            // As in Envoy, header operations still see the path and the host that the client asked for.
            if let Some(rewrite) = self.forward.rewrite.as_ref().filter(|_| request.method != Method::CONNECT)
                && let Some(uri) = rewrite::rewritten(&request.uri, self.route, rewrite)
            {
                let original = request.uri.path_and_query().map_or("/", |p| p.as_str());
                if let Some(original) = HeaderValue::from_str(original).ok().filter(|_| own.debug) {
                    headers.insert(ORIGINAL_PATH, original);
                }
                let sent = uri.path_and_query().cloned();
                self.stream.note(|info| *(if own.debug { &mut info.rewritten_path } else { &mut info.path }) = sent);
                request.uri = uri;
            }
            if let Some(authority) = new_authority {
                headers.insert(header::HOST, authority.clone());
            }
            if let Some(original) = host.filter(|host| headers.get(header::HOST) != Some(host)) {
                self.stream.note(|info| info.authority = headers.get(header::HOST).cloned());
                if own.debug {
                    headers.insert(ORIGINAL_HOST, original);
                }
            }
        });
    }

    /// What every answer of the upstream is told by, and gets.
    fn note_answer(&self, response: &mut Response<Incoming>, took: Option<Duration>) {
        self.stream.flag(portolan_telemetry::ResponseFlags::NONE, "via_upstream");
        self.stream.note_answer(took, response.version());
        self.stream.take_operation(response.headers_mut());
        for cookie in &self.cookies {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
    }

    async fn answer(&self, answer: Box<Answer>, deadline: Option<Deadline>, guard: Guard) -> Response<ResponseBody> {
        let stream = self.stream;
        let Answer { mut response, lease, mut upstream } = *answer;
        upstream.answered(response.status().as_u16());
        let is_switched = stream.is_switched_by(response.status(), lease.is_http2());
        // What opens a tunnel is never whole.
        let took = if is_switched { None } else { upstream.took(stream) };
        self.note_answer(&mut response, took);
        if is_switched {
            return upgrade::answer(self, &mut response, lease, upstream, guard).await;
        }
        // Over HTTP/2 any success would mean that the upgrade is done.
        if stream.take_upgrade().is_some() && response.status().is_success() && stream.is_http2() {
            let cause = "an upgrade was answered without one".to_owned();
            return stream.reply(Reply::failed(Failure::Protocol, Some(cause)), guard).await;
        }
        let (mut parts, incoming) = response.into_parts();
        if !head::take_answer(&mut parts) {
            self.cluster.state.metrics.upstream_cx_protocol_error.inc();
            return stream.reply(Reply::failed(Failure::Protocol, Some("ambiguous framing".to_owned())), guard).await;
        }
        let web = stream.grpc_web();
        let is_empty = http_body::Body::is_end_stream(&incoming);
        if let Some(web) = web.filter(|_| !is_empty && !grpc_web::is_grpc_answer(parts.status, &parts.headers)) {
            // Boxed: rare, and what awaits it is moved with every request.
            let message = Box::pin(grpc_web::message(incoming, deadline)).await;
            web.reply(&mut parts, &message);
            stream.change_response(self.route, self.destination, &mut parts, false);
            return stream.finish_head(parts, ResponseBody::full(Bytes::new(), guard));
        }
        let encoder = web.map(|web| web.answer(&mut parts.headers));
        if parts.version == http::Version::HTTP_2 && web.is_none() {
            announce_trailers(&mut parts.headers);
        }
        tell_time(stream, &mut parts.headers, took);
        stream.change_response(self.route, self.destination, &mut parts, false);
        let until = deadline.as_ref().map(Deadline::at);
        let mut body = UpstreamBody::new(incoming, lease, upstream, deadline);
        if let Some(encoder) = encoder {
            body.encode_by(encoder);
        }
        if !stream.has_contexts() {
            return stream.finish_head(parts, ResponseBody::upstream(body, guard));
        }
        let end = body.is_end_stream();
        stream.with_state(|state| state.response = Some(parts));
        if let Outcome::Reply(reply) = stream.on_response_headers(end, &mut *body, until).await {
            return stream.reply_instead(*reply, guard).await;
        }
        let parts = stream.with_state(|state| state.response.take());
        let Some(mut parts) = parts else {
            return stream.reply(Reply::failed(Failure::Protocol, None), guard).await;
        };
        if stream.view.wants.response_body && !end {
            parts.headers.remove(header::CONTENT_LENGTH);
            let body = FilteredBody::new(*body, stream.clone(), Direction::Response, until);
            return stream.finish_head(parts, ResponseBody::filtered(body, guard));
        }
        stream.finish_head(parts, ResponseBody::upstream(body, guard))
    }
}

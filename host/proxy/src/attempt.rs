//! Tries: picks an endpoint, gets a connection, sends, and tries again where `retry` says so.

mod again;
mod connect;
mod outcome;
mod replayed;
mod websocket;

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, header, request};
use hyper::body::Incoming;
use portolan_model::RetryPolicy;
use portolan_telemetry::{ResponseFlags, UpstreamAddress};
use rand::Rng;
use smallvec::SmallVec;
use tokio::time::{Instant, sleep};

pub(crate) use self::connect::Opened;
use self::outcome::{Try, failed, no_connection, sent_and_failed, unreachable_because};
use self::replayed::replay;
use crate::balancer::{Avoid, tried_priorities};
use crate::body::{Reader, Replay, RequestBody};
use crate::body_filter::FilteredBody;
use crate::cluster::Permit;
use crate::connect::set_target;
use crate::deadline::{Deadline, within};
use crate::expected_timeout;
use crate::filter_chain::Direction;
use crate::grpc_reply;
use crate::grpc_timeout;
use crate::kept_head::{self, KeptHead};
use crate::lease::Lease;
use crate::local_reply::{Failure, Reply};
use crate::pool::{CheckoutError, ClusterPool, EndpointPool, PoolLimits, Wanted};
use crate::retry::{self, Again};
use crate::router::{Answer, Forwarding, Upstream};
use crate::upstream::{ConnectionKey, Form, StreamFailure, alert, as_http2, as_websocket, stream_failure};

/// What came of all tries. Boxed: each future on the way out moves it once more.
pub(crate) enum Tried {
    Answered(Box<Answer>, Option<Deadline>),
    Failed(Box<Reply>),
}

/// The tries of one request.
pub(crate) struct Attempts<'a> {
    job: &'a Forwarding<'a>,
    pool: &'a Rc<ClusterPool>,
    policy: &'a RetryPolicy,
    body: Source,
    /// The head, kept when another try may need it after the first was sent.
    kept: Option<KeptHead>,
    /// The head itself, given back unsent.
    unsent: Option<request::Parts>,
    /// The head of each try is kept before it is sent.
    keeps: bool,
    /// The route's, or what a client of gRPC says.
    timeout: Option<Duration>,
    /// When the first try began.
    since: std::time::Instant,
    deadline: Option<Deadline>,
    /// When that one runs out, as it stood before the first try.
    end: Option<Instant>,
    tries: u32,
    /// The endpoints of earlier tries, for the next one to avoid.
    tried: SmallVec<[UpstreamAddress; 3]>,
    /// The next connection must be a new one: a pooled one has just turned out to be dead.
    fresh: bool,
    /// What its connection must be for.
    key: Option<Rc<ConnectionKey>>,
    form: Form,
    /// Holds one of the cluster's `maxRetries` places while a retry is under way.
    permit: Option<Permit>,
}

/// Where the body of the next try comes from.
enum Source {
    Empty,
    /// Not read yet.
    Fresh(Incoming),
    Replay(Rc<std::cell::RefCell<Replay>>),
    /// Given back unread.
    Filtered(Box<FilteredBody<Incoming>>),
    /// Gone with an earlier try.
    Spent,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(job: &'a Forwarding<'a>, pool: &'a Rc<ClusterPool>, body: Incoming) -> Self {
        let policy = &job.forward.retry;
        let stream = job.stream;
        let (key, form) = job.cluster.transport.needs(stream);
        let is_empty = http_body::Body::is_end_stream(&body) && !stream.has_held(Direction::Request);
        // Other methods of requests without a body are spared the look-up.
        let is_grpc = stream.with_state(|state| {
            (!is_empty || state.request.method == Method::POST) && grpc_reply::is_grpc(&state.request.headers)
        });
        let timeout = if is_grpc { grpc_timeout::of(stream, job.forward) } else { job.forward.timeout };
        let keeps = retry::asks_after_sending(policy)
            || form != Form::Http1 && policy.attempts > 0 && policy.refused_stream
            || is_grpc && retry::asks_for_grpc(policy);
        let body = match () {
            () if is_empty => Source::Empty,
            () if !keeps => Source::Fresh(body),
            () => Source::Replay(replay(stream, timeout, body)),
        };
        Self {
            job,
            pool,
            policy,
            body,
            kept: None,
            unsent: None,
            keeps,
            timeout,
            since: std::time::Instant::now(),
            deadline: timeout.and_then(|limit| Deadline::new(stream, limit)),
            end: None,
            tries: 0,
            tried: SmallVec::new(),
            fresh: false,
            key,
            form,
            permit: None,
        }
    }

    /// True when there is a body, read or not.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.body, Source::Empty)
    }

    pub(crate) async fn run(&mut self) -> Tried {
        let mut deadline = self.deadline.take();
        self.end = deadline.as_ref().map(Deadline::at);
        let tried = within(deadline.as_mut(), pin!(self.run_all())).await;
        match tried {
            Some(Tried::Answered(answer, _)) => Tried::Answered(answer, deadline),
            Some(failed) => failed,
            None => Tried::Failed(Box::new(self.timed_out())),
        }
    }

    async fn run_all(&mut self) -> Tried {
        loop {
            let (failure, cause, reason, unsent) = match self.attempt().await {
                Try::Answered(answer) => {
                    self.job.stream.answer_try_span(answer.response.status().as_u16(), answer.response.version());
                    match self.after_answer(&answer) {
                        Again::Yes => {
                            self.job.stream.on_try_ended(answer.response.status().as_u16(), true);
                            drop(answer);
                            self.pause().await;
                            continue;
                        }
                        no => {
                            self.job.stream.with_state(|state| state.host.flags |= no.flags());
                            return Tried::Answered(answer, None);
                        }
                    }
                }
                Try::Replied(reply) => return Tried::Failed(reply),
                Try::Failed { failure, cause, reason, unsent, reused } => {
                    // The pooled connection had ended before the answer began: nobody has seen the request, or it may
                    // be seen twice. That is no retry in Istio's sense and does not count as one.
                    if reused && self.is_stale(failure, unsent) {
                        self.job.stream.forget_try_span();
                        self.fresh = true;
                        self.tries -= 1;
                        self.tried.pop();
                        continue;
                    }
                    self.job.stream.fail_try_span(failure);
                    (failure, cause, reason, unsent)
                }
            };
            // Boxed: rare, and what awaits it is moved with every request.
            if let Some(reply) = Box::pin(self.give_up(failure, cause, reason, unsent)).await {
                return Tried::Failed(reply);
            }
        }
    }

    /// Whether an answer is tried again, if the policy, the request and the cluster's limit have a try left.
    fn after_answer(&mut self, answer: &Answer) -> Again {
        let response = &answer.response;
        if self.policy.attempts == 0
            || !retry::after_answer(self.policy, response.status().as_u16(), response.headers())
        {
            if self.tries > 1 {
                self.job.count(|m| &m.upstream_rq_retry_success, |m| &m.upstream_rq_retry_success);
            }
            return Again::No;
        }
        if self.kept.is_none() && matches!(self.body, Source::Empty) {
            self.kept = KeptHead::parse(&answer.lease.sent().bytes());
        }
        self.may_try_again()
    }

    fn timed_out(&self) -> Reply {
        self.job.count(|m| &m.upstream_rq_timeout, |m| &m.upstream_rq_timeout);
        Reply::failed(Failure::Timeout, None)
    }

    async fn attempt(&mut self) -> Try {
        self.tries += 1;
        let pool = match self.pick() {
            Ok(pool) => pool,
            Err(failed) => return failed,
        };
        let stream = self.job.stream;
        let limits = stream.with_state(|state| state.host.limits);
        let limits = PoolLimits { breakers: limits, ..self.job.cluster.limits };
        let asked = stream.view.wants.course.then(Instant::now);
        let (transport, fresh) = (&self.job.cluster.transport, std::mem::take(&mut self.fresh));
        let is_http2 = self.form != Form::Http1;
        let wanted = Wanted { limits, transport, key: self.key.clone(), is_http2, fresh };
        let checkout = match self.pool.checkout(&pool, &wanted).await {
            Ok(lease) if self.form == Form::WebSocket => Box::pin(self.for_websocket(lease, &pool, wanted)).await,
            checkout => checkout,
        };
        if !matches!(checkout, Err(CheckoutError::Overflow)) {
            stream.with_state(|state| state.host.endpoint = Some(pool.endpoint.clone()));
        }
        let lease = match checkout {
            Ok(lease) => lease,
            Err(error) => {
                self.note_failure(&error);
                return no_connection(&self.job.cluster.state.metrics, error);
            }
        };
        if let Some(asked) = asked {
            stream.with_course(|course| course.connected(asked.elapsed(), lease.local()));
        }
        stream.note(|info| info.upstream_local = lease.local());
        let upstream = self.upstream(&pool);
        let limit = self.policy.per_try_timeout_ms.map(Duration::from_millis);
        let mut deadline = limit.and_then(|limit| Deadline::new(stream, limit));
        let sent = within(deadline.as_mut(), pin!(self.send(lease, upstream))).await;
        sent.unwrap_or_else(|| {
            self.job.cluster.state.metrics.upstream_rq_per_try_timeout.inc();
            sent_and_failed(Failure::TryTimeout, "per try timeout".to_owned())
        })
    }

    /// The endpoint of this try, told to everybody who asks.
    fn pick(&mut self) -> Result<Rc<EndpointPool>, Try> {
        let (stream, cluster) = (self.job.stream, self.job.cluster);
        // Nothing is reported of an endpoint that this try has not reached.
        stream.with_state(|state| state.host.endpoint = None);
        let Some(pool) = self.pool.pick(&stream.worker, self.job.hash, self.avoid()) else {
            if cluster.undefined && cluster.state.endpoints().endpoints.is_empty() {
                stream.http.no_cluster.inc();
                let cause = format!("nothing defines the host of {}, and DNS does not know it", cluster.state.name);
                return Err(failed(Failure::NoCluster, Some(cause)));
            }
            let name = cluster.state.name.clone();
            stream.note(|info| info.upstream_cluster = Some(name));
            stream.with_state(|state| state.host.attempts = self.tries);
            cluster.state.metrics.upstream_cx_none_healthy.inc();
            return Err(failed(Failure::NoHealthyUpstream, None));
        };
        self.tried.push(pool.endpoint.address);
        stream.set_upstream(pool.endpoint.address, &cluster.state.name);
        stream.begin_try_span(self.tries, &cluster.state.name, pool.endpoint.address);
        stream.with_state(|state| state.host.attempts = self.tries);
        Ok(pool)
    }

    /// The log tells why there is no connection.
    fn note_failure(&self, error: &CheckoutError) {
        if let CheckoutError::Connect(_, error) = error {
            self.job.stream.with_course(|course| course.transport_failure = error.to_string());
        }
    }

    /// Counts this try for the endpoint, the cluster and the route.
    fn upstream(&self, pool: &EndpointPool) -> Upstream {
        Upstream::since(self.job.cluster, &pool.endpoint, self.since).of_route(self.job.stats.clone())
    }

    /// What this try is to leave for others.
    fn avoid(&self) -> Avoid<'_> {
        let policy = self.policy;
        let hosts = if policy.avoid_previous_hosts { self.tried.as_slice() } else { &[] };
        let looks_elsewhere = policy.retry_remote_localities && self.tried.len() > 1;
        let priorities = if looks_elsewhere { tried_priorities(&self.pool.endpoints(), &self.tried) } else { 0 };
        Avoid { hosts, priorities }
    }

    async fn send(&mut self, mut lease: Lease, upstream: Upstream) -> Try {
        let reused = lease.requests > 0;
        if reused {
            self.keep_body();
        }
        let Some(request) = self.request(lease.is_http2()) else { return failed(Failure::Reset, None) };
        // On a reused connection the head may have to be sent again on another, whatever the policy; and where a status of
        // gRPC asks for it.
        let may_repeat = reused || !self.keeps && retry::asks_for_grpc(self.policy);
        lease.sent().begin(may_repeat && !lease.is_http2() && matches!(self.body, Source::Empty));
        match lease.send(request).await {
            Ok(mut response) => {
                if lease.is_http2() {
                    self.switch(&mut response);
                }
                Try::Answered(Box::new(Answer { response, lease, upstream }))
            }
            Err(mut error) => {
                let unsent = error.take_message().map(|request| self.take_back(request)).is_some();
                if !unsent && reused && self.kept.is_none() {
                    self.kept = KeptHead::parse(&lease.sent().bytes());
                }
                self.broke(&lease, &error.into_error(), unsent)
            }
        }
    }

    /// The connection has served before and may be about to end: a body of a request that may be repeated is kept as it is
    /// sent, and its head.
    fn keep_body(&mut self) {
        let is_idempotent = || self.job.stream.with_state(|state| kept_head::is_idempotent(&state.request.method));
        if matches!(self.body, Source::Fresh(_)) && is_idempotent() {
            if let Source::Fresh(body) = std::mem::replace(&mut self.body, Source::Spent) {
                self.body = Source::Replay(replay(self.job.stream, self.timeout, body));
            }
            self.keeps = true;
        }
    }

    /// What it means that there is no answer.
    fn broke(&self, lease: &Lease, error: &hyper::Error, unsent: bool) -> Try {
        let reused = lease.requests > 0;
        let of_stream = stream_failure(error);
        // A stream that was reset leaves the connection as it is.
        if of_stream != Some(StreamFailure::Reset) {
            lease.retire();
        }
        self.job.cluster.state.metrics.upstream_rq_rx_reset.inc();
        let stream = self.job.stream;
        if let Some(reply) = stream.take_body_reply() {
            if reply.flags().contains(ResponseFlags::UT) {
                self.job.count(|m| &m.upstream_rq_timeout, |m| &m.upstream_rq_timeout);
            }
            stream.with_state(|state| state.host.endpoint = None);
            return Try::Replied(Box::new(reply));
        }
        if !reused && let Some(reason) = alert(error) {
            self.job.cluster.state.metrics.ssl_connection_error.inc();
            stream.with_course(|course| course.transport_failure.clone_from(&reason));
            return unreachable_because(reason);
        }
        if let Some(reply) = stream.broken_request() {
            stream.with_state(|state| state.host.endpoint = None);
            return Try::Replied(Box::new(reply));
        }
        let failure = match of_stream {
            Some(StreamFailure::Refused) => Failure::StreamRefused,
            Some(StreamFailure::Reset) => Failure::StreamReset,
            Some(StreamFailure::Protocol) => Failure::Protocol,
            None if error.is_parse() || error.is_parse_status() => Failure::Protocol,
            None if !lease.is_http2() && !unsent && lease.sent().is_mid_head() => Failure::Protocol,
            None => Failure::Reset,
        };
        if failure == Failure::Protocol {
            self.job.cluster.state.metrics.upstream_cx_protocol_error.inc();
        }
        let age = if reused { format!(", request {} on it", lease.requests + 1) } else { String::new() };
        let cause = format!("{}: {error}{age}", lease.endpoint().address);
        Try::Failed { failure, cause: Some(cause), reason: None, unsent, reused }
    }

    /// The request of this try. Its head is kept only when another try may need it: a copy costs about as much as a
    /// filter.
    fn request(&mut self, is_http2: bool) -> Option<Request<RequestBody>> {
        let stream = self.job.stream;
        let mut parts = match (self.unsent.take(), self.kept.take()) {
            (Some(parts), _) => parts,
            (None, Some(kept)) => kept.into_parts(),
            (None, None) => stream.with_state(|state| Some(kept_head::take(&mut state.request)))?,
        };
        if self.tries > 1 {
            if stream.view.snapshot.own_headers.attempt_count {
                parts.headers.insert("x-envoy-attempt-count", HeaderValue::from(self.tries));
            }
            let per_try = self.policy.per_try_timeout_ms.map(Duration::from_millis);
            expected_timeout::tell_again(&mut parts.headers, self.end, per_try);
        }
        set_target(&mut parts);
        stream.tell_trace(&mut parts.headers);
        // Of HTTP/2 nothing can be read back.
        if self.keeps || self.form != Form::Http1 {
            self.kept = Some(KeptHead::of(&parts));
        }
        if stream.view.wants.request_head_later {
            stream.with_state(|state| {
                let version = state.request.version;
                state.request = parts.clone();
                // The client's, not the one towards the upstream.
                state.request.version = version;
            });
        }
        let body = match std::mem::replace(&mut self.body, Source::Spent) {
            Source::Empty => {
                self.body = Source::Empty;
                RequestBody::Empty
            }
            Source::Fresh(incoming) if stream.view.wants.request_body => {
                parts.headers.remove(header::CONTENT_LENGTH);
                let body = FilteredBody::new(incoming, stream.clone(), Direction::Request, self.until());
                RequestBody::Filtered(Box::new(body))
            }
            Source::Fresh(incoming) => RequestBody::Streamed(Box::new(incoming), stream.clone()),
            Source::Replay(replay) => {
                if stream.view.wants.request_body {
                    parts.headers.remove(header::CONTENT_LENGTH);
                }
                self.body = Source::Replay(replay.clone());
                RequestBody::Replayed(Box::new(Reader::new(replay)))
            }
            Source::Filtered(filtered) => RequestBody::Filtered(filtered),
            Source::Spent => return None,
        };
        let body = match stream.grpc_web() {
            Some(web) => web.request(body, stream),
            None => body,
        };
        // Without a length a body would be left out of methods that rarely have one.
        if is_http2 && self.form == Form::WebSocket {
            as_websocket(&mut parts, self.job.cluster.transport.scheme());
        } else if is_http2 {
            as_http2(&mut parts, self.job.cluster.transport.scheme());
        } else if let RequestBody::Empty = body {
            tell_no_body(&mut parts);
        } else if !parts.headers.contains_key(header::CONTENT_LENGTH) {
            parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(Request::from_parts(parts, body))
    }

    /// When the route's timeout runs out for what waits of a body in filters.
    fn until(&self) -> Option<Instant> {
        crate::deadline::after(self.timeout)
    }

    async fn pause(&self) {
        let longest = retry::longest_pause(self.policy, self.tries);
        let share = self.job.stream.worker.with_rng(|rng| rng.random::<f64>());
        sleep(longest.mul_f64(share)).await;
    }
}

/// As Envoy and RFC 9110 section 8.6 have it: a request that may have a body says that there is none.
pub(crate) fn tell_no_body(parts: &mut request::Parts) {
    use Method as M;
    let never = matches!(parts.method, M::GET | M::HEAD | M::DELETE | M::TRACE | M::CONNECT);
    if !never && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    }
}

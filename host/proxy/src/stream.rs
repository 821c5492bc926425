//! [`Stream`]: one request from head to access log, and [`handle`], the lines to read first.

mod grpc;
mod guard;
mod limits;
mod refused;
mod telling;
mod traced;
mod upgrades;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, request, response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use portolan_telemetry::{HttpMetrics, ResponseFlags, StreamInfo};
use portolan_wasm::{LocalReply, StreamState};
use rand::Rng;
use smallvec::SmallVec;

pub(crate) use self::guard::Guard;
use self::limits::Broken;
pub(crate) use self::refused::{refused, refused_by_h2};
use crate::attempt::Tried;
use crate::body::ResponseBody;
use crate::body_filter::FilteredBody;
use crate::clock;
use crate::connect;
use crate::connection::{StreamClock, StreamReset};
use crate::context::{ConnectionInfo, StreamContext};
use crate::deadline::Upload;
use crate::filter_chain::{Direction, Live, Outcome};
use crate::flow::{Flow, Flows};
use crate::grpc_web::GrpcWeb;
use crate::head;
use crate::header_words::Known;
use crate::listener::ListenerSlot;
use crate::local_reply::{Refusal, Reply};
use crate::mirror::Copies;
use crate::properties::Course;
use crate::route::RouteEntry;
use crate::router;
use crate::spans::Spans;
use crate::view::View;
use crate::worker::Worker;

/// One request. Shared by the future that answers it and the bodies that outlive that future.
pub(crate) struct Stream {
    pub(crate) worker: Rc<Worker>,
    pub(crate) view: Rc<View>,
    pub(crate) slot: Rc<ListenerSlot>,
    pub(crate) connection: Arc<ConnectionInfo>,
    /// The listener's counters when the request came: a reload may bring others.
    pub(crate) http: Arc<HttpMetrics>,
    /// Coarse stamp.
    begun_ms: u64,
    /// Only the access log, spans, Istio's metrics and the trace tell how long it took.
    started: Option<Instant>,
    state: Cell<Option<Box<StreamState<StreamContext>>>>,
    /// By plugin: its context for this stream.
    pub(crate) contexts: RefCell<SmallVec<[Option<Live>; 6]>>,
    /// What filters hold of bodies; none until one holds or sees something.
    flows: RefCell<Option<Box<Flows>>>,
    /// A filter wants the stream closed without an answer.
    pub(crate) closing: Cell<bool>,
    /// The answer of a filter that refused the request's body.
    body_reply: RefCell<Option<Reply>>,
    /// Where the request's body goes besides.
    pub(crate) copies: Copies,
    upload: Upload,
    /// Over HTTP/2; over HTTP/1 the connection's activity is the stream's.
    clock: Option<Rc<StreamClock>>,
    /// Answers of our own have gRPC's form, also when the request's head is gone.
    grpc: Cell<bool>,
    grpc_web: Cell<Option<GrpcWeb>>,
    /// The client's side of a connection that asked for a WebSocket.
    upgrade: Cell<Option<OnUpgrade>>,
    record: Record,
    /// What only the access log, spans and the trace need; none when there are none.
    log: Option<RefCell<Box<StreamInfo>>>,
    /// None when the request is not traced.
    spans: RefCell<Option<Box<Spans>>>,
}

/// What the end of the stream is counted and logged with.
#[derive(Default)]
struct Record {
    status: Cell<u16>,
    received: Cell<u64>,
    sent: Cell<u64>,
    broken: Cell<Option<Broken>>,
    filter_failed: Cell<bool>,
    /// A request of gRPC, which has a status of its own.
    grpc: Cell<bool>,
    grpc_status: Cell<Option<u32>>,
    complete: Cell<bool>,
    finished: Cell<bool>,
}

/// Answers one request.
pub(crate) async fn handle(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    connection: Arc<ConnectionInfo>,
    request: Request<Incoming>,
    clock: Option<Rc<StreamClock>>,
) -> Response<ResponseBody> {
    let (mut parts, mut body) = request.into_parts();
    if let Some(fault) = connection.activity.refusal() {
        return refused::answer(worker, slot, connection, fault).await;
    }
    let (refusal, challenge) = {
        let view = worker.view();
        let is_tls = connection.state.tls().is_some();
        let takes_connect = connect::is_taken(&parts.method, &view, &slot);
        let paths = view.snapshot.model.paths.normalization;
        let checked = || head::check(&mut parts, paths, is_tls, takes_connect).err();
        (limits::overload(&worker).or_else(checked), view.snapshot.challenges.reply(parts.uri.path()))
    };
    let stream = Stream::new(worker, slot, connection, parts, clock);
    let guard = Guard::new(stream.clone());
    if let Some(refusal) = refusal {
        stream.count_refusal(refusal);
        stream.note_refused();
        return stream.reply(refusal.into(), guard).await;
    }
    if let Some(answer) = challenge {
        return stream.reply(*answer, guard).await;
    }
    if let Some(refusal) = stream.with_state(|state| head::prepare(state, &stream).err()) {
        stream.note_refused();
        return stream.reply(refusal.into(), guard).await;
    }
    stream.note_head();
    if let Some(refusal) = stream.is_too_large(&body) {
        return stream.reply(refusal.into(), guard).await;
    }
    if let Some(recorder) = stream.worker.recorder.get() {
        recorder.note(&stream);
    }
    let end = http_body::Body::is_end_stream(&body);
    if !end {
        stream.note_grpc();
    }
    match stream.on_request_headers(end, &mut body).await {
        Outcome::Continue => router::route(&stream, body, guard).await,
        Outcome::Reply(reply) => stream.reply(*reply, guard).await,
    }
}

/// The answer to a request whose handling panicked.
pub(crate) fn fault(worker: &Worker) -> Response<ResponseBody> {
    worker.view().snapshot.metrics.server.panics_total.inc();
    let mut response = Response::new(ResponseBody::head_only());
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response
}

impl Stream {
    pub(crate) fn new(
        worker: Rc<Worker>,
        slot: Rc<ListenerSlot>,
        connection: Arc<ConnectionInfo>,
        parts: request::Parts,
        clock: Option<Rc<StreamClock>>,
    ) -> Rc<Self> {
        let mut view = slot.view(&worker);
        if !view.rollouts.is_empty() {
            let draw = || worker.with_rng(|rng| rng.random_range(0..100));
            view = view.for_stream(&parts, draw).unwrap_or(view);
        }
        let mut context = StreamContext::new(view.snapshot.clone(), connection.clone(), slot.route_table());
        context.course = view.wants.course.then(|| Box::new(Course::begin()));
        let contexts = std::iter::repeat_n(None, view.plugins.len()).collect();
        let http = slot.http();
        http.downstream_rq_total.inc();
        http.downstream_rq_active.inc();
        let protocol = connection.state.protocol(parts.version);
        match protocol {
            http::Version::HTTP_3 => http.downstream_rq_http3_total.inc(),
            http::Version::HTTP_2 => http.downstream_rq_http2_total.inc(),
            _ => http.downstream_rq_http1_total.inc(),
        }
        let scheme = connection.state.scheme();
        let log = view.snapshot.tells_streams().then(|| {
            RefCell::new(Box::new(StreamInfo {
                start: SystemTime::now(),
                path: parts.uri.path_and_query().cloned(),
                protocol: Some(protocol),
                authority: parts.headers.get(http::header::HOST).cloned(),
                requested_server_name: connection.state.server_name().cloned(),
                ..StreamInfo::default()
            }))
        });
        let has_standard = view.snapshot.standard.is_some();
        Rc::new(Self {
            worker,
            view,
            slot,
            connection,
            http,
            begun_ms: clock::coarse_ms(),
            started: (log.is_some() || has_standard).then(Instant::now),
            state: Cell::new(Some(Box::new(StreamState::new(parts, scheme, context)))),
            contexts: RefCell::new(contexts),
            flows: RefCell::default(),
            closing: Cell::new(false),
            body_reply: RefCell::default(),
            copies: Copies::default(),
            upload: Upload::default(),
            clock,
            grpc: Cell::default(),
            grpc_web: Cell::default(),
            upgrade: Cell::default(),
            record: Record::default(),
            log,
            spans: RefCell::default(),
        })
    }

    /// Lends the state. It is always there: callbacks take it and bring it back before anything else can run.
    pub(crate) fn with_state<R: Default>(&self, use_it: impl FnOnce(&mut StreamState<StreamContext>) -> R) -> R {
        let Some(mut state) = self.state.take() else { return R::default() };
        let result = use_it(&mut state);
        self.state.set(Some(state));
        result
    }

    /// Lends the state to a filter, with what it may ask of how the stream has gone.
    pub(crate) fn take_state(&self) -> Option<Box<StreamState<StreamContext>>> {
        let mut state = self.state.take()?;
        if let Some(course) = &mut state.host.course {
            course.received = self.record.received.get();
            course.sent = self.record.sent.get();
        }
        Some(state)
    }

    pub(crate) fn put_state(&self, state: Box<StreamState<StreamContext>>) {
        self.state.set(Some(state));
    }

    /// Lends one direction of what filters hold.
    pub(crate) fn with_flow<R>(&self, direction: Direction, use_it: impl FnOnce(&mut Flow) -> R) -> R {
        let mut flows = self.flows.borrow_mut();
        let flows = flows.get_or_insert_default();
        use_it(match direction {
            Direction::Request => &mut flows.request,
            Direction::Response => &mut flows.response,
        })
    }

    pub(crate) fn has_flows(&self) -> bool {
        self.flows.borrow().is_some()
    }

    /// True when filters have taken in a part of this body that has not gone on yet.
    pub(crate) fn has_held(&self, direction: Direction) -> bool {
        self.has_flows() && self.with_flow(direction, |flow| flow.carry.is_some())
    }

    /// Wakes whoever waits for this direction to go on.
    pub(crate) fn wake(&self, direction: Direction) {
        if self.has_flows() {
            self.with_flow(direction, Flow::wake);
        }
    }

    /// Runs the tries, unless a filter ends the stream from a callback of another context. As [`crate::deadline::within`]
    /// has it, the caller pins them.
    pub(crate) async fn unless_interrupted(&self, mut tries: Pin<&mut impl Future<Output = Tried>>) -> Tried {
        std::future::poll_fn(|cx| {
            if let Some(reply) = self.idle_reply() {
                return Poll::Ready(Tried::Failed(Box::new(reply)));
            }
            if self.view.wants.interrupts
                && let Some(reply) = self.poll_interruption(cx)
            {
                return Poll::Ready(Tried::Failed(Box::new(reply)));
            }
            tries.as_mut().poll(cx)
        })
        .await
    }

    fn poll_interruption(&self, cx: &Context<'_>) -> Option<Reply> {
        // The response has not begun: nobody else waits for this direction.
        self.with_flow(Direction::Response, |flow| flow.register(cx));
        self.take_interruption()
    }

    /// Notes how the stream goes, where a filter may ask.
    pub(crate) fn with_course(&self, note: impl FnOnce(&mut Course)) {
        if self.view.wants.course {
            self.with_state(|state| {
                if let Some(course) = &mut state.host.course {
                    note(course);
                }
            });
        }
    }

    /// Remembers what to answer once the upstream call has noticed that its body was cut.
    pub(crate) fn answer_body_with(&self, reply: Reply) {
        self.body_reply.replace(Some(reply));
    }

    pub(crate) fn take_body_reply(&self) -> Option<Reply> {
        self.body_reply.take()
    }

    /// The route's changes to a response's headers, the upstream's or the gateway's `own`.
    pub(crate) fn change_response(
        &self,
        route: &RouteEntry,
        destination: Option<usize>,
        parts: &mut response::Parts,
        own: bool,
    ) {
        let status = parts.status;
        route.change_response(destination, &mut parts.headers, |headers| {
            self.with_state(|state| {
                let known = Known { stream: self, context: &state.host, scheme: state.scheme };
                known.of_response(&state.request, headers, status, own)
            })
        });
    }

    /// Adds to what the access log tells.
    pub(crate) fn note(&self, tell: impl FnOnce(&mut StreamInfo)) {
        if let Some(log) = &self.log {
            tell(&mut log.borrow_mut());
        }
    }

    /// Sets a response flag and the details, if nothing was said before.
    pub(crate) fn flag(&self, flags: ResponseFlags, details: impl Into<Cow<'static, str>>) {
        self.with_state(|state| {
            state.host.flags |= flags;
            state.host.details = details.into();
        });
    }

    /// The gateway's own answer, through the filters and back to the client.
    pub(crate) async fn reply(self: &Rc<Self>, reply: Reply, guard: Guard) -> Response<ResponseBody> {
        if reply.is_reset() {
            return self.reset(reply).await;
        }
        let is_bare = reply.is_bare();
        if !reply.flags().contains(ResponseFlags::NC) {
            self.note_cluster(|_| ());
        }
        let (route, choice) = self.with_state(|state| (state.host.route, state.host.choice));
        let route = route.filter(|_| !is_bare).and_then(|id| self.view.snapshot.route(id));
        let (parts, body) = reply.into_parts(self, |parts| {
            if let Some(route) = route {
                let destination = choice.and_then(|choice| choice.destination).map(|index| index as usize);
                self.change_response(route, destination, parts, true);
            }
        });
        if !self.has_contexts() {
            return self.finish_head(parts, ResponseBody::full(body, guard));
        }
        let sees_body = self.view.wants.response_body && !body.is_empty();
        let (parts, whole) = self.reply_through_filters(parts, body).await;
        if !sees_body {
            return self.finish_head(parts, ResponseBody::full(whole.0, guard));
        }
        let body = FilteredBody::new(whole, self.clone(), Direction::Response, None);
        self.finish_head(parts, ResponseBody::replied(body, guard))
    }

    /// Closes the client's connection without an answer: a filter has called `close_stream`, or the client has gone. Of HTTP/2
    /// the stream is reset.
    async fn reset(&self, reply: Reply) -> Response<ResponseBody> {
        let (flags, details) = reply.into_details();
        self.flag_if_none(flags, details);
        if self.is_http2() {
            let mut response = Response::new(ResponseBody::head_only());
            response.extensions_mut().insert(StreamReset);
            return response;
        }
        self.cut_connection();
        // The connection's task ends, and with it this future.
        std::future::pending().await
    }

    /// Whether the request came over HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.with_state(|state| state.request.version == http::Version::HTTP_2)
    }

    /// A filter's answer in place of the upstream's. The filters have run over the response already.
    pub(crate) async fn reply_instead(&self, reply: Reply, guard: Guard) -> Response<ResponseBody> {
        if reply.is_reset() {
            return self.reset(reply).await;
        }
        let (parts, body) = reply.into_parts(self, |_| ());
        self.finish_head(parts, ResponseBody::full(body, guard))
    }

    /// Last changes of a response's head, and the response.
    pub(crate) fn finish_head(
        &self,
        mut parts: http::response::Parts,
        mut body: ResponseBody,
    ) -> Response<ResponseBody> {
        head::finish(&mut parts, self);
        self.progress();
        self.note_grpc_status(&parts.headers);
        self.record.status.set(parts.status.as_u16());
        let is_head = self.with_state(|state| state.request.method == http::Method::HEAD);
        if body.ends_with_head(parts.status, is_head) {
            self.record.complete.set(true);
        }
        if self.view.wants.heads_at_end {
            self.with_state(|state| state.response = Some(parts.clone()));
        }
        Response::from_parts(parts, body)
    }

    /// How the request's body comes in.
    pub(crate) fn upload(&self) -> &Upload {
        &self.upload
    }

    /// A filter has failed in this stream.
    pub(crate) fn filter_failed(&self) {
        self.record.filter_failed.set(true);
    }

    fn finish(self: &Rc<Self>) {
        if self.record.finished.replace(true) {
            return;
        }
        if !self.record.complete.get() {
            let (flag, details) = self.cut_reason();
            self.flag_if_none(flag, details);
        }
        self.connection.activity.end_request();
        self.with_course(Course::end);
        if self.view.wants.contexts_end {
            self.end_contexts();
        }
        let status = self.record.status.get();
        if !self.view.rollouts.is_empty() && status != 0 {
            self.view.record(status >= 500 || self.record.filter_failed.get());
        }
        let http = &self.http;
        http.downstream_rq_active.dec();
        http.downstream_rq_xx.inc(self.record.status.get());
        if self.record.complete.get() {
            http.downstream_rq_completed.inc();
        } else {
            http.downstream_rq_rx_reset.inc();
        }
        self.count_standard();
        self.write_log();
    }

    fn flag_if_none(&self, flag: ResponseFlags, details: impl Into<Cow<'static, str>>) {
        self.with_state(|state| {
            if state.host.flags == ResponseFlags::NONE {
                state.host.flags |= flag;
                state.host.details = details.into();
            }
        });
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal)
    }
}

impl From<LocalReply> for Reply {
    fn from(reply: LocalReply) -> Self {
        Self::from_filter(reply)
    }
}

/// An empty body.
pub(crate) const NO_BODY: Bytes = Bytes::new();

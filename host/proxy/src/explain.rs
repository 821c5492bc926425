//! Runs the real filter chain on a made-up request and tells what it decided. No second matcher, no socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use portolan_model::filter::RouteExplanation;
use portolan_model::{ClusterId, RouteId};
use tokio::runtime::{Builder, LocalOptions};

use crate::body_filter::Whole;
use crate::connect;
use crate::connection::Activity;
use crate::context::{Choice, ConnectionInfo};
use crate::edge::{Edge, EdgeLimits};
use crate::filter_chain::Outcome;
use crate::head;
use crate::listener::ListenerSlot;
use crate::local_reply::Reply;
use crate::properties::{ConnectionState, TlsInfo};
use crate::route::{Action, DestinationEntry, RouteEntry};
use crate::router::{self, Forwarding};
use crate::snapshot::Snapshot;
use crate::stream::Stream;
use crate::worker::Worker;

/// A request that nobody sent.
#[derive(Clone, Debug)]
pub struct ExplainRequest {
    /// Index of the listener that it comes to.
    pub listener: usize,
    /// Index of its filter chain, on a listener of TLS.
    pub filter_chain: Option<usize>,
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// Its fields; Host is required.
    pub headers: HeaderMap,
}

/// What the filters decided.
#[derive(Clone, Debug, Default)]
pub struct ExplainOutcome {
    /// What `route-match` tried.
    pub explanation: Option<RouteExplanation>,
    /// What `route-match` chose.
    pub route: Option<RouteId>,
    /// What `traffic-split` chose: the cluster and the destination's index in its route.
    pub choice: Option<(ClusterId, Option<u32>)>,
    /// The gateway's own answer, whoever in it gives it; none when the request is sent on, or when nobody was chosen to
    /// send it to.
    pub answer: Option<MadeAnswer>,
    /// By destination of the route: what would be sent there; none where no cluster is.
    pub sent: Vec<Option<SentRequest>>,
    /// The path that rules were matched against.
    pub normalized_path: String,
}

/// An answer that no upstream gave.
#[derive(Clone, Debug)]
pub struct MadeAnswer {
    /// Its status.
    pub status: u16,
    /// `response_code_details` of the access log.
    pub details: String,
    /// After the route's header operations.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
}

/// A request as an upstream would get it.
#[derive(Clone, Debug)]
pub struct SentRequest {
    /// Path and query; empty of a CONNECT.
    pub path: String,
    /// With `host`, after the header operations of all scopes.
    pub headers: HeaderMap,
    /// What the operations on response headers make of a response without any.
    pub response_headers: HeaderMap,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The snapshot has no such listener.
    #[error("no listener {0}")]
    NoListener(usize),
    /// The system gave no event queue.
    #[error("{0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs the snapshot's filters over the request. The snapshot must be built with
/// [`crate::BuilderOptions::explain`] for [`ExplainOutcome::explanation`] to be there.
pub fn explain(snapshot: &Arc<Snapshot>, request: ExplainRequest) -> Result<ExplainOutcome, ExplainError> {
    let entry = snapshot.listeners.get(request.listener).ok_or(ExplainError::NoListener(request.listener))?;
    let slot = ListenerSlot::new(entry);
    let chain = request.filter_chain.and_then(|index| slot.chain_at(index));
    let is_tls = chain.is_some();
    let slot = chain.unwrap_or(slot);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let worker = Worker::new(0, snapshot.clone(), Edge::new(EdgeLimits::default()));
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method;
    parts.uri = request.uri;
    parts.headers = request.headers;
    let takes_connect = connect::is_taken(&parts.method, &worker.view(), &slot);
    if takes_connect {
        connect::aim(&mut parts, slot.server_port());
    }
    let refusal = head::check(&mut parts, snapshot.model.paths.normalization, true, takes_connect).err();
    let normalized_path = parts.uri.path().to_owned();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let connection = Arc::new(ConnectionInfo {
        peer,
        direct: peer,
        local: entry.address,
        peer_value: HeaderValue::from_static("127.0.0.1"),
        id: 0,
        activity: Activity::default(),
        state: ConnectionState::default(),
    });
    if is_tls {
        connection.state.set_tls(TlsInfo::default());
    }
    let stream = Stream::new(worker, slot, connection, parts, None);
    let reply = match refusal {
        Some(refusal) => Some(Reply::from(refusal)),
        None => runtime.block_on(async {
            if let Some(refusal) = stream.with_state(|state| head::prepare(state, &stream).err()) {
                return Some(refusal.into());
            }
            match stream.on_request_headers(true, &mut Whole(crate::stream::NO_BODY)).await {
                Outcome::Continue => None,
                Outcome::Reply(reply) => Some(*reply),
            }
        }),
    };
    let (route, choice) = stream.with_state(|state| (state.host.route, state.host.choice));
    let entry = route.and_then(|id| snapshot.route(id));
    let answer = reply.or_else(|| own_reply(&stream, entry)).map(|reply| answer(&stream, entry, choice, reply));
    let sent = if answer.is_none() { entry.map(|entry| sent(&stream, entry)) } else { None };
    stream.end_contexts();
    Ok(stream.with_state(|state| ExplainOutcome {
        explanation: state.host.explanation.as_ref().and_then(|json| serde_json::from_slice(json).ok()),
        route,
        choice: choice.map(|choice| (choice.cluster, choice.destination)),
        answer,
        sent: sent.unwrap_or_default(),
        normalized_path,
    }))
}

/// The answer of the route itself, or to a request without one.
fn own_reply(stream: &Stream, entry: Option<&RouteEntry>) -> Option<Reply> {
    let Some(entry) = entry else { return Some(Reply::no_route()) };
    match &entry.action {
        Action::Forward(_) => None,
        Action::Redirect(redirect, _) => Some(router::redirect(stream, entry, redirect)),
        Action::Direct(status, body, _) => Some(router::direct(stream, *status, body)),
    }
}

fn answer(stream: &Stream, entry: Option<&RouteEntry>, choice: Option<Choice>, reply: Reply) -> MadeAnswer {
    let (parts, body) = reply.into_parts(stream, |parts| {
        if let Some(entry) = entry {
            let destination = choice.and_then(|choice| choice.destination).map(|index| index as usize);
            stream.change_response(entry, destination, parts, true);
        }
    });
    let details = stream.with_state(|state| state.host.details.to_string());
    MadeAnswer { status: parts.status.as_u16(), details, headers: parts.headers, body }
}

/// The router's changes for each destination in turn, always to the request as the filters left it.
fn sent(stream: &Rc<Stream>, entry: &RouteEntry) -> Vec<Option<SentRequest>> {
    let Action::Forward(forward) = &entry.action else { return Vec::new() };
    let snapshot = &stream.view.snapshot;
    let one = |(index, destination): (usize, &DestinationEntry)| {
        let cluster = snapshot.cluster(snapshot.cluster_by_name(destination.cluster_name.as_bytes()))?;
        let before = stream.with_state(|state| Some(state.request.clone()))?;
        let (hash, cookies, destination, stats) = (None, Vec::new(), Some(index), None);
        let job = Forwarding { stream, route: entry, forward, destination, cluster, hash, cookies, stats };
        job.change_request();
        let sent = stream.with_state(|state| Some(std::mem::replace(&mut state.request, before)))?;
        let (mut response, ()) = http::Response::new(()).into_parts();
        stream.change_response(entry, Some(index), &mut response, false);
        let response_headers = response.headers;
        let path = connect::path_of(&sent).unwrap_or_default().to_owned();
        Some(SentRequest { path, headers: sent.headers, response_headers })
    };
    forward.destinations.iter().enumerate().map(one).collect()
}

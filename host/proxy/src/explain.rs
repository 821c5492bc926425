//! Runs the real filter chain on a made-up request and tells what it decided. No second matcher, no socket.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use portolan_model::filter::RouteExplanation;
use portolan_model::{ClusterId, RouteId};
use tokio::runtime::{Builder, LocalOptions};

use crate::body_filter::Whole;
use crate::connection::Activity;
use crate::context::ConnectionInfo;
use crate::filter_chain::Outcome;
use crate::head;
use crate::listener::ListenerSlot;
use crate::properties::{ConnectionState, TlsInfo};
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
    /// The answer of a filter, or of the gateway to a request that it refuses: status and body.
    pub local_reply: Option<(u16, String)>,
    /// The path that rules were matched against.
    pub normalized_path: String,
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
    let worker = Worker::new(0, snapshot.clone());
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method;
    parts.uri = request.uri;
    parts.headers = request.headers;
    let refusal = head::check(&mut parts, snapshot.model.paths.normalization).err();
    let normalized_path = parts.uri.path().to_owned();
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let connection = Arc::new(ConnectionInfo {
        peer,
        local: entry.address,
        peer_value: HeaderValue::from_static("127.0.0.1"),
        id: 0,
        activity: Activity::default(),
        state: ConnectionState::default(),
    });
    if is_tls {
        connection.state.set_tls(TlsInfo::default());
    }
    let stream = Stream::new(worker, slot, connection, parts);
    let local_reply = match refusal {
        Some(refusal) => Some(crate::local_reply::Reply::from(refusal)),
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
    stream.end_contexts();
    Ok(stream.with_state(|state| ExplainOutcome {
        explanation: state.host.explanation.as_ref().and_then(|json| serde_json::from_slice(json).ok()),
        route: state.host.route,
        choice: state.host.choice.map(|choice| (choice.cluster, choice.destination)),
        local_reply: local_reply.map(|reply| reply.status_and_body()),
        normalized_path,
    }))
}

//! The paths of the admin port, and of the port that probes ask.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State as Given};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode, Uri};
use portolan_telemetry::{LogControl, Metrics, metrics};
use tokio::net::TcpListener;

use crate::clusters::ClusterView;
use crate::filters::FilterView;
use crate::listeners::ListenerView;
use crate::output::{json, method_not_allowed, text};
use crate::ready::{Readiness, State};
use crate::traffic::TrafficView;
use crate::{clusters, connections, explain, filters, guard, listeners, logging};

const PATHS: &str = "\
/ready              200 when the gateway is live
/stats/prometheus   metrics, text format 0.0.4
/config_dump        the configuration that serves, its objects and what was said about them
/clusters           clusters, endpoints and limits; ?format=json
/listeners          listeners; ?format=json
/filters            Wasm filters: state, versions, failures and cost; ?format=json
/explain            where a request would go, and why; ?url=URL&method=METHOD&header=NAME:VALUE; from this machine only
/traffic            distinct requests of late, without query and credentials; from this machine only
/logging            log levels; POST ?level=LEVEL or ?MODULE=LEVEL changes them
";

/// What the admin port shows. The binary fills it; closures are called per request, on the admin port's runtime.
#[derive(Clone)]
pub struct AdminState {
    /// The metrics page.
    pub metrics: Arc<Metrics>,
    /// Whether the gateway wants traffic.
    pub readiness: Readiness,
    /// A [`crate::ConfigDump`] as a value.
    pub config_dump: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The clusters as they are now.
    pub clusters: Arc<dyn Fn() -> Vec<ClusterView> + Send + Sync>,
    /// The listeners as they are now.
    pub listeners: Arc<dyn Fn() -> Vec<ListenerView> + Send + Sync>,
    /// The filters as they are now.
    pub filters: Arc<dyn Fn() -> Vec<FilterView> + Send + Sync>,
    /// Where the request of a query's pairs would go, or what is wrong with the question. Called off the runtime, by one
    /// at a time.
    pub explain: Explain,
    /// What kinds of requests there were of late.
    pub traffic: Arc<dyn Fn() -> TrafficView + Send + Sync>,
    /// Log levels.
    pub log: LogControl,
}

/// See [`AdminState::explain`].
pub type Explain = Arc<dyn Fn(&[(String, String)]) -> Result<serde_json::Value, String> + Send + Sync>;

impl std::fmt::Debug for AdminState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Serves the admin port until `shutdown` is done and requests in flight are answered.
///
/// On a loopback address requests must name a loopback host; on any other address the operator has decided who may ask.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let local = listener.local_addr()?;
    connections::serve(listener, router(state, local), shutdown).await
}

/// Serves `/healthz/ready` alone, for probes from outside: Istio's status port.
pub async fn serve_status(
    listener: TcpListener,
    readiness: Readiness,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = Router::new().route("/healthz/ready", get(move || async move { ready(readiness.state()) }));
    connections::serve(listener, router.fallback(unknown), shutdown).await
}

fn router(state: AdminState, local: SocketAddr) -> Router {
    let private = Router::new()
        .route("/explain", get(explain::respond))
        .route("/traffic", get(|Given(admin): Given<AdminState>| async move { json(&(admin.traffic)()) }))
        .route_layer(axum::middleware::from_fn(guard::check_peer));
    Router::new()
        .merge(private)
        .route("/", get(|| async { text(StatusCode::OK, PATHS) }))
        .route("/ready", get(|Given(admin): Given<AdminState>| async move { ready(admin.readiness.state()) }))
        .route("/stats", get(|| async { Redirect::temporary("/stats/prometheus") }))
        .route("/stats/prometheus", get(stats))
        .route("/config_dump", get(|Given(admin): Given<AdminState>| async move { json(&(admin.config_dump)()) }))
        .route("/clusters", get(|Given(admin): Given<AdminState>, uri| async move { clusters_page(&admin, &uri) }))
        .route("/listeners", get(|Given(admin): Given<AdminState>, uri| async move { listeners_page(&admin, &uri) }))
        .route("/filters", get(|Given(admin): Given<AdminState>, uri| async move { filters_page(&admin, &uri) }))
        .route("/logging", get(show_levels).post(change_levels))
        .fallback(unknown)
        .method_not_allowed_fallback(|| async { method_not_allowed(&Method::GET, "this path answers GET only\n") })
        .layer(axum::middleware::from_fn_with_state(local, guard::check))
        .with_state(state)
}

fn ready(state: State) -> Response {
    text(state.status(), format!("{}\n", state.name()))
}

async fn stats(Given(admin): Given<AdminState>) -> Response {
    let state = admin.readiness.state();
    admin.metrics.server.live.set(i64::from(state == State::Live));
    admin.metrics.server.state.set(i64::from(state as u8));
    let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
    (StatusCode::OK, [(CONTENT_TYPE, content_type)], admin.metrics.render()).into_response()
}

fn clusters_page(admin: &AdminState, uri: &Uri) -> Response {
    clusters::respond(uri, &(admin.clusters)())
}

fn listeners_page(admin: &AdminState, uri: &Uri) -> Response {
    listeners::respond(uri, &(admin.listeners)())
}

fn filters_page(admin: &AdminState, uri: &Uri) -> Response {
    filters::respond(uri, &(admin.filters)())
}

type Pairs = Query<Vec<(String, String)>>;

async fn show_levels(Given(admin): Given<AdminState>, Query(query): Pairs) -> Response {
    logging::show(&admin.log, &query)
}

async fn change_levels(Given(admin): Given<AdminState>, Query(query): Pairs) -> Response {
    logging::change(&admin.log, &query)
}

async fn unknown() -> Response {
    text(StatusCode::NOT_FOUND, "unknown path; / lists the paths\n")
}

//! Virtual hosts, routes and what they do, in Envoy's terms; semantics are Istio's (VirtualService).

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::cluster::ClusterId;
use crate::rare::{Rare, Usual};
use crate::{MISSING_CLUSTER, Origin};

/// Index into [`crate::Model::routes`].
pub type RouteId = u32;

/// The virtual hosts of one listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteTable {
    /// `http.PORT`, as Istio names the route configuration of a plain HTTP port.
    pub name: String,
    /// Requests of gRPC-Web are turned into gRPC.
    #[serde(skip_serializing_if = "is_default", default)]
    pub grpc_web: bool,
    /// What becomes of CONNECT; none where it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connect: Option<ConnectMode>,
    /// One entry for each served host.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// What becomes of CONNECT where it is taken, once a route was found for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectMode {
    /// It goes to the endpoint as CONNECT, and its success opens the tunnel.
    Forward,
    /// The tunnel ends here: its bytes go to the endpoint over TCP.
    Terminate,
}

/// One served host: an exact name, `*.suffix` or `*`, lower case and without port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VirtualHost {
    /// The host as written in `domain`, with `:port` as Istio names it, e.g. `shop.example.com:80`.
    pub name: String,
    /// Exact name, `*.suffix` (one or more labels, never the bare suffix) or `*`.
    pub domain: String,
    /// The routes of this host in the order in which they are tried.
    pub routes: Vec<RouteId>,
    /// The `hosts` entry of the VirtualService that brought this host first.
    #[serde(skip_serializing_if = "is_default", default)]
    pub origin: Origin,
}

/// One match of one rule, with what to do when it holds. Istio makes one Envoy route of each match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// `rule.match` names from the VirtualService; `%ROUTE_NAME%` in the access log, where an empty one is `-`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    /// The conditions.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// What to do.
    pub action: RouteAction,
    /// The rule (and match) in the user's file; of a delegate's rule the delegate's line.
    pub origin: Origin,
    /// The rule (and match) of the root VirtualService that delegates to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegated_from: Option<Box<Origin>>,
}

/// Conditions that must all hold. Empty holds always.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteMatch {
    /// The path without query, after normalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<StringMatch>,
    /// `uri` exact and prefix compare without case.
    #[serde(skip_serializing_if = "is_default")]
    pub ignore_uri_case: bool,
    /// The scheme of the connection: `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Box<StringMatch>>,
    /// The request method, case-sensitive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Box<StringMatch>>,
    /// The Host header with its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<Box<StringMatch>>,
    /// Header conditions; names are lower case, pseudo names such as `:method` allowed.
    #[serde(skip_serializing_if = "Rare::is_usual")]
    pub headers: Rare<Vec<HeaderMatch>>,
    /// Conditions that must not hold. An absent header counts as an empty value.
    #[serde(skip_serializing_if = "Rare::is_usual")]
    pub without_headers: Rare<Vec<HeaderMatch>>,
    /// Query parameter conditions on the first value of a name; names are case-sensitive.
    #[serde(skip_serializing_if = "Rare::is_usual")]
    pub query_params: Rare<Vec<HeaderMatch>>,
}

impl RouteMatch {
    /// True when Istio calls the match a catch-all: prefix `/` or regex `.*` (or `*`), or no uri, and nothing else.
    pub fn is_catch_all(&self) -> bool {
        let uri = match &self.uri {
            None => true,
            Some(StringMatch::Prefix(p)) => p == "/",
            Some(StringMatch::Regex(r)) => r == ".*" || r == "*",
            Some(_) => false,
        };
        let rest = Self { uri: None, ignore_uri_case: false, ..self.clone() };
        uri && rest == Self::default()
    }
}

/// Istio's StringMatch, plus `Present` for `{}` and regex `*` on headers and query parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StringMatch {
    /// The whole value.
    Exact(String),
    /// A plain string prefix, never by path segment.
    Prefix(String),
    /// RE2 syntax over the whole value, alternation inside the anchors.
    Regex(String),
    /// The value is there; it may be empty.
    Present,
}

/// A condition on one header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Header name in lower case, or query parameter name as written.
    pub name: String,
    /// What its value must be.
    pub value: StringMatch,
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteAction {
    /// Send it to a cluster.
    Forward(Box<Forward>),
    /// Answer with a redirect.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response.
    DirectResponse(Box<DirectResponse>),
}

/// Forwarding: to whom, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// At least one. With one, its weight is ignored; entries of weight 0 have been left out.
    pub destinations: Vec<Destination>,
    /// Change of path and authority before sending.
    pub rewrite: Option<Box<Rewrite>>,
    /// Over all tries, in milliseconds; none means no limit (Istio's default).
    pub timeout_ms: Option<u64>,
    /// When and how often to try again.
    pub retry: Rare<RetryPolicy>,
    /// Header operations of the route scope.
    pub headers: Rare<HeaderOperations>,
    /// Keeps one user on one destination of a split. Portolan's own, from annotation `portolan.dev/sticky-cookie`
    /// (or `-header`) of the VirtualService.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sticky: Option<Box<Sticky>>,
    /// Delays and aborts on purpose.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<Box<FaultPolicy>>,
    /// What pages of other sites may do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cors: Option<Box<CorsPolicy>>,
    /// Names the route's own counters; Envoy's `Route.stat_prefix`, which counts what is forwarded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stat_prefix: Option<Box<str>>,
    /// Who gets copies of requests.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mirrors: Vec<Mirror>,
}

/// A share of the requests in millionths, 0 to 1,000,000: Envoy's `FractionalPercent` as Istio makes it.
pub type Share = u32;

/// Everybody.
pub const EVERY_REQUEST: Share = 1_000_000;

/// Istio's HTTPFaultInjection: the delay first, then the abort, each with a draw of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPolicy {
    /// How long a request waits, in milliseconds.
    pub delay: Option<(u64, Share)>,
    /// What it is answered with.
    pub abort: Option<(FaultAbort, Share)>,
}

/// An answer in place of the upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAbort {
    /// 200 to 599.
    Http(u16),
    /// 0 to 16; clients that do not speak gRPC get 200 and a text.
    Grpc(u8),
}

/// Istio's CorsPolicy; what is empty is not said to browsers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorsPolicy {
    /// One must hold for `origin`, or for `*`.
    pub allow_origins: Vec<StringMatch>,
    /// With commas; `*` alone means whichever a preflight asks for.
    pub allow_methods: String,
    /// With commas; `*` alone means whichever a preflight asks for.
    pub allow_headers: String,
    /// With commas.
    pub expose_headers: String,
    /// In seconds.
    pub max_age: Option<u64>,
    /// Cookies and the like may be sent.
    pub allow_credentials: bool,
    /// Preflights of other origins go upstream, Istio's default.
    pub forward_unmatched: bool,
}

/// A cluster that gets copies of requests; its answers are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// As [`Destination::cluster`]; nothing is sent to a missing one.
    pub cluster: ClusterId,
    /// `outbound|port|subset|host`, also when missing.
    pub cluster_name: String,
    /// Of the requests.
    pub share: Share,
    /// The mirror in the user's file.
    pub origin: Origin,
}

/// What identifies a user whose requests must all take the same destination of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sticky {
    /// A cookie of this name that the gateway sets; its value names the destination.
    Cookie(String),
    /// The value of this request header is hashed; absent means no stickiness.
    Header(String),
}

/// One weighted cluster of a route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// Index into [`crate::Model::clusters`], or [`MISSING_CLUSTER`] when no service, port or subset fits: such a
    /// destination keeps its share and answers 503 with flag NC.
    pub cluster: ClusterId,
    /// `outbound|port|subset|host`, also when missing.
    pub cluster_name: Arc<str>,
    /// Share relative to the sum of the route's weights.
    pub weight: u32,
    /// Header operations of the destination scope.
    pub headers: Rare<HeaderOperations>,
    /// The destination in the user's file.
    pub origin: Origin,
}

impl Destination {
    /// False when the cluster does not exist.
    pub fn is_known(&self) -> bool {
        self.cluster != MISSING_CLUSTER
    }
}

/// Change of path and authority, Istio's HTTPRewrite: string surgery on the matched prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rewrite {
    /// With a prefix match (or no uri match: prefix `/`) replaces the prefix; with exact or regex the whole path.
    pub uri: Option<String>,
    /// RE2 pattern and substitution (`\1` groups): every hit in the path is replaced.
    pub uri_regex: Option<(String, String)>,
    /// New Host header.
    pub authority: Option<String>,
}

/// Istio's HTTPRedirect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Redirect {
    /// Replaces the whole path; the query stays unless this has its own.
    pub uri: Option<String>,
    /// Replaces the matched prefix (no uri match: prefix `/`), of exact and regex the whole path; the query stays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prefix_rewrite: Option<String>,
    /// Replaces the host and its port.
    pub authority: Option<String>,
    /// Explicit port in the Location.
    pub port: Option<u16>,
    /// Use the listener's port (`derivePort: FROM_REQUEST_PORT`).
    pub port_from_request: bool,
    /// `http` or `https`; none keeps the scheme of the connection.
    pub scheme: Option<String>,
    /// The port of Host stays whatever it is: `httpsRedirect`.
    #[serde(skip_serializing_if = "is_default", default)]
    pub keep_port: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Header operations on the response.
    pub headers: HeaderOperations,
}

/// Istio's HTTPDirectResponse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// At most 1 MiB.
    pub body: Vec<u8>,
    /// Header operations on the response.
    pub headers: HeaderOperations,
}

/// Changes to request and response headers: remove, then set, then add. Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderOperations {
    /// Request headers to remove.
    pub request_remove: Vec<String>,
    /// Request headers to set, by name order.
    pub request_set: Vec<(String, String)>,
    /// Request headers to add, by name order.
    pub request_add: Vec<(String, String)>,
    /// Response headers to remove.
    pub response_remove: Vec<String>,
    /// Response headers to set, by name order.
    pub response_set: Vec<(String, String)>,
    /// Response headers to add, by name order.
    pub response_add: Vec<(String, String)>,
}

/// When a request is tried again; field meanings are Envoy's `retry_on`, values Istio's defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Tries after the first; 0 switches retries off.
    pub attempts: u32,
    /// Limit of each try in milliseconds.
    pub per_try_timeout_ms: Option<u64>,
    /// `connect-failure`: no connection could be made.
    pub connect_failure: bool,
    /// `refused-stream`: HTTP/2 REFUSED_STREAM.
    pub refused_stream: bool,
    /// `reset`: the upstream ended without an answer, including a try's timeout.
    pub reset: bool,
    /// `5xx`: any 5xx answer, reset, connect failure.
    pub on_5xx: bool,
    /// `gateway-error`: 502, 503, 504.
    pub gateway_error: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// Numbers in `retryOn`.
    pub status_codes: Vec<u16>,
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`: values of `grpc-status` in the
    /// head of an answer.
    #[serde(skip_serializing_if = "is_default_grpc", default = "default_grpc")]
    pub grpc_statuses: Vec<u8>,
    /// `reset-before-request`: the upstream ended before anything of the request was sent.
    #[serde(skip_serializing_if = "is_default", default)]
    pub reset_before_request: bool,
    /// `envoy-ratelimited`: an answer with `x-envoy-ratelimited`, which is never tried again otherwise.
    #[serde(skip_serializing_if = "is_default", default)]
    pub envoy_ratelimited: bool,
    /// Pauses before the second, third .. try are random up to 1, 2, 4, 8 and then 10 times this, in milliseconds.
    #[serde(skip_serializing_if = "is_default_back_off", default = "default_back_off")]
    pub back_off_ms: u64,
    /// Endpoints that failed a try of this request are passed over, if another one comes up within five picks more.
    #[serde(skip_serializing_if = "is_true", default = "yes")]
    pub avoid_previous_hosts: bool,
    /// `retryRemoteLocalities`: after every second try, other priorities than those that were tried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry_remote_localities: bool,
}

impl Default for RetryPolicy {
    /// Istio's default: 2 more tries on connect-failure, refused-stream, unavailable, cancelled.
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout_ms: None,
            connect_failure: true,
            refused_stream: true,
            reset: false,
            on_5xx: false,
            gateway_error: false,
            retriable_4xx: false,
            status_codes: Vec::new(),
            grpc_statuses: default_grpc(),
            reset_before_request: false,
            envoy_ratelimited: false,
            back_off_ms: default_back_off(),
            avoid_previous_hosts: true,
            retry_remote_localities: false,
        }
    }
}

impl Usual for HeaderOperations {
    fn usual() -> &'static Self {
        static NONE: HeaderOperations = HeaderOperations {
            request_remove: Vec::new(),
            request_set: Vec::new(),
            request_add: Vec::new(),
            response_remove: Vec::new(),
            response_set: Vec::new(),
            response_add: Vec::new(),
        };
        &NONE
    }
}

impl Usual for Vec<HeaderMatch> {
    fn usual() -> &'static Self {
        static NONE: Vec<HeaderMatch> = Vec::new();
        &NONE
    }
}

impl Usual for RetryPolicy {
    fn usual() -> &'static Self {
        static DEFAULT: LazyLock<RetryPolicy> = LazyLock::new(RetryPolicy::default);
        &DEFAULT
    }
}

/// CANCELLED and UNAVAILABLE.
fn default_grpc() -> Vec<u8> {
    vec![1, 14]
}

fn is_default_grpc(statuses: &[u8]) -> bool {
    statuses == [1, 14]
}

/// Envoy's.
fn default_back_off() -> u64 {
    25
}

fn is_default_back_off(ms: &u64) -> bool {
    *ms == default_back_off()
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

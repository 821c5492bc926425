//! Spec of the Istio `VirtualService`.

use std::collections::BTreeMap;
use std::mem::take;
use std::ops::Deref;
use std::sync::LazyLock;

use serde::Deserialize;

use super::http_policy::{CorsPolicy, HttpFaultInjection, HttpMirrorPolicy, Percent};

/// Routes of hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VirtualService {
    /// Hosts served; short names are completed with the namespace. A delegate has none.
    pub hosts: Vec<String>,
    /// `name`, `namespace/name` or `./name` of Gateways; empty means `mesh`, hence no ingress gateway.
    pub gateways: Vec<String>,
    /// Rules, first hit wins.
    pub http: Vec<HttpRoute>,
    /// Rules for TLS connections that go through as they are.
    pub tls: Vec<TlsRoute>,
    /// Rules for connections, first hit wins.
    pub tcp: Vec<TcpRoute>,
    /// `.`, `*`, `~` or namespaces.
    pub export_to: Vec<String>,
}

impl VirtualService {
    /// A list that is read grows by halves and more: of small ones most would stay empty.
    pub(crate) fn shrink(&mut self) {
        self.hosts.shrink_to_fit();
        self.gateways.shrink_to_fit();
        self.http.shrink_to_fit();
        for rule in &mut self.http {
            rule.matches.shrink_to_fit();
            rule.route.shrink_to_fit();
        }
    }
}

/// One rule for TLS connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsRoute {
    /// Alternatives; required.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatch>,
    /// Weighted destinations.
    pub route: Vec<TcpRouteDestination>,
}

/// Conditions of a TLS rule. Server names, port and gateways count at a gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsMatch {
    /// Server names that the client asks for; required.
    pub sni_hosts: Vec<String>,
    /// The server's port number.
    pub port: Option<u32>,
    /// Takes the place of the resource's list.
    pub gateways: Vec<String>,
    /// For sidecars only.
    pub destination_subnets: Vec<String>,
    /// For sidecars only.
    pub source_labels: BTreeMap<String, String>,
    /// For sidecars only.
    pub source_namespace: Option<String>,
}

impl TlsMatch {
    /// What it has in common with a rule for connections.
    pub(crate) fn l4(&self) -> L4Match {
        L4Match {
            port: self.port,
            gateways: self.gateways.clone(),
            destination_subnets: self.destination_subnets.clone(),
            source_subnet: None,
            source_labels: self.source_labels.clone(),
            source_namespace: self.source_namespace.clone(),
        }
    }
}

/// One rule for connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Alternatives; none matches everything.
    #[serde(rename = "match")]
    pub matches: Vec<L4Match>,
    /// Weighted destinations.
    pub route: Vec<TcpRouteDestination>,
}

/// Conditions that must all hold. Only port and gateways count at a gateway, as in Istio.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct L4Match {
    /// The server's port number.
    pub port: Option<u32>,
    /// Takes the place of the resource's list.
    pub gateways: Vec<String>,
    /// For sidecars only.
    pub destination_subnets: Vec<String>,
    /// For sidecars only.
    pub source_subnet: Option<String>,
    /// For sidecars only.
    pub source_labels: BTreeMap<String, String>,
    /// For sidecars only.
    pub source_namespace: Option<String>,
}

/// A destination of connections with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpRouteDestination {
    /// Required.
    pub destination: Option<RouteDestination>,
    /// Relative to the sum of the rule's weights.
    pub weight: Option<i64>,
}

/// One rule. Most have matches and destinations and nothing else: what else one has is kept apart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "HttpRouteFields")]
pub struct HttpRoute {
    /// Alternatives; none matches everything.
    pub matches: Vec<HttpMatch>,
    /// Weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    others: Option<Box<HttpRouteFields>>,
}

impl HttpRoute {
    /// A rule with these other fields.
    pub fn new(matches: Vec<HttpMatch>, route: Vec<HttpRouteDestination>, others: HttpRouteFields) -> Self {
        Self { matches, route, ..others.into() }
    }
}

impl From<HttpRouteFields> for HttpRoute {
    fn from(mut others: HttpRouteFields) -> Self {
        let (matches, route) = (take(&mut others.matches), take(&mut others.route));
        let others = (others != HttpRouteFields::default()).then(|| Box::new(others));
        Self { matches, route, others }
    }
}

impl Deref for HttpRoute {
    type Target = HttpRouteFields;

    fn deref(&self) -> &HttpRouteFields {
        static NONE: LazyLock<HttpRouteFields> = LazyLock::new(HttpRouteFields::default);
        self.others.as_deref().unwrap_or_else(|| &*NONE)
    }
}

/// The fields of a rule as they are written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRouteFields {
    /// For `%ROUTE_NAME%`.
    pub name: Option<String>,
    /// Taken out of here by [`HttpRoute`].
    #[serde(rename = "match")]
    pub(crate) matches: Vec<HttpMatch>,
    pub(crate) route: Vec<HttpRouteDestination>,
    /// Instead of `route`.
    pub redirect: Option<Box<HttpRedirect>>,
    /// Instead of `route`.
    pub direct_response: Option<Box<HttpDirectResponse>>,
    /// Instead of `route`: the rules of another VirtualService.
    pub delegate: Option<Box<Delegate>>,
    /// Path and authority.
    pub rewrite: Option<Box<HttpRewrite>>,
    /// Duration over all tries.
    pub timeout: Option<String>,
    /// Absent: Istio's default of two retries.
    pub retries: Option<Box<HttpRetry>>,
    /// Delays and aborts on purpose.
    pub fault: Option<Box<HttpFaultInjection>>,
    /// Where copies go.
    pub mirror: Option<Box<RouteDestination>>,
    /// Where copies go, when there are several such places.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Deprecated share of `mirror`, whole percents.
    pub mirror_percent: Option<i64>,
    /// Share of `mirror`; absent means all.
    pub mirror_percentage: Option<Percent>,
    /// What pages of other sites may do.
    pub cors_policy: Option<Box<CorsPolicy>>,
    /// Header operations of the route scope.
    pub headers: Option<Box<Headers>>,
}

/// A VirtualService without hosts, whose rules take the place of the one that names it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Delegate {
    /// Required.
    pub name: String,
    /// The root's own when absent.
    pub namespace: Option<String>,
}

/// Conditions that must all hold. Most ask for the path and nothing else: what else one asks is kept apart.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "HttpMatchFields")]
pub struct HttpMatch {
    /// Path without query.
    pub uri: Option<StringMatch>,
    /// For `uri` exact and prefix.
    pub ignore_uri_case: bool,
    others: Option<Box<HttpMatchFields>>,
}

impl HttpMatch {
    /// Conditions on the path, and others.
    pub fn new(uri: Option<StringMatch>, ignore_uri_case: bool, others: HttpMatchFields) -> Self {
        Self { uri, ignore_uri_case, ..others.into() }
    }
}

impl From<HttpMatchFields> for HttpMatch {
    fn from(mut others: HttpMatchFields) -> Self {
        let (uri, ignore_uri_case) = (others.uri.take(), take(&mut others.ignore_uri_case));
        let others = (others != HttpMatchFields::default()).then(|| Box::new(others));
        Self { uri, ignore_uri_case, others }
    }
}

impl Deref for HttpMatch {
    type Target = HttpMatchFields;

    fn deref(&self) -> &HttpMatchFields {
        static NONE: LazyLock<HttpMatchFields> = LazyLock::new(HttpMatchFields::default);
        self.others.as_deref().unwrap_or_else(|| &*NONE)
    }
}

/// The fields of a match as they are written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMatchFields {
    /// For `%ROUTE_NAME%`.
    pub name: Option<String>,
    /// Taken out of here by [`HttpMatch`].
    pub(crate) uri: Option<StringMatch>,
    /// `http` or `https`.
    pub scheme: Option<Box<StringMatch>>,
    /// Request method.
    pub method: Option<Box<StringMatch>>,
    /// Host with port.
    pub authority: Option<Box<StringMatch>>,
    /// By name; `{}` asks for presence.
    pub headers: BTreeMap<String, StringMatch>,
    /// The server's port number.
    pub port: Option<u32>,
    /// The calling workload's labels, here the gateway's.
    pub source_labels: BTreeMap<String, String>,
    /// Replaces the resource's `gateways` for this match.
    pub gateways: Vec<String>,
    /// By name; `{}` asks for presence.
    pub query_params: BTreeMap<String, StringMatch>,
    pub(crate) ignore_uri_case: bool,
    /// Conditions that must not hold.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// The calling workload's namespace.
    pub source_namespace: Option<String>,
    /// Metrics per route, not served yet.
    pub stat_prefix: Option<String>,
}

/// At most one of its fields is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StringMatch {
    /// Whole value.
    pub exact: Option<String>,
    /// Start of the value.
    pub prefix: Option<String>,
    /// RE2 over the whole value.
    pub regex: Option<String>,
}

/// A destination with its share.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRouteDestination {
    /// Required.
    pub destination: Option<RouteDestination>,
    /// Relative to the sum of the rule's weights.
    pub weight: Option<i64>,
    /// Header operations of the destination scope.
    pub headers: Option<Box<Headers>>,
}

/// A service, subset and port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouteDestination {
    /// Required; a short name is completed with the namespace of the VirtualService.
    pub host: String,
    /// Of a DestinationRule.
    pub subset: Option<String>,
    /// Of the service.
    pub port: Option<PortSelector>,
}

/// A port by number.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortSelector {
    /// 1 to 65535.
    pub number: u32,
}

/// Header operations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Headers {
    /// Of the request.
    pub request: Option<HeaderOperations>,
    /// Of the response.
    pub response: Option<HeaderOperations>,
}

/// Remove, then set, then add.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HeaderOperations {
    /// Overwrites.
    pub set: BTreeMap<String, String>,
    /// Appends.
    pub add: BTreeMap<String, String>,
    /// Names.
    pub remove: Vec<String>,
}

/// A redirect.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRedirect {
    /// Replaces the whole path.
    pub uri: Option<String>,
    /// Replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// Replaces the host and its port.
    pub authority: Option<String>,
    /// Port in the Location.
    pub port: Option<u32>,
    /// `FROM_PROTOCOL_DEFAULT` or `FROM_REQUEST_PORT`.
    pub derive_port: Option<String>,
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// 301 by default.
    pub redirect_code: Option<u32>,
}

/// A fixed answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpDirectResponse {
    /// 200 to 599.
    pub status: u32,
    /// Empty when absent.
    pub body: Option<HttpBody>,
}

/// One of its fields.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpBody {
    /// As it is.
    pub string: Option<String>,
    /// Base64.
    pub bytes: Option<String>,
}

/// Change of path and authority.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRewrite {
    /// Replaces the matched prefix or path.
    pub uri: Option<String>,
    /// New Host.
    pub authority: Option<String>,
    /// Instead of `uri`.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// RE2 substitution.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegexRewrite {
    /// Pattern.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Text with `\1` groups.
    pub rewrite: String,
}

/// Retries.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpRetry {
    /// Tries after the first; 0 switches retries off.
    pub attempts: i64,
    /// Duration of each try.
    pub per_try_timeout: Option<String>,
    /// Envoy's words and status codes, by commas.
    pub retry_on: Option<String>,
    /// Tries may go to endpoints of other localities.
    pub retry_remote_localities: Option<bool>,
    /// Endpoints that failed are passed over; true unless the endpoint is chosen by hash.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base of the pauses, a duration; 25 ms by default.
    pub backoff: Option<String>,
}

//! What the three bundled decision filters are configured with: projections of the model, sent as JSON.
//!
//! Both sides use these types. `schema` grows when a field changes meaning, and a filter refuses a number that it
//! does not know, so that an older module in a `--filter` file fails loudly at load and not at the first request.

use serde::{Deserialize, Serialize};

use crate::cluster::{CircuitBreakers, OutlierDetection};
use crate::route::{CorsPolicy, FaultPolicy, Forward, RouteAction, RouteId, RouteMatch, Sticky, VirtualHost};
use crate::{ClusterId, Model};

/// The schema number of all configurations in this module.
pub const SCHEMA: u32 = 2;

/// Property that `route-match` sets: the [`crate::RouteId`] as 4 little-endian bytes.
pub const ROUTE_PROPERTY: &str = "portolan.route";

/// Property that `traffic-split` sets: [`ClusterId`] and index of the destination in its route, each as 4
/// little-endian bytes. Any other length is read as a cluster's name.
pub const CLUSTER_PROPERTY: &str = "portolan.cluster";

/// Property that the host sets: the [`crate::RouteTableId`] of the request's listener as 4 little-endian bytes.
pub const ROUTE_TABLE_PROPERTY: &str = "portolan.route_table";

/// Property that the host sets: address and port of whoever has opened the client's connection, as text. It is
/// `source.address` unless a proxy in front of the gateway, by PROXY protocol or `x-forwarded-for`, has told another.
pub const DIRECT_ADDRESS_PROPERTY: &str = "portolan.direct_address";

/// Property that `route-match` sets in explain mode: a JSON [`RouteExplanation`].
pub const EXPLAIN_PROPERTY: &str = "portolan.explain";

/// Property that `traffic-split` sets for a sticky split: the value of a `set-cookie` header that the host adds to
/// the response.
pub const SET_COOKIE_PROPERTY: &str = "portolan.set_cookie";

/// Property that `fault` sets: `DI` when it delays a request, `FI` when it aborts one. The access log tells it.
pub const FAULT_PROPERTY: &str = "portolan.fault";

/// Foreign function: asks for a permit for the request's cluster. Argument: `max_connections`,
/// `max_pending_requests`, `max_requests`, `max_retries`, and the lowest response status that the filter wants to see,
/// each as 4 little-endian bytes. Answer: 1 byte, an [`Admission`]. A response below that status, of an endpoint without
/// failures in a row, is not shown to the filter: it could change nothing, and a call costs more than the check. The host releases the permit when the stream ends and applies the connection, pending and retry
/// limits while it lasts.
pub const ADMIT_FUNCTION: &str = "portolan_admit";

/// Foreign function: counts an outcome of the request's endpoint. Argument: 1 byte, an [`Outcome`]. Answer: an
/// [`EndpointRecord`], or nothing when no endpoint was chosen.
pub const REPORT_FUNCTION: &str = "portolan_report";

/// Foreign function: ejects the request's endpoint. Argument: time in ms (8 bytes) and `max_ejection_percent`
/// (4 bytes), little-endian; the host checks the share again, atomically. Answer: 1 byte, 1 when ejected.
pub const EJECT_FUNCTION: &str = "portolan_eject";

/// Foreign function: the route that was found by rules which came on demand. Argument: a [`FoundRoute`]. Answer: nothing
/// when it was found by the rules of the request's own snapshot, whose route it is from now on; else those rules: their
/// version as 8 little-endian bytes and, as JSON, the [`RouteMatch`]es of the virtual host in order. Then the filter looks
/// again.
pub const FOUND_ROUTE_FUNCTION: &str = "portolan_found_route";

/// Property: how the request's route is split, a [`SplitRef`]; none for a route that does not forward.
pub const SPLIT_PROPERTY: &str = "portolan.split";

/// Foreign function: the [`Split`] of the request's route as JSON, when the filter does not know that of its number yet.
pub const SPLIT_FUNCTION: &str = "portolan_split";

/// The id that `proxy_on_foreign_function` is called with, on the stream's context, when a try ended and another
/// follows. The foreign-function buffer holds the try's status as 2 little-endian bytes, connect failures and resets
/// as 503 and timeouts as 504; and a byte that is 1 for those, which are no answer of the endpoint.
pub const TRY_ENDED: u32 = 0x7072_7431;

/// Version of those configurations that leave out what the filter can ask for while it serves.
pub const ON_DEMAND_SCHEMA: u32 = 3;

/// Argument of [`FOUND_ROUTE_FUNCTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// The [`crate::RouteTableId`].
    pub table: u32,
    /// Place of the virtual host in its table.
    pub host: u32,
    /// Place of the route among the host's; [`FoundRoute::NONE`] when none fits.
    pub rank: u32,
    /// Of the rules that it was found by; 0 when none are known.
    pub version: u64,
}

impl FoundRoute {
    /// A rank that no route has.
    pub const NONE: u32 = u32::MAX;

    /// The bytes that cross the boundary.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.table.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.host.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.rank.to_le_bytes());
        bytes[12..].copy_from_slice(&self.version.to_le_bytes());
        bytes
    }

    /// What these bytes say; none when the length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let version = u64::from_le_bytes(bytes.get(12..)?.try_into().ok()?);
        Some(Self { table: word(0)?, host: word(4)?, rank: word(8)?, version })
    }
}

/// Value of [`SPLIT_PROPERTY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitRef {
    /// There is one destination.
    One(ClusterId),
    /// There are several. The number means these and no others for as long as the gateway runs.
    Many(u64),
}

impl SplitRef {
    /// The bytes that cross the boundary: the lowest bit tells the two apart.
    pub fn to_bytes(self) -> [u8; 8] {
        let word = match self {
            Self::One(cluster) => u64::from(cluster) << 1,
            Self::Many(number) => number << 1 | 1,
        };
        word.to_le_bytes()
    }

    /// What these bytes say; none when the length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = u64::from_le_bytes(bytes.try_into().ok()?);
        Some(if word & 1 == 1 { Self::Many(word >> 1) } else { Self::One((word >> 1) as ClusterId) })
    }
}

/// Configuration of `route-match`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteMatchConfig {
    /// [`SCHEMA`], or [`ON_DEMAND_SCHEMA`].
    pub schema: u32,
    /// By [`crate::RouteTableId`]: the virtual hosts; on demand only their domains.
    pub tables: Vec<Vec<VirtualHost>>,
    /// By [`crate::RouteId`]: the conditions. Empty on demand.
    pub matches: Vec<RouteMatch>,
    /// [`crate::PathPolicy::refuse_ambiguous`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuse_ambiguous: bool,
    /// Set [`EXPLAIN_PROPERTY`] on each request. Only for `portolan explain`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explain: bool,
}

impl RouteMatchConfig {
    /// The part of the model that `route-match` needs. Origins are blanked: a moved line is no change.
    pub fn of(model: &Model, explain: bool) -> Self {
        let blank = |host: &VirtualHost| VirtualHost { origin: Default::default(), ..host.clone() };
        Self {
            schema: SCHEMA,
            tables: model.route_tables.iter().map(|t| t.virtual_hosts.iter().map(blank).collect()).collect(),
            matches: model.routes.iter().map(|r| r.matches.clone()).collect(),
            refuse_ambiguous: model.paths.refuse_ambiguous,
            explain,
        }
    }

    /// The same without rules, which the filter asks for by [`FOUND_ROUTE_FUNCTION`]: it stays the same for as long as
    /// there are the same hosts.
    pub fn on_demand(model: &Model) -> Self {
        let named = |host: &VirtualHost| VirtualHost { domain: host.domain.clone(), ..VirtualHost::default() };
        Self {
            schema: ON_DEMAND_SCHEMA,
            tables: model.route_tables.iter().map(|t| t.virtual_hosts.iter().map(named).collect()).collect(),
            matches: Vec::new(),
            refuse_ambiguous: model.paths.refuse_ambiguous,
            explain: false,
        }
    }
}

/// Configuration of `traffic-split`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrafficSplitConfig {
    /// [`SCHEMA`], or [`ON_DEMAND_SCHEMA`].
    pub schema: u32,
    /// By [`crate::RouteId`]; empty destinations for a route that does not forward. Empty on demand.
    pub routes: Vec<Split>,
}

impl TrafficSplitConfig {
    /// The part of the model that `traffic-split` needs.
    pub fn of(model: &Model) -> Self {
        Self { schema: SCHEMA, routes: model.routes.iter().map(|r| Split::of(&r.action)).collect() }
    }

    /// Nothing: the filter asks for each split by [`SPLIT_FUNCTION`].
    pub fn on_demand() -> Self {
        Self { schema: ON_DEMAND_SCHEMA, routes: Vec::new() }
    }
}

/// The destinations of one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Cluster and weight. One destination gets everything, whatever its weight.
    pub destinations: Vec<(ClusterId, u32)>,
    /// By destination: the cluster's name, which a sticky cookie's value is made of, as ids change over reloads. Empty
    /// without such a cookie.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Keeps one user on one destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
}

impl Split {
    /// What `traffic-split` needs of a route; no destinations for one that does not forward.
    pub fn of(action: &RouteAction) -> Self {
        let RouteAction::Forward(forward) = action else { return Self::default() };
        Self {
            destinations: forward.destinations.iter().map(|d| (d.cluster, d.weight)).collect(),
            names: match forward.sticky.as_deref() {
                Some(Sticky::Cookie(_)) => forward.destinations.iter().map(|d| d.cluster_name.to_string()).collect(),
                Some(Sticky::Header(_)) | None => Vec::new(),
            },
            sticky: forward.sticky.as_deref().cloned(),
        }
    }
}

/// Configuration of `fault` in the gateway's own place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultConfig {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Routes with faults, by rising id.
    pub routes: Vec<(RouteId, FaultPolicy)>,
}

impl FaultConfig {
    /// The part of the model that `fault` needs.
    pub fn of(model: &Model) -> Self {
        Self { schema: SCHEMA, routes: of_routes(model, |forward| forward.fault.as_deref().cloned()) }
    }
}

/// Configuration of `cors` in the gateway's own place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorsConfig {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Routes with a policy, by rising id.
    pub routes: Vec<(RouteId, CorsPolicy)>,
}

impl CorsConfig {
    /// The part of the model that `cors` needs.
    pub fn of(model: &Model) -> Self {
        Self { schema: SCHEMA, routes: of_routes(model, |forward| forward.cors.as_deref().cloned()) }
    }
}

/// What some routes that forward have. Envoy's filters pass redirects and direct answers by.
fn of_routes<T>(model: &Model, part: impl Fn(&Forward) -> Option<T>) -> Vec<(RouteId, T)> {
    let routes = (0..).zip(&model.routes);
    let of = |(id, route): (RouteId, &std::sync::Arc<crate::Route>)| match &route.action {
        RouteAction::Forward(forward) => Some((id, part(forward)?)),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    };
    routes.filter_map(of).collect()
}

/// Configuration of `circuit-breaker`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreakerConfig {
    /// [`SCHEMA`].
    pub schema: u32,
    /// By [`ClusterId`]; none means no limit and no outlier detection.
    pub clusters: Vec<Option<Breaker>>,
}

impl CircuitBreakerConfig {
    /// The part of the model that `circuit-breaker` needs.
    pub fn of(model: &Model) -> Self {
        let breaker = |c: &crate::Cluster| {
            let breaker = Breaker { limits: c.circuit_breakers, outlier: c.outlier_detection };
            (breaker.limits != CircuitBreakers::default() || breaker.outlier.is_some()).then_some(breaker)
        };
        Self { schema: SCHEMA, clusters: model.clusters.iter().map(breaker).collect() }
    }
}

/// Limits and outlier detection of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Over all workers.
    pub limits: CircuitBreakers,
    /// When the cluster has such a block.
    pub outlier: Option<OutlierDetection>,
}

/// Answer of [`ADMIT_FUNCTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Admission {
    /// Go on.
    Admitted = 0,
    /// `max_requests` reached: answer 503 with `x-envoy-overloaded` and flag UO.
    Overflow = 1,
    /// No cluster was chosen, or it is unknown: go on, the router answers.
    NoCluster = 2,
}

/// Argument of [`REPORT_FUNCTION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Anything below 500: both counts start again.
    Success = 0,
    /// A 5xx other than a gateway error: counts as 5xx, the gateway count starts again.
    ServerError = 1,
    /// 502, 503, 504: counts as both.
    GatewayError = 2,
    /// No answer, where that counts apart: the other counts stay as they are. All other outcomes are answers, after which
    /// this one starts again.
    LocalOriginFailure = 3,
}

/// Answer of [`REPORT_FUNCTION`]: what is known of the endpoint, over all workers, this outcome included. Eight
/// 4-byte (the last unused) and two 8-byte little-endian numbers in field order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointRecord {
    /// 5xx in a row.
    pub consecutive_5xx: u32,
    /// Gateway errors in a row.
    pub consecutive_gateway_errors: u32,
    /// Failures in a row that are no answer, where they count apart.
    pub consecutive_local_origin_failures: u32,
    /// Ejections so far, less one for each quiet interval since the last return.
    pub ejections: u32,
    /// 1 when the endpoint is ejected now.
    pub ejected: u32,
    /// Endpoints of the cluster.
    pub endpoints: u32,
    /// Ejected endpoints of the cluster.
    pub ejected_endpoints: u32,
    /// Milliseconds since the endpoint came back from its last ejection; `u64::MAX` when it never was ejected.
    pub since_return_ms: u64,
    /// Milliseconds on the gateway's monotonic clock.
    pub now_ms: u64,
}

impl EndpointRecord {
    /// Size on the wire in bytes.
    pub const SIZE: usize = 48;

    /// The bytes that cross the boundary.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let words = [
            self.consecutive_5xx,
            self.consecutive_gateway_errors,
            self.consecutive_local_origin_failures,
            self.ejections,
            self.ejected,
            self.endpoints,
            self.ejected_endpoints,
            0,
        ];
        for (slot, word) in bytes.chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes[32..40].copy_from_slice(&self.since_return_ms.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.now_ms.to_le_bytes());
        bytes
    }

    /// The record in these bytes; none when the length is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::SIZE] = bytes.try_into().ok()?;
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let long = |i: usize| u64::from(word(i)) | u64::from(word(i + 4)) << 32;
        Some(Self {
            consecutive_5xx: word(0),
            consecutive_gateway_errors: word(4),
            consecutive_local_origin_failures: word(8),
            ejections: word(12),
            ejected: word(16),
            endpoints: word(20),
            ejected_endpoints: word(24),
            since_return_ms: long(32),
            now_ms: long(40),
        })
    }
}

/// Value of [`EXPLAIN_PROPERTY`]: what `route-match` tried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteExplanation {
    /// The chosen virtual host's domain; none when no host fits.
    pub host: Option<String>,
    /// Why that host: `exact`, `suffix` or `any`.
    pub host_kind: Option<String>,
    /// The routes of the host in order, up to all of them.
    pub routes: Vec<RouteVerdict>,
}

/// What became of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteVerdict {
    /// The [`crate::RouteId`].
    pub route: u32,
    /// `no`, `yes` or `not reached`.
    pub verdict: String,
    /// The first condition that failed and what was found, or what held: `headers x-user: wants exact "alpha", got "beta"`.
    pub reason: String,
}

//! [`StreamContext`]: what the proxy itself keeps of a request, and what filters can ask of it: the decisions, the
//! permit, the endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use portolan_model::filter::{
    ADMIT_FUNCTION, Admission, CLUSTER_PROPERTY, DIRECT_ADDRESS_PROPERTY, EJECT_FUNCTION, EXPLAIN_PROPERTY,
    FAULT_PROPERTY, FOUND_ROUTE_FUNCTION, Outcome, REPORT_FUNCTION, ROUTE_PROPERTY, ROUTE_TABLE_PROPERTY,
    SET_COOKIE_PROPERTY, SPLIT_FUNCTION, SPLIT_PROPERTY,
};
use portolan_model::{CircuitBreakers, ClusterId, RouteId, RouteTableId};
use portolan_telemetry::ResponseFlags;
use portolan_wasm::{ContextId, Status, StreamHost, StreamParts, StreamState, VmToken};

use crate::cluster::Permit;
use crate::connection::Activity;
use crate::endpoint::EndpointState;
use crate::generation::Role;
use crate::handover;
use crate::lend;
use crate::properties::{self, ConnectionState, Course};
use crate::snapshot::Snapshot;

/// The accepted connection that a request came on.
#[derive(Debug)]
pub struct ConnectionInfo {
    /// The client, as the PROXY protocol has told it where that is spoken.
    pub peer: SocketAddr,
    /// Whoever has opened the connection: the client, or a proxy in front of the gateway.
    pub direct: SocketAddr,
    /// Our side.
    pub local: SocketAddr,
    /// The client's address as `x-forwarded-for` has it.
    pub peer_value: HeaderValue,
    /// Unique in the process.
    pub id: u64,
    /// What its deadlines go by.
    pub(crate) activity: Activity,
    /// What filters may know of it and keep with it.
    pub(crate) state: ConnectionState,
}

/// What `traffic-split` chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) cluster: ClusterId,
    /// Index among the route's destinations; none when a filter chose the cluster by name.
    pub(crate) destination: Option<u32>,
}

/// The proxy's part of a stream: moves with the [`portolan_wasm::StreamState`] into the filters.
pub struct StreamContext {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) connection: Arc<ConnectionInfo>,
    pub(crate) route_table: RouteTableId,
    pub(crate) route: Option<RouteId>,
    /// Where the route was found: the virtual host's number in the table.
    pub(crate) virtual_host: u32,
    pub(crate) choice: Option<Choice>,
    /// The limits that the circuit breaker admitted the request under; Envoy's defaults without one.
    pub(crate) limits: CircuitBreakers,
    permit: Option<(ClusterId, Permit)>,
    /// The lowest response status that the circuit breaker wants to see of an endpoint without failures in a row.
    responses_from: u16,
    /// The endpoint of the last try.
    pub(crate) endpoint: Option<Arc<EndpointState>>,
    pub(crate) set_cookie: Option<HeaderValue>,
    pub(crate) explanation: Option<Vec<u8>>,
    pub(crate) flags: ResponseFlags,
    pub(crate) details: std::borrow::Cow<'static, str>,
    pub(crate) attempts: u32,
    /// How the stream has gone; none when no filter asks.
    pub(crate) course: Option<Box<Course>>,
    /// The client as a trusted proxy's `x-forwarded-for` has it, with port 0; none where nobody's counts.
    pub(crate) forwarded: Option<Box<SocketAddr>>,
    /// Whose filter the state is with: what only the gateway's own may do is refused to others.
    pub(crate) caller: Role,
    /// A TCP connection: there is neither request nor response.
    is_connection: bool,
}

impl StreamContext {
    /// For the filters of a TCP connection.
    pub(crate) fn of_connection(snapshot: Arc<Snapshot>, connection: Arc<ConnectionInfo>) -> Self {
        Self { is_connection: true, ..Self::new(snapshot, connection, RouteTableId::MAX) }
    }

    pub(crate) fn new(snapshot: Arc<Snapshot>, connection: Arc<ConnectionInfo>, route_table: RouteTableId) -> Self {
        Self {
            snapshot,
            connection,
            route_table,
            route: None,
            virtual_host: 0,
            choice: None,
            limits: CircuitBreakers::default(),
            permit: None,
            responses_from: 0,
            endpoint: None,
            set_cookie: None,
            explanation: None,
            flags: ResponseFlags::NONE,
            details: std::borrow::Cow::Borrowed(""),
            attempts: 0,
            course: None,
            forwarded: None,
            caller: Role::User,
            is_connection: false,
        }
    }

    /// The client: Envoy's remote address.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.forwarded.as_deref().copied().unwrap_or(self.connection.peer)
    }

    /// True when a response means nothing to the circuit breaker, by its own word.
    pub(crate) fn breaker_ignores(&self, status: u16) -> bool {
        status < self.responses_from && self.endpoint.as_ref().is_none_or(|endpoint| endpoint.is_clean())
    }

    /// Forgets the decisions, so that the two decision filters make them again. A cluster that a filter chose by name is
    /// that filter's word and stays.
    pub(crate) fn clear_decisions(&mut self) {
        self.route = None;
        self.set_cookie = None;
        self.explanation = None;
        if self.choice.is_some_and(|choice| choice.destination.is_some()) {
            self.choice = None;
        }
    }

    fn set_route(&mut self, value: &[u8]) {
        let id = <[u8; 4]>::try_from(value).map(u32::from_le_bytes);
        self.route = id.ok().filter(|id| (*id as usize) < self.snapshot.routes.len());
    }

    fn set_choice(&mut self, value: &[u8]) {
        if value.len() == 8 && self.choice.is_some_and(|choice| choice.destination.is_none()) {
            return;
        }
        self.choice = match <[u8; 8]>::try_from(value) {
            Ok([a, b, c, d, e, f, g, h]) => Some(Choice {
                cluster: u32::from_le_bytes([a, b, c, d]),
                destination: Some(u32::from_le_bytes([e, f, g, h])),
            }),
            Err(_) if value.is_empty() => None,
            Err(_) => Some(Choice { cluster: self.snapshot.cluster_by_name(value), destination: None }),
        };
    }

    fn found_route(&mut self, args: &[u8], out: &mut Vec<u8>) -> Status {
        match handover::found_route(&self.snapshot.model, &self.snapshot.host_versions, args, out) {
            Ok((host, route)) => {
                (self.virtual_host, self.route) = (host, route);
                Status::Ok
            }
            Err(status) => status,
        }
    }

    fn admit(&mut self, args: &[u8], out: &mut Vec<u8>) -> Status {
        let Some(admission) = self.admission(args) else { return Status::BadArgument };
        out.push(admission as u8);
        Status::Ok
    }

    fn admission(&mut self, args: &[u8]) -> Option<Admission> {
        let word = |at: usize| Some(u32::from_le_bytes(args.get(at..at + 4)?.try_into().ok()?));
        self.responses_from = word(16).map_or(0, |status| u16::try_from(status).unwrap_or(u16::MAX));
        let limits = CircuitBreakers {
            max_connections: word(0)?,
            max_pending_requests: word(4)?,
            max_requests: word(8)?,
            max_retries: word(12)?,
        };
        let Some(id) = self.choice.map(|c| c.cluster) else { return Some(Admission::NoCluster) };
        let Some(cluster) = self.snapshot.cluster(id) else { return Some(Admission::NoCluster) };
        self.limits = limits;
        if self.permit.as_ref().is_some_and(|(held, _)| *held == id) {
            return Some(Admission::Admitted);
        }
        self.permit = cluster.state.admit(limits.max_requests).map(|permit| (id, permit));
        Some(if self.permit.is_some() { Admission::Admitted } else { Admission::Overflow })
    }

    fn report(&self, args: &[u8], out: &mut Vec<u8>) -> Status {
        let outcome = match args {
            [0] => Outcome::Success,
            [1] => Outcome::ServerError,
            [2] => Outcome::GatewayError,
            [3] => Outcome::LocalOriginFailure,
            _ => return Status::BadArgument,
        };
        let Some(endpoint) = &self.endpoint else { return Status::Ok };
        let Some(cluster) = self.choice.and_then(|c| self.snapshot.cluster(c.cluster)) else { return Status::Ok };
        let record = cluster.state.report(endpoint, outcome, cluster.outlier_detection.as_ref());
        out.extend_from_slice(&record.to_bytes());
        Status::Ok
    }

    fn eject(&self, args: &[u8], out: &mut Vec<u8>) -> Status {
        let Ok([a, b, c, d, e, f, g, h, i, j, k, l]) = <[u8; 12]>::try_from(args) else { return Status::BadArgument };
        let Some(endpoint) = &self.endpoint else { return Status::NotFound };
        let Some(cluster) = self.choice.and_then(|c| self.snapshot.cluster(c.cluster)) else { return Status::NotFound };
        let duration_ms = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let max_percent = u32::from_le_bytes([i, j, k, l]);
        let interval_ms = cluster.outlier_detection.map_or(10_000, |d| d.interval_ms);
        let ejected = cluster.state.eject(endpoint, duration_ms, max_percent, interval_ms);
        if ejected {
            tracing::info!(cluster = %cluster.state.name, endpoint = %endpoint.address, duration_ms, "endpoint ejected");
        }
        out.push(u8::from(ejected));
        Status::Ok
    }
}

impl StreamHost for StreamContext {
    fn lend(vm: VmToken, id: ContextId) -> Option<Box<StreamState<Self>>> {
        lend::lend(vm, id)
    }

    fn take_back(vm: VmToken, id: ContextId, stream: Box<StreamState<Self>>) {
        lend::take_back(vm, id, stream);
    }

    fn property(&self, path: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
        if self.is_connection && (path.starts_with(b"request") || path.starts_with(b"response")) {
            return false;
        }
        if path == ROUTE_PROPERTY.as_bytes() {
            return self.route.map(|id| out.extend_from_slice(&id.to_le_bytes())).is_some();
        }
        if path == SPLIT_PROPERTY.as_bytes() {
            let split = self.route.and_then(|id| self.snapshot.route(id)?.split);
            return split.map(|split| out.extend_from_slice(&split.to_bytes())).is_some();
        }
        if path == CLUSTER_PROPERTY.as_bytes() {
            let Some(choice) = self.choice else { return false };
            out.extend_from_slice(&choice.cluster.to_le_bytes());
            out.extend_from_slice(&choice.destination.unwrap_or(u32::MAX).to_le_bytes());
            return true;
        }
        if path == ROUTE_TABLE_PROPERTY.as_bytes() {
            out.extend_from_slice(&self.route_table.to_le_bytes());
            return true;
        }
        if path == DIRECT_ADDRESS_PROPERTY.as_bytes() {
            out.extend_from_slice(self.connection.direct.to_string().as_bytes());
            return true;
        }
        properties::write(self, path, parts, out)
    }

    fn set_property(&mut self, path: &[u8], value: &[u8]) -> bool {
        if path == ROUTE_PROPERTY.as_bytes() {
            self.set_route(value);
        } else if path == CLUSTER_PROPERTY.as_bytes() {
            self.set_choice(value);
        } else if path == SET_COOKIE_PROPERTY.as_bytes() {
            self.set_cookie = HeaderValue::from_bytes(value).ok();
        } else if path == FAULT_PROPERTY.as_bytes() {
            self.flags |= match value {
                b"DI" => ResponseFlags::DI,
                b"FI" => ResponseFlags::FI,
                _ => ResponseFlags::NONE,
            };
        } else if path == EXPLAIN_PROPERTY.as_bytes() {
            self.explanation = Some(value.to_vec());
        } else {
            return false;
        }
        true
    }

    fn keep_for_connection(&mut self, path: &[u8], value: &[u8]) {
        self.connection.state.keep(path, value);
    }

    fn property_without_stream(path: &[u8], out: &mut Vec<u8>) -> bool {
        properties::write_without_stream(path, out)
    }

    fn call_foreign(&mut self, name: &[u8], args: &[u8], out: &mut Vec<u8>) -> Status {
        // Each function is there for the one filter that decides by it: to all others it is unknown.
        match self.caller {
            Role::RouteMatch if name == FOUND_ROUTE_FUNCTION.as_bytes() => self.found_route(args, out),
            Role::TrafficSplit if name == SPLIT_FUNCTION.as_bytes() => {
                handover::write_split(&self.snapshot.model, self.route, out)
            }
            Role::CircuitBreaker if name == ADMIT_FUNCTION.as_bytes() => self.admit(args, out),
            Role::CircuitBreaker if name == REPORT_FUNCTION.as_bytes() => self.report(args, out),
            Role::CircuitBreaker if name == EJECT_FUNCTION.as_bytes() => self.eject(args, out),
            _ => Status::NotFound,
        }
    }
}

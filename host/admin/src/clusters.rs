//! `/clusters`: upstream clusters, their endpoints and their limits.

use std::fmt::Write;

use axum::response::Response;
use http::{StatusCode, Uri};
use portolan_model::CircuitBreakers;
use serde::Serialize;

use crate::output::{Form, json, text, unknown_form};

/// One cluster as the data plane sees it now.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterView {
    /// Envoy's name, e.g. `outbound|8080|v1|reviews.default.svc.cluster.local`.
    pub name: String,
    /// `ROUND_ROBIN`, `LEAST_REQUEST`, `RANDOM`, `RING_HASH` or `MAGLEV`.
    pub lb_policy: &'static str,
    /// The limits of the cluster.
    pub circuit_breakers: CircuitBreakers,
    /// Requests in flight.
    pub active_requests: u64,
    /// Requests that wait for a connection.
    pub pending_requests: u64,
    /// Retries in flight.
    pub active_retries: u64,
    /// `file:line` of the object that brought the cluster.
    pub origin: String,
    /// `file:line` of the traffic policy that set its limits, when one did.
    pub policy_origin: Option<String>,
    /// What DNS said of its names.
    pub names: Vec<NameView>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// A name of a cluster and the newest answer for it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NameView {
    /// `host:port`.
    pub name: String,
    /// Who answers: `dns`.
    pub source: &'static str,
    /// Addresses of the newest answer.
    pub addresses: usize,
    /// Seconds since that answer; none before the first one.
    pub age_s: Option<u64>,
    /// Why the last question had no answer: the addresses are stale.
    pub error: Option<String>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EndpointView {
    /// `address:port`.
    pub address: String,
    /// The name that resolved to it; empty for endpoints given by address.
    pub hostname: String,
    /// Load-balancing weight.
    pub weight: u32,
    /// Region, zone and subzone, as far as they are known.
    pub locality: String,
    /// Endpoints of the lowest number take what they can.
    pub priority: u32,
    /// What its locality weighs among those of its priority, where they are weighed.
    pub locality_weight: Option<u32>,
    /// How much of its weight it has while it warms up, in percent; 100 otherwise.
    pub warmup_percent: u32,
    /// False while outlier detection keeps it ejected, and while its health checks fail.
    pub healthy: bool,
    /// What its health checks say, where there are any.
    pub health_check: Option<HealthCheckView>,
    /// Milliseconds until an ejected endpoint returns; 0 when it is not ejected.
    pub ejected_for_ms: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Connections open.
    pub cx_active: u64,
    /// Connections opened.
    pub cx_total: u64,
    /// Connections that failed.
    pub cx_connect_fail: u64,
    /// Requests in flight.
    pub rq_active: u64,
    /// Requests sent.
    pub rq_total: u64,
    /// Requests answered with a status below 500.
    pub rq_success: u64,
    /// Requests answered with 5xx, or not at all.
    pub rq_error: u64,
    /// Requests that timed out.
    pub rq_timeout: u64,
}

/// What the health checks of an endpoint say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthCheckView {
    /// Requests do not go there.
    pub failed: bool,
    /// There was no check yet.
    pub pending: bool,
    /// The last check had no answer in time.
    pub timed_out: bool,
    /// Milliseconds since the last check; none before the first one.
    pub age_ms: Option<u64>,
    /// Why the last check failed.
    pub failure: Option<String>,
}

/// Answers `/clusters`.
pub(crate) fn respond(uri: &Uri, clusters: &[ClusterView]) -> Response {
    match Form::of(uri) {
        Some(Form::Text) => text(StatusCode::OK, clusters.iter().map(ClusterView::lines).collect::<String>()),
        Some(Form::Json) => json(&serde_json::json!({ "clusters": clusters })),
        None => unknown_form(),
    }
}

impl ClusterView {
    /// Envoy's `NAME::KEY::VALUE` lines.
    fn lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{}::{key}::{value}", self.name);
        };
        line("observability_name", &self.name);
        line("lb_policy", &self.lb_policy);
        line("default_priority::max_connections", &self.circuit_breakers.max_connections);
        line("default_priority::max_pending_requests", &self.circuit_breakers.max_pending_requests);
        line("default_priority::max_requests", &self.circuit_breakers.max_requests);
        line("default_priority::max_retries", &self.circuit_breakers.max_retries);
        line("active_requests", &self.active_requests);
        line("pending_requests", &self.pending_requests);
        line("active_retries", &self.active_retries);
        line("origin", &self.origin);
        if let Some(policy) = &self.policy_origin {
            line("policy_origin", policy);
        }
        for name in &self.names {
            let mut of_name = |key: &str, value: &dyn std::fmt::Display| line(&format!("{}::{key}", name.name), value);
            of_name("source", &name.source);
            of_name("addresses", &name.addresses);
            of_name("age_s", &name.age_s.map_or_else(|| "-".to_owned(), |age| age.to_string()));
            of_name("error", &name.error.as_deref().unwrap_or("-"));
        }
        for endpoint in &self.endpoints {
            let checked = endpoint.health_check.iter().flat_map(HealthCheckView::fields);
            for (key, value) in endpoint.fields().into_iter().chain(checked) {
                line(&format!("{}::{key}", endpoint.address), &value);
            }
        }
        lines
    }
}

impl EndpointView {
    /// Envoy's words, in its order.
    fn health_flags(&self) -> String {
        let checks = self.health_check.clone().unwrap_or_default();
        let is_ejected = self.ejected_for_ms > 0 || !self.healthy && !checks.failed;
        let flags = [
            (checks.failed, "/failed_active_hc"),
            (is_ejected, "/failed_outlier_check"),
            (checks.pending, "/pending_active_hc"),
            (checks.timed_out, "/active_hc_timeout"),
        ];
        let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
        if flags.is_empty() { "healthy".to_owned() } else { flags }
    }

    fn fields(&self) -> [(&'static str, String); 19] {
        let place = |part: usize| self.locality.splitn(3, '/').nth(part).unwrap_or_default().to_owned();
        [
            ("cx_active", self.cx_active.to_string()),
            ("cx_connect_fail", self.cx_connect_fail.to_string()),
            ("cx_total", self.cx_total.to_string()),
            ("rq_active", self.rq_active.to_string()),
            ("rq_error", self.rq_error.to_string()),
            ("rq_success", self.rq_success.to_string()),
            ("rq_timeout", self.rq_timeout.to_string()),
            ("rq_total", self.rq_total.to_string()),
            ("hostname", self.hostname.clone()),
            ("health_flags", self.health_flags()),
            ("weight", self.weight.to_string()),
            ("region", place(0)),
            ("zone", place(1)),
            ("sub_zone", place(2)),
            ("priority", self.priority.to_string()),
            ("locality_weight", self.locality_weight.map_or_else(String::new, |weight| weight.to_string())),
            ("warmup_percent", self.warmup_percent.to_string()),
            ("ejections", self.ejections.to_string()),
            ("ejected_for_ms", self.ejected_for_ms.to_string()),
        ]
    }
}

impl HealthCheckView {
    fn fields(&self) -> [(&'static str, String); 2] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            ("health_check_age_ms", or_dash(self.age_ms.map(|age| age.to_string()))),
            ("health_check_failure", or_dash(self.failure.clone())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_told_in_envoys_flags() {
        let flags = |healthy, ejected_for_ms, health_check: Option<HealthCheckView>| {
            EndpointView { healthy, ejected_for_ms, health_check, ..EndpointView::default() }.health_flags()
        };
        let failed = HealthCheckView { failed: true, ..HealthCheckView::default() };
        let timed_out = HealthCheckView { timed_out: true, ..failed.clone() };
        let pending = HealthCheckView { pending: true, ..failed.clone() };
        assert_eq!(flags(true, 0, None), "healthy");
        assert_eq!(flags(true, 0, Some(HealthCheckView::default())), "healthy");
        assert_eq!(flags(false, 0, None), "/failed_outlier_check");
        assert_eq!(flags(false, 0, Some(failed)), "/failed_active_hc");
        assert_eq!(flags(false, 0, Some(pending)), "/failed_active_hc/pending_active_hc");
        assert_eq!(flags(false, 5, Some(timed_out)), "/failed_active_hc/failed_outlier_check/active_hc_timeout");
    }
}

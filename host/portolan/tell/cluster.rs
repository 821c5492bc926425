//! A cluster's policies and endpoints in words.

use portolan_model::{
    Address, CircuitBreakers, Cluster, Discovery, Endpoint, HealthCheck, HealthProbe, Origin, OutlierDetection,
    Transport,
};

use super::{Told, balancer, time, transport};

/// Istio's default of `connectTimeout`, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Istio's default of `idleTimeout`, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;

/// All that is not as it would be by default.
pub(crate) fn policies(cluster: &Cluster) -> Vec<Told> {
    // What is not written in a rule comes from the mesh's configuration or from a port's name.
    let place = |part: &str| {
        let origin = cluster.policy_origin.as_ref()?;
        origin.parts.place(part).or_else(|| origin.parts.is_empty().then(|| origin.place()))
    };
    let told = |kind: &str, text: Option<String>| text.map(|text| Told::new(kind, text, place(kind)));
    let timeout = (cluster.connect_timeout_ms != CONNECT_TIMEOUT_MS).then(|| connect_timeout(cluster));
    let pool = [timeout, pool(cluster)].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let pool = (!pool.is_empty()).then_some(pool);
    let outlier = cluster.outlier_detection.as_ref().map(|detection| outlier(detection) + nobody(cluster, detection));
    let Transport { tls, proxy_protocol, tcp_keepalive, .. } = &cluster.transport;
    let encrypted = tls.as_ref().map(|tls| Told::new("tls", transport::tls(tls), Some(tls.origin.place())));
    let health_check =
        cluster.health_check.as_ref().map(|check| Told::new("healthCheck", checks(check), Some(check.origin.place())));
    let all = [
        told("connectionPool", pool),
        told("tcpKeepalive", tcp_keepalive.as_ref().map(transport::keepalive)),
        told("outlierDetection", outlier),
        health_check,
        told("loadBalancer", balancer::balancer(cluster)),
        told("localityLbSetting", balancer::locality(cluster)),
        told("protocol", transport::protocol(&cluster.transport)),
        encrypted,
        told("proxyProtocol", proxy_protocol.map(transport::proxy_protocol)),
        told("resolution", resolution(cluster)),
    ];
    all.into_iter().flatten().collect()
}

/// The policy that is told first, when some is written.
pub(crate) fn policies_origin(cluster: &Cluster) -> Option<&Origin> {
    cluster.policy_origin.as_ref().or_else(|| Some(&cluster.health_check.as_ref()?.origin))
}

/// None for the default, and without names.
fn resolution(cluster: &Cluster) -> Option<String> {
    if let Some(dynamic) = &cluster.dynamic {
        return Some(format!("the request's host, of {} at port {}, by DNS", dynamic.host, dynamic.port));
    }
    let one = (cluster.discovery == Discovery::LogicalDns).then(|| "one address of DNS at a time".to_owned());
    let again = cluster.dns_refresh_rate_ms.filter(|_| cluster.endpoints.iter().any(Endpoint::is_named));
    let again = again.map(|ms| format!("asked again {} after a failure", time(ms)));
    let words: Vec<_> = one.into_iter().chain(again).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// `connect timeout 10 s`.
pub(crate) fn connect_timeout(cluster: &Cluster) -> String {
    format!("connect timeout {}", time(cluster.connect_timeout_ms))
}

/// `max pending 4`, `max requests 100`; none without limits.
pub(crate) fn limits(cluster: &Cluster) -> Vec<String> {
    let CircuitBreakers { max_connections, max_pending_requests, max_requests, max_retries } = cluster.circuit_breakers;
    let limits = [
        (max_connections, "connections"),
        (max_pending_requests, "pending"),
        (max_requests, "requests"),
        (max_retries, "retries"),
    ];
    let limits = limits.iter().filter(|(limit, _)| *limit != u32::MAX);
    limits.map(|(limit, of)| format!("max {of} {limit}")).collect()
}

/// Limits, and how long connections are kept; none as it is by default.
fn pool(cluster: &Cluster) -> Option<String> {
    let mut words = limits(cluster);
    if cluster.max_requests_per_connection != 0 {
        words.push(format!("max requests per connection {}", cluster.max_requests_per_connection));
    }
    if cluster.idle_timeout_ms != IDLE_TIMEOUT_MS {
        words.push(format!("idle timeout {}", time(cluster.idle_timeout_ms)));
    }
    words.extend(cluster.max_connection_duration_ms.map(|ms| format!("max connection duration {}", time(ms))));
    (!words.is_empty()).then(|| words.join(", "))
}

/// `ejects after 5 5xx, for 30 s, at most 10 %`.
pub(crate) fn outlier(outlier: &OutlierDetection) -> String {
    let counts = [
        (outlier.consecutive_5xx, "5xx"),
        (outlier.consecutive_gateway_errors, "gateway errors"),
        (outlier.consecutive_local_origin_failures.unwrap_or(0), "failures without an answer"),
    ];
    let counts: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).map(|(n, of)| format!("{n} {of}")).collect();
    if counts.is_empty() {
        return "never ejects".to_owned();
    }
    let mut text = format!(
        "ejects after {}, for {}, at most {} %, looks every {}",
        counts.join(" or "),
        time(outlier.base_ejection_time_ms),
        outlier.max_ejection_percent,
        time(outlier.interval_ms)
    );
    if outlier.min_health_percent > 0 {
        text.push_str(&format!(", uses all below {} % healthy", outlier.min_health_percent));
    }
    text
}

/// The share counts the next one in: 10 % of fewer than ten endpoints is none.
fn nobody(cluster: &Cluster, outlier: &OutlierDetection) -> &'static str {
    let endpoints = &cluster.endpoints;
    let is_none = !endpoints.is_empty() && outlier.max_ejection_percent as usize * endpoints.len() < 100;
    if is_none && !endpoints.iter().any(Endpoint::is_named) { " (of so few endpoints none)" } else { "" }
}

/// `GET /healthz every 5 s, within 1 s, unhealthy after 3 failures, healthy after 1`.
fn checks(check: &HealthCheck) -> String {
    let asked = match &check.probe {
        HealthProbe::Http(http) => format!("{} {}", http.method, http.path),
        HealthProbe::Grpc { service } if service.is_empty() => "gRPC".to_owned(),
        HealthProbe::Grpc { service } => format!("gRPC of {service}"),
        HealthProbe::Tcp { send, receive } if send.is_empty() && receive.is_empty() => "TCP connection".to_owned(),
        HealthProbe::Tcp { .. } => "TCP exchange".to_owned(),
    };
    let port = check.port.map_or_else(String::new, |port| format!(" at port {port}"));
    format!(
        "{asked}{port} every {}, within {}, unhealthy after {} failures, healthy after {}",
        time(check.intervals.interval_ms),
        time(check.timeout_ms),
        check.unhealthy_threshold,
        check.healthy_threshold
    )
}

/// Addresses, or names that DNS resolves; weights where they differ.
pub(crate) fn endpoints(cluster: &Cluster) -> Vec<String> {
    let text = |address: &Address| match address {
        Address::Socket(address) => address.to_string(),
        Address::Pipe(path) => format!("unix://{path}"),
        Address::Dns { host, port } => format!("{host}:{port} (DNS)"),
    };
    let mut weights = cluster.endpoints.iter().map(|endpoint| endpoint.weight);
    let first = weights.next();
    let differ = weights.any(|weight| Some(weight) != first);
    let weight = |e: &Endpoint| if differ { format!(" weight {}", e.weight) } else { String::new() };
    cluster.endpoints.iter().map(|endpoint| text(&endpoint.address) + &weight(endpoint)).collect()
}

/// Without policies, for tests.
#[cfg(test)]
pub(crate) fn plain(endpoints: u8) -> Cluster {
    let endpoint = |last: u8| Endpoint {
        address: Address::Socket(([10, 0, 0, last], 80).into()),
        weight: 1,
        locality: String::new(),
        priority: 0,
        locality_weight: None,
        workload: None,
        origin: Default::default(),
    };
    Cluster {
        name: "outbound|80||app".to_owned(),
        undefined: false,
        endpoints: (1..=endpoints).map(endpoint).collect(),
        discovery: Discovery::default(),
        dynamic: None,
        dns_refresh_rate_ms: None,
        lb_policy: Default::default(),
        hash_policy: None,
        slow_start: None,
        connect_timeout_ms: CONNECT_TIMEOUT_MS,
        idle_timeout_ms: IDLE_TIMEOUT_MS,
        max_connection_duration_ms: None,
        max_requests_per_connection: 0,
        retry_budget: None,
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        health_check: None,
        transport: Transport::default(),
        origin: Default::default(),
        policy_origin: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_endpoints_are_told_where_they_differ() {
        let mut cluster = plain(2);
        assert_eq!(endpoints(&cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
        cluster.endpoints[1].weight = 3;
        assert_eq!(endpoints(&cluster), ["10.0.0.1:80 weight 1", "10.0.0.2:80 weight 3"]);
    }

    #[test]
    fn a_cluster_as_it_is_by_default_has_nothing_to_tell() {
        assert_eq!(policies(&plain(1)), []);
    }
}

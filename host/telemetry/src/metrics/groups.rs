//! The groups of metrics: one struct per kind of thing that is counted, one field per series.
//!
//! Names are Envoy's as its `/stats/prometheus` page spells them, so that dashboards made for Envoy and Istio work.

use prometheus::proto::{LabelPair, MetricFamily};

use super::by_callback::{CallsByCallback, TimeByCallback};
use super::cells::{ByVersion, Cell, Counter, Gauge, Histogram, ResponseClasses, ResponseCodes, Results, States};

/// A struct of cells that share their labels.
pub(super) trait Group: Sized {
    /// One family per field, with a sample of each member.
    fn families(members: &[(Vec<LabelPair>, &Self)]) -> Vec<MetricFamily>;
}

macro_rules! group {
    ($(#[doc = $doc:literal])+ $name:ident { $($field:ident: $cell:ty = $series:literal, $help:literal;)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Default)]
        pub struct $name {
            $(#[doc = concat!("`", $series, "`: ", $help, ".")] pub $field: $cell,)+
        }

        impl Group for $name {
            fn families(members: &[(Vec<LabelPair>, &Self)]) -> Vec<MetricFamily> {
                vec![$(family($series, $help, members, |group| &group.$field)),+]
            }
        }
    };
}

group! {
    /// Connections of a listener, label `envoy_listener_address`.
    ListenerMetrics {
        downstream_cx_total: Counter = "envoy_listener_downstream_cx_total", "Connections accepted";
        downstream_cx_active: Gauge = "envoy_listener_downstream_cx_active", "Connections open now";
        downstream_cx_destroy: Counter = "envoy_listener_downstream_cx_destroy", "Connections ended";
        downstream_cx_overflow: Counter = "envoy_listener_downstream_cx_overflow",
            "Connections refused at the listener's limit";
        downstream_global_cx_overflow: Counter = "envoy_listener_downstream_global_cx_overflow",
            "Connections refused at the process's limit";
        downstream_cx_overload_reject: Counter = "envoy_listener_downstream_cx_overload_reject",
            "Connections refused because memory was short";
        downstream_cx_source_overflow: Counter = "portolan_listener_downstream_cx_source_overflow",
            "Connections refused at the limit of their client's address";
        downstream_pre_cx_timeout: Counter = "envoy_listener_downstream_pre_cx_timeout",
            "Connections closed because the header of the PROXY protocol did not come in time";
        no_filter_chain_match: Counter = "envoy_listener_no_filter_chain_match",
            "Connections that no filter chain matched";
        downstream_cx_transport_socket_connect_timeout: Counter =
            "envoy_listener_downstream_cx_transport_socket_connect_timeout", "TLS handshakes that took too long";
        ssl_handshake: Counter = "envoy_listener_ssl_handshake", "TLS handshakes done";
        ssl_connection_error: Counter = "envoy_listener_ssl_connection_error", "TLS handshakes that failed";
        ssl_session_reused: Counter = "envoy_listener_ssl_session_reused", "TLS sessions that were resumed";
        ssl_no_certificate: Counter = "envoy_listener_ssl_no_certificate",
            "TLS handshakes done without a client's certificate";
        ssl_fail_verify_no_cert: Counter = "envoy_listener_ssl_fail_verify_no_cert",
            "TLS handshakes that failed for want of a client's certificate";
        ssl_fail_verify_error: Counter = "envoy_listener_ssl_fail_verify_error",
            "TLS handshakes that failed for a client's certificate that does not count";
        ssl_fail_verify_san: Counter = "envoy_listener_ssl_fail_verify_san",
            "TLS handshakes that failed for a client's certificate that is none of those wanted";
    }
}

group! {
    /// Requests of a listener, label `envoy_http_conn_manager_prefix`.
    HttpMetrics {
        downstream_cx_total: Counter = "envoy_http_downstream_cx_total", "Connections accepted";
        downstream_cx_active: Gauge = "envoy_http_downstream_cx_active", "Connections open now";
        downstream_cx_destroy: Counter = "envoy_http_downstream_cx_destroy", "Connections ended";
        downstream_cx_destroy_remote: Counter = "envoy_http_downstream_cx_destroy_remote",
            "Connections ended by the client";
        downstream_cx_destroy_local: Counter = "envoy_http_downstream_cx_destroy_local",
            "Connections ended by the gateway";
        downstream_cx_destroy_active_rq: Counter = "envoy_http_downstream_cx_destroy_active_rq",
            "Connections ended with requests in flight";
        downstream_cx_http1_total: Counter = "envoy_http_downstream_cx_http1_total", "HTTP/1 connections accepted";
        downstream_cx_http2_total: Counter = "envoy_http_downstream_cx_http2_total", "HTTP/2 connections accepted";
        downstream_cx_http3_total: Counter = "envoy_http_downstream_cx_http3_total", "HTTP/3 connections accepted";
        downstream_cx_protocol_error: Counter = "envoy_http_downstream_cx_protocol_error",
            "Connections ended for a protocol error";
        downstream_cx_idle_timeout: Counter = "envoy_http_downstream_cx_idle_timeout",
            "Connections ended for idleness";
        downstream_cx_parked: Gauge = "portolan_http_downstream_cx_parked",
            "Idle HTTP/1 connections that hold nothing but their socket";
        downstream_cx_drain_close: Counter = "envoy_http_downstream_cx_drain_close",
            "Connections ended by draining";
        downstream_rq_total: Counter = "envoy_http_downstream_rq_total", "Requests";
        downstream_rq_active: Gauge = "envoy_http_downstream_rq_active", "Requests in flight now";
        downstream_rq_completed: Counter = "envoy_http_downstream_rq_completed",
            "Requests that got a response";
        downstream_rq_http1_total: Counter = "envoy_http_downstream_rq_http1_total", "HTTP/1 requests";
        downstream_rq_http2_total: Counter = "envoy_http_downstream_rq_http2_total", "HTTP/2 requests";
        downstream_rq_http3_total: Counter = "envoy_http_downstream_rq_http3_total", "HTTP/3 requests";
        downstream_rq_xx: ResponseClasses = "envoy_http_downstream_rq_xx", "Responses by class of status";
        downstream_rq_time: Histogram = "envoy_http_downstream_rq_time", "Time of requests in milliseconds";
        downstream_rq_rx_reset: Counter = "envoy_http_downstream_rq_rx_reset", "Requests reset by the client";
        downstream_rq_tx_reset: Counter = "envoy_http_downstream_rq_tx_reset", "Requests reset by the gateway";
        downstream_rq_timeout: Counter = "envoy_http_downstream_rq_timeout",
            "Requests ended by the request timeout";
        downstream_rq_idle_timeout: Counter = "envoy_http_downstream_rq_idle_timeout",
            "Requests ended because nothing went either way";
        downstream_rq_too_large: Counter = "envoy_http_downstream_rq_too_large",
            "Requests whose head or body was too large";
        downstream_rq_header_timeout: Counter = "envoy_http_downstream_rq_header_timeout",
            "Requests whose head came too slowly";
        downstream_rq_overload_close: Counter = "envoy_http_downstream_rq_overload_close",
            "Requests refused under overload";
        downstream_rq_ws_on_non_ws_route: Counter = "envoy_http_downstream_rq_ws_on_non_ws_route",
            "Upgrades refused";
        downstream_rq_too_many_premature_resets: Counter = "envoy_http_downstream_rq_too_many_premature_resets",
            "HTTP/2 connections ended because their client reset too many requests";
        no_route: Counter = "envoy_http_no_route", "Requests that no route matched";
        no_cluster: Counter = "envoy_http_no_cluster", "Requests whose route names an unknown cluster";
    }
}

group! {
    /// What is refused or changed where it comes in from outside, over all listeners.
    EdgeMetrics {
        http1_requests_rejected_with_underscores: Counter =
            "envoy_http1_requests_rejected_with_underscores_in_headers",
            "HTTP/1 requests refused for a `_` in a header's name";
        http1_dropped_headers_with_underscores: Counter = "envoy_http1_dropped_headers_with_underscores",
            "Headers of HTTP/1 requests left out for a `_` in their name";
        http2_requests_rejected_with_underscores: Counter =
            "envoy_http2_requests_rejected_with_underscores_in_headers",
            "HTTP/2 requests refused for a `_` in a header's name";
        http2_dropped_headers_with_underscores: Counter = "envoy_http2_dropped_headers_with_underscores",
            "Headers of HTTP/2 requests left out for a `_` in their name";
        proxy_proto_found: ByVersion = "envoy_proxy_proto_found", "Headers of the PROXY protocol";
        proxy_proto_error: ByVersion = "envoy_proxy_proto_error",
            "Connections closed for a malformed header of the PROXY protocol";
        proxy_proto_not_found_allowed: Counter = "envoy_proxy_proto_not_found_allowed",
            "Connections served without a header of the PROXY protocol";
        proxy_proto_not_found_disallowed: Counter = "envoy_proxy_proto_not_found_disallowed",
            "Connections closed for want of a header of the PROXY protocol";
        heap_pressure: Gauge = "envoy_overload_envoy_resource_monitors_fixed_heap_pressure",
            "Resident memory in percent of `--max-memory`";
        stop_accepting_requests: Gauge = "envoy_overload_envoy_overload_actions_stop_accepting_requests_active",
            "1 while memory is so short that new requests get 503";
        stop_accepting_connections: Gauge =
            "envoy_overload_envoy_overload_actions_reject_incoming_connections_active",
            "1 while memory is so short that new connections are closed";
        downstream_cx_proxy_proto_error: Counter = "envoy_downstream_cx_proxy_proto_error",
            "Connections closed for an error of the PROXY protocol";
    }
}

group! {
    /// What clients do over HTTP/2.
    Http2Metrics {
        rx_reset: Counter = "envoy_http2_rx_reset", "Streams reset by the client";
        rx_messaging_error: Counter = "envoy_http2_rx_messaging_error",
            "Frames that must not be, which end the connection, and heads, which end their stream";
        header_overflow: Counter = "envoy_http2_header_overflow", "Requests refused for the size of their head";
        trailers: Counter = "envoy_http2_trailers", "Trailers of requests";
        keepalive_timeout: Counter = "envoy_http2_keepalive_timeout", "Connections ended because no PING was answered";
        inbound_empty_frames_flood: Counter = "envoy_http2_inbound_empty_frames_flood",
            "Connections ended for too many frames of DATA with nothing in them";
        inbound_priority_frames_flood: Counter = "envoy_http2_inbound_priority_frames_flood",
            "Connections ended for too many PRIORITY frames";
        inbound_window_update_frames_flood: Counter = "envoy_http2_inbound_window_update_frames_flood",
            "Connections ended for too many WINDOW_UPDATE frames";
        outbound_control_flood: Counter = "envoy_http2_outbound_control_flood",
            "Connections ended for too many frames that want an answer: PING, SETTINGS, faulty streams";
    }
}

group! {
    /// Connections of TCP listeners, label `envoy_tcp_prefix`.
    TcpMetrics {
        downstream_cx_total: Counter = "envoy_tcp_downstream_cx_total", "Connections accepted";
        downstream_cx_no_route: Counter = "envoy_tcp_downstream_cx_no_route",
            "Connections whose route names an unknown cluster";
        downstream_cx_rx_bytes_total: Counter = "envoy_tcp_downstream_cx_rx_bytes_total", "Bytes received";
        downstream_cx_tx_bytes_total: Counter = "envoy_tcp_downstream_cx_tx_bytes_total", "Bytes sent";
        idle_timeout: Counter = "envoy_tcp_idle_timeout", "Connections ended for idleness";
        max_downstream_connection_duration: Counter = "envoy_tcp_max_downstream_connection_duration",
            "Connections ended at their longest duration";
    }
}

group! {
    /// Sessions of UDP listeners, label `envoy_udp_prefix`.
    UdpMetrics {
        downstream_sess_total: Counter = "envoy_udp_downstream_sess_total", "Sessions begun";
        downstream_sess_active: Gauge = "envoy_udp_downstream_sess_active", "Sessions that are open";
        downstream_sess_no_route: Counter = "envoy_udp_downstream_sess_no_route",
            "Datagrams dropped whose route names an unknown cluster";
        downstream_sess_rx_bytes: Counter = "envoy_udp_downstream_sess_rx_bytes", "Bytes received from clients";
        downstream_sess_rx_datagrams: Counter = "envoy_udp_downstream_sess_rx_datagrams",
            "Datagrams received from clients";
        downstream_sess_rx_errors: Counter = "envoy_udp_downstream_sess_rx_errors",
            "Datagrams of clients that could not be received";
        downstream_sess_tx_bytes: Counter = "envoy_udp_downstream_sess_tx_bytes", "Bytes sent to clients";
        downstream_sess_tx_datagrams: Counter = "envoy_udp_downstream_sess_tx_datagrams", "Datagrams sent to clients";
        downstream_sess_tx_errors: Counter = "envoy_udp_downstream_sess_tx_errors",
            "Datagrams dropped that could not be sent to a client";
        downstream_sess_overflow: Counter = "portolan_udp_downstream_sess_overflow",
            "Datagrams dropped that would have begun a session too many";
        idle_timeout: Counter = "envoy_udp_idle_timeout", "Sessions ended for idleness";
        upstream_errors: Counter = "portolan_udp_upstream_errors",
            "Datagrams to and from endpoints that could not be sent or received";
    }
}

group! {
    /// A certificate that listeners show, label `secret`.
    CertificateMetrics {
        expiration_seconds: Gauge = "portolan_certificate_expiration_unix_time_seconds",
            "Unix time at which the first certificate of the chain ends";
    }
}

group! {
    /// An upstream cluster, label `envoy_cluster_name`.
    ClusterMetrics {
        upstream_cx_total: Counter = "envoy_cluster_upstream_cx_total", "Connections opened";
        upstream_cx_active: Gauge = "envoy_cluster_upstream_cx_active", "Connections open now";
        upstream_cx_http1_total: Counter = "envoy_cluster_upstream_cx_http1_total", "HTTP/1 connections opened";
        upstream_cx_http2_total: Counter = "envoy_cluster_upstream_cx_http2_total", "HTTP/2 connections opened";
        upstream_cx_connect_fail: Counter = "envoy_cluster_upstream_cx_connect_fail", "Connections that failed";
        upstream_cx_connect_timeout: Counter = "envoy_cluster_upstream_cx_connect_timeout",
            "Connections that timed out";
        upstream_cx_connect_attempts_exceeded: Counter = "envoy_cluster_upstream_cx_connect_attempts_exceeded",
            "TCP connections closed because no upstream connection could be opened";
        upstream_cx_overflow: Counter = "envoy_cluster_upstream_cx_overflow",
            "Times that the connection limit was met";
        upstream_cx_max_requests: Counter = "envoy_cluster_upstream_cx_max_requests",
            "Connections ended at their number of requests";
        upstream_cx_idle_timeout: Counter = "envoy_cluster_upstream_cx_idle_timeout",
            "Connections ended for idleness";
        upstream_cx_protocol_error: Counter = "envoy_cluster_upstream_cx_protocol_error",
            "Connections with a protocol error";
        upstream_cx_destroy: Counter = "envoy_cluster_upstream_cx_destroy", "Connections ended";
        upstream_cx_destroy_local: Counter = "envoy_cluster_upstream_cx_destroy_local",
            "Connections ended by the gateway";
        upstream_cx_destroy_remote: Counter = "envoy_cluster_upstream_cx_destroy_remote",
            "Connections ended by the upstream";
        upstream_cx_destroy_with_active_rq: Counter = "envoy_cluster_upstream_cx_destroy_with_active_rq",
            "Connections ended with a request in flight";
        ssl_handshake: Counter = "envoy_cluster_ssl_handshake", "TLS handshakes with endpoints";
        ssl_session_reused: Counter = "envoy_cluster_ssl_session_reused", "TLS sessions taken up again";
        ssl_connection_error: Counter = "envoy_cluster_ssl_connection_error",
            "TLS connections that failed for another cause than the certificate";
        ssl_fail_verify_error: Counter = "envoy_cluster_ssl_fail_verify_error", "Certificates that are not trusted";
        ssl_fail_verify_san: Counter = "envoy_cluster_ssl_fail_verify_san", "Certificates without a wanted name";
        upstream_rq_total: Counter = "envoy_cluster_upstream_rq_total", "Requests";
        upstream_rq_active: Gauge = "envoy_cluster_upstream_rq_active", "Requests in flight now";
        upstream_rq_completed: Counter = "envoy_cluster_upstream_rq_completed",
            "Requests that the upstream, or the gateway in its place, has answered";
        upstream_rq_pending_total: Counter = "envoy_cluster_upstream_rq_pending_total",
            "Requests that waited for a connection";
        upstream_rq_pending_active: Gauge = "envoy_cluster_upstream_rq_pending_active",
            "Requests that wait for a connection now";
        upstream_rq_pending_overflow: Counter = "envoy_cluster_upstream_rq_pending_overflow",
            "Requests refused by the circuit breaker";
        upstream_rq_pending_failure_eject: Counter = "envoy_cluster_upstream_rq_pending_failure_eject",
            "Requests failed because no connection could be opened";
        upstream_rq_timeout: Counter = "envoy_cluster_upstream_rq_timeout", "Requests that timed out";
        upstream_rq_per_try_timeout: Counter = "envoy_cluster_upstream_rq_per_try_timeout", "Tries that timed out";
        upstream_rq_rx_reset: Counter = "envoy_cluster_upstream_rq_rx_reset", "Requests reset by the upstream";
        upstream_rq_tx_reset: Counter = "envoy_cluster_upstream_rq_tx_reset", "Requests reset by the gateway";
        upstream_rq_cancelled: Counter = "envoy_cluster_upstream_rq_cancelled",
            "Requests cancelled while they waited for a connection";
        upstream_rq_retry: Counter = "envoy_cluster_upstream_rq_retry", "Retries";
        upstream_rq_retry_success: Counter = "envoy_cluster_upstream_rq_retry_success", "Retries that succeeded";
        upstream_rq_retry_overflow: Counter = "envoy_cluster_upstream_rq_retry_overflow",
            "Retries refused by the circuit breaker";
        upstream_rq_retry_limit_exceeded: Counter = "envoy_cluster_upstream_rq_retry_limit_exceeded",
            "Requests that used all their retries";
        upstream_rq_xx: ResponseClasses = "envoy_cluster_upstream_rq_xx", "Those answers by class of status";
        upstream_rq_time: Histogram = "envoy_cluster_upstream_rq_time", "Time of requests in milliseconds";
        upstream_cx_none_healthy: Counter = "envoy_cluster_upstream_cx_none_healthy",
            "Requests refused because no endpoint was healthy";
        lb_healthy_panic: Counter = "envoy_cluster_lb_healthy_panic",
            "Picks among all endpoints because too few were healthy";
        membership_total: Gauge = "envoy_cluster_membership_total", "Endpoints";
        membership_healthy: Gauge = "envoy_cluster_membership_healthy", "Endpoints that are neither ejected nor failing their health checks";
        membership_change: Counter = "envoy_cluster_membership_change", "Changes of the endpoints";
        update_success: Counter = "envoy_cluster_update_success", "DNS resolutions that succeeded";
        update_failure: Counter = "envoy_cluster_update_failure", "DNS resolutions that failed";
        outlier_detection_ejections_active: Gauge = "envoy_cluster_outlier_detection_ejections_active",
            "Endpoints ejected now";
        outlier_detection_ejections_total: Counter = "envoy_cluster_outlier_detection_ejections_total",
            "Ejections that were called for";
        outlier_detection_ejections_overflow: Counter = "envoy_cluster_outlier_detection_ejections_overflow",
            "Ejections not done at the ejection limit";
        outlier_detection_ejections_enforced_total: Counter =
            "envoy_cluster_outlier_detection_ejections_enforced_total", "Ejections done";
        outlier_detection_ejections_enforced_consecutive_5xx: Counter =
            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_5xx",
            "Ejections for consecutive 5xx responses";
        outlier_detection_ejections_enforced_consecutive_gateway_failure: Counter =
            "envoy_cluster_outlier_detection_ejections_enforced_consecutive_gateway_failure",
            "Ejections for consecutive 502, 503 or 504 responses";
    }
}

group! {
    /// Requests of routes with a `statPrefix`, labels `envoy_virtual_host` and `envoy_route`. Envoy's names where a virtual
    /// host's name has no dot; else Envoy makes parts of the host parts of the metric's name.
    RouteMetrics {
        upstream_rq_total: Counter = "envoy_vhost_route_upstream_rq_total", "Requests sent to endpoints, retries too";
        upstream_rq_completed: Counter = "envoy_vhost_route_upstream_rq_completed",
            "Requests that the upstream, or the gateway in its place, has answered";
        upstream_rq: ResponseCodes = "envoy_vhost_route_upstream_rq", "Those answers by status";
        upstream_rq_xx: ResponseClasses = "envoy_vhost_route_upstream_rq_xx", "Those answers by class of status";
        upstream_rq_time: Histogram = "envoy_vhost_route_upstream_rq_time", "Time of requests in milliseconds";
        upstream_rq_timeout: Counter = "envoy_vhost_route_upstream_rq_timeout", "Requests that timed out";
        upstream_rq_retry: Counter = "envoy_vhost_route_upstream_rq_retry", "Retries";
        upstream_rq_retry_success: Counter = "envoy_vhost_route_upstream_rq_retry_success",
            "Retries that succeeded";
        upstream_rq_retry_overflow: Counter = "envoy_vhost_route_upstream_rq_retry_overflow",
            "Retries refused by the circuit breaker";
        upstream_rq_retry_limit_exceeded: Counter = "envoy_vhost_route_upstream_rq_retry_limit_exceeded",
            "Requests that used all their retries";
    }
}

group! {
    /// Active health checks of an upstream cluster, label `envoy_cluster_name`.
    HealthCheckMetrics {
        attempt: Counter = "envoy_cluster_health_check_attempt", "Health checks";
        success: Counter = "envoy_cluster_health_check_success", "Health checks that succeeded";
        failure: Counter = "envoy_cluster_health_check_failure", "Health checks that failed";
        network_failure: Counter = "envoy_cluster_health_check_network_failure",
            "Health checks that failed without an answer";
        healthy: Gauge = "envoy_cluster_health_check_healthy", "Endpoints whose health checks succeed";
    }
}

group! {
    /// A Wasm filter, label `plugin`.
    FilterMetrics {
        calls_total: CallsByCallback = "portolan_filter_calls_total", "Calls into the filter by callback";
        cpu_seconds: TimeByCallback = "portolan_filter_cpu_seconds",
            "CPU time of calls by callback; quick calls are sampled and stand for the others";
        traps_total: Counter = "portolan_filter_traps_total", "Calls that ended in a trap";
        deadlines_total: Counter = "portolan_filter_deadlines_total", "Calls cut at their deadline";
        memory_limit_total: Counter = "portolan_filter_memory_limit_total", "Calls that ended at the memory limit";
        restarts_total: Counter = "portolan_filter_restarts_total", "Filter VMs started to replace a failed one";
        back_offs_total: Counter = "portolan_filter_back_offs_total",
            "Times that the filter was put aside because it kept failing";
        unavailable_total: Counter = "portolan_filter_unavailable_total",
            "Requests that met the filter while it could not run";
        budget_exhausted_total: Counter = "portolan_filter_budget_exhausted_total",
            "Calls not made because the CPU time of the second was used up";
        log_dropped_total: Counter = "portolan_filter_log_dropped_total", "Log lines dropped at the filter's limit";
        memory_bytes: Gauge = "portolan_filter_memory_bytes", "Linear memory of all VMs of the filter";
        vms: Gauge = "portolan_filter_vms", "VMs of the filter, spares included";
        streams: Gauge = "portolan_filter_streams", "Streams that have a context in the filter now";
        canary: Gauge = "portolan_filter_canary",
            "1 while a new version is tried on some requests, 2 when it was taken back, else 0";
        canary_streams_total: Counter = "portolan_filter_canary_streams_total", "Streams that a new version was tried on";
        canary_returns_total: Counter = "portolan_filter_canary_returns_total",
            "New versions taken back because they did worse";
        generations: Gauge = "portolan_filter_generations", "Generations of the filter that still serve streams";
    }
}

group! {
    /// The process.
    ServerMetrics {
        live: Gauge = "envoy_server_live", "1 when the server serves, 0 while it starts or drains";
        state: Gauge = "envoy_server_state", "0 live, 1 draining, 2 pre-initializing, 3 initializing";
        concurrency: Gauge = "envoy_server_concurrency", "Worker threads";
        total_listeners_active: Gauge = "envoy_listener_manager_total_listeners_active", "Listeners that accept";
        total_listeners_draining: Gauge = "envoy_listener_manager_total_listeners_draining",
            "Listeners that finish their connections";
        listener_create_failure: Counter = "envoy_listener_manager_listener_create_failure",
            "Listeners that could not be opened";
        panics_total: Counter = "portolan_panics_total", "Streams ended by a fault of the gateway itself";
    }
}

group! {
    /// The access log.
    AccessLogMetrics {
        lines_total: Counter = "portolan_access_log_lines_total", "Lines handed to the writer";
        dropped_total: Counter = "portolan_access_log_dropped_total", "Lines dropped because the writer was behind";
        write_failed_total: Counter = "portolan_access_log_write_failed_total", "Lines lost in failed writes";
        reopened_total: Counter = "portolan_access_log_reopened_total", "Times that the file was opened again";
    }
}

/// Traces that are sent in the form of one tracer: series `envoy_tracing_TRACER_...`.
#[derive(Debug, Default)]
pub struct TracerMetrics {
    /// `spans_sent`: spans that the collector has taken.
    pub spans_sent: Counter,
    /// `spans_dropped`: spans lost because the collector was away, or behind.
    pub spans_dropped: Counter,
    /// `timer_flushed`: times that spans were sent because they had waited long enough.
    pub timer_flushed: Counter,
}

impl TracerMetrics {
    /// One family per field, of the tracer of this name.
    pub(super) fn families(&self, tracer: &str) -> [MetricFamily; 3] {
        let of = |name: &str, help: &str, field: fn(&Self) -> &Counter| {
            family(&format!("envoy_tracing_{tracer}_{name}"), help, &[(Vec::new(), self)], field)
        };
        [
            of("spans_sent", "Spans that the collector has taken", |all| &all.spans_sent),
            of("spans_dropped", "Spans lost because the collector was away, or behind", |all| &all.spans_dropped),
            of("timer_flushed", "Times that spans were sent because they had waited long enough", |all| {
                &all.timer_flushed
            }),
        ]
    }
}

group! {
    /// Changes of the configuration.
    ConfigMetrics {
        reload_total: Results = "portolan_config_reload_total", "Changes of configuration by what came of them";
        last_reload_successful: Gauge = "portolan_config_last_reload_successful",
            "1 when the last change of configuration was taken";
        last_reload_success_timestamp_seconds: Gauge = "portolan_config_last_reload_success_timestamp_seconds",
            "Unix time at which a change of configuration was taken last";
        objects: States = "portolan_config_objects", "Objects of the configuration by state";
        generation: Gauge = "portolan_config_generation", "Number of the configuration that serves";
    }
}

fn family<G, C: Cell>(
    name: &str,
    help: &str,
    members: &[(Vec<LabelPair>, &G)],
    field: impl Fn(&G) -> &C,
) -> MetricFamily {
    let mut samples = Vec::with_capacity(members.len());
    for (labels, group) in members {
        field(group).collect(labels, &mut samples);
    }
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(C::TYPE);
    family.set_metric(samples);
    family
}

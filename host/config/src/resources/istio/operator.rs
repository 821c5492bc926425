//! Spec of the `IstioOperator`, of which the ports of ingress gateways and the mesh configuration are read, and
//! [`MeshConfig`], which also stands in the ConfigMap `istio`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::ext_authz::{ExtAuthzGrpc, ExtAuthzHttp};
use super::tracing::{OpenTelemetryProvider, ProxyTracing, ZipkinProvider};
use super::virtual_service::HttpRetry;

/// An installation of Istio.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct IstioOperator {
    /// Mesh-wide settings.
    pub mesh_config: Option<MeshConfig>,
    /// What is installed.
    pub components: Option<Components>,
    // The rest is of no use here; see the Istio API.
    pub profile: Option<Value>,
    pub install_package_path: Option<Value>,
    pub hub: Option<Value>,
    pub tag: Option<Value>,
    pub resource_suffix: Option<Value>,
    pub namespace: Option<Value>,
    pub revision: Option<Value>,
    pub default_revision: Option<Value>,
    pub compatibility_version: Option<Value>,
    pub addon_components: Option<Value>,
    pub values: Option<Value>,
    pub unvalidated_values: Option<Value>,
}

/// What is installed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Components {
    /// Ingress gateways with their Services.
    pub ingress_gateways: Vec<GatewayComponent>,
    // The rest is of no use here.
    pub base: Option<Value>,
    pub pilot: Option<Value>,
    pub proxy: Option<Value>,
    pub sidecar_injector: Option<Value>,
    pub policy: Option<Value>,
    pub telemetry: Option<Value>,
    pub citadel: Option<Value>,
    pub node_agent: Option<Value>,
    pub galley: Option<Value>,
    pub cni: Option<Value>,
    pub ztunnel: Option<Value>,
    pub istiod_remote: Option<Value>,
    pub egress_gateways: Option<Value>,
}

/// One gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayComponent {
    /// Only enabled ones count; absent means no.
    pub enabled: Option<bool>,
    /// Name of the Deployment and the Service.
    pub name: Option<String>,
    /// Namespace of both.
    pub namespace: Option<String>,
    /// Labels of the gateway's Pods.
    pub label: BTreeMap<String, String>,
    /// Kubernetes settings.
    pub k8s: Option<GatewayK8s>,
    // The rest is of no use here.
    pub hub: Option<Value>,
    pub tag: Option<Value>,
}

/// Kubernetes settings of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayK8s {
    /// The Service in front of the gateway.
    pub service: Option<GatewayService>,
    // The rest is of no use here.
    pub affinity: Option<Value>,
    pub env: Option<Value>,
    pub hpa_spec: Option<Value>,
    pub image_pull_policy: Option<Value>,
    pub node_selector: Option<Value>,
    pub pod_disruption_budget: Option<Value>,
    pub pod_annotations: Option<Value>,
    pub priority_class_name: Option<Value>,
    pub readiness_probe: Option<Value>,
    pub replica_count: Option<Value>,
    pub resources: Option<Value>,
    pub strategy: Option<Value>,
    pub tolerations: Option<Value>,
    pub service_annotations: Option<Value>,
    pub security_context: Option<Value>,
    pub volumes: Option<Value>,
    pub volume_mounts: Option<Value>,
    pub overlays: Option<Value>,
}

/// The Service in front of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayService {
    /// Service ports with their target ports.
    pub ports: Vec<GatewayServicePort>,
    // The rest is of no use here.
    pub selector: Option<Value>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Value>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Value>,
    #[serde(rename = "type")]
    pub service_type: Option<Value>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Value>,
    pub session_affinity: Option<Value>,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<Value>,
    pub load_balancer_source_ranges: Option<Value>,
    pub load_balancer_class: Option<Value>,
    pub allocate_load_balancer_node_ports: Option<Value>,
    pub external_name: Option<Value>,
    pub external_traffic_policy: Option<Value>,
    pub internal_traffic_policy: Option<Value>,
    pub health_check_node_port: Option<Value>,
    pub publish_not_ready_addresses: Option<Value>,
    pub session_affinity_config: Option<Value>,
    pub ip_families: Option<Value>,
    pub ip_family_policy: Option<Value>,
    pub traffic_distribution: Option<Value>,
}

/// A port of that Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayServicePort {
    /// Any.
    pub name: Option<String>,
    /// What Gateways name.
    pub port: u32,
    /// `TCP` when absent.
    pub protocol: Option<String>,
    /// Number (names cannot be resolved here); `port` when absent.
    pub target_port: Option<Value>,
    /// Of no use here.
    pub node_port: Option<u32>,
    /// Of no use here.
    pub app_protocol: Option<String>,
}

/// Mesh-wide settings.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MeshConfig {
    /// Path of the access log; empty means none.
    pub access_log_file: Option<String>,
    /// Format string, or with encoding JSON an object of such, as text; Istio's default when empty.
    pub access_log_format: Option<String>,
    /// `TEXT` by default, `JSON`.
    pub access_log_encoding: Option<String>,
    /// Where Telemetries may send what they tell; `envoy`, Istio's own, logs to standard output.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Providers when no Telemetry names any.
    pub default_providers: Option<DefaultProviders>,
    /// Namespace whose objects count everywhere; `istio-system` by default.
    pub root_namespace: Option<String>,
    /// Duration, 10 s by default.
    pub connect_timeout: Option<String>,
    /// Who sees Services and ServiceEntries that do not say so; `.` or `*`, the default.
    pub default_service_export_to: Option<Vec<String>>,
    /// Who sees VirtualServices that do not say so.
    pub default_virtual_service_export_to: Option<Vec<String>>,
    /// Who sees DestinationRules that do not say so.
    pub default_destination_rule_export_to: Option<Vec<String>>,
    /// How paths are made canonical.
    pub path_normalization: Option<ProxyPathNormalization>,
    /// For clusters whose DestinationRule has none of its own.
    pub locality_lb_setting: Option<super::load_balancer::LocalityLbSetting>,
    pub tcp_keepalive: Option<super::destination_rule::TcpKeepalive>,
    /// `UPGRADE`: HTTP/2 to all ports that speak HTTP.
    pub h2_upgrade_policy: Option<String>,
    /// Check certificates of endpoints against the system's authorities where a rule names none; true by default.
    pub verify_certificate_at_client: Option<bool>,
    /// Duration: when DNS is asked again where its answer does not say so.
    pub dns_refresh_rate: Option<String>,
    /// For servers that do not say it themselves, and for TLS to backends.
    pub tls_defaults: Option<TlsDefaults>,
    /// For rules without `retries`.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// Traces without a Telemetry, for which Istio needs a tracer of `defaultConfig`: said aloud.
    pub enable_tracing: Option<bool>,
    /// Of proxies, this gateway among them.
    pub default_config: Option<ProxyConfig>,
    // The rest is not read; see the Istio API.
    pub proxy_listen_port: Option<Value>,
    pub proxy_inbound_listen_port: Option<Value>,
    pub proxy_http_port: Option<Value>,
    pub ingress_class: Option<Value>,
    pub ingress_service: Option<Value>,
    pub ingress_controller_mode: Option<Value>,
    pub ingress_selector: Option<Value>,
    pub enable_envoy_access_log_service: Option<Value>,
    pub disable_envoy_listener_log: Option<Value>,
    pub outbound_traffic_policy: Option<Value>,
    pub inbound_traffic_policy: Option<Value>,
    pub config_sources: Option<Value>,
    pub enable_auto_mtls: Option<Value>,
    pub trust_domain: Option<Value>,
    pub trust_domain_aliases: Option<Value>,
    pub ca_certificates: Option<Value>,
    pub inbound_cluster_stat_name: Option<Value>,
    pub outbound_cluster_stat_name: Option<Value>,
    pub enable_prometheus_merge: Option<Value>,
    pub discovery_selectors: Option<Value>,
    pub hbone_idle_timeout: Option<Value>,
    pub service_settings: Option<Value>,
    pub service_scope_configs: Option<Value>,
    pub thrift_config: Option<Value>,
    pub ca: Option<Value>,
    pub certificates: Option<Value>,
    pub protocol_detection_timeout: Option<Value>,
    pub inbound_traffic_policy_mode: Option<Value>,
    pub mixer_check_server: Option<Value>,
    pub mixer_report_server: Option<Value>,
    pub disable_policy_checks: Option<Value>,
    pub policy_check_fail_open: Option<Value>,
    pub sds_uds_path: Option<Value>,
    pub sidecar_to_telemetry_session_affinity: Option<Value>,
    pub auth_policy: Option<Value>,
    pub sds_refresh_delay: Option<Value>,
    pub enable_client_side_policy_check: Option<Value>,
    pub report_batch_max_entries: Option<Value>,
    pub report_batch_max_time: Option<Value>,
    pub disable_mixer_http_reports: Option<Value>,
    pub disable_report_batch: Option<Value>,
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<Value>,
}

/// Settings of proxies; of them the gateway reads what stands in front of it, what is traced, how it ends, and how many threads it has.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyConfig {
    /// What stands in front of the gateway.
    pub gateway_topology: Option<GatewayTopology>,
    /// Which headers the gateway adds.
    pub proxy_headers: Option<ProxyHeaders>,
    /// What Telemetries do not say of traces.
    pub tracing: Option<ProxyTracing>,
    /// How long the end may take at most.
    pub termination_drain_duration: Option<String>,
    /// Worker threads; 0 for one on each core.
    pub concurrency: Option<u32>,
    /// `istio.mesh_id` of spans.
    pub mesh_id: Option<String>,
    // The rest is not read; see the Istio API.
    pub config_path: Option<Value>,
    pub binary_path: Option<Value>,
    pub service_cluster: Option<Value>,
    pub tracing_service_name: Option<Value>,
    pub drain_duration: Option<Value>,
    pub discovery_address: Option<Value>,
    pub discovery_refresh_delay: Option<Value>,
    pub zipkin_address: Option<Value>,
    pub statsd_udp_address: Option<Value>,
    pub proxy_admin_port: Option<Value>,
    pub availability_zone: Option<Value>,
    pub control_plane_auth_policy: Option<Value>,
    pub custom_config_file: Option<Value>,
    pub stat_name_length: Option<Value>,
    pub proxy_bootstrap_template_path: Option<Value>,
    pub interception_mode: Option<Value>,
    pub sds: Option<Value>,
    pub envoy_access_log_service: Option<Value>,
    pub envoy_metrics_service: Option<Value>,
    pub proxy_metadata: Option<Value>,
    pub runtime_values: Option<Value>,
    pub status_port: Option<Value>,
    pub extra_stat_tags: Option<Value>,
    pub readiness_probe: Option<Value>,
    pub proxy_stats_matcher: Option<Value>,
    pub hold_application_until_proxy_starts: Option<Value>,
    pub ca_certificates_pem: Option<Value>,
    pub image: Option<Value>,
    pub private_key_provider: Option<Value>,
    pub file_flush_interval: Option<Value>,
    pub file_flush_min_size_kb: Option<Value>,
}

/// Which headers the gateway adds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyHeaders {
    /// `x-request-id`.
    pub request_id: Option<ProxyHeader>,
    /// `server`.
    pub server: Option<ProxyServerHeader>,
    /// `x-envoy-attempt-count`.
    pub attempt_count: Option<ProxyHeader>,
    /// `x-envoy-upstream-service-time` and its kin.
    pub envoy_debug_headers: Option<ProxyHeader>,
    /// Of sidecars: gateways have their topology.
    pub forwarded_client_cert: Option<Value>,
    /// Of sidecars.
    pub set_current_client_cert_details: Option<Value>,
    /// There are none here.
    pub metadata_exchange_headers: Option<Value>,
    /// Not served.
    pub preserve_http1_header_case: Option<Value>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyHeader {
    /// False by default.
    pub disabled: Option<bool>,
}

/// Who answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyServerHeader {
    /// False by default.
    pub disabled: Option<bool>,
    /// The gateway's name by default.
    pub value: Option<String>,
}

/// What TLS offers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsDefaults {
    /// `TLSV1_2` or `TLSV1_3`; `TLS_AUTO` by default.
    pub min_protocol_version: Option<String>,
    /// Curves by BoringSSL's names.
    pub ecdh_curves: Vec<String>,
    /// Suites of TLS 1.2 by OpenSSL's names.
    pub cipher_suites: Vec<String>,
}

/// What stands in front of the gateway, and what of its word counts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GatewayTopology {
    /// Proxies whose `x-forwarded-for` counts; 0 by default.
    pub num_trusted_proxies: Option<u32>,
    /// `SANITIZE_SET` by default, also for `UNDEFINED`.
    pub forward_client_cert_details: Option<String>,
    /// Connections begin with a header of the PROXY protocol; an empty object.
    pub proxy_protocol: Option<Value>,
}

/// Where telemetry may go, or who is asked about requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtensionProvider {
    /// What Telemetries call it.
    pub name: String,
    /// Lines in a file.
    pub envoy_file_access_log: Option<FileAccessLog>,
    /// An authorization service over HTTP.
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    /// An authorization service over gRPC.
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    /// The metrics page.
    pub prometheus: Option<Value>,
    /// A collector of traces.
    pub opentelemetry: Option<OpenTelemetryProvider>,
    /// Another one, which speaks Zipkin.
    pub zipkin: Option<ZipkinProvider>,
    // The rest is not served.
    pub lightstep: Option<Value>,
    pub datadog: Option<Value>,
    pub stackdriver: Option<Value>,
    pub opencensus: Option<Value>,
    pub skywalking: Option<Value>,
    pub envoy_http_als: Option<Value>,
    pub envoy_tcp_als: Option<Value>,
    pub envoy_otel_als: Option<Value>,
    pub sds: Option<Value>,
}

/// Lines in a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FileAccessLog {
    /// `/dev/stdout` for instance.
    pub path: String,
    /// Istio's default text when absent.
    pub log_format: Option<LogFormat>,
    /// What is absent leaves nothing, instead of `-` in text and null in JSON.
    pub omit_empty_values: Option<bool>,
}

/// The form of a line: one of both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogFormat {
    /// A format string.
    pub text: Option<String>,
    /// An object of format strings.
    pub labels: Option<Value>,
}

/// Providers when no Telemetry names any.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DefaultProviders {
    /// Of traces; the first counts.
    pub tracing: Vec<String>,
    /// Of metrics; `prometheus`, Istio's own, is the metrics page, and the default.
    pub metrics: Vec<String>,
    /// Of access logs.
    pub access_logging: Vec<String>,
}

/// How paths are made canonical before they are matched and sent on.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyPathNormalization {
    /// `DEFAULT`, `NONE`, `BASE`, `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`.
    pub normalization: Option<String>,
}

//! Spec of the Istio `Gateway`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Ports and hosts that a gateway serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Gateway {
    /// In order.
    pub servers: Vec<Server>,
    /// Must be a subset of the gateway's labels; empty selects every gateway.
    pub selector: BTreeMap<String, String>,
}

/// One port with its hosts.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// Required.
    pub port: Option<Port>,
    /// IP address to bind; all addresses when absent.
    pub bind: Option<String>,
    /// `name`, `*.suffix`, `*`, each also as `namespace/name`.
    pub hosts: Vec<String>,
    /// For HTTPS and TLS, and for `httpsRedirect`.
    pub tls: Option<ServerTls>,
    /// Unused by Istio itself.
    pub default_endpoint: Option<String>,
    /// For statistics only.
    pub name: Option<String>,
}

/// A port of a server or a service entry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Port {
    /// 1 to 65535.
    pub number: u32,
    /// `HTTP`, `HTTPS`, `GRPC`, `HTTP2`, `MONGO`, `TCP`, `TLS`; without case.
    pub protocol: String,
    /// Required, unique in the object.
    pub name: String,
    /// For service entries: the endpoint's port. Deprecated for gateways.
    pub target_port: Option<u32>,
}

/// TLS settings of a server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerTls {
    /// Answer 301 to https.
    pub https_redirect: bool,
    /// `PASSTHROUGH`, `SIMPLE`, `MUTUAL`, ...
    pub mode: Option<String>,
    /// A file.
    pub server_certificate: Option<String>,
    /// A file.
    pub private_key: Option<String>,
    /// A file.
    pub ca_certificates: Option<String>,
    /// A file.
    pub ca_crl: Option<String>,
    /// Name of a Secret.
    pub credential_name: Option<String>,
    /// Names of Secrets.
    pub credential_names: Vec<String>,
    /// Name of a Secret with the CA.
    pub ca_cert_credential_name: Option<String>,
    /// Pairs of files.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Of client certificates.
    pub subject_alt_names: Vec<String>,
    /// Of client certificates.
    pub verify_certificate_spki: Vec<String>,
    /// Of client certificates.
    pub verify_certificate_hash: Vec<String>,
    /// `TLSV1_2`, ...
    pub min_protocol_version: Option<String>,
    /// `TLSV1_3`, ...
    pub max_protocol_version: Option<String>,
    /// OpenSSL names.
    pub cipher_suites: Vec<String>,
}

/// One certificate with its key.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsCertificate {
    /// A file.
    pub server_certificate: Option<String>,
    /// A file.
    pub private_key: Option<String>,
    /// A file.
    pub ca_certificates: Option<String>,
}

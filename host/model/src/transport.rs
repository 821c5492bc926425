//! [`Transport`]: how connections to a cluster's endpoints are made: TLS, HTTP version, PROXY protocol, keep-alive.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// How connections of a cluster are made. The default is HTTP/1.1 over plain TCP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transport {
    /// What requests are sent as.
    pub protocol: UpstreamProtocol,
    /// `connectionPool.http.maxConcurrentStreams`: requests at once on one HTTP/2 connection; 0 leaves it to the peer.
    pub max_concurrent_streams: u32,
    /// `trafficPolicy.tls`, when its mode asks for TLS.
    pub tls: Option<Box<UpstreamTls>>,
    /// `trafficPolicy.proxyProtocol`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// `connectionPool.tcp.tcpKeepalive`, or the mesh's.
    pub tcp_keepalive: Option<TcpKeepalive>,
}

impl Transport {
    /// True for plain HTTP/1.1, of which nothing needs to be told.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// The version of HTTP towards the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// Whatever the client speaks.
    #[default]
    Http1,
    /// With prior knowledge, or by ALPN where there is TLS.
    Http2,
    /// `useClientProtocol`: that of the request.
    Downstream,
}

/// The header that tells an upstream who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Socket options; an absent one is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpKeepalive {
    /// Probes without an answer until the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe, in seconds.
    pub time_s: Option<u32>,
    /// Between probes, in seconds.
    pub interval_s: Option<u32>,
}

/// Istio's `ClientTLSSettings` of modes SIMPLE and MUTUAL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The server name; none takes the request's Host (Envoy's `auto_sni`).
    pub sni: Option<String>,
    /// The certificate must have one of these; empty asks for none of them.
    pub subject_alt_names: Vec<String>,
    /// The certificate must be for the request's Host (Envoy's `auto_san_validation`).
    pub verify_host: bool,
    /// Who must have signed the certificate.
    pub trust: Trust,
    /// Revoked certificates.
    pub crl: Option<Pem>,
    /// Suites of TLS 1.2 that are offered, by OpenSSL's names; empty: all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cipher_suites: Vec<String>,
    /// Curves of the key exchange by BoringSSL's names; empty: all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ecdh_curves: Vec<String>,
    /// The gateway's own certificate chain and its key, in mode MUTUAL.
    pub identity: Option<(Pem, Pem)>,
    /// The `tls` block.
    pub origin: Origin,
}

/// Who must have signed an upstream's certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Anybody: `insecureSkipVerify`.
    Anybody,
    /// The authorities that the system trusts.
    System,
    /// These.
    Authorities(Pem),
}

/// Where certificates or a key stand in PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Pem {
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
    },
    /// An entry of a Secret.
    Secret {
        /// `namespace/name`.
        name: String,
        /// The entry's name.
        entry: String,
        /// Its bytes.
        #[serde(skip)]
        bytes: Hidden,
    },
    /// Of a Secret that is not there, or lacks the entry.
    Missing {
        /// What is missing, for messages.
        what: String,
    },
}

impl Pem {
    /// The same place, whatever stands there.
    pub fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: one }, Self::File { path: two }) => one == two,
            (Self::Secret { name: one, .. }, Self::Secret { name: two, .. }) => one == two,
            (Self::Secret { name, .. }, Self::Missing { what })
            | (Self::Missing { what }, Self::Secret { name, .. }) => {
                // Which of several namespaces it was looked for in does not matter, nor that authorities may lie apart.
                let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches("-cacert");
                what.contains(&format!("/{name}`"))
            }
            (Self::Missing { what: one }, Self::Missing { what: two }) => one == two,
            _ => false,
        }
    }
}

impl UpstreamTls {
    /// All places of certificates and keys.
    pub fn pems(&self) -> impl Iterator<Item = &Pem> {
        let authorities = match &self.trust {
            Trust::Authorities(pem) => Some(pem),
            Trust::Anybody | Trust::System => None,
        };
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        authorities.into_iter().chain(&self.crl).chain(identity)
    }

    /// The same settings, whatever the certificates are: what was last good may serve on.
    pub fn is_same_but_certificates(&self, other: &Self) -> bool {
        let same_trust = match (&self.trust, &other.trust) {
            (Trust::Authorities(one), Trust::Authorities(two)) => one.is_same_place(two),
            (one, two) => one == two,
        };
        let mut places = self.pems().zip(other.pems());
        self.sni == other.sni
            && self.subject_alt_names == other.subject_alt_names
            && self.verify_host == other.verify_host
            && self.cipher_suites == other.cipher_suites
            && self.ecdh_curves == other.ecdh_curves
            && same_trust
            && self.pems().count() == other.pems().count()
            && places.all(|(one, two)| one.is_same_place(two))
    }
}

/// Bytes that never show themselves.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(pub Vec<u8>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

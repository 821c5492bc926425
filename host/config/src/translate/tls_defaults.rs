//! `tlsDefaults` of the mesh configuration: what counts for servers that do not say it themselves, and for backends
//! (pilot/pkg/networking/core/listener.go, cluster_tls.go).

use portolan_model::TlsVersion;

use super::mesh;
use super::tls::CIPHERS;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;

/// Curves that are offered, by BoringSSL's names.
const CURVES: &[&str] = &["X25519MLKEM768", "X25519", "P-256", "P-384"];

/// Empty lists are those of the gateway itself.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsDefaults {
    /// For clients only.
    pub(super) min_version: Option<TlsVersion>,
    pub(super) cipher_suites: Vec<String>,
    pub(super) ecdh_curves: Vec<String>,
}

impl TlsDefaults {
    /// What the mesh says, without what cannot be served.
    pub(super) fn of(resources: &ResourceSet) -> Self {
        let Some(written) = mesh::first(resources, |mesh| mesh.tls_defaults.clone()) else { return Self::default() };
        let min_version = match written.min_protocol_version.as_deref() {
            Some("TLSV1_2") => Some(TlsVersion::V1_2),
            Some("TLSV1_3") => Some(TlsVersion::V1_3),
            _ => None,
        };
        Self {
            min_version,
            cipher_suites: known(&written.cipher_suites, CIPHERS).0,
            ecdh_curves: known(&written.ecdh_curves, CURVES).0,
        }
    }

    /// Names that are passed over. Where none is left those of the gateway count.
    pub(super) fn diagnose(resources: &ResourceSet) -> Vec<Diagnostic> {
        let Some(written) = mesh::first(resources, |mesh| mesh.tls_defaults.clone()) else { return Vec::new() };
        let lists = [("cipherSuites", &written.cipher_suites, CIPHERS), ("ecdhCurves", &written.ecdh_curves, CURVES)];
        let told = |(field, names, offered): (&str, &Vec<String>, &[&str])| {
            let place = mesh::key_place(resources, &format!("tlsDefaults.{field}"), |mesh| mesh.tls_defaults.is_some());
            let passed_over = known(names, offered).1.into_iter();
            let tell = move |name: String| {
                Some(Diagnostic::warning("P0233", place.clone()?, format!("`{name}` is not offered")))
            };
            passed_over.filter_map(tell).collect::<Vec<_>>()
        };
        lists.into_iter().flat_map(told).collect()
    }
}

/// Those that are offered, each once, and the others.
fn known(names: &[String], offered: &[&str]) -> (Vec<String>, Vec<String>) {
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    for name in names {
        match offered.contains(&name.as_str()) {
            true if taken.contains(name) => {}
            true => taken.push(name.clone()),
            false => others.push(name.clone()),
        }
    }
    (taken, others)
}

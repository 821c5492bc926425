//! What TLS clients are given, in words.

use portolan_model::{ClientCertificate, DownstreamTls, FilterChain, Model, TlsVersion};

use super::Told;

/// One chain: its server names, and how TLS ends.
pub(crate) fn filter_chain(model: &Model, chain: &FilterChain) -> Told {
    let text = chain.tls.as_ref().map_or_else(|| "TLS goes through as it is".to_owned(), |tls| ending(model, tls));
    Told::new(&format!("tls for {}", chain.server_names.join(", ")), text, Some(chain.origin.place()))
}

fn ending(model: &Model, tls: &DownstreamTls) -> String {
    let secret = |id: &u32| model.secrets.get(*id as usize).map_or("what is missing", |secret| &secret.name).to_owned();
    let certificates: Vec<_> = tls.certificates.iter().map(secret).collect();
    let mut words = vec![format!("TLS by {}", certificates.join(" or "))];
    let by = tls.ca.as_ref().map(|ca| format!(" by {}", secret(ca))).unwrap_or_default();
    words.extend(match tls.client_certificate {
        ClientCertificate::None => None,
        ClientCertificate::Optional => Some(format!("clients may show a certificate{by}")),
        ClientCertificate::Required => Some(format!("clients must show a certificate{by}")),
    });
    let pinned = [
        ("for", &tls.subject_alt_names),
        ("with key", &tls.verify_certificate_spki),
        ("with hash", &tls.verify_certificate_hash),
        ("suites", &tls.cipher_suites),
        ("curves", &tls.ecdh_curves),
    ];
    words.extend(pinned.iter().filter(|(_, list)| !list.is_empty()).map(|(w, list)| format!("{w} {}", list.join(" "))));
    if (tls.min_version, tls.max_version) != (TlsVersion::V1_2, TlsVersion::V1_3) {
        words.push(format!("versions {} to {}", version(tls.min_version), version(tls.max_version)));
    }
    words.join(", ")
}

fn version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    }
}

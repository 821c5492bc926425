//! What a handshake tells: for filters, and as `x-forwarded-client-cert` in Envoy's form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::properties::{Certificate, TlsInfo};

/// Short names of RFC 2253 and OpenSSL by OID.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// What a finished handshake has told.
pub(super) fn tls_info(session: &ServerConnection, server_name: Option<&str>, local: &Certificate) -> TlsInfo {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let mut info = TlsInfo {
        requested_server_name: server_name.unwrap_or_default().into(),
        version: version.to_owned(),
        local: local.clone(),
        ..TlsInfo::default()
    };
    if let Some(peer) = session.peer_certificates().and_then(|chain| chain.first()) {
        info.peer = described(peer);
        info.sha256_peer_certificate_digest = hex(&Sha256::digest(peer));
        info.forwarded = HeaderValue::try_from(forwarded(peer, &info)).ok();
    }
    info
}

/// A certificate's subject and the first names of each kind.
pub(super) fn described(certificate: &CertificateDer<'_>) -> Certificate {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Certificate::default() };
    let (uris, dns) = names(&parsed);
    Certificate {
        subject: distinguished(parsed.subject()),
        dns_san: dns.first().cloned().unwrap_or_default(),
        uri_san: uris.first().cloned().unwrap_or_default(),
    }
}

/// The first URI of a certificate's subject, such as SPIFFE's.
pub(crate) fn first_uri(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    names(&parsed).0.into_iter().next()
}

/// Envoy's SANITIZE_SET with the details that Istio asks for, in Envoy's order.
fn forwarded(certificate: &CertificateDer<'_>, info: &TlsInfo) -> String {
    let mut parts = Vec::new();
    if !info.local.uri_san.is_empty() {
        parts.push(format!("By={}", info.local.uri_san));
    }
    parts.push(format!("Hash={}", info.sha256_peer_certificate_digest));
    parts.push(format!("Cert=\"{}\"", url_encoded_pem(certificate)));
    parts.push(format!("Subject=\"{}\"", info.peer.subject));
    let (uris, dns) = X509Certificate::from_der(certificate).map(|(_, parsed)| names(&parsed)).unwrap_or_default();
    // The key is there without a value, too.
    parts.push(format!("URI={}", uris.first().map_or("", String::as_str)));
    parts.extend(uris.iter().skip(1).map(|uri| format!("URI={uri}")));
    parts.extend(dns.iter().map(|name| format!("DNS={name}")));
    parts.join(";")
}

/// URIs and DNS names of the subject.
fn names(certificate: &X509Certificate<'_>) -> (Vec<String>, Vec<String>) {
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return (uris, dns) };
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => dns.push((*name).to_owned()),
            _ => {}
        }
    }
    (uris, dns)
}

/// RFC 2253: the last part first, parts with `,`, several values of one part with `+`.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut parts = Vec::new();
    for part in name.iter() {
        let values = part.iter().map(|attribute| {
            let oid = attribute.attr_type().to_id_string();
            let short = NAMES.iter().find(|(known, _)| *known == oid).map_or(oid.as_str(), |(_, short)| short);
            format!("{short}={}", escaped(attribute.as_str().unwrap_or_default()))
        });
        parts.push(values.collect::<Vec<_>>().join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', letter]),
            '#' | ' ' if at == 0 => out.extend(['\\', letter]),
            ' ' if at == last => out.extend(['\\', letter]),
            ' '..='~' => out.push(letter),
            other => {
                let mut bytes = [0; 4];
                out.extend(other.encode_utf8(&mut bytes).bytes().map(|byte| format!("\\{byte:02X}")));
            }
        }
    }
    out
}

/// PEM with lines of 64, and what is not plain in a URL as `%XX`.
fn url_encoded_pem(certificate: &CertificateDer<'_>) -> String {
    let body = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN%20CERTIFICATE-----%0A".to_owned();
    for (at, letter) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push_str("%0A");
        }
        match letter {
            '+' => pem.push_str("%2B"),
            '/' => pem.push_str("%2F"),
            '=' => pem.push_str("%3D"),
            plain => pem.push(plain),
        }
    }
    pem.push_str("%0A-----END%20CERTIFICATE-----%0A");
    pem
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_separates_parts_of_a_name_is_escaped_within_one() {
        assert_eq!(escaped(" a,b=c+\"d\"; "), r#"\ a\,b=c\+\"d\"\;\ "#);
        assert_eq!(escaped("#\u{fc}"), r"\#\C3\BC");
    }
}

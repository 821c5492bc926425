//! How connections to a cluster are made, in words: HTTP version, TLS, PROXY protocol, keep-alive.

use portolan_model::{Pem, ProxyProtocol, TcpKeepalive, Transport, Trust, UpstreamProtocol, UpstreamTls};

use super::quoted;

/// None for HTTP/1.1.
pub(super) fn protocol(transport: &Transport) -> Option<String> {
    let streams = match transport.max_concurrent_streams {
        0 => String::new(),
        streams => format!(", at most {streams} requests at once on a connection"),
    };
    match transport.protocol {
        UpstreamProtocol::Http1 => None,
        UpstreamProtocol::Http2 => Some(format!("HTTP/2{streams}")),
        UpstreamProtocol::Downstream => Some(format!("HTTP version of the client{streams}")),
    }
}

/// `TLS as "api.example.com", certificate for that name by authorities of the system`.
pub(super) fn tls(tls: &UpstreamTls) -> String {
    let UpstreamTls {
        sni,
        subject_alt_names,
        verify_host,
        trust,
        crl,
        cipher_suites,
        ecdh_curves,
        identity,
        origin: _,
    } = tls;
    let mut words = vec![match sni {
        Some(sni) => format!("TLS as {}", quoted(sni)),
        None => "TLS as the request's host".to_owned(),
    }];
    let names: Vec<_> = subject_alt_names.iter().map(|name| quoted(name)).collect();
    let host = verify_host.then(|| "the request's host".to_owned());
    let names: Vec<_> = host.into_iter().chain((!names.is_empty()).then(|| names.join(" or "))).collect();
    let names = if names.is_empty() { "any name".to_owned() } else { names.join(" and ") };
    words.push(match trust {
        Trust::Anybody => "any certificate".to_owned(),
        Trust::System => format!("certificate for {names} by authorities of the system"),
        Trust::Authorities(pem) => format!("certificate for {names} by {}", self::pem(pem)),
    });
    words.extend(crl.as_ref().map(|crl| format!("not revoked by {}", pem(crl))));
    let offered = [("suites", cipher_suites), ("curves", ecdh_curves)];
    words
        .extend(offered.iter().filter(|(_, list)| !list.is_empty()).map(|(w, list)| format!("{w} {}", list.join(" "))));
    words.extend(identity.as_ref().map(|(chain, _)| format!("own certificate from {}", pem(chain))));
    words.join(", ")
}

/// Where it stands, never what it is.
fn pem(pem: &Pem) -> String {
    match pem {
        Pem::File { path } => path.display().to_string(),
        Pem::Secret { name, entry, .. } => format!("secret/{name} {entry}"),
        Pem::Missing { what } if what.is_empty() => "what is missing".to_owned(),
        Pem::Missing { what } => format!("what is missing ({what})"),
    }
}

/// `PROXY protocol v1`.
pub(super) fn proxy_protocol(version: ProxyProtocol) -> String {
    let version = match version {
        ProxyProtocol::V1 => "v1",
        ProxyProtocol::V2 => "v2",
    };
    format!("PROXY protocol {version}")
}

/// `TCP keep-alive after 60 s, every 10 s, 3 probes`; what is not said is the system's.
pub(super) fn keepalive(keepalive: &TcpKeepalive) -> String {
    let TcpKeepalive { probes, time_s, interval_s } = keepalive;
    let words = [
        time_s.map(|seconds| format!("after {seconds} s")),
        interval_s.map(|seconds| format!("every {seconds} s")),
        probes.map(|probes| format!("{probes} probes")),
    ];
    let words: Vec<_> = words.into_iter().flatten().collect();
    if words.is_empty() { "TCP keep-alive".to_owned() } else { format!("TCP keep-alive {}", words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use portolan_model::{Hidden, Origin};

    use super::*;

    fn simple() -> UpstreamTls {
        UpstreamTls {
            sni: None,
            subject_alt_names: Vec::new(),
            verify_host: true,
            trust: Trust::System,
            crl: None,
            cipher_suites: Vec::new(),
            ecdh_curves: Vec::new(),
            identity: None,
            origin: Origin::default(),
        }
    }

    #[test]
    fn tls_tells_the_name_and_who_vouches_for_it() {
        let words = "TLS as the request's host, certificate for the request's host by authorities of the system";
        assert_eq!(tls(&simple()), words);
        let secret = |entry: &str| Pem::Secret {
            name: "default/backend".to_owned(),
            entry: entry.to_owned(),
            bytes: Hidden(b"nobody's business".to_vec()),
        };
        let mutual = UpstreamTls {
            sni: Some("api.example.com".to_owned()),
            verify_host: false,
            subject_alt_names: vec!["a".to_owned(), "b".to_owned()],
            trust: Trust::Authorities(secret("ca.crt")),
            crl: Some(Pem::File { path: PathBuf::from("revoked.pem") }),
            identity: Some((secret("tls.crt"), secret("tls.key"))),
            ..simple()
        };
        assert_eq!(
            tls(&mutual),
            "TLS as \"api.example.com\", certificate for \"a\" or \"b\" by secret/default/backend ca.crt, \
             not revoked by revoked.pem, own certificate from secret/default/backend tls.crt"
        );
    }

    #[test]
    fn tls_that_verifies_nothing_says_so() {
        let anybody = UpstreamTls { verify_host: false, trust: Trust::Anybody, ..simple() };
        assert_eq!(tls(&anybody), "TLS as the request's host, any certificate");
        let named = UpstreamTls { sni: Some("x".to_owned()), verify_host: false, ..simple() };
        assert_eq!(tls(&named), "TLS as \"x\", certificate for any name by authorities of the system");
    }

    #[test]
    fn versions_and_probes_have_words() {
        let http2 = Transport { protocol: UpstreamProtocol::Http2, max_concurrent_streams: 8, ..Transport::default() };
        assert_eq!(protocol(&http2).as_deref(), Some("HTTP/2, at most 8 requests at once on a connection"));
        assert_eq!(protocol(&Transport::default()), None);
        let probing = TcpKeepalive { probes: Some(3), time_s: Some(60), interval_s: None };
        assert_eq!(keepalive(&probing), "TCP keep-alive after 60 s, 3 probes");
    }
}

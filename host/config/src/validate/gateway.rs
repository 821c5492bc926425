//! Checks of a Gateway.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::Gateway;
use crate::resources::istio::gateway::{Server, ServerTls};

/// Protocols of a server's port, without case.
const PROTOCOLS: &[&str] =
    &["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP", "HBONE"];

/// Modes of `tls.mode`.
const TLS_MODES: &[&str] = &["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"];

/// Versions of `tls.minProtocolVersion` and `tls.maxProtocolVersion`.
const TLS_VERSIONS: &[&str] = &["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];

/// Checks a Gateway by itself.
pub fn gateway(object: &Object<Gateway>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    if object.spec.servers.is_empty() {
        checker.missing("spec", "servers");
    }
    for (i, server) in object.spec.servers.iter().enumerate() {
        check_server(&mut checker, &format!("spec.servers[{i}]"), server);
    }
    let names = object.spec.servers.iter().enumerate().filter_map(|(i, server)| {
        let name = &server.port.as_ref()?.name;
        (!name.is_empty()).then(|| (format!("spec.servers[{i}].port.name"), name.clone()))
    });
    checker.unique("port name", names);
    checker.finish()
}

fn check_server(checker: &mut Checker<'_, Gateway>, path: &str, server: &Server) {
    if server.hosts.is_empty() {
        checker.missing(path, "hosts");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        check_host(checker, &format!("{path}.hosts[{i}]"), host);
    }
    if let Some(bind) = &server.bind
        && !bind.is_empty()
        && bind.parse::<std::net::IpAddr>().is_err()
    {
        checker.error("P0119", &format!("{path}.bind"), format!("`{bind}` is not an IP address"));
    }
    let Some(port) = &server.port else { return checker.missing(path, "port") };
    let path_port = format!("{path}.port");
    checker.port(&format!("{path_port}.number"), port.number);
    if port.name.is_empty() {
        checker.missing(&path_port, "name");
    }
    let protocol = port.protocol.to_ascii_uppercase();
    if protocol.is_empty() {
        checker.missing(&path_port, "protocol");
    } else {
        checker.word(&format!("{path_port}.protocol"), Some(&protocol), PROTOCOLS);
    }
    check_tls(checker, path, &protocol, server.tls.as_ref());
}

fn check_host(checker: &mut Checker<'_, Gateway>, path: &str, host: &str) {
    let name = match host.split_once('/') {
        Some(("", _)) => {
            return checker.error("P0103", path, format!("`{host}` has no namespace before the `/`"));
        }
        Some((_, name)) => name,
        None => host,
    };
    checker.host(path, name, true);
    if !name.is_empty() && !name.contains(['.', '*', ':']) {
        checker.error("P0103", path, format!("`{name}` is a short name: a Gateway takes full names only"));
        checker.help("write the name that clients send as Host, or `*`");
    }
}

fn check_tls(checker: &mut Checker<'_, Gateway>, path: &str, protocol: &str, tls: Option<&ServerTls>) {
    let encrypted = matches!(protocol, "HTTPS" | "TLS");
    let Some(tls) = tls else {
        if encrypted {
            checker.error_at_key("P0123", path, format!("a server with protocol {protocol} needs `tls`"));
        }
        return;
    };
    let path = format!("{path}.tls");
    let redirect_only = matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB");
    if redirect_only && (tls.mode.is_some() || tls.credential_name.is_some()) {
        checker.error_at_key("P0123", &path, "a plain HTTP server takes no TLS settings but `httpsRedirect`");
        checker.help("use protocol HTTPS");
    }
    if tls.https_redirect && !redirect_only {
        checker.error("P0123", &format!("{path}.httpsRedirect"), "`httpsRedirect` is for plain HTTP servers only");
    }
    checker.word(&format!("{path}.mode"), tls.mode.as_ref(), TLS_MODES);
    checker.word(&format!("{path}.minProtocolVersion"), tls.min_protocol_version.as_ref(), TLS_VERSIONS);
    checker.word(&format!("{path}.maxProtocolVersion"), tls.max_protocol_version.as_ref(), TLS_VERSIONS);
    let terminates = matches!(tls.mode.as_deref(), Some("SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL"));
    let certificate = tls.credential_name.is_some()
        || !tls.credential_names.is_empty()
        || tls.tls_certificates.is_some()
        || (tls.server_certificate.is_some() && tls.private_key.is_some());
    if encrypted && terminates && !certificate {
        checker.error_at_key("P0123", &path, "this TLS mode needs a certificate");
        checker.help("name a Secret in `credentialName`");
    }
}

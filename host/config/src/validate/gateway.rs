//! Checks of a Gateway.

use super::checker::Checker;
use crate::annotations;
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::Gateway;
use crate::resources::istio::gateway::{Server, ServerTls};

/// Protocols of a port, without case.
pub(super) const PROTOCOLS: &[&str] =
    &["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP", "HBONE"];

/// Modes of `tls.mode`.
const TLS_MODES: &[&str] = &["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"];

/// Versions of `tls.minProtocolVersion` and `tls.maxProtocolVersion`.
const TLS_VERSIONS: &[&str] = &["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];

/// Checks a Gateway by itself.
pub fn gateway(object: &Object<Gateway>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    checker.label_name("metadata.name", "a Gateway's name", &object.meta.name);
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
    let (settings, faults) = annotations::gateway_settings(&object.meta.annotations);
    super::extension::check_faults(&mut checker, faults);
    if settings.http3 {
        check_http3(&mut checker, &object.spec.servers, settings.proxy_headers().is_some());
    }
    checker.finish()
}

/// Which servers clients of HTTP/3 do not reach although the annotation asks for it.
fn check_http3(checker: &mut Checker<'_, Gateway>, servers: &[Server], is_behind_proxies: bool) {
    let annotation = "metadata.annotations.portolan.dev/http3";
    if is_behind_proxies {
        let text = "HTTP/3 is not served: packets of QUIC have no header of the PROXY protocol";
        return checker.warn_at_key("P0348", annotation, text);
    }
    let is_https = |server: &Server| server.port.as_ref().is_some_and(|p| p.protocol.eq_ignore_ascii_case("HTTPS"));
    if !servers.iter().any(is_https) {
        return checker.warn_at_key(
            "P0348",
            annotation,
            "HTTP/3 is not served: there is no server with protocol HTTPS",
        );
    }
    for (i, server) in servers.iter().enumerate().filter(|(_, server)| is_https(server)) {
        let Some(tls) = &server.tls else { continue };
        let path = format!("spec.servers[{i}].tls");
        let mode = tls.mode.as_deref().unwrap_or("PASSTHROUGH");
        if mode != "SIMPLE" {
            let text = format!("HTTP/3 is not served by this server: it needs mode SIMPLE, and not {mode}");
            checker.warn_at_key("P0348", &format!("{path}.mode"), text);
        } else if tls.max_protocol_version.as_deref().is_some_and(|v| !matches!(v, "TLS_AUTO" | "TLSV1_3")) {
            let text = "HTTP/3 is not served by this server: it needs TLS 1.3";
            checker.warn_at_key("P0348", &format!("{path}.maxProtocolVersion"), text);
        }
    }
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
    if port.target_port.is_some_and(|target| target > 0) {
        let text = "`targetPort` has no meaning in a Gateway: its Service maps ports";
        checker.error_at_key("P0120", &format!("{path_port}.targetPort"), text);
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
    let name = match host.split_once('/').filter(|_| !host.contains("://")) {
        Some(("", _)) => {
            return checker.error("P0103", path, format!("`{host}` has no namespace before the `/`"));
        }
        Some((namespace, name)) => {
            if !matches!(namespace, "*" | ".") {
                checker.label_name(path, "a namespace's name", namespace);
            }
            name
        }
        None => host,
    };
    checker.host(path, name, true);
    if hosts::is_partial(name) {
        checker.error("P0103", path, format!("`{name}` is no wildcard of a Gateway: the star stands for whole labels"));
        checker.help("write `*.suffix`");
    }
    if !name.is_empty() && name != "*" && !name.contains('.') && !hosts::is_partial(name) {
        checker.error("P0103", path, format!("`{name}` is a short name: a Gateway takes full names only"));
        checker.help("write the name that clients send as Host, or `*`");
    }
}

fn check_tls(checker: &mut Checker<'_, Gateway>, path: &str, protocol: &str, tls: Option<&ServerTls>) {
    let encrypted = matches!(protocol, "HTTPS" | "TLS");
    let Some(tls) = tls else {
        if encrypted {
            checker.error_at_key("P0123", path, format!("a server with protocol {protocol} needs `tls`"));
            checker.help("set `tls.mode` and name a Secret in `tls.credentialName`");
        }
        return;
    };
    let path = format!("{path}.tls");
    checker.word(&format!("{path}.mode"), tls.mode.as_ref(), TLS_MODES);
    checker.word(&format!("{path}.minProtocolVersion"), tls.min_protocol_version.as_ref(), TLS_VERSIONS);
    checker.word(&format!("{path}.maxProtocolVersion"), tls.max_protocol_version.as_ref(), TLS_VERSIONS);
    if matches!(protocol, "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB") {
        check_plain(checker, &path, tls);
    } else if !encrypted && !protocol.is_empty() {
        checker.error_at_key("P0123", &path, format!("a server with protocol {protocol} takes no `tls`"));
        checker.help("use protocol TLS");
    } else if tls.https_redirect {
        let path = format!("{path}.httpsRedirect");
        checker.warn("P0123", &path, "`httpsRedirect` is for plain HTTP servers only, and has no effect here");
    }
    check_certificates(checker, &path, tls);
}

/// What a plain HTTP server may say of TLS.
fn check_plain(checker: &mut Checker<'_, Gateway>, path: &str, tls: &ServerTls) {
    if !passes_through(tls)
        || is_given(&tls.server_certificate)
        || is_given(&tls.private_key)
        || is_given(&tls.ca_certificates)
    {
        checker.error_at_key("P0123", path, "a plain HTTP server takes no TLS settings but `httpsRedirect`");
        checker.help("use protocol HTTPS");
    }
}

/// Certificates that the mode needs, and those that it has no use for.
fn check_certificates(checker: &mut Checker<'_, Gateway>, path: &str, tls: &ServerTls) {
    let (certificate, key) = (is_given(&tls.server_certificate), is_given(&tls.private_key));
    let (authorities, secret) = (is_given(&tls.ca_certificates), is_given(&tls.credential_name));
    let mode = tls.mode.as_deref().unwrap_or("PASSTHROUGH");
    if mode == "ISTIO_MUTUAL" {
        if certificate || key || authorities || secret {
            checker.error_at_key("P0123", path, "mode ISTIO_MUTUAL takes no certificates: the mesh has its own");
        }
        return;
    }
    if passes_through(tls) {
        if certificate || key || authorities || secret || is_given(&tls.ca_crl) {
            let text = format!("mode {mode} ends no TLS: these certificates have no effect");
            checker.warn_at_key("P0123", path, text);
            checker.help("set `mode: SIMPLE`");
        }
        return;
    }
    if secret || !tls.credential_names.is_empty() || !tls.tls_certificates.is_empty() {
        return;
    }
    if !certificate || !key {
        checker.error_at_key("P0123", path, format!("mode {mode} needs a certificate"));
        checker.help("name a Secret in `credentialName`");
    } else if matches!(mode, "MUTUAL" | "OPTIONAL_MUTUAL") && !authorities {
        checker.error_at_key(
            "P0123",
            path,
            format!("mode {mode} needs `caCertificates`, which client certificates are checked by"),
        );
    }
    if mode == "SIMPLE" && is_given(&tls.ca_crl) {
        checker.error_at_key("P0123", &format!("{path}.caCrl"), "mode SIMPLE asks for no client certificate to revoke");
    }
}

/// Modes that end no TLS; the default among them.
fn passes_through(tls: &ServerTls) -> bool {
    matches!(tls.mode.as_deref(), None | Some("PASSTHROUGH" | "AUTO_PASSTHROUGH"))
}

fn is_given(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

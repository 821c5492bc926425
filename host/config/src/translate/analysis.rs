//! What is right object by object, and probably not what was meant: ideas of `istioctl analyze`.

use std::collections::HashMap;

use super::gateways::{Gateways, KnownGateway, Protocol};
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::VirtualService;

/// Findings for all Gateways of this gateway.
pub(super) fn diagnose(gateways: &Gateways<'_>) -> Vec<Diagnostic> {
    let selected: Vec<&KnownGateway<'_>> = gateways.all.iter().filter(|gateway| gateway.selected).collect();
    let mut found = shared_certificates(&selected);
    found.extend(shared_hosts(&selected));
    found
}

/// Clients of HTTP/2 use one connection for all hosts of its certificate, also for those of another Gateway, which has
/// no routes there.
fn shared_certificates(gateways: &[&KnownGateway<'_>]) -> Vec<Diagnostic> {
    let mut first: HashMap<(&str, &str, u16), &str> = HashMap::new();
    let mut found = Vec::new();
    for gateway in gateways {
        let mut own = Vec::new();
        for (known, server) in gateway.servers.iter().zip(&gateway.object.spec.servers) {
            let Some(secret) = server.tls.as_ref().and_then(|tls| tls.credential_name.as_deref()) else { continue };
            let key = (gateway.object.meta.namespace.as_str(), secret, known.port);
            match first.get(&key) {
                Some(other) => {
                    let place = gateway.object.place(&format!("{}.tls.credentialName", known.path));
                    let text = format!("certificate `{secret}` is that of Gateway `{other}` on this port too");
                    let finding = Diagnostic::warning("P0219", place, text);
                    found.push(finding.with_help("serve all hosts of one certificate by one Gateway"));
                }
                None => own.push((key, gateway.name.as_str())),
            }
        }
        first.extend(own);
    }
    found
}

/// One host of plain HTTP in two Gateways on one port: their VirtualServices are merged, by age.
fn shared_hosts(gateways: &[&KnownGateway<'_>]) -> Vec<Diagnostic> {
    let mut first: HashMap<(u16, Option<std::net::IpAddr>, String), &str> = HashMap::new();
    let mut found = Vec::new();
    for gateway in gateways {
        let mut own = Vec::new();
        for (known, server) in gateway.servers.iter().zip(&gateway.object.spec.servers) {
            if known.protocol != Protocol::Http {
                continue;
            }
            for (i, host) in server.hosts.iter().enumerate() {
                // With a namespace before it the host is for VirtualServices of that one only.
                let key = (known.port, known.bind, host.to_ascii_lowercase());
                match first.get(&key) {
                    Some(other) => {
                        let place = gateway.object.place(&format!("{}.hosts[{i}]", known.path));
                        let text = format!("Gateway `{other}` serves `{host}` on port {} as well", known.port);
                        let label = "rules of both are tried, the older VirtualService first";
                        found.push(Diagnostic::warning("P0220", place, text).with_label(label));
                    }
                    None => own.push((key, gateway.name.as_str())),
                }
            }
        }
        first.extend(own);
    }
    found
}

/// Istio takes an empty prefix of the path, and it takes every request. It is an error here all the same, since nobody
/// means it; the rule is served as Istio serves it.
pub(super) fn empty_prefixes(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let rules = object.spec.http.iter().enumerate();
    let matches = rules.flat_map(|(i, rule)| rule.matches.iter().enumerate().map(move |(j, m)| (i, j, m)));
    let empty = matches.filter(|(.., m)| m.uri.as_ref().is_some_and(|uri| uri.prefix.as_deref() == Some("")));
    let tell = |(i, j, _): (usize, usize, _)| {
        let place = object.place(&format!("spec.http[{i}].match[{j}].uri.prefix"));
        let finding = Diagnostic::error("P0107", place, "an empty prefix takes every request");
        finding.with_help("leave the condition out to match everything")
    };
    empty.map(tell).collect()
}

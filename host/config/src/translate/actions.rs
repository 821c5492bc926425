//! What a rule does: from an HTTPRoute to a [`RouteAction`].

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portolan_model::{Destination, DirectResponse, Forward, MISSING_CLUSTER, Redirect, Rewrite, RouteAction, Sticky};

use super::delegates::Rule;
use super::destinations::{ClusterKey, Destinations};
use super::{headers, http_policies, parts, retries};
use crate::duration;
use crate::resources::istio::virtual_service::{HttpDirectResponse, HttpRedirect, HttpRoute, HttpRouteDestination};

/// Annotation that names the cookie which keeps a user on one destination of a split.
const STICKY_COOKIE: &str = "portolan.dev/sticky-cookie";

/// Annotation that names the request header whose value does the same.
const STICKY_HEADER: &str = "portolan.dev/sticky-header";

/// A cluster that routes need.
#[derive(Debug)]
pub(super) struct Reference {
    pub(super) key: ClusterKey,
    /// The host as the route writes it, for DNS.
    pub(super) written: String,
    /// The destination.
    pub(super) origin: portolan_model::Origin,
}

/// The action of a rule, and the clusters that it needs; none when it has none.
pub(super) fn translate(
    served: &Rule<'_>,
    destinations: &Destinations<'_>,
    listener_port: u16,
) -> Option<(RouteAction, Vec<Arc<Reference>>)> {
    let rule = &*served.written;
    if let Some(redirect) = &rule.redirect {
        return Some((RouteAction::Redirect(Box::new(self::redirect(rule, redirect))), Vec::new()));
    }
    if let Some(response) = &rule.direct_response {
        return Some((RouteAction::DirectResponse(Box::new(direct_response(rule, response))), Vec::new()));
    }
    if rule.route.is_empty() {
        return None;
    }
    let (forward, references) = forward(served, destinations, listener_port);
    Some((RouteAction::Forward(Box::new(forward)), references))
}

/// True when the action changes with the port of the listener.
pub(super) fn depends_on_listener(rule: &HttpRoute) -> bool {
    let mirrors = http_policies::mirrors_of(rule).map(|mirror| mirror.destination);
    let destinations = rule.route.iter().filter_map(|entry| entry.destination.as_ref()).chain(mirrors);
    destinations.into_iter().any(|destination| destination.port.is_none())
}

fn forward(served: &Rule<'_>, destinations: &Destinations<'_>, listener_port: u16) -> (Forward, Vec<Arc<Reference>>) {
    let (object, rule) = (served.object, &*served.written);
    let single = rule.route.len() == 1;
    let authority = route_authority(rule);
    let mut translated = Vec::with_capacity(rule.route.len());
    let mut references = Vec::with_capacity(rule.route.len());
    for (j, entry) in rule.route.iter().enumerate() {
        let weight = u32::try_from(entry.weight.unwrap_or(0)).unwrap_or(0);
        let Some(written) = entry.destination.as_ref().filter(|_| single || weight > 0) else { continue };
        let (key, known) = destinations.resolve(&object.meta.namespace, written, listener_port);
        let whole = format!("{}.route[{j}]", served.path());
        let parts = parts::of_headers(entry.headers.as_deref());
        let origin = object.origin_with(&format!("{whole}.destination"), &whole, parts);
        translated.push(Destination {
            cluster: MISSING_CLUSTER,
            cluster_name: destinations.name(&key),
            weight: weight.max(1),
            headers: if single { Default::default() } else { destination_headers(entry, authority.is_some()).into() },
            origin: origin.clone(),
        });
        if known {
            references.push(destinations.reference(key, &written.host, origin));
        }
    }
    // Istio asks the only destination.
    let is_hashed = single && references.first().is_some_and(|only: &Arc<Reference>| destinations.is_hashed(&only.key));
    let (mirrors, mirrored) = http_policies::mirrors(served, destinations, listener_port);
    references.extend(mirrored);
    let own = headers::translate(rule.headers.as_deref());
    let only = rule.route.first().filter(|_| single).and_then(|entry| entry.headers.as_deref());
    let forward = Forward {
        destinations: translated,
        rewrite: rewrite(rule, authority.or_else(|| headers::authority(only))).map(Box::new),
        timeout_ms: rule.timeout.as_deref().and_then(duration::parse_ms).filter(|ms| *ms > 0),
        retry: retries::translate(rule.retries.as_deref().or(destinations.default_retries()), !is_hashed).into(),
        headers: if single { headers::merge(own, headers::translate(only)) } else { own }.into(),
        sticky: sticky(served).map(Box::new),
        fault: http_policies::fault(rule).map(Box::new),
        cors: http_policies::cors(rule).map(Box::new),
        // A match has it, not the rule.
        stat_prefix: None,
        mirrors,
    };
    (forward, references)
}

/// With several destinations each has its own scope; an authority that it sets stays there as header `host`, and gives
/// way to the route's own.
fn destination_headers(entry: &HttpRouteDestination, overruled: bool) -> portolan_model::HeaderOperations {
    let mut operations = headers::translate(entry.headers.as_deref());
    if let Some(authority) = headers::authority(entry.headers.as_deref()).filter(|_| !overruled) {
        operations.request_set.push(("host".into(), authority));
        operations.request_set.sort();
    }
    operations
}

/// What the rule itself sets as authority, which beats what its destinations set.
fn route_authority(rule: &HttpRoute) -> Option<String> {
    let written = rule.rewrite.as_ref().and_then(|rewrite| rewrite.authority.clone());
    written.filter(|authority| !authority.is_empty()).or_else(|| headers::authority(rule.headers.as_deref()))
}

fn rewrite(rule: &HttpRoute, authority: Option<String>) -> Option<Rewrite> {
    let written = rule.rewrite.as_ref();
    let regex = written.and_then(|rewrite| rewrite.uri_regex_rewrite.as_ref());
    let rewrite = Rewrite {
        uri: written.and_then(|rewrite| rewrite.uri.clone()).filter(|uri| !uri.is_empty()),
        uri_regex: regex.map(|regex| (regex.pattern.clone(), regex.rewrite.clone())),
        authority,
    };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

fn sticky(served: &Rule<'_>) -> Option<Sticky> {
    let annotation = |name| served.annotation(name).cloned();
    let header = || annotation(STICKY_HEADER).map(|name| Sticky::Header(name.to_ascii_lowercase()));
    annotation(STICKY_COOKIE).map(Sticky::Cookie).or_else(header)
}

fn redirect(rule: &HttpRoute, written: &HttpRedirect) -> Redirect {
    Redirect {
        uri: written.uri.clone().filter(|uri| !uri.is_empty()),
        prefix_rewrite: written.prefix_rewrite.clone().filter(|prefix| !prefix.is_empty()),
        authority: written.authority.clone().filter(|authority| !authority.is_empty()),
        port: written.port.and_then(|port| u16::try_from(port).ok()),
        port_from_request: written.derive_port.as_deref() == Some("FROM_REQUEST_PORT"),
        scheme: written.scheme.clone().filter(|scheme| !scheme.is_empty()),
        keep_port: false,
        status: match written.redirect_code {
            Some(code @ (302 | 303 | 307 | 308)) => code as u16,
            _ => 301,
        },
        headers: headers::translate(rule.headers.as_deref()),
    }
}

fn direct_response(rule: &HttpRoute, written: &HttpDirectResponse) -> DirectResponse {
    let body = written.body.as_ref();
    let text = body.and_then(|body| body.string.as_ref()).map(|text| text.clone().into_bytes());
    let bytes = || body.and_then(|body| STANDARD.decode(body.bytes.as_ref()?).ok());
    DirectResponse {
        status: u16::try_from(written.status).unwrap_or(500),
        body: text.or_else(bytes).unwrap_or_default(),
        headers: headers::translate(rule.headers.as_deref()),
    }
}

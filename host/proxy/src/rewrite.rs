//! Istio's rewrite and redirect: string surgery on the path, kept exactly so (`/old` to `/new` turns `/older` into
//! `/newer`).

use http::Uri;
use http::uri::PathAndQuery;
use portolan_model::Redirect;

use crate::route::{RewriteEntry, RouteEntry};

/// The URI after a rewrite; none when the path stays or the result would be no path.
pub(crate) fn rewritten(uri: &Uri, route: &RouteEntry, rewrite: &RewriteEntry) -> Option<Uri> {
    let path = uri.path();
    let new = match (&rewrite.uri, &rewrite.regex) {
        (Some(uri), _) => match &route.prefix {
            Some(prefix) => format!("{uri}{}", strip(path, prefix, route.ignore_case)?),
            None => uri.clone(),
        },
        (None, Some((regex, substitution))) => regex.replace_all(path, substitution.as_str()).into_owned(),
        (None, None) => return None,
    };
    with_path(uri, &new)
}

/// The URI with another path and its own query; none when that is no URI.
pub(crate) fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path: PathAndQuery = text.parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

fn strip<'a>(path: &'a str, prefix: &str, ignore_case: bool) -> Option<&'a str> {
    let head = path.get(..prefix.len())?;
    let fits = if ignore_case { head.eq_ignore_ascii_case(prefix) } else { head == prefix };
    fits.then(|| &path[prefix.len()..])
}

/// The `location` of a redirect. Ports 80 for http and 443 for https are left out.
pub(crate) fn location(redirect: &Redirect, scheme: &str, host: &str, uri: &Uri, listener_port: u16) -> String {
    let new_scheme = redirect.scheme.as_deref().unwrap_or(scheme);
    let (name, port) = split_port(redirect.authority.as_deref().unwrap_or(host));
    let port = match (redirect.port, redirect.port_from_request) {
        (Some(port), _) => Some(port),
        (None, true) => Some(listener_port),
        (None, false) if redirect.authority.is_none() && new_scheme != scheme => None,
        (None, false) => port,
    };
    let port = match (new_scheme, port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    let path = match &redirect.uri {
        None => uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
        Some(new) if new.contains('?') => new.clone(),
        Some(new) => match uri.query() {
            Some(query) => format!("{new}?{query}"),
            None => new.clone(),
        },
    };
    format!("{new_scheme}://{name}{port}{path}")
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') || name.starts_with('[') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (host, None),
        },
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use portolan_model::{Forward, Rewrite, Route, RouteAction, RouteMatch, StringMatch};

    fn rewrite(uri: StringMatch, to: &str, path: &str) -> String {
        let route = RouteEntry::compile(&Route {
            name: "r".to_owned(),
            matches: RouteMatch { uri: Some(uri), ..RouteMatch::default() },
            action: RouteAction::Forward(Box::new(Forward {
                rewrite: Some(Rewrite { uri: Some(to.to_owned()), ..Rewrite::default() }),
                ..Forward::default()
            })),
            origin: portolan_model::Origin::default(),
        });
        let crate::route::Action::Forward(forward) = &route.action else { return String::new() };
        let uri: Uri = path.parse().unwrap();
        rewritten(&uri, &route, forward.rewrite.as_ref().unwrap()).map(|u| u.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_prefix_is_replaced_as_a_string() {
        let prefix = |p: &str| StringMatch::Prefix(p.to_owned());
        assert_eq!(rewrite(prefix("/old"), "/new", "/older?q=1"), "/newer?q=1");
        assert_eq!(rewrite(prefix("/bare"), "/", "/bare/x"), "//x");
        assert_eq!(rewrite(prefix("/join/"), "/joined", "/join/ed"), "/joineded");
        assert_eq!(rewrite(StringMatch::Exact("/a".to_owned()), "/b", "/a?q"), "/b?q");
    }

    fn redirect() -> Redirect {
        Redirect {
            uri: None,
            authority: None,
            port: None,
            port_from_request: false,
            scheme: None,
            status: 301,
            headers: portolan_model::HeaderOperations::default(),
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_replace() {
        let uri: Uri = "/a?b=c".parse().unwrap();
        let to = |r: &Redirect| location(r, "http", "h.io:8080", &uri, 80);
        assert_eq!(to(&Redirect { uri: Some("/x".to_owned()), ..redirect() }), "http://h.io:8080/x?b=c");
        assert_eq!(to(&Redirect { uri: Some("/x?y".to_owned()), ..redirect() }), "http://h.io:8080/x?y");
        assert_eq!(to(&Redirect { authority: Some("o.io".to_owned()), ..redirect() }), "http://o.io/a?b=c");
        assert_eq!(to(&Redirect { scheme: Some("https".to_owned()), ..redirect() }), "https://h.io/a?b=c");
        assert_eq!(to(&Redirect { port: Some(80), ..redirect() }), "http://h.io/a?b=c");
        assert_eq!(to(&Redirect { port_from_request: true, ..redirect() }), "http://h.io/a?b=c");
    }
}

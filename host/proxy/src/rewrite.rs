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
        (Some(uri), _) => replaced(path, route, uri)?,
        (None, Some((regex, substitution))) => regex.replace_all(path, substitution.as_str()).into_owned(),
        (None, None) => return None,
    };
    // As in Envoy, a path of which nothing is left stays.
    if new.is_empty() { None } else { with_path(uri, &new) }
}

/// The path with `new` in the place of the matched prefix, or of the whole when no prefix was matched.
fn replaced(path: &str, route: &RouteEntry, new: &str) -> Option<String> {
    Some(match &route.prefix {
        Some(prefix) => format!("{new}{}", strip(path, prefix, route.ignore_case)?),
        None => new.to_owned(),
    })
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

/// What a redirect's `location` is made from.
pub(crate) struct Asked<'a> {
    /// Of the connection.
    pub(crate) scheme: &'a str,
    /// With its port.
    pub(crate) host: &'a str,
    pub(crate) uri: &'a Uri,
    /// As the Gateway writes it.
    pub(crate) listener_port: u16,
}

/// The `location` of a redirect, piece by piece as Istio configures Envoy: a port of 80 for http and 443 for https is as
/// good as none; a port takes the place of the Host's and stands behind an authority as it is; a new scheme takes the
/// old one's default port out of the Host and leaves others.
pub(crate) fn location(redirect: &Redirect, route: &RouteEntry, asked: &Asked<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(asked.scheme);
    let port = redirect.port.or_else(|| redirect.port_from_request.then_some(asked.listener_port));
    let port = port.filter(|port| !is_default(scheme, *port));
    let host = match &redirect.authority {
        Some(authority) => authority,
        None if redirect.keep_port => asked.host,
        None => kept_host(asked, port.is_some(), scheme),
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", redirected_path(redirect, route, asked.uri))
}

fn is_default(scheme: &str, port: u16) -> bool {
    matches!((scheme, port), ("http", 80) | ("https", 443))
}

fn kept_host<'a>(asked: &Asked<'a>, replaced: bool, scheme: &str) -> &'a str {
    match split_port(asked.host) {
        (name, Some(port)) if replaced || (scheme != asked.scheme && is_default(asked.scheme, port)) => name,
        _ => asked.host,
    }
}

fn redirected_path(redirect: &Redirect, route: &RouteEntry, uri: &Uri) -> String {
    let prefix = || redirect.prefix_rewrite.as_ref().and_then(|new| replaced(uri.path(), route, new));
    let (path, own_query) = match (&redirect.uri, prefix()) {
        (Some(path), _) => (path.clone(), path.contains('?')),
        // As in Envoy, the query is a part of what the prefix is replaced of, whatever the new one has in it.
        (None, Some(path)) => (path, false),
        (None, None) => return uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
    };
    // Envoy sends a path in any case.
    let slash = if path.starts_with('/') { "" } else { "/" };
    match uri.query() {
        Some(query) if !own_query => format!("{slash}{path}?{query}"),
        _ => format!("{slash}{path}"),
    }
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
        rewrite_by(uri, Rewrite { uri: Some(to.to_owned()), ..Rewrite::default() }, path)
    }

    fn rewrite_by(uri: StringMatch, by: Rewrite, path: &str) -> String {
        let route = RouteEntry::compile(
            &Route {
                name: "r".to_owned(),
                matches: RouteMatch { uri: Some(uri), ..RouteMatch::default() },
                action: RouteAction::Forward(Box::new(Forward { rewrite: Some(Box::new(by)), ..Forward::default() })),
                origin: portolan_model::Origin::default(),
                delegated_from: None,
            },
            &[],
        );
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

    #[test]
    fn a_path_of_which_nothing_is_left_stays() {
        let rest = || Rewrite { uri_regex: Some(("^/e(.*)$".to_owned(), r"\1".to_owned())), ..Rewrite::default() };
        let at = |path: &str| rewrite_by(StringMatch::Prefix("/e".to_owned()), rest(), path);
        assert_eq!((at("/e/x?q").as_str(), at("/e").as_str(), at("/e?q").as_str()), ("/x?q", "", ""));
    }

    fn redirect() -> Redirect {
        Redirect {
            uri: None,
            prefix_rewrite: None,
            authority: None,
            port: None,
            port_from_request: false,
            scheme: None,
            keep_port: false,
            status: 301,
            headers: portolan_model::HeaderOperations::default(),
        }
    }

    fn to(redirect: &Redirect, host: &str, uri: Option<StringMatch>) -> String {
        let route = RouteEntry::compile(
            &Route {
                name: "r".to_owned(),
                matches: RouteMatch { uri, ..RouteMatch::default() },
                action: RouteAction::Redirect(Box::new(redirect.clone())),
                origin: portolan_model::Origin::default(),
                delegated_from: None,
            },
            &[],
        );
        let uri: Uri = "/a?b=c".parse().unwrap();
        location(redirect, &route, &Asked { scheme: "http", host, uri: &uri, listener_port: 80 })
    }

    /// Envoy 1.40 gave each of these answers.
    #[test]
    fn a_redirect_keeps_what_it_does_not_replace() {
        let at = |host: &str, redirect: Redirect| to(&redirect, host, None);
        let scheme = || Redirect { scheme: Some("https".to_owned()), ..redirect() };
        let port = |port| Redirect { port: Some(port), ..redirect() };
        let uri = |uri: &str| Redirect { uri: Some(uri.to_owned()), ..redirect() };
        let authority = |name: &str| Redirect { authority: Some(name.to_owned()), ..redirect() };
        assert_eq!(at("h.io:8080", uri("/x")), "http://h.io:8080/x?b=c");
        assert_eq!(at("h.io:8080", uri("/x?y")), "http://h.io:8080/x?y");
        assert_eq!(at("h.io", uri("x")), "http://h.io/x?b=c");
        assert_eq!(at("h.io:8080", authority("o.io")), "http://o.io/a?b=c");
        assert_eq!(at("h.io:8080", Redirect { port: Some(8), ..authority("o.io:9") }), "http://o.io:9:8/a?b=c");
        assert_eq!(at("h.io:8080", scheme()), "https://h.io:8080/a?b=c");
        assert_eq!(at("h.io:80", scheme()), "https://h.io/a?b=c");
        assert_eq!(at("h.io:443", scheme()), "https://h.io:443/a?b=c");
        assert_eq!(at("h.io:80", Redirect { keep_port: true, ..scheme() }), "https://h.io:80/a?b=c");
        assert_eq!(at("h.io:8080", port(8)), "http://h.io:8/a?b=c");
        assert_eq!(at("[::1]:8080", port(8)), "http://[::1]:8/a?b=c");
        assert_eq!(at("h.io:8080", port(80)), "http://h.io:8080/a?b=c");
        assert_eq!(at("h.io", Redirect { port: Some(443), ..scheme() }), "https://h.io/a?b=c");
        assert_eq!(at("h.io", Redirect { port_from_request: true, ..scheme() }), "https://h.io:80/a?b=c");
    }

    #[test]
    fn a_redirect_replaces_the_matched_prefix_or_all_of_another_match() {
        let redirect = Redirect { prefix_rewrite: Some("/new".to_owned()), ..redirect() };
        let at = |uri| to(&redirect, "h.io", Some(uri));
        assert_eq!(at(StringMatch::Prefix("/".to_owned())), "http://h.io/newa?b=c");
        assert_eq!(at(StringMatch::Exact("/a".to_owned())), "http://h.io/new?b=c");
        assert_eq!(at(StringMatch::Regex("/.*".to_owned())), "http://h.io/new?b=c");
        let redirect = Redirect { prefix_rewrite: Some("/new?x".to_owned()), ..redirect };
        assert_eq!(to(&redirect, "h.io", Some(StringMatch::Prefix("/a".to_owned()))), "http://h.io/new?x?b=c");
    }
}

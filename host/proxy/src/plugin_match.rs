//! [`PluginTraffic`]: which requests a plugin sees, made ready for the request path.

use std::net::SocketAddr;

use http::header::HOST;
use portolan_model::{Forward, Model, PathMatch, PluginMatch, RouteAction, RouteId};

use crate::builder::{CORS, FAULT};
use crate::snapshot::Attached;
use crate::stream::Stream;

/// What a plugin sees: requests that fulfil one of the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginTraffic {
    entries: Vec<Entry>,
}

/// All conditions must hold; an empty one holds always.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    ports: Vec<u16>,
    hosts: Vec<Host>,
    paths: Vec<PathMatch>,
    /// By route id, whether it is meant; none when all are.
    routes: Option<Vec<bool>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Exact(String),
    /// With its dot: `.example.com`.
    Suffix(String),
}

/// What is looked at of a request when the chain reaches the plugin: what earlier filters changed counts as changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Where the listener is bound.
    pub(crate) address: SocketAddr,
    /// The port as the Gateway writes it.
    pub(crate) server_port: u16,
    /// The Host header.
    pub(crate) authority: &'a [u8],
    /// Without query.
    pub(crate) path: &'a str,
    /// What `route-match` chose.
    pub(crate) route: Option<RouteId>,
}

impl PluginTraffic {
    /// Of a plugin's `matches`, with the routes of this model.
    pub(crate) fn compile(matches: &[PluginMatch], model: &Model) -> Self {
        Self { entries: matches.iter().map(|entry| Entry::compile(entry, model)).collect() }
    }

    /// Requests of routes that forward and have this.
    fn of_routes(model: &Model, has: impl Fn(&Forward) -> bool) -> Self {
        let routes = model.routes.iter().map(|route| match &route.action {
            RouteAction::Forward(forward) => has(forward),
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => false,
        });
        let routes = Some(routes.collect());
        Self { entries: vec![Entry { ports: Vec::new(), hosts: Vec::new(), paths: Vec::new(), routes }] }
    }

    /// By attached plugin, none for one that sees all requests.
    pub(crate) fn of_all(plugins: &[Attached], model: &Model) -> Vec<Option<Self>> {
        let of = |attached: &Attached| {
            let name: &str = match attached {
                Attached::Ready(generation) => &generation.name,
                Attached::Failed { name, .. } => name,
            };
            // Names of users' plugins have a dot.
            match name {
                FAULT => return Some(Self::of_routes(model, |forward| forward.fault.is_some())),
                CORS => return Some(Self::of_routes(model, |forward| forward.cors.is_some())),
                _ => {}
            }
            let plugin = model.plugins.iter().find(|plugin| plugin.name == name)?;
            Some(Self::compile(plugin.matches.as_ref()?, model))
        };
        plugins.iter().map(of).collect()
    }

    /// True when the plugin sees the request.
    pub(crate) fn applies(&self, asked: &Asked<'_>) -> bool {
        self.entries.iter().any(|entry| entry.applies(asked))
    }
}

impl Stream {
    /// Whether a plugin is to see this request: asked once, when the request's head reaches it. What it has not seen of a
    /// request it sees nothing else of.
    pub(crate) fn is_for(&self, at: usize) -> bool {
        match self.view.snapshot.traffic.get(at) {
            Some(Some(traffic)) => self.fits(traffic),
            _ => true,
        }
    }

    #[cold]
    fn fits(&self, traffic: &PluginTraffic) -> bool {
        self.with_state(|state| {
            let authority = state.request.headers.get(HOST);
            traffic.applies(&Asked {
                address: self.slot.address,
                server_port: self.slot.server_port(),
                authority: authority.map(|value| value.as_bytes()).unwrap_or_default(),
                path: state.request.uri.path(),
                route: state.host.route,
            })
        })
    }
}

impl Entry {
    fn compile(written: &PluginMatch, model: &Model) -> Self {
        let is_meant = |route: &portolan_model::Route| {
            let object = || format!("{} {}", route.origin.kind(), route.origin.name());
            (written.routes.is_empty() || written.routes.contains(&route.name))
                && (written.objects.is_empty() || written.objects.contains(&object()))
        };
        let asks = !written.routes.is_empty() || !written.objects.is_empty();
        Self {
            ports: written.ports.clone(),
            hosts: written.hosts.iter().map(|host| Host::compile(host)).collect(),
            paths: written.paths.clone(),
            routes: asks.then(|| model.routes.iter().map(|route| is_meant(route)).collect()),
        }
    }

    fn applies(&self, asked: &Asked<'_>) -> bool {
        let port = |port: &u16| *port == asked.server_port || *port == asked.address.port();
        let route = |meant: &Vec<bool>| asked.route.and_then(|id| meant.get(id as usize)).copied().unwrap_or(false);
        (self.ports.is_empty() || self.ports.iter().any(port))
            && self.routes.as_ref().is_none_or(route)
            && (self.paths.is_empty() || self.paths.iter().any(|path| fits(path, asked.path)))
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| host.covers(without_port(asked.authority))))
    }
}

impl Host {
    fn compile(written: &str) -> Self {
        match written.strip_prefix('*') {
            Some("") => Self::Any,
            Some(suffix) => Self::Suffix(suffix.to_owned()),
            None => Self::Exact(written.to_owned()),
        }
    }

    fn covers(&self, host: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => host.eq_ignore_ascii_case(name.as_bytes()),
            Self::Suffix(suffix) => {
                let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
                start.is_some_and(|start| host[start..].eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }
}

fn fits(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Exact(exact) => path == exact,
        PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
    }
}

/// `[::1]:80` and `a.b:80` without their ports.
fn without_port(authority: &[u8]) -> &[u8] {
    let digits = authority.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    match authority[..authority.len() - digits].split_last() {
        Some((b':', host)) if !host.contains(&b':') || host.ends_with(b"]") => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::sync::Arc;

    use portolan_model::{DirectResponse, HeaderOperations, Origin, Route, RouteAction, RouteMatch};

    use super::*;

    fn route(name: &str, object: &str) -> Route {
        let response = DirectResponse { status: 200, body: Vec::new(), headers: HeaderOperations::default() };
        Route {
            name: name.to_owned(),
            matches: RouteMatch::default(),
            action: RouteAction::DirectResponse(Box::new(response)),
            origin: Origin::at("VirtualService", object, "", 0, 0),
            delegated_from: None,
        }
    }

    fn sees(written: PluginMatch, authority: &str, path: &str, route_id: Option<RouteId>) -> bool {
        let model = Model {
            routes: [("api", "default/shop"), ("default", "default/shop"), ("api", "other/shop")]
                .map(|(name, object)| Arc::new(route(name, object)))
                .into(),
            ..Model::default()
        };
        let traffic = PluginTraffic::compile(&[written], &model);
        let address = "0.0.0.0:8080".parse().unwrap();
        traffic.applies(&Asked { address, server_port: 80, authority: authority.as_bytes(), path, route: route_id })
    }

    fn hosts(hosts: &[&str]) -> PluginMatch {
        PluginMatch { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..PluginMatch::default() }
    }

    #[test]
    fn hosts_ignore_case_and_port_and_wildcards_need_a_label() {
        assert!(sees(hosts(&["shop.example.com"]), "Shop.Example.com:8080", "/", None));
        assert!(sees(hosts(&["*.example.com"]), "a.b.example.com", "/", None));
        assert!(sees(hosts(&["x.com", "*"]), "shop.example.com", "/", None));
        assert!(sees(hosts(&["::1"]), "::1", "/", None));
        for other in ["example.com", "shopexample.com", "shop.example.com.evil.net", ""] {
            assert!(!sees(hosts(&["*.example.com"]), other, "/", None), "{other}");
        }
    }

    #[test]
    fn paths_are_exact_or_string_prefixes() {
        let paths = vec![PathMatch::Exact("/health".into()), PathMatch::Prefix("/api".into())];
        let written = PluginMatch { paths, ..PluginMatch::default() };
        for path in ["/health", "/api", "/api/x", "/apis"] {
            assert!(sees(written.clone(), "h", path, None), "{path}");
        }
        for path in ["/health/", "/", "/Api"] {
            assert!(!sees(written.clone(), "h", path, None), "{path}");
        }
    }

    #[test]
    fn ports_are_the_bound_one_or_the_gateways() {
        for (port, seen) in [(80, true), (8080, true), (81, false)] {
            assert_eq!(
                sees(PluginMatch { ports: vec![port], ..PluginMatch::default() }, "h", "/", None),
                seen,
                "{port}"
            );
        }
    }

    #[test]
    fn routes_go_by_name_and_by_object() {
        let by_name = PluginMatch { routes: vec!["api".into()], ..PluginMatch::default() };
        let of_shop = PluginMatch { objects: vec!["VirtualService default/shop".into()], ..by_name.clone() };
        let seen =
            |written: &PluginMatch| [Some(0), Some(1), Some(2), None].map(|id| sees(written.clone(), "h", "/", id));
        assert_eq!(seen(&by_name), [true, false, true, false]);
        assert_eq!(seen(&of_shop), [true, false, false, false]);
        assert_eq!(seen(&PluginMatch::default()), [true; 4]);
    }

    #[test]
    fn all_conditions_of_an_entry_must_hold() {
        let written = PluginMatch { ports: vec![80], paths: vec![PathMatch::Prefix("/a".into())], ..hosts(&["h"]) };
        assert!(sees(written.clone(), "h", "/a", None));
        assert!(!sees(written.clone(), "g", "/a", None) && !sees(written, "h", "/b", None));
    }
}

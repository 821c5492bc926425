//! Parts of rules, destinations and policies that have a line of their own in the [`Origin`](portolan_model::Origin).

use portolan_model::{Origin, Parts};

use super::policies::InForce;
use crate::object::Object;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::virtual_service::{HeaderOperations, Headers, HttpRoute};

/// Fields of a rule that something tells about, with the paths where they stand.
pub(super) fn of_rule(rule: &HttpRoute) -> Vec<(String, String)> {
    let fields = [
        (rule.rewrite.is_some(), "rewrite"),
        (rule.timeout.is_some(), "timeout"),
        (rule.retries.is_some(), "retries"),
        (rule.redirect.is_some(), "redirect"),
        (rule.direct_response.is_some(), "directResponse"),
        (rule.fault.is_some(), "fault"),
        (rule.mirror.is_some(), "mirror"),
        (rule.cors_policy.is_some(), "corsPolicy"),
    ];
    let written = fields.into_iter().filter(|(is_written, _)| *is_written);
    let mut parts: Vec<_> = written.map(|(_, name)| (name.to_owned(), name.to_owned())).collect();
    parts.push(("mirrors".to_owned(), "mirrors".to_owned()));
    parts.extend(of_headers(rule.headers.as_deref()));
    parts
}

/// Header operations; their names are told in lower case, as the model has them.
pub(super) fn of_headers(headers: Option<&Headers>) -> Vec<(String, String)> {
    let Some(headers) = headers else { return Vec::new() };
    let directions = [("headers.request", headers.request.as_ref()), ("headers.response", headers.response.as_ref())];
    let of = |(path, operations): (&str, Option<&HeaderOperations>)| {
        let Some(operations) = operations else { return Vec::new() };
        let part = |verb: &str, name: &str| {
            (format!("{path}.{verb}.{}", name.to_ascii_lowercase()), format!("{path}.{verb}.{name}"))
        };
        let removed = operations.remove.iter().enumerate();
        let removed = removed.map(|(index, name)| {
            (format!("{path}.remove.{}", name.to_ascii_lowercase()), format!("{path}.remove[{index}]"))
        });
        let set = operations.set.keys().map(|name| part("set", name));
        removed.chain(set).chain(operations.add.keys().map(|name| part("add", name))).collect()
    };
    directions.into_iter().flat_map(of).collect()
}

/// The lines of the blocks that are in force for a cluster, whichever rule they stand in.
pub(super) fn of_policy(blocks: &InForce<'_>, origin: Origin) -> Origin {
    let pool = blocks.connection_pool.as_ref().map(|(_, rule, path)| ("connectionPool", rule, path));
    let outlier = blocks.outlier_detection.as_ref().map(|(_, rule, path)| ("outlierDetection", rule, path));
    let balancer = blocks.load_balancer.as_ref().map(|(_, rule, path)| ("loadBalancer", rule, path));
    let proxy = blocks.proxy_protocol.as_ref().map(|(_, rule, path)| ("proxyProtocol", rule, path));
    let blocks_in_force = [pool, outlier, balancer, proxy].into_iter().flatten();
    let of_blocks = blocks_in_force.map(|(name, rule, path)| (name, rule, path.clone()));
    let parts =
        of_blocks.chain(of_pool(blocks)).chain(of_balancer(blocks)).map(|(name, rule, path)| rule.part(name, &path));
    origin.with_parts(Parts::new(parts.collect()))
}

type Field<'a> = (&'static str, &'a &'a Object<DestinationRule>, String);

/// Fields of the pool that are told apart from it, as they may come from elsewhere.
fn of_pool<'a>(blocks: &'a InForce<'a>) -> Vec<Field<'a>> {
    let Some((pool, rule, path)) = &blocks.connection_pool else { return Vec::new() };
    let http = pool.http.as_ref();
    let protocol = match http.and_then(|http| http.h2_upgrade_policy.as_deref()) {
        Some("UPGRADE") => Some("http.h2UpgradePolicy"),
        _ => http.filter(|http| http.use_client_protocol == Some(true)).map(|_| "http.useClientProtocol"),
    };
    let keepalive = pool.tcp.as_ref().filter(|tcp| tcp.tcp_keepalive.is_some()).map(|_| "tcp.tcpKeepalive");
    let fields = [("protocol", protocol), ("tcpKeepalive", keepalive)];
    let fields = fields.into_iter().filter_map(|(name, below)| Some((name, rule, format!("{path}.{}", below?))));
    fields.collect()
}

fn of_balancer<'a>(blocks: &'a InForce<'a>) -> Option<Field<'a>> {
    let (balancer, rule, path) = blocks.load_balancer.as_ref()?;
    balancer.locality_lb_setting.as_ref()?;
    Some(("localityLbSetting", rule, format!("{path}.localityLbSetting")))
}

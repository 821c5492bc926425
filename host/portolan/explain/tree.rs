//! [`Explanation`]: why a request goes where it goes, as data; `-o json` is exactly this tree.

use portolan_model::filter::{RouteExplanation, RouteVerdict};
use portolan_model::{
    Address, CircuitBreakers, Cluster, ClusterId, Destination, Forward, Listener, MISSING_CLUSTER, Model, Origin,
    PluginKind, RetryPolicy, RouteAction, VirtualHost,
};
use serde::Serialize;

use crate::change::short;

/// The whole answer, in the order in which a request meets the parts.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    /// The form of this tree; it grows when a field changes meaning.
    pub schema: u32,
    /// The request that was made up.
    pub request: RequestPart,
    /// The listener that took it.
    pub listener: ListenerPart,
    /// The virtual host; none when no host fits.
    pub host: Option<HostPart>,
    /// The host's rules in the order in which they are tried.
    pub rules: Vec<RulePart>,
    /// The filters that a request passes, in order.
    pub filters: Vec<FilterPart>,
    /// The destinations of the rule with their shares.
    pub split: Vec<SharePart>,
    /// What the rule and its clusters ask for on the way; none when nothing is forwarded.
    pub policy: Option<PolicyPart>,
    /// What the client gets.
    pub answer: AnswerPart,
}

/// The made-up request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RequestPart {
    /// Method.
    pub method: String,
    /// Host header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// Something the user wrote: the object, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Source {
    /// `virtualservice/shop`; with the namespace unless it is `default`.
    pub object: String,
    /// `routes.yaml:12`; empty when it comes from no file.
    pub place: String,
}

/// The listener.
#[derive(Debug, Serialize)]
pub(crate) struct ListenerPart {
    /// Bound address.
    pub address: String,
    /// Port as the Gateway wrote it.
    pub server_port: u16,
    /// The Gateway servers behind it.
    pub sources: Vec<Source>,
}

/// The virtual host.
#[derive(Debug, Serialize)]
pub(crate) struct HostPart {
    /// Exact name, `*.suffix` or `*`.
    pub domain: String,
    /// `exact`, `suffix` or `any`.
    pub kind: String,
    /// Who brought it.
    pub source: Source,
}

/// One rule.
#[derive(Debug, Serialize)]
pub(crate) struct RulePart {
    /// From 1.
    pub number: usize,
    /// `yes`, `no` or `not reached`.
    pub verdict: String,
    /// The condition that failed, or what held.
    pub reason: String,
    /// Where it was written; of a delegate's rule there.
    pub source: Source,
    /// The rule that delegates to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated_from: Option<Source>,
}

/// One filter of the chain.
#[derive(Debug, Serialize)]
pub(crate) struct FilterPart {
    /// Name of the bundled filter, or `namespace.name` of the plugin.
    pub name: String,
    /// Phase of a plugin; `DECISION` for the bundled three.
    pub phase: String,
    /// `FAIL_CLOSE` or `FAIL_OPEN`; bundled filters fail closed.
    pub fail_policy: String,
    /// `built in`, or the file that replaces it or holds it.
    pub code: String,
    /// The WasmPlugin.
    pub source: Option<Source>,
}

/// One destination.
#[derive(Debug, Serialize)]
pub(crate) struct SharePart {
    /// `outbound|port|subset|host`.
    pub cluster: String,
    /// Host and subset as a person says them.
    pub name: String,
    /// Share of requests in percent.
    pub percent: f64,
    /// False when no service, port or subset fits: its share gets 503.
    pub exists: bool,
    /// Addresses, or names to be resolved by DNS.
    pub endpoints: Vec<String>,
    /// The destination in the rule.
    pub source: Source,
    /// The subset or service behind the cluster.
    pub cluster_source: Option<Source>,
}

/// Timeouts, retries and limits.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyPart {
    /// In words: `timeout 5 s, retries 2 on connect-failure, max requests 100`.
    pub text: String,
    /// Over all tries, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Tries after the first.
    pub retries: u32,
    /// The traffic policy that set the limits.
    pub source: Option<Source>,
}

/// The end of it.
#[derive(Debug, Serialize)]
pub(crate) struct AnswerPart {
    /// The status that the gateway or a filter answers with by itself; none when the request is sent on.
    pub status: Option<u16>,
    /// In words.
    pub text: String,
}

/// What the filter chain did with the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Index of the listener.
    pub listener: usize,
    /// The route.
    pub route: Option<u32>,
    /// What `route-match` tried.
    pub explanation: RouteExplanation,
    /// Status and details of an answer that the gateway or a filter gave.
    pub local_reply: Option<(u16, String)>,
}

impl Explanation {
    /// Puts the model's names and places to what the chain did. `overrides` are bundled filters with their files.
    pub(crate) fn new(model: &Model, request: RequestPart, outcome: &Outcome, overrides: &[(String, String)]) -> Self {
        let listener = &model.listeners[outcome.listener];
        let action = outcome.route.and_then(|id| model.routes.get(id as usize)).map(|route| &route.action);
        let forward = match action {
            Some(RouteAction::Forward(forward)) => Some(&**forward),
            _ => None,
        };
        let rules = rules(model, &outcome.explanation.routes);
        let split = forward.map(|forward| split(model, forward)).unwrap_or_default();
        let answer = answer(model, listener, outcome, &rules, &split);
        Self {
            schema: 1,
            request,
            listener: ListenerPart::of(listener),
            host: host(model, listener, &outcome.explanation),
            rules,
            filters: filters(model, overrides),
            split,
            policy: forward.map(|forward| policy(model, forward)),
            answer,
        }
    }
}

impl ListenerPart {
    pub(super) fn of(listener: &Listener) -> Self {
        Self {
            address: listener.address.to_string(),
            server_port: listener.server_port,
            sources: listener.origins.iter().map(source).collect(),
        }
    }
}

/// The object and place of an origin.
pub(crate) fn source(origin: &Origin) -> Source {
    if origin.line == 0 {
        return Source::default();
    }
    let name = origin.name.strip_prefix("default/").unwrap_or(&origin.name);
    Source { object: format!("{}/{name}", origin.kind.to_lowercase()), place: origin.place() }
}

fn hosts<'a>(model: &'a Model, listener: &Listener) -> &'a [VirtualHost] {
    model.route_tables.get(listener.route_table as usize).map_or(&[], |table| &table.virtual_hosts)
}

fn host(model: &Model, listener: &Listener, explanation: &RouteExplanation) -> Option<HostPart> {
    let domain = explanation.host.clone()?;
    let origin = hosts(model, listener).iter().find(|host| host.domain == domain).map(|host| source(&host.origin));
    let kind = explanation.host_kind.clone().unwrap_or_default();
    Some(HostPart { domain, kind, source: origin.unwrap_or_default() })
}

fn rules(model: &Model, verdicts: &[RouteVerdict]) -> Vec<RulePart> {
    let rule = |(number, verdict): (usize, &RouteVerdict)| RulePart {
        number,
        verdict: verdict.verdict.clone(),
        reason: verdict.reason.clone(),
        source: model.routes.get(verdict.route as usize).map(|route| source(&route.origin)).unwrap_or_default(),
        delegated_from: model.routes.get(verdict.route as usize).and_then(|r| r.delegated_from.as_ref()).map(source),
    };
    (1..).zip(verdicts).map(rule).collect()
}

fn filters(model: &Model, overrides: &[(String, String)]) -> Vec<FilterPart> {
    let bundled = |name: &str| FilterPart {
        name: name.to_owned(),
        phase: "DECISION".to_owned(),
        fail_policy: "FAIL_CLOSE".to_owned(),
        code: overrides.iter().find(|(n, _)| n == name).map_or("built in".to_owned(), |(_, file)| file.clone()),
        source: None,
    };
    let first = ["route-match", "traffic-split"].into_iter().map(bundled);
    let forwards = model.routes.iter().filter_map(|route| match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    });
    let fault = { forwards.clone() }.any(|forward| forward.fault.is_some()).then_some("fault");
    let cors = { forwards }.any(|forward| forward.cors.is_some()).then_some("cors");
    let last = [fault, cors, Some("circuit-breaker")].into_iter().flatten().map(bundled);
    first.chain(plugins(model, PluginKind::Http)).chain(last).collect()
}

/// The plugins that are in chains of this kind.
pub(super) fn plugins(model: &Model, kind: PluginKind) -> impl Iterator<Item = FilterPart> {
    model.plugins.iter().filter(move |plugin| plugin.kind == kind).map(|plugin| FilterPart {
        name: plugin.name.clone(),
        phase: word(&plugin.phase),
        fail_policy: word(&plugin.fail_policy),
        code: match &plugin.code {
            portolan_model::PluginCode::Bundled(name) => format!("{name}, built in"),
            portolan_model::PluginCode::File(path) => path.display().to_string(),
            portolan_model::PluginCode::Remote(module) => module.url.clone(),
        },
        source: Some(source(&plugin.origin)),
    })
}

/// Words of enums are their serialised form, which is Istio's spelling.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn split(model: &Model, forward: &Forward) -> Vec<SharePart> {
    let total: u64 = forward.destinations.iter().map(|d| u64::from(d.weight)).sum();
    let single = forward.destinations.len() == 1;
    let percent = |d: &Destination| if single { 100.0 } else { percent(d.weight, total) };
    let share = |d: &Destination| share(model, d.cluster, &d.cluster_name, percent(d), &d.origin);
    forward.destinations.iter().map(share).collect()
}

/// One destination.
pub(super) fn share(model: &Model, id: ClusterId, name: &str, percent: f64, origin: &Origin) -> SharePart {
    let cluster = cluster(model, id);
    SharePart {
        cluster: name.to_owned(),
        name: short(name),
        percent,
        exists: cluster.is_some(),
        endpoints: cluster.map(endpoints).unwrap_or_default(),
        source: source(origin),
        cluster_source: cluster.map(|cluster| source(&cluster.origin)),
    }
}

pub(super) fn cluster(model: &Model, id: ClusterId) -> Option<&Cluster> {
    (id != MISSING_CLUSTER).then(|| model.clusters.get(id as usize))?
}

/// To a tenth of a percent.
pub(super) fn percent(weight: u32, total: u64) -> f64 {
    (f64::from(weight) * 1000.0 / total.max(1) as f64).round() / 10.0
}

fn endpoints(cluster: &Cluster) -> Vec<String> {
    let text = |address: &Address| match address {
        Address::Socket(address) => address.to_string(),
        Address::Dns { host, port } => format!("{host}:{port} (DNS)"),
    };
    cluster.endpoints.iter().map(|endpoint| text(&endpoint.address)).collect()
}

fn policy(model: &Model, forward: &Forward) -> PolicyPart {
    let mut words = vec![match forward.timeout_ms {
        Some(ms) => format!("timeout {}", time(ms)),
        None => "no timeout".to_owned(),
    }];
    words.push(retries(&forward.retry));
    let mut clusters = forward.destinations.iter().filter_map(|d| cluster(model, d.cluster));
    let limited = clusters.find(|cluster| cluster.policy_origin.is_some());
    if let Some(cluster) = limited {
        limits(cluster, &mut words);
    }
    PolicyPart {
        text: words.join(", "),
        timeout_ms: forward.timeout_ms,
        retries: forward.retry.attempts,
        source: limited.and_then(|cluster| cluster.policy_origin.as_ref()).map(source),
    }
}

fn retries(retry: &RetryPolicy) -> String {
    if retry.attempts == 0 {
        return "no retries".to_owned();
    }
    let flags = [
        (retry.on_5xx, "5xx"),
        (retry.gateway_error, "gateway-error"),
        (retry.reset, "reset"),
        (retry.connect_failure, "connect-failure"),
        (retry.refused_stream, "refused-stream"),
        (retry.retriable_4xx, "retriable-4xx"),
    ];
    let on = flags.iter().filter(|(set, _)| *set).map(|(_, name)| (*name).to_owned());
    let on: Vec<_> = on.chain(retry.status_codes.iter().map(u16::to_string)).collect();
    format!("retries {} on {}", retry.attempts, on.join(" "))
}

pub(super) fn limits(cluster: &Cluster, words: &mut Vec<String>) {
    let CircuitBreakers { max_connections, max_pending_requests, max_requests, max_retries } = cluster.circuit_breakers;
    let limits = [
        (max_connections, "connections"),
        (max_pending_requests, "pending"),
        (max_requests, "requests"),
        (max_retries, "retries"),
    ];
    words.extend(limits.iter().filter(|(limit, _)| *limit != u32::MAX).map(|(limit, of)| format!("max {of} {limit}")));
    if let Some(outlier) = &cluster.outlier_detection {
        words.push(format!("ejects after {} 5xx", outlier.consecutive_5xx));
    }
}

/// `5 s`, `250 ms`.
pub(super) fn time(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

fn answer(
    model: &Model,
    listener: &Listener,
    outcome: &Outcome,
    rules: &[RulePart],
    split: &[SharePart],
) -> AnswerPart {
    let Some(route) = outcome.route.and_then(|id| model.routes.get(id as usize)) else {
        let (status, _) = outcome.local_reply.clone().unwrap_or((404, String::new()));
        let text = match outcome.explanation.host {
            Some(_) => format!("{status} with an empty body; {}", nearest(rules)),
            None => format!("{status} with an empty body; {}", known_hosts(hosts(model, listener))),
        };
        return AnswerPart { status: Some(status), text };
    };
    if let Some((status, details)) = &outcome.local_reply {
        let who = match &route.action {
            RouteAction::Redirect(_) => "redirect".to_owned(),
            RouteAction::DirectResponse(_) => "direct response of the rule".to_owned(),
            RouteAction::Forward(_) if details.is_empty() => "by a filter".to_owned(),
            RouteAction::Forward(_) => details.clone(),
        };
        return AnswerPart { status: Some(*status), text: format!("{status} {who}") };
    }
    match &route.action {
        RouteAction::Forward(_) => AnswerPart { status: None, text: sent(split) },
        RouteAction::Redirect(redirect) => {
            AnswerPart { status: Some(redirect.status), text: format!("{} redirect", redirect.status) }
        }
        RouteAction::DirectResponse(direct) => {
            AnswerPart { status: Some(direct.status), text: format!("{} direct response of the rule", direct.status) }
        }
    }
}

/// A missing cluster and one without endpoints keep their share and answer 503 by themselves (Istio).
fn sent(split: &[SharePart]) -> String {
    let single = split.len() == 1;
    let one = |share: &SharePart| {
        let part = if single { String::new() } else { format!(" ({} %)", share.percent) };
        match (share.exists, share.endpoints.is_empty()) {
            (false, _) => format!("503 cluster_not_found for {}{part}", share.name),
            (true, true) => format!("503 no_healthy_upstream for {}{part}", share.name),
            (true, false) => format!("{}{part}", share.name),
        }
    };
    let serves = |share: &&SharePart| share.exists && !share.endpoints.is_empty();
    let good: Vec<_> = split.iter().filter(serves).map(one).collect();
    let good = (!good.is_empty()).then(|| format!("sent to {}", good.join(" or ")));
    let bad = split.iter().filter(|share| !serves(share)).map(one);
    good.into_iter().chain(bad).collect::<Vec<_>>().join(", ")
}

/// The rule that came furthest: one that failed on something else than its path, else the first.
fn nearest(rules: &[RulePart]) -> String {
    let past_path = rules.iter().find(|rule| !rule.reason.starts_with("uri"));
    match past_path.or(rules.first()) {
        Some(rule) => format!("nearest rule {} ({}): {}", rule.number, rule.source.place, rule.reason),
        None => "the host has no rule".to_owned(),
    }
}

fn known_hosts(hosts: &[VirtualHost]) -> String {
    const SHOWN: usize = 5;
    if hosts.is_empty() {
        return "no VirtualService is bound to this listener".to_owned();
    }
    let names: Vec<_> = hosts.iter().take(SHOWN).map(|host| host.domain.as_str()).collect();
    let more = hosts.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("no host fits; known here: {}{more}", names.join(", "))
}

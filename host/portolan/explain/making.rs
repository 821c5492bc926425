//! Makes an [`Explanation`]: puts the model's names and places to what the filter chain did.

use http::HeaderMap;
use portolan_model::filter::{RouteExplanation, RouteVerdict};
use portolan_model::{
    Cluster, ClusterId, Destination, EVERY_REQUEST, Forward, Listener, MISSING_CLUSTER, Model, Origin, PluginKind,
    Route, RouteAction, Sticky, VirtualHost,
};
use portolan_proxy::{ExplainOutcome, MadeAnswer, SentRequest};
use serde::Serialize;

use super::tree::{
    AnswerPart, Explanation, FilterPart, HostPart, ListenerPart, PolicyPart, RequestPart, RulePart, SentPart,
    SharePart, source,
};
use crate::change::short;
use crate::tell::{self, Told};

/// So much of an answer's body is told, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A request, and what came of it.
pub(crate) struct Asked<'a> {
    /// The request.
    pub(crate) request: RequestPart,
    /// Its header lines.
    pub(crate) headers: &'a HeaderMap,
    /// Index of the listener that took it.
    pub(crate) listener: usize,
    /// What the filter chain did.
    pub(crate) outcome: ExplainOutcome,
}

impl Explanation {
    /// `overrides` are bundled filters with their files.
    pub(crate) fn new(model: &Model, asked: Asked<'_>, overrides: &[(String, String)]) -> Self {
        let Asked { request, headers, listener, outcome } = asked;
        let listener = &model.listeners[listener];
        let route = outcome.route.and_then(|id| model.routes.get(id as usize)).map(|route| &**route);
        let forward = route.and_then(forward);
        let tried = outcome.explanation.clone().unwrap_or_default();
        let rules = rules(model, &tried.routes);
        let split = forward.map(|forward| split(model, forward, &outcome.sent)).unwrap_or_default();
        let chosen = forward.and_then(|forward| chosen(forward, headers, outcome.choice?.1?));
        let answer = Answering { model, listener, route, tried: &tried, rules: &rules, split: &split }.answer(&outcome);
        Self {
            schema: 1,
            request,
            listener: ListenerPart::of(listener),
            host: host(model, listener, &tried),
            actions: route.map(tell::action).unwrap_or_default(),
            filters: filters(model, overrides),
            policy: forward.map(|forward| policy(model, forward)),
            rules,
            split,
            chosen,
            answer,
        }
    }
}

fn forward(route: &Route) -> Option<&Forward> {
    match &route.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    }
}

/// Where a request of a known user goes: it has the header, or the cookie, that a split is kept by.
fn chosen(forward: &Forward, headers: &HeaderMap, destination: u32) -> Option<String> {
    let cookie = |name: &str| {
        let lines = headers.get_all(http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(';')).any(|pair| pair.trim().split_once('=').is_some_and(|(n, _)| n == name))
    };
    let is_known = match forward.sticky.as_deref()? {
        Sticky::Header(name) => headers.contains_key(name),
        Sticky::Cookie(name) => cookie(name),
    };
    let destination = forward.destinations.get(destination as usize).filter(|_| forward.destinations.len() > 1)?;
    is_known.then(|| short(&destination.cluster_name))
}

/// Header lines as text, in an order that does not change.
fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    lines.sort_by(|(a, _), (b, _)| a.cmp(b));
    lines
}

fn sent(request: &SentRequest) -> SentPart {
    let host =
        request.headers.get(http::header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    SentPart {
        path: request.path.clone(),
        host: host.unwrap_or_default(),
        headers: lines(&request.headers),
        response_headers: lines(&request.response_headers),
    }
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
    let rule = |(number, verdict): (usize, &RouteVerdict)| {
        let route = model.routes.get(verdict.route as usize);
        RulePart {
            number,
            name: route.map(|route| route.name.clone()).unwrap_or_default(),
            verdict: verdict.verdict.clone(),
            reason: verdict.reason.clone(),
            source: route.map(|route| source(&route.origin)).unwrap_or_default(),
            column: route.map(|route| route.origin.column()).unwrap_or_default(),
            delegated_from: route.and_then(|route| route.delegated_from.as_deref()).map(source),
        }
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

fn split(model: &Model, forward: &Forward, requests: &[Option<SentRequest>]) -> Vec<SharePart> {
    let total: u64 = forward.destinations.iter().map(|d| u64::from(d.weight)).sum();
    let single = forward.destinations.len() == 1;
    let percent = |d: &Destination| if single { 100.0 } else { percent(d.weight, total) };
    let share = |(index, d): (usize, &Destination)| SharePart {
        sent: requests.get(index).and_then(Option::as_ref).map(sent),
        headers: tell::headers(&d.headers, &[&d.origin]),
        ..share(model, d.cluster, &d.cluster_name, percent(d), &d.origin)
    };
    forward.destinations.iter().enumerate().map(share).collect()
}

/// One destination.
pub(super) fn share(model: &Model, id: ClusterId, name: &str, percent: f64, origin: &Origin) -> SharePart {
    let cluster = cluster(model, id);
    SharePart {
        cluster: name.to_owned(),
        name: short(name),
        percent,
        exists: cluster.is_some(),
        endpoints: cluster.map(tell::endpoints).unwrap_or_default(),
        sent: None,
        headers: Vec::new(),
        policies: cluster.map(tell::policies).unwrap_or_default(),
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

/// The same as the actions and the policies of the first cluster that has some, in one text.
fn policy(model: &Model, forward: &Forward) -> PolicyPart {
    let mut words = vec![match forward.timeout_ms {
        Some(ms) => format!("timeout {}", tell::time(ms)),
        None => "no timeout".to_owned(),
    }];
    words.push(tell::retries(&forward.retry));
    let mut clusters = forward.destinations.iter().filter_map(|d| cluster(model, d.cluster));
    let limited = clusters.find(|cluster| tell::policies_origin(cluster).is_some());
    words.extend(limited.iter().flat_map(|cluster| tell::policies(cluster)).map(|told: Told| told.text));
    PolicyPart {
        text: words.join(", "),
        timeout_ms: forward.timeout_ms,
        retries: forward.retry.attempts,
        source: limited.and_then(tell::policies_origin).map(source),
    }
}

/// What the answer is told from.
struct Answering<'a> {
    model: &'a Model,
    listener: &'a Listener,
    route: Option<&'a Route>,
    tried: &'a RouteExplanation,
    rules: &'a [RulePart],
    split: &'a [SharePart],
}

impl Answering<'_> {
    fn answer(&self, outcome: &ExplainOutcome) -> AnswerPart {
        let Some(made) = &outcome.answer else {
            let fault = self.route.and_then(forward).and_then(|forward| forward.fault.as_deref()?.abort);
            let answer = AnswerPart::of_split(self.split);
            return match fault.filter(|(_, share)| *share < EVERY_REQUEST) {
                None => answer,
                Some((abort, share)) => {
                    let (abort, share) = (tell::aborted(abort), tell::share(share));
                    AnswerPart { text: format!("{}; {abort} by the rule's fault for {share}", answer.text), ..answer }
                }
            };
        };
        AnswerPart {
            status: Some(made.status),
            text: self.text(made),
            details: Some(made.details.clone()),
            headers: lines(&made.headers),
            body: String::from_utf8_lossy(&made.body[..made.body.len().min(MAX_BODY)]).into_owned(),
        }
    }

    fn text(&self, made: &MadeAnswer) -> String {
        let status = made.status;
        let is_by_route = made.details == "direct_response";
        match self.route.map(|route| &route.action) {
            None if made.details != "route_not_found" => format!("{status} {}", made.details),
            None if self.tried.host.is_some() => format!("{status} with an empty body; {}", nearest(self.rules)),
            None => format!("{status} with an empty body; {}", known_hosts(hosts(self.model, self.listener))),
            Some(RouteAction::Redirect(_)) if is_by_route => {
                let location =
                    made.headers.get(http::header::LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
                format!("{status} redirect to {}", location.unwrap_or_default())
            }
            Some(RouteAction::DirectResponse(_)) if is_by_route => {
                let body = match made.body.len() {
                    0 => "an empty body".to_owned(),
                    length => crate::change::number(length, "byte"),
                };
                format!("{status} direct response of the rule, {body}")
            }
            Some(_) if made.details == "fault_filter_abort" => format!("{status} by the rule's fault"),
            Some(_) if made.details == "cors_response" => format!("{status} to a preflight by the rule's corsPolicy"),
            Some(_) => format!("{status} by a filter ({})", made.details),
        }
    }
}

impl AnswerPart {
    /// Of a request that no filter answers.
    pub(super) fn of_split(split: &[SharePart]) -> Self {
        let text = sent_to(split);
        let (details, body) = match split {
            [] => return Self { text, ..Self::default() },
            all if all.iter().all(|share| !share.exists) => ("cluster_not_found", ""),
            all if all.iter().all(|share| share.exists && share.endpoints.is_empty()) => {
                ("no_healthy_upstream", "no healthy upstream")
            }
            _ => return Self { text, ..Self::default() },
        };
        Self { status: Some(503), text, details: Some(details.to_owned()), body: body.to_owned(), ..Self::default() }
    }
}

/// A missing cluster and one without endpoints keep their share and answer 503 by themselves (Istio).
fn sent_to(split: &[SharePart]) -> String {
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

//! [`moved`]: which of the requests that a running gateway remembers would go elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use portolan_admin::{RequestKey, TrafficView};
use portolan_model::Model;
use portolan_telemetry::Metrics;
use serde::Serialize;

use crate::args::{ConfigArgs, DiffArgs};
use crate::ask::Admin;
use crate::change::number;
use crate::explain::{Explanation, NoModules, Question, SharePart, Table, Verdict};
use crate::load::{self, Purpose};

/// What would become of the remembered requests.
#[derive(Debug, Serialize)]
pub(super) struct Moved {
    /// Distinct requests that were asked about.
    pub(super) remembered: usize,
    /// How often they were seen.
    pub(super) seen: u64,
    /// Requests that the gateway has served without remembering them.
    pub(super) unseen: u64,
    /// Those that would go elsewhere, the most frequent first.
    pub(super) elsewhere: Vec<Elsewhere>,
}

/// A request that would go elsewhere.
#[derive(Debug, Serialize)]
pub(super) struct Elsewhere {
    #[serde(flatten)]
    pub(super) request: RequestKey,
    /// Where it goes.
    pub(super) old: String,
    /// Where it would go.
    pub(super) new: String,
}

/// Asks both models about each request. Filters of users do not run.
pub(super) fn moved(admin: &Admin, args: &DiffArgs, (old, new): (&Arc<Model>, &Arc<Model>)) -> anyhow::Result<Moved> {
    let traffic: TrafficView = admin.json("/traffic")?;
    let config = ConfigArgs { config: args.paths.clone(), ..args.config.clone() };
    let table = |model: &Arc<Model>| {
        let mut builder = load::builder(&config, Arc::new(NoModules), Metrics::new(), Purpose::default())?;
        anyhow::Ok(Table::without_plugins(model, &mut builder, Vec::new()))
    };
    let (before, after) = (table(old)?, table(new)?);
    let mut elsewhere = Vec::new();
    for request in &traffic.requests {
        let question = question(request);
        // A port that NEW does not listen on is an answer too.
        let told = |table: &Table| {
            table.ask(&question).map_or_else(|error| format!("{error:#}").lines().take(1).collect(), |v| whither(&v))
        };
        let (old, new) = (told(&before), told(&after));
        if old != new {
            elsewhere.push(Elsewhere { request: request.clone(), old, new });
        }
    }
    elsewhere.sort_by_key(|moved| std::cmp::Reverse(moved.request.count));
    let seen = traffic.requests.iter().map(|request| request.count).sum();
    Ok(Moved { remembered: traffic.requests.len(), seen, unseen: traffic.unseen, elsewhere })
}

fn question(request: &RequestKey) -> Question {
    Question {
        port: request.port,
        authority: request.host.clone(),
        server_name: None,
        path: request.path.clone(),
        method: request.method.clone(),
        headers: request.headers.clone(),
    }
}

/// Where it goes: destinations with shares and what is sent there, or the gateway's own answer.
fn whither(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Tcp(tcp) => tcp.answer.clone(),
        Verdict::Http(explanation) => http(explanation),
    }
}

fn http(explanation: &Explanation) -> String {
    let answer = &explanation.answer;
    match (answer.status, answer.location()) {
        (Some(status), Some(location)) => format!("{status} to {location}"),
        (Some(status), None) => status.to_string(),
        (None, _) => {
            let several = explanation.split.len() > 1;
            let one = |share: &SharePart| {
                let percent = if several { format!(" {} %", share.percent) } else { String::new() };
                let missing = if share.exists { "" } else { " (does not exist)" };
                format!("{}{percent}{missing}", share.name)
            };
            explanation.split.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

impl Moved {
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "traffic: {} of {} would go elsewhere\n",
            self.elsewhere.len(),
            number(self.remembered, "remembered request")
        );
        for Elsewhere { request, old, new } in &self.elsewhere {
            let RequestKey { count, method, host, path, headers, .. } = request;
            let headers: String = headers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            let _ = writeln!(text, "  {count:>6}  {method} {host}{path}{headers}  {old} -> {new}");
        }
        if self.unseen > 0 {
            let _ = writeln!(text, "  {} more were served and not remembered", self.unseen);
        }
        text
    }
}

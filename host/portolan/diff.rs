//! `portolan diff`: what a change of the configuration means for requests.

mod clusters;
mod plugins;
mod rules;
mod text;
mod traffic;
mod udp;

use std::process::ExitCode;
use std::sync::Arc;

use portolan_model::{Listener, Model, Origin, TcpProxy};
use serde::Serialize;

use crate::args::{ConfigArgs, DiffArgs, ExplainOutput};
use crate::ask::Admin;
use crate::explain::source;
use crate::load;
use crate::{UsageError, output, tell};
use traffic::Moved;

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
    /// Its place in the order is another, and that matters.
    Moved,
}

/// One change of meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) what: What,
    /// `listener`, `host`, `rule`, `destination`, `filter`, `access log`, `paths`.
    pub(crate) kind: &'static str,
    /// Which one, in words.
    pub(crate) subject: String,
    /// Hosts that it is about; for rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) hosts: Vec<String>,
    /// What is another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) fields: Vec<Field>,
    /// Where it stood; empty for what is new.
    pub(crate) old: String,
    /// Where it stands; empty for what is gone.
    pub(crate) new: String,
}

/// A field that is another; empty for what was, or is, not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// The whole answer; `-o json` is exactly this.
#[derive(Debug, Serialize)]
struct Report {
    /// The form of this tree; it grows when a field changes meaning.
    schema: u32,
    changes: Vec<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<Moved>,
}

/// Prints what is another, and with `--exit-code` ends with 1 when something is.
pub(crate) fn diff(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    if !args.config.config.is_empty() {
        return Err(UsageError("`diff` takes its files as OLD and NEW, not as `--config`".to_owned()).into());
    }
    let (old, new) = match (args.paths.as_slice(), &args.admin) {
        ([old, new], None) => (read(args, old)?, read(args, new)?),
        ([new], Some(admin)) => (Arc::new(Admin::new(admin)?.model()?), read(args, new)?),
        ([_], None) => return Err(UsageError("wants OLD and NEW, or NEW and `--admin`".to_owned()).into()),
        _ => return Err(UsageError("with `--admin` the gateway is OLD: name NEW only".to_owned()).into()),
    };
    let traffic = match &args.admin {
        Some(admin) if args.traffic => Some(traffic::moved(&Admin::new(admin)?, args, (&old, &new))?),
        _ => None,
    };
    let report = Report { schema: 1, changes: changes(&old, &new), traffic };
    output::answer(&match args.output {
        ExplainOutput::Text => text::render(&report),
        ExplainOutput::Json => serde_json::to_string_pretty(&report)? + "\n",
    })?;
    let differs = !report.changes.is_empty();
    Ok(if args.exit_code && differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(args: &DiffArgs, path: &std::path::Path) -> anyhow::Result<Arc<Model>> {
    load::model(&ConfigArgs { config: vec![path.to_owned()], ..args.config.clone() })
}

/// In the order in which a request meets the parts.
pub(crate) fn changes(old: &Model, new: &Model) -> Vec<Change> {
    let mut changes = listeners(old, new);
    changes.extend(udp::listeners(old, new));
    changes.extend(rules::changes(old, new));
    changes.extend(clusters::changes(old, new));
    changes.extend(plugins::changes(old, new));
    if old.access_logs != new.access_logs {
        changes.push(access_logs(old, new));
    }
    if old.tracing != new.tracing {
        // A live gateway does not show what is sent in headers.
        let facts = |model: &Model| {
            let told = model.tracing.iter().flat_map(|tracing| tell::others(tracing, &["origin", "headers"]));
            told.map(|told| (told.kind, told.text)).collect::<Vec<_>>()
        };
        let fields = fields(&facts(old), &facts(new));
        if !fields.is_empty() {
            changes.push(Change { fields, ..Change::new(What::Changed, "traces", String::new()) });
        }
    }
    if old.paths != new.paths {
        let facts = |model: &Model| {
            tell::paths(&model.paths).into_iter().map(|told| (told.kind, told.text)).collect::<Vec<_>>()
        };
        let fields = fields(&facts(old), &facts(new));
        changes.push(Change { fields, ..Change::new(What::Changed, "paths", String::new()) });
    }
    if old.edge != new.edge {
        let facts = |model: &Model| {
            tell::edge_policy(&model.edge).into_iter().map(|told| (told.kind, told.text)).collect::<Vec<_>>()
        };
        let fields = fields(&facts(old), &facts(new));
        changes.push(Change { fields, ..Change::new(What::Changed, "edge", String::new()) });
    }
    if old.headers != new.headers {
        let facts = |model: &Model| {
            tell::own_headers(&model.headers).into_iter().map(|told| (told.kind, told.text)).collect::<Vec<_>>()
        };
        let fields = fields(&facts(old), &facts(new));
        changes.push(Change { fields, ..Change::new(What::Changed, "headers", String::new()) });
    }
    if changes.is_empty() && !same_but_for_numbers(old, new) {
        changes.push(Change::new(What::Changed, "details", "no part that has a word of its own".to_owned()));
    }
    changes
}

impl Change {
    fn new(what: What, kind: &'static str, subject: String) -> Self {
        let (old, new) = (String::new(), String::new());
        Self { what, kind, subject, hosts: Vec::new(), fields: Vec::new(), old, new }
    }

    fn at(self, old: String, new: String) -> Self {
        Self { old, new, ..self }
    }
}

/// Address and port as its Gateway has them: where it is bound is the business of Services and `--port-map`.
fn identity(listener: &Listener) -> String {
    std::net::SocketAddr::new(listener.address.ip(), listener.server_port).to_string()
}

fn listeners(old: &Model, new: &Model) -> Vec<Change> {
    let kind = Listeners { identity, subject, origins: |listener: &Listener| &listener.origins, facts };
    kind.changes((old, &old.listeners), (new, &new.listeners))
}

fn subject(listener: &Listener) -> String {
    let protocol = match (listener.filter_chains.is_empty(), listener.tcp.is_some()) {
        (false, _) => "TLS",
        (true, true) => "TCP",
        (true, false) => "HTTP",
    };
    format!("{} {protocol}", identity(listener))
}

/// What is to be known of a kind of listeners.
struct Listeners<L> {
    /// What makes two the same one.
    identity: fn(&L) -> String,
    subject: fn(&L) -> String,
    origins: fn(&L) -> &[Origin],
    facts: fn(&Model, &L) -> Vec<(String, String)>,
}

impl<L> Listeners<L> {
    fn changes(&self, (old, before): (&Model, &[L]), (new, after): (&Model, &[L])) -> Vec<Change> {
        let Self { identity, subject, origins, facts } = self;
        let place = |listener: &L| origins(listener).first().map(|origin| source(origin).place).unwrap_or_default();
        let find = |listeners: &[L], name: &str| listeners.iter().position(|listener| identity(listener) == name);
        let mut changes = Vec::new();
        for is in after {
            let Some(was) = find(before, &identity(is)).map(|index| &before[index]) else {
                changes.push(Change::new(What::Added, "listener", subject(is)).at(String::new(), place(is)));
                continue;
            };
            let fields = fields(&facts(old, was), &facts(new, is));
            if !fields.is_empty() {
                let change = Change { fields, ..Change::new(What::Changed, "listener", subject(is)) };
                changes.push(change.at(place(was), place(is)));
            }
        }
        let gone = before.iter().filter(|was| find(after, &identity(was)).is_none());
        changes
            .extend(gone.map(|was| Change::new(What::Removed, "listener", subject(was)).at(place(was), String::new())));
        changes
    }
}

/// What a listener is, but for its routes.
fn facts(model: &Model, listener: &Listener) -> Vec<(String, String)> {
    let mut facts = vec![("bound to".to_owned(), listener.address.to_string())];
    let own = &["name", "address", "server_port", "route_table", "tcp", "filter_chains", "origins"];
    facts.extend(tell::others(listener, own).into_iter().map(|told| (told.kind, told.text)));
    for chain in &listener.filter_chains {
        let told = tell::filter_chain(model, chain);
        facts.push((told.kind.clone(), told.text));
        if let Some(tcp) = &chain.tcp {
            let of_chain = of_tcp(model, tcp).into_iter();
            facts.extend(of_chain.map(|(name, text)| (format!("{name} {}", told.kind), text)));
        }
    }
    if let Some(tcp) = &listener.tcp {
        facts.extend(of_tcp(model, tcp));
    }
    facts
}

fn of_tcp(model: &Model, tcp: &TcpProxy) -> Vec<(String, String)> {
    let weights = tcp.destinations.iter().map(|d| (d.cluster_name.as_str(), d.weight, d.cluster));
    let time = |ms: Option<u64>| ms.map_or_else(|| "none".to_owned(), tell::time);
    vec![
        ("split".to_owned(), rules::split(model, weights)),
        ("idleTimeout".to_owned(), time(tcp.idle_timeout_ms)),
        ("maxConnectionDuration".to_owned(), time(tcp.max_connection_duration_ms)),
    ]
}

/// The fields that differ, in order; those of one name are joined.
fn fields(old: &[(String, String)], new: &[(String, String)]) -> Vec<Field> {
    let of = |all: &[(String, String)], name: &str| {
        let values = all.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        values.collect::<Vec<_>>().join(", ")
    };
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in old.iter().chain(new) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let field = |name: &String| Field { name: name.clone(), old: of(old, name), new: of(new, name) };
    names.into_iter().map(field).filter(|field| field.old != field.new).collect()
}

/// Files alone are named: the rest of a log is a form, or a choice of requests.
fn access_logs(old: &Model, new: &Model) -> Change {
    let files = |model: &Model| {
        let paths: Vec<_> = model.access_logs.iter().map(|log| log.path.as_str()).collect();
        if paths.is_empty() { "off".to_owned() } else { paths.join(", ") }
    };
    let (old, new) = match (files(old), files(new)) {
        (old, new) if old == new => (String::new(), String::new()),
        paths => paths,
    };
    let name = if old == new { "form or filter" } else { "file" };
    let fields = vec![Field { name: name.to_owned(), old, new }];
    Change { fields, ..Change::new(What::Changed, "access log", String::new()) }
}

/// Numbers of clusters and routes mean nothing; bytes of certificates are not shown by a live gateway.
fn same_but_for_numbers(old: &Model, new: &Model) -> bool {
    let blank = |model: &Model| {
        let mut model = model.clone();
        rules::blank_clusters(&mut model);
        let clusters: Vec<_> = model.clusters.iter().map(clusters::shown).collect();
        (model.plugins, clusters, model.routes.len(), model.secrets.len())
    };
    *old == *new || blank(old) == blank(new)
}

#[cfg(test)]
mod tests;

//! Destinations: endpoints and policies of clusters that both have. New and lost ones show in the rules that name them.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{Cluster, Model, Pem};

use super::{Change, Field, What, fields};
use crate::change::{number, short};
use crate::explain::source;
use crate::tell;

/// Endpoints that are named; further ones are counted.
const NAMED: usize = 4;

/// Fields of a cluster that have words, or mean nothing.
const TOLD: [&str; 19] = [
    "name",
    "endpoints",
    "discovery",
    "dynamic",
    "dns_refresh_rate_ms",
    "lb_policy",
    "hash_policy",
    "slow_start",
    "connect_timeout_ms",
    "idle_timeout_ms",
    "max_connection_duration_ms",
    "max_requests_per_connection",
    "circuit_breakers",
    "outlier_detection",
    "health_check",
    "transport",
    "origin",
    "policy_origin",
    "cluster",
];

pub(super) fn changes(old: &Model, new: &Model) -> Vec<Change> {
    let before: BTreeMap<&str, &Cluster> =
        old.clusters.iter().map(|cluster| (cluster.name.as_str(), cluster)).collect();
    let both = new.clusters.iter().filter_map(|is| Some((*before.get(is.name.as_str())?, is)));
    both.filter(|(was, is)| was != is).filter_map(|(was, is)| change(was, is)).collect()
}

fn change(was: &Cluster, is: &Cluster) -> Option<Change> {
    let mut all = Vec::from_iter(endpoints(was, is));
    let facts = |cluster: &Cluster| {
        let told = tell::policies(cluster).into_iter().chain(tell::others(cluster, &TOLD));
        told.map(|told| (told.kind, told.text)).collect::<Vec<_>>()
    };
    all.extend(fields(&facts(was), &facts(is)));
    if all.is_empty() {
        let name = if only_hidden(was, is)? { "certificates" } else { "details" };
        all.push(Field { name: name.to_owned(), old: String::new(), new: String::new() });
    }
    let place =
        |cluster: &Cluster| cluster.policy_origin.as_ref().map_or_else(|| source(&cluster.origin).place, |o| o.place());
    let change = Change { fields: all, ..Change::new(What::Changed, "destination", named(&is.name)) };
    Some(change.at(place(was), place(is)))
}

/// Whether the bytes of certificates and keys are all that differs; none when one side does not have them, as a live
/// gateway does not show them.
fn only_hidden(was: &Cluster, is: &Cluster) -> Option<bool> {
    if shown(was) != shown(is) {
        return Some(false);
    }
    let unknown = |cluster: &Cluster| {
        let mut pems = cluster.transport.tls.iter().flat_map(|tls| tls.pems());
        pems.any(|pem| matches!(pem, Pem::Secret { bytes, .. } if bytes.0.is_empty()))
    };
    (!unknown(was) && !unknown(is)).then_some(true)
}

/// All of a cluster that a dump shows, but for lines.
pub(super) fn shown(cluster: &Cluster) -> Vec<tell::Told> {
    tell::others(cluster, &["origin", "policy_origin"])
}

/// With the port, since a service may have several.
fn named(cluster: &str) -> String {
    let port = cluster.split('|').nth(1).unwrap_or_default();
    format!("{} (port {port})", short(cluster))
}

fn endpoints(was: &Cluster, is: &Cluster) -> Option<Field> {
    if was.endpoints == is.endpoints {
        return None;
    }
    let (before, after) = (tell::endpoints(was), tell::endpoints(is));
    if before == after {
        return None;
    }
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let list = |some: Vec<&&String>, all: usize| {
        let shown: Vec<_> = some.iter().take(NAMED).map(|address| address.as_str()).collect();
        let more = if some.len() > NAMED { format!(" and {} more", some.len() - NAMED) } else { String::new() };
        let which = if shown.is_empty() { String::new() } else { format!(": {}{more}", shown.join(", ")) };
        format!("{}{which}", number(all, "endpoint"))
    };
    // Only those that one of them lacks are named.
    Some(Field {
        name: "endpoints".to_owned(),
        old: list(old.difference(&new).collect(), before.len()),
        new: list(new.difference(&old).collect(), after.len()),
    })
}

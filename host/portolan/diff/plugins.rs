//! Filters: added, removed, changed, and moved in their chain.

use portolan_model::{Model, Plugin};

use super::{Change, Field, What, fields};
use crate::explain::source;
use crate::tell;

pub(super) fn changes(old: &Model, new: &Model) -> Vec<Change> {
    let find = |model: &'_ Model, name: &str| model.plugins.iter().position(|plugin| plugin.name == name);
    let place = |plugin: &Plugin| source(&plugin.origin).place;
    let mut changes = Vec::new();
    for is in &new.plugins {
        match find(old, &is.name).map(|index| &old.plugins[index]) {
            None => changes.push(Change::new(What::Added, "filter", is.name.clone()).at(String::new(), place(is))),
            Some(was) if was != is => {
                let change =
                    Change { fields: differences(was, is), ..Change::new(What::Changed, "filter", is.name.clone()) };
                changes.push(change.at(place(was), place(is)));
            }
            Some(_) => {}
        }
    }
    for was in old.plugins.iter().filter(|was| find(new, &was.name).is_none()) {
        changes.push(Change::new(What::Removed, "filter", was.name.clone()).at(place(was), String::new()));
    }
    changes.extend(order(old, new));
    changes
}

fn differences(was: &Plugin, is: &Plugin) -> Vec<Field> {
    let facts =
        |plugin: &Plugin| tell::plugin(plugin).into_iter().map(|told| (told.kind, told.text)).collect::<Vec<_>>();
    let mut found = fields(&facts(was), &facts(is));
    // Told by name only: configurations may hold credentials.
    let silent = [
        (was.config != is.config, "pluginConfig"),
        (was.env != is.env, "vmConfig.env"),
        (was.limits != is.limits, "limits"),
        (was.canary != is.canary, "canary"),
        (was.verification_key != is.verification_key, "verificationKey"),
    ];
    let differing = silent.into_iter().filter(|(differs, _)| *differs);
    found.extend(differing.map(|(_, name)| Field { name: name.to_owned(), old: String::new(), new: String::new() }));
    if found.is_empty() {
        found.push(Field { name: "details".to_owned(), old: String::new(), new: String::new() });
    }
    found
}

/// Filters that both have, when requests meet them in another order.
fn order(old: &Model, new: &Model) -> Option<Change> {
    let common = |of: &Model, other: &Model| {
        let has = |name: &str| other.plugins.iter().any(|plugin| plugin.name == name);
        of.plugins.iter().map(|plugin| plugin.name.clone()).filter(|name| has(name)).collect::<Vec<_>>()
    };
    let (before, after) = (common(old, new), common(new, old));
    let fields = vec![Field { name: "order".to_owned(), old: before.join(", "), new: after.join(", ") }];
    (before != after).then(|| Change { fields, ..Change::new(What::Moved, "filter", "chain".to_owned()) })
}

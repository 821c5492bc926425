//! What changes of UDP listeners.

use portolan_model::{Model, UdpListener};

use super::{Change, What, fields, rules, source};
use crate::tell;

pub(super) fn listeners(old: &Model, new: &Model) -> Vec<Change> {
    let place =
        |listener: &UdpListener| listener.origins.first().map(|origin| source(origin).place).unwrap_or_default();
    let find = |model: &Model, name: &str| model.udp_listeners.iter().position(|listener| subject(listener) == name);
    let mut changes = Vec::new();
    for is in &new.udp_listeners {
        let Some(was) = find(old, &subject(is)).map(|index| &old.udp_listeners[index]) else {
            changes.push(Change::new(What::Added, "listener", subject(is)).at(String::new(), place(is)));
            continue;
        };
        let fields = fields(&facts(old, was), &facts(new, is));
        if !fields.is_empty() {
            let change = Change { fields, ..Change::new(What::Changed, "listener", subject(is)) };
            changes.push(change.at(place(was), place(is)));
        }
    }
    let gone = old.udp_listeners.iter().filter(|was| find(new, &subject(was)).is_none());
    changes.extend(gone.map(|was| Change::new(What::Removed, "listener", subject(was)).at(place(was), String::new())));
    changes
}

/// Address and port as its Gateway has them.
fn subject(listener: &UdpListener) -> String {
    format!("{} UDP", std::net::SocketAddr::new(listener.address.ip(), listener.server_port))
}

fn facts(model: &Model, listener: &UdpListener) -> Vec<(String, String)> {
    let proxy = &listener.proxy;
    let weights = proxy.destinations.iter().map(|d| (d.cluster_name.as_str(), d.weight, d.cluster));
    let sessions = listener.max_sessions.map_or_else(|| "default".to_owned(), |most| most.to_string());
    vec![
        ("bound to".to_owned(), listener.address.to_string()),
        ("split".to_owned(), rules::split(model, weights)),
        ("idleTimeout".to_owned(), proxy.idle_timeout_ms.map_or_else(|| "none".to_owned(), tell::time)),
        ("sessions".to_owned(), sessions),
    ]
}

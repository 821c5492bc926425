//! What changes of UDP listeners.

use portolan_model::{Model, UdpListener};

use super::{Change, Listeners, rules};
use crate::tell;

pub(super) fn listeners(old: &Model, new: &Model) -> Vec<Change> {
    let kind = Listeners { identity: subject, subject, origins: |listener: &UdpListener| &listener.origins, facts };
    kind.changes((old, &old.udp_listeners), (new, &new.udp_listeners))
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

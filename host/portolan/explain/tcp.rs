//! [`TcpExplanation`]: where a connection to a TCP listener goes, as data; `-o json` is exactly this tree.

use portolan_model::{Listener, Model, PluginKind, TcpProxy};
use serde::{Deserialize, Serialize};

use super::making::{cluster, percent, plugins, share};
use super::tree::{FilterPart, ListenerPart, SharePart, Source, source};
use crate::tell::{self, time};

/// The whole answer, in the order in which a connection meets the parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TcpExplanation {
    /// The form of this tree; it grows when a field changes meaning.
    pub schema: u32,
    /// The listener that took it.
    pub listener: ListenerPart,
    /// The `tcp` rule.
    pub rule: Source,
    /// The filters that its bytes pass, in order.
    pub filters: Vec<FilterPart>,
    /// The destinations of the rule with their shares.
    pub split: Vec<SharePart>,
    /// Times and limits.
    pub policy: TcpPolicyPart,
    /// In words.
    pub answer: String,
}

/// Times and limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TcpPolicyPart {
    /// In words: `connect timeout 10 s, idle timeout 3600 s, max connections 100`.
    pub text: String,
    /// The traffic policy that set the limits.
    pub source: Option<Source>,
}

impl TcpExplanation {
    /// Puts the model's names and places to a listener's rule.
    pub(crate) fn new(model: &Model, listener: &Listener, tcp: &TcpProxy) -> Self {
        let total: u64 = tcp.destinations.iter().map(|d| u64::from(d.weight)).sum();
        let of = |d: &portolan_model::TcpDestination| {
            share(model, d.cluster, &d.cluster_name, percent(d.weight, total), &d.origin)
        };
        let split: Vec<_> = tcp.destinations.iter().map(of).collect();
        let to = split.iter().map(|part| match split.len() {
            1 => part.name.clone(),
            _ => format!("{} ({} %)", part.name, part.percent),
        });
        let answer = format!("sent to {}", to.collect::<Vec<_>>().join(" or "));
        Self {
            schema: 1,
            listener: ListenerPart::of(listener),
            rule: source(&tcp.origin),
            filters: plugins(model, PluginKind::Network).collect(),
            answer,
            split,
            policy: policy(model, tcp),
        }
    }
}

fn policy(model: &Model, tcp: &TcpProxy) -> TcpPolicyPart {
    let mut clusters = tcp.destinations.iter().filter_map(|d| cluster(model, d.cluster)).peekable();
    let connect = clusters.peek().map(|cluster| format!("connect timeout {}", time(cluster.connect_timeout_ms)));
    let limited = clusters.find(|cluster| tell::policies_origin(cluster).is_some());
    let idle =
        tcp.idle_timeout_ms.map_or_else(|| "no idle timeout".to_owned(), |ms| format!("idle timeout {}", time(ms)));
    let longest = tcp.max_connection_duration_ms.map(|ms| format!("at most {}", time(ms)));
    let mut words: Vec<_> = connect.into_iter().chain([idle]).chain(longest).collect();
    if let Some(cluster) = limited {
        words.extend(tell::limits(cluster));
        // Times of the pool are the listener's for connections, and HTTP has no part in them.
        let others = tell::policies(cluster).into_iter().filter(|t| t.kind != "connectionPool" && t.kind != "protocol");
        words.extend(others.map(|told| told.text));
    }
    let source = limited.and_then(tell::policies_origin).map(source);
    TcpPolicyPart { text: words.join(", "), source }
}

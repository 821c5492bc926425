//! [`Explanation`]: why a request goes where it goes, as data; `-o json` is exactly this tree.

use portolan_model::{Listener, Origin};
use serde::{Deserialize, Serialize};

use crate::tell::Told;

/// The whole answer, in the order in which a request meets the parts.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// What the rule does on the way besides choosing a destination, in order: rewrite, header operations, timeout,
    /// retries, and so on.
    pub actions: Vec<Told>,
    /// The filters that a request passes, in order.
    pub filters: Vec<FilterPart>,
    /// The destinations of the rule with their shares.
    pub split: Vec<SharePart>,
    /// The destination that this request takes for sure, by name: of a split that keeps its users, when the request tells
    /// who it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chosen: Option<String>,
    /// What the rule and its clusters ask for on the way; none when nothing is forwarded.
    pub policy: Option<PolicyPart>,
    /// What the client gets.
    pub answer: AnswerPart,
}

/// The made-up request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RequestPart {
    /// Method.
    pub method: String,
    /// Host header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// Something the user wrote: the object, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    /// `virtualservice/shop`; with the namespace unless it is `default`.
    pub object: String,
    /// `routes.yaml:12`; empty when it comes from no file.
    pub place: String,
}

/// The listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ListenerPart {
    /// Bound address.
    pub address: String,
    /// Port as the Gateway wrote it.
    pub server_port: u16,
    /// The Gateway servers behind it.
    pub sources: Vec<Source>,
}

/// The virtual host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostPart {
    /// Exact name, `*.suffix` or `*`.
    pub domain: String,
    /// `exact`, `suffix` or `any`.
    pub kind: String,
    /// Who brought it.
    pub source: Source,
}

/// One rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RulePart {
    /// From 1.
    pub number: usize,
    /// `rule.match` as the VirtualService names them; empty without names.
    pub name: String,
    /// `yes`, `no` or `not reached`.
    pub verdict: String,
    /// The condition that failed, or what held.
    pub reason: String,
    /// Where it was written; of a delegate's rule there.
    pub source: Source,
    /// Column in that line, which may hold several.
    #[serde(default)]
    pub column: u32,
    /// The rule that delegates to it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delegated_from: Option<Source>,
}

/// One filter of the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SharePart {
    /// `outbound|port|subset|host`.
    pub cluster: String,
    /// Host and subset as a person says them.
    pub name: String,
    /// Share of requests in percent.
    pub percent: f64,
    /// False when no service, port or subset fits: its share gets 503.
    pub exists: bool,
    /// Addresses, or names to be resolved by DNS; of a running gateway with what is the matter with them.
    pub endpoints: Vec<String>,
    /// The request as it would be sent there.
    pub sent: Option<SentPart>,
    /// Header operations of this destination's own scope.
    pub headers: Vec<Told>,
    /// Limits, outlier detection, load balancing: what is not as it would be by default.
    pub policies: Vec<Told>,
    /// The destination in the rule.
    pub source: Source,
    /// The subset or service behind the cluster.
    pub cluster_source: Option<Source>,
}

/// A request as it would be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SentPart {
    /// Path and query, after the rewrite.
    pub path: String,
    /// Host header, after the rewrite.
    pub host: String,
    /// All lines, with those that the gateway adds.
    pub headers: Vec<(String, String)>,
    /// What the operations on response headers make of a response without any.
    pub response_headers: Vec<(String, String)>,
}

/// Timeouts, retries and limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AnswerPart {
    /// The status that the gateway or a filter answers with by itself; none when the request is sent on.
    pub status: Option<u16>,
    /// In words.
    pub text: String,
    /// `response_code_details` of such an answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<String>,
    /// Its header lines, after the rule's operations.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub headers: Vec<(String, String)>,
    /// Its body as text, cut after 64 KiB.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub body: String,
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

#[cfg(test)]
impl SharePart {
    /// All requests to a cluster of this name.
    pub(crate) fn named(cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            name: crate::change::short(cluster),
            percent: 100.0,
            exists: true,
            endpoints: Vec::new(),
            sent: None,
            headers: Vec::new(),
            policies: Vec::new(),
            source: Source::default(),
            cluster_source: None,
        }
    }
}

impl AnswerPart {
    /// Where a redirect leads to.
    pub(crate) fn location(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == "location").map(|(_, value)| value.as_str())
    }
}

/// The object and place of an origin.
pub(crate) fn source(origin: &Origin) -> Source {
    if origin.line() == 0 {
        return Source::default();
    }
    let name = origin.name().strip_prefix("default/").unwrap_or(origin.name());
    Source { object: format!("{}/{name}", origin.kind().to_lowercase()), place: origin.place() }
}

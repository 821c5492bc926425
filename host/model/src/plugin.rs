//! [`Plugin`]: a Wasm filter, its code and its configuration.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::Origin;

/// A configured filter, from a WasmPlugin or a TrafficExtension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// `namespace.name` of the object.
    pub name: String,
    /// `pluginName`: the root id that the module sees; empty when there is none, as in Istio.
    pub root_id: String,
    /// Which chains it is in.
    #[serde(skip_serializing_if = "PluginKind::is_http", default)]
    pub kind: PluginKind,
    /// Where it stands in the chain.
    pub phase: PluginPhase,
    /// Within a phase, higher runs first.
    pub priority: i64,
    /// What runs.
    pub code: PluginCode,
    /// SHA-256 in lower-case hex, when the object pins it; another module is refused. Of a file and of `https://` the
    /// module's bytes, of an image its manifest (Istio: `sha256`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// `verificationKey`: a PEM public key that must have signed the module or its image.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub verification_key: Option<String>,
    /// `pluginConfig` as JSON text; empty when there is none.
    pub config: String,
    /// File of a JSON Schema that `config` must fulfil, when the object names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<PathBuf>,
    /// What a request gets when the filter cannot run.
    pub fail_policy: FailPolicy,
    /// The guest's environment variables, as `vmConfig.env` has them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub env: Vec<(String, String)>,
    /// Which traffic it sees: what fulfils one of these. None of them written means all traffic.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub matches: Option<Vec<PluginMatch>>,
    /// What it may use up, where that differs from the defaults.
    #[serde(skip_serializing_if = "is_default", default)]
    pub limits: PluginLimits,
    /// A new version first gets a share of the requests only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canary: Option<Canary>,
    /// Pausing on headers lets body callbacks run, as Envoy's `allow_on_headers_stop_iteration` does.
    #[serde(skip_serializing_if = "is_default", default)]
    pub headers_stop_iteration: bool,
    /// The object in the user's file.
    pub origin: Origin,
}

/// Istio's `type`: what a filter sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginKind {
    /// Requests and responses, on listeners of HTTP.
    #[default]
    Http,
    /// Connections and their bytes, on listeners of TCP.
    Network,
}

impl PluginKind {
    /// True for the default, which model dumps leave out.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Istio's phases; requests meet them in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginPhase {
    /// Authentication.
    Authn,
    /// Authorisation.
    Authz,
    /// Statistics.
    Stats,
    /// Last, before the circuit breaker and the router.
    #[default]
    Unspecified,
}

/// Where a filter's module is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginCode {
    /// A filter that comes with the binary, by its name in [`crate::LIBRARY`].
    Bundled(String),
    /// A watched file.
    File(PathBuf),
    /// A registry or a web server. Until it has come, requests get what the fail policy says: a filter that guards must
    /// not be passed by for being out of reach.
    Remote(RemoteModule),
}

/// A module that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RemoteModule {
    /// `https://`, `http://` or `oci://` and what follows.
    pub url: String,
    /// Whether a copy that is there is asked for again.
    pub pull_policy: PullPolicy,
    /// Credentials for the registry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pull_secret: Option<PullSecret>,
}

/// Istio's `imagePullPolicy`, with its default filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PullPolicy {
    /// What is in the cache is taken as it is.
    #[default]
    IfNotPresent,
    /// Asked for again at each change of the configuration.
    Always,
}

/// A Docker configuration (`.dockerconfigjson`) with credentials. `Debug` and serialisation leave the value out.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct PullSecret {
    /// `namespace/name` of the Secret.
    pub name: String,
    /// JSON: `{"auths": {HOST: {"auth": base64 of user:password}}}`.
    #[serde(skip)]
    pub docker_config: String,
}

impl Serialize for PullSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl fmt::Debug for PullSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullSecret").field("name", &self.name).field("docker_config", &"[redacted]").finish()
    }
}

/// Istio's `failStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailPolicy {
    /// 503 while the filter cannot run.
    #[default]
    FailClose,
    /// The request goes on without the filter.
    FailOpen,
    /// 503 while the filter cannot run; it is started again at once after a trap, with back-off when it keeps trapping.
    FailReload,
}

impl FailPolicy {
    /// True when a request goes on without a filter that cannot run.
    pub fn is_open(self) -> bool {
        self == Self::FailOpen
    }
}

/// A part of the traffic: all that is given must hold, and what is empty holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginMatch {
    /// Ports: one that a listener binds, or as its Gateway writes it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// Hosts in lower case: a full name, `*.suffix` (one or more labels, not the bare suffix) or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Paths without query, after normalisation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
    /// Names of routes, see [`crate::Route::name`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The objects that routes come from, as kind and name of [`Origin`], e.g. `VirtualService default/shop`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
}

/// A condition on a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Istio's prefix: a plain string prefix, not by segment.
    Prefix(String),
}

/// What a plugin may use up. None stands for the default of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PluginLimits {
    /// Linear memory of each VM in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Time that one callback may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_deadline_ms: Option<u64>,
    /// CPU time within one second, in milliseconds, on each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_per_second_ms: Option<u64>,
    /// Bytes of one body that may wait for the filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<u64>,
    /// Log lines per second; more are dropped and counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines_per_second: Option<u32>,
    /// HTTP and gRPC calls of each VM that wait for their answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callouts_in_flight: Option<u32>,
    /// How long the filter may hold one stream, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_deadline_ms: Option<u64>,
}

/// Which requests a new version of a plugin gets first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// This many of 100 requests.
    Weight(u8),
    /// Requests with this header.
    Header {
        /// In lower case.
        name: String,
        /// Its whole value; none takes any.
        value: Option<String>,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

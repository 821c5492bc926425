//! What the filter accepts: rules, and what each of them counts by.

use portolan_filter_conditions::{ClientAddress, RequestMatch};
use portolan_sdk::ConfigSchema;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// In the order in which they are asked; 1 to 64.
    pub rules: Vec<RuleConfig>,
    /// Which of the rules that apply to a request are asked. Default: all.
    #[serde(default)]
    pub apply: Apply,
    /// Most keys that are remembered at a time, all rules together; rounded up to 64 times a power of two. Default:
    /// 1,048,576, which is as much as the default limit of shared data, 16 MiB, holds.
    #[serde(default = "default_max_keys")]
    pub max_keys: u32,
    /// Whether responses tell `x-ratelimit-limit`, `-remaining` and `-reset`. Default: off, as in Envoy.
    #[serde(default)]
    pub enable_x_ratelimit_headers: RatelimitHeaders,
    /// Status of a refusal, 400 to 599. Default: 429.
    #[serde(default = "default_status")]
    pub status: u32,
    /// Where rules of scope `GLOBAL` count.
    pub redis: Option<RedisConfig>,
}

/// Which of several rules that apply are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Apply {
    /// Each; the first that refuses ends it.
    #[default]
    All,
    /// The first only.
    First,
}

/// Whether responses carry the headers of the draft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
pub enum RatelimitHeaders {
    /// They do not.
    #[default]
    #[serde(rename = "OFF")]
    Off,
    /// Those of draft-ietf-httpapi-ratelimit-headers-03, as Envoy writes them.
    #[serde(rename = "DRAFT_VERSION_03")]
    Draft03,
}

/// One limit.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name in the access log, and of its counts: a rule that keeps its name keeps them when the configuration
    /// changes. 1 to 64 of `a-z A-Z 0-9 - _ .`; each once.
    pub name: String,
    /// Which requests it is about. Default: all.
    #[serde(default, rename = "match")]
    pub matches: RequestMatch,
    /// What it counts by: a bucket for each combination of values. None: one bucket. At most 8.
    #[serde(default)]
    pub descriptors: Vec<DescriptorConfig>,
    /// What becomes of a request that lacks one of the descriptors. Default: the rule does not apply, as in Envoy.
    #[serde(default)]
    pub when_absent: WhenAbsent,
    /// How much is allowed.
    pub token_bucket: TokenBucketConfig,
    /// Counts, but refuses nothing. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Who shares the count. Default: this gateway.
    #[serde(default)]
    pub scope: Scope,
}

/// What a missing descriptor means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WhenAbsent {
    /// The rule does not apply.
    #[default]
    Skip,
    /// It counts as an empty value: those who lack it share a bucket.
    Share,
}

/// Who shares a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Scope {
    /// All workers of this gateway.
    #[default]
    Local,
    /// All gateways with the same Redis.
    Global,
}

/// What a rule counts by.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase")]
pub enum DescriptorConfig {
    /// First value of a header.
    Header(String),
    /// Value of a cookie.
    Cookie(String),
    /// Raw value of a query parameter.
    Query(String),
    /// The path without its query.
    Path(PathConfig),
    /// The method.
    Method(Nothing),
    /// The host that was asked for, in lower case, without the port.
    Host(Nothing),
    /// The client's address.
    RemoteAddress(RemoteAddressConfig),
    /// A property; its parts are joined with `.`: `source.address`.
    Property(String),
}

/// `{}`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// How much of the path counts.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathConfig {
    /// Its first segments only; 1 to 32. Default: all.
    pub segments: Option<u8>,
}

/// Which address is the client's, and which part of it counts.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteAddressConfig {
    /// Proxies in front of this gateway whose `x-forwarded-for` is believed; 0 to 16. Default: 0, the connection's own
    /// address.
    #[serde(default)]
    pub trusted_hops: ClientAddress,
    /// Default: 32.
    #[serde(default = "default_ipv4")]
    pub ipv4_prefix_length: u8,
    /// Default: 64, since a client has at least that much to choose from.
    #[serde(default = "default_ipv6")]
    pub ipv6_prefix_length: u8,
}

/// Envoy's words; tokens come back one by one, evenly over the interval.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenBucketConfig {
    /// Most requests at once; 1 to 10,000,000.
    pub max_tokens: u32,
    /// Requests in each `fillInterval`. Default: 1.
    #[serde(default = "default_tokens")]
    pub tokens_per_fill: u32,
    /// E.g. `1s`, `1m`, `24h`.
    pub fill_interval: String,
}

/// Where global counts are.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisConfig {
    /// A cluster such as `outbound|6379||redis.infra.svc.cluster.local`, or `HOST:PORT`.
    pub cluster: String,
    /// Default: none.
    #[serde(default)]
    pub username: String,
    /// Default: none.
    #[serde(default)]
    pub password: String,
    /// Default: 0.
    #[serde(default)]
    pub database: u8,
    /// How long a decision may take, 1 ms to 10 s. Default: 50 ms.
    #[serde(default = "default_timeout")]
    pub timeout: String,
    /// What keys begin with: gateways with the same one share their counts. Default: `rl:`.
    #[serde(default = "default_key_prefix")]
    pub key_prefix: String,
    /// What happens without Redis. Default: the limit is kept by this gateway alone.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What a global rule does while Redis is out of reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OnFailure {
    /// Allows.
    Open,
    /// Refuses with 503.
    Closed,
    /// Counts as a local rule does.
    #[default]
    Local,
}

fn default_max_keys() -> u32 {
    1 << 20
}

fn default_status() -> u32 {
    429
}

fn default_ipv4() -> u8 {
    32
}

fn default_ipv6() -> u8 {
    64
}

fn default_tokens() -> u32 {
    1
}

fn default_timeout() -> String {
    "50ms".into()
}

fn default_key_prefix() -> String {
    "rl:".into()
}

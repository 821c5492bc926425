//! [`Rule`]: one limit as it is asked: whether it applies, what it counts by, how much it allows.

use std::borrow::Cow;
use std::time::Duration;

use portolan_filter_conditions::{Period, RequestMatch};
use portolan_sdk::{ConfigError, HostError, Request};

use crate::bucket::Bucket;
use crate::config::{RuleConfig, Scope, TokenBucketConfig, WhenAbsent};
use crate::descriptor::Descriptor;

/// Most descriptors of a rule.
const MAX_DESCRIPTORS: usize = 8;

/// Least time of a token, 1 microsecond: below, whole nanoseconds are too coarse.
const MIN_INTERVAL: u64 = 1_000;

/// Longest time of a whole bucket, a year of nanoseconds.
const MAX_BURST: u64 = 366 * 86_400 * 1_000_000_000;

/// One limit.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    matches: RequestMatch,
    descriptors: Vec<Descriptor>,
    when_absent: WhenAbsent,
    pub(crate) bucket: Bucket,
    /// Value of `x-ratelimit-limit`.
    pub(crate) limit: String,
    pub(crate) dry_run: bool,
    pub(crate) scope: Scope,
}

/// The values that a request is counted by.
pub(crate) type Values<'a> = Vec<Cow<'a, [u8]>>;

impl Rule {
    pub(crate) fn read(config: RuleConfig) -> Result<Self, ConfigError> {
        let name = config.name;
        let fault = |text: &str| ConfigError::new(["rule `", &name, "`: ", text].concat());
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_word) {
            return Err(fault("a name has 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        if config.descriptors.len() > MAX_DESCRIPTORS {
            return Err(fault("more than 8 descriptors"));
        }
        let bucket = bucket(&config.token_bucket).map_err(fault)?;
        let descriptors = config.descriptors.into_iter().map(Descriptor::read).collect::<Result<_, _>>();
        let descriptors = descriptors.map_err(|error| fault(&error.to_string()))?;
        let limit = limit(&config.token_bucket, &bucket);
        let matches = config.matches;
        Ok(Self {
            matches,
            descriptors,
            when_absent: config.when_absent,
            bucket,
            limit,
            dry_run: config.dry_run,
            scope: config.scope,
            name,
        })
    }

    /// What the request is counted by; none when the rule does not apply to it.
    pub(crate) fn values<'a>(&self, request: &Request<'a>) -> Result<Option<Values<'a>>, HostError> {
        if !self.matches.holds(request)? {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.descriptors.len());
        for descriptor in &self.descriptors {
            match descriptor.value(request)? {
                Some(value) => values.push(value),
                None if self.when_absent == WhenAbsent::Share => values.push(Cow::Borrowed(b"".as_slice())),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    /// The rule and the values as one text: different for different ones, since lengths lead.
    pub(crate) fn key(&self, values: &Values<'_>) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        for part in std::iter::once(self.name.as_bytes()).chain(values.iter().map(Cow::as_ref)) {
            key.extend_from_slice(&(part.len() as u32).to_le_bytes());
            key.extend_from_slice(part);
        }
        key
    }
}

fn bucket(config: &TokenBucketConfig) -> Result<Bucket, &'static str> {
    let fill = interval(config)?.as_nanos();
    if !(1..=10_000_000).contains(&config.max_tokens) {
        return Err("`maxTokens` must be 1 to 10000000");
    }
    if config.tokens_per_fill == 0 {
        return Err("`tokensPerFill` must be at least 1");
    }
    let interval = u64::try_from(fill / u128::from(config.tokens_per_fill)).unwrap_or(u64::MAX);
    if interval < MIN_INTERVAL {
        return Err("more than a million requests a second cannot be told apart");
    }
    let burst = interval.saturating_mul(u64::from(config.max_tokens));
    if burst > MAX_BURST {
        return Err("the bucket takes more than a year to fill");
    }
    Ok(Bucket { interval, burst })
}

fn interval(config: &TokenBucketConfig) -> Result<Duration, &'static str> {
    Period::read(&config.fill_interval)
        .map(Period::duration)
        .ok_or("`fillInterval` is no duration such as `1s`, `1m30s` or `24h`")
}

/// Most requests at once, and the policy: how many in which time.
fn limit(config: &TokenBucketConfig, bucket: &Bucket) -> String {
    let seconds = (bucket.interval.saturating_mul(u64::from(config.tokens_per_fill))).div_ceil(1_000_000_000);
    let (most, each) = (config.max_tokens.to_string(), config.tokens_per_fill.to_string());
    [&most, ", ", &each, ";w=", &seconds.to_string()].concat()
}

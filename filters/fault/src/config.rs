//! What the filter accepts.

use std::time::Duration;

use portolan_filter_conditions::{HeaderName, Period, RequestMatch};
use portolan_model::filter::{FaultConfig, SCHEMA};
use portolan_model::{FaultAbort, FaultPolicy, GRPC_STATUSES, RouteId};
use portolan_sdk::schema::Node;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::{Deserialize, Deserializer, de};

use crate::injector::{Abort, Controls, Injector, Share};

/// Longest body of an abort in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest delay: the host holds a stream no longer, unless told to.
const MAX_DELAY: Period = Period::of_secs(300);

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Requests that faults may happen to. Default: all.
    #[serde(default, rename = "match")]
    condition: RequestMatch,
    /// They wait.
    #[serde(default)]
    delay: Option<Delay>,
    /// They are answered here.
    #[serde(default)]
    abort: Option<AbortConfig>,
    /// Requests may ask for faults themselves. Default: they may not.
    #[serde(default)]
    header_control: Option<HeaderControl>,
    /// Faults at one time, in the whole gateway; more requests pass unharmed. Default: no limit.
    #[serde(default)]
    max_active_faults: Option<u64>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Delay {
    /// At least 1ms, 300s at most.
    fixed_delay: Period,
    /// Of the requests.
    percentage: Percentage,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AbortConfig {
    /// 200 to 599.
    #[serde(default)]
    #[schema(minimum = 200, maximum = 599)]
    http_status: Option<u32>,
    /// A name such as `UNAVAILABLE`, or its number.
    #[serde(default)]
    grpc_status: Option<GrpcStatus>,
    /// Of the requests.
    percentage: Percentage,
    /// Text of the answer. Default: `fault filter abort`, as in Envoy.
    #[serde(default = "default_body")]
    #[schema(max_length = 65536)]
    body: String,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeaderControl {
    /// Headers are called PREFIX-delay-request and so on. Default: `x-fault`.
    #[serde(default = "default_prefix")]
    prefix: HeaderName,
    /// Longest delay that a request may ask for. Default: 10s.
    #[serde(default = "default_max_delay")]
    max_delay: Period,
    /// Of the requests that ask. Default: 100.
    #[serde(default)]
    percentage: Percentage,
}

/// A share in percent, 0 to 100, with four decimals at most.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Percentage(Share);

/// A status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GrpcStatus(i32);

/// As it is written.
#[derive(Deserialize, ConfigSchema)]
#[serde(untagged)]
enum WrittenStatus {
    Number(i32),
    Name(String),
}

impl Config {
    /// Checks what the types do not say. Gives the limit of active faults too.
    pub(crate) fn injector(self) -> Result<(Injector, Option<u64>), ConfigError> {
        let Self { condition, delay, abort, header_control, max_active_faults } = self;
        if delay.is_none() && abort.is_none() && header_control.is_none() {
            return Err(ConfigError::new("none of `delay`, `abort` and `headerControl` is there"));
        }
        let delay = match delay {
            Some(Delay { fixed_delay, percentage }) => {
                check_delay("delay.fixedDelay", fixed_delay)?;
                Some((fixed_delay.duration(), percentage.0))
            }
            None => None,
        };
        let abort = abort.map(AbortConfig::checked).transpose()?;
        let controls = match header_control {
            Some(HeaderControl { prefix, max_delay, percentage }) => {
                check_delay("headerControl.maxDelay", max_delay)?;
                if prefix.is_pseudo() {
                    return Err(ConfigError::new("headerControl.prefix: this is a header by itself"));
                }
                Some(Controls::new(prefix.as_str(), max_delay.duration(), percentage.0))
            }
            None => None,
        };
        Ok((Injector { condition, delay, abort, controls }, max_active_faults))
    }
}

/// The faults of the gateway's own routes, by rising id.
pub(crate) fn of_routes(config: FaultConfig) -> Result<Vec<(RouteId, Injector)>, ConfigError> {
    if config.schema != SCHEMA {
        let text = format!("schema {} is not {SCHEMA}, the one that this filter knows", config.schema);
        return Err(ConfigError::new(text));
    }
    Ok(config.routes.into_iter().map(|(route, policy)| (route, of_policy(&policy))).collect())
}

fn of_policy(policy: &FaultPolicy) -> Injector {
    let abort = |abort| match abort {
        FaultAbort::Http(status) => Abort { status: status.into(), grpc_status: None, body: default_body() },
        // Clients that do not speak gRPC get 200 and the text, from Envoy too.
        FaultAbort::Grpc(status) => Abort { status: 200, grpc_status: Some(status.into()), body: default_body() },
    };
    Injector {
        condition: RequestMatch::default(),
        delay: policy.delay.map(|(ms, share)| (Duration::from_millis(ms), Share::of_millionths(share))),
        abort: policy.abort.map(|(with, share)| (abort(with), Share::of_millionths(share))),
        controls: None,
    }
}

impl AbortConfig {
    fn checked(self) -> Result<(Abort, Share), ConfigError> {
        let Self { http_status, grpc_status, percentage, body } = self;
        let refused = |reason: String| Err(ConfigError::new(format!("abort{reason}")));
        if let Some(status) = http_status.filter(|status| !(200..=599).contains(status)) {
            return refused(format!(".httpStatus: {status} is no status: 200 to 599"));
        }
        if body.len() > MAX_BODY {
            return refused(format!(".body: {} bytes are too many: at most {MAX_BODY}", body.len()));
        }
        match (http_status, grpc_status) {
            (Some(status), None) => Ok((Abort { status, grpc_status: None, body }, percentage.0)),
            (None, Some(GrpcStatus(status))) => Ok((Abort::of_grpc(status, body), percentage.0)),
            (None, None) => refused(": one of `httpStatus` and `grpcStatus` is required".to_owned()),
            (Some(_), Some(_)) => refused(": `httpStatus` and `grpcStatus` exclude each other".to_owned()),
        }
    }
}

fn check_delay(field: &str, delay: Period) -> Result<(), ConfigError> {
    if delay == Period::default() || delay > MAX_DELAY {
        return Err(ConfigError::new(format!("{field}: a delay is 1ms to 300s")));
    }
    Ok(())
}

impl Default for Percentage {
    fn default() -> Self {
        Self(Share::ALL)
    }
}

impl ConfigSchema for Percentage {
    const SCHEMA: Node = Node::Number;
}

impl<'de> Deserialize<'de> for Percentage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        Share::of_percent(percent).map(Self).ok_or_else(|| {
            de::Error::custom(format!("{percent} is no percentage: 0 to 100, with four decimals at most"))
        })
    }
}

impl ConfigSchema for GrpcStatus {
    const SCHEMA: Node = <WrittenStatus as ConfigSchema>::SCHEMA;
}

impl<'de> Deserialize<'de> for GrpcStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |text: String| de::Error::custom(format!("`{text}` is no status of gRPC: 0 to 16, or its name"));
        match WrittenStatus::deserialize(deserializer)? {
            WrittenStatus::Number(number) if (0..=16).contains(&number) => Ok(Self(number)),
            WrittenStatus::Number(number) => Err(refused(number.to_string())),
            WrittenStatus::Name(name) => match GRPC_STATUSES.iter().zip(0..).find(|(known, _)| **known == name) {
                Some((_, number)) => Ok(Self(number)),
                None => Err(refused(name)),
            },
        }
    }
}

fn default_body() -> String {
    "fault filter abort".to_owned()
}

fn default_prefix() -> HeaderName {
    HeaderName::of_static("x-fault")
}

fn default_max_delay() -> Period {
    Period::of_secs(10)
}

//! [`Global`]: counts that all gateways share, in Redis.

use std::borrow::Cow;
use std::time::Duration;

use portolan_filter_conditions::Period;
use portolan_sdk::{Action, ConfigError, HostError, RedisAnswer, RedisServer, RedisValue, Request, log};

use crate::RateLimit;
use crate::bucket::{Bucket, Verdict};
use crate::config::{OnFailure, RedisConfig};
use crate::outage::Outage;
use crate::redis::{self, SCRIPT};
use crate::rule::{Rule, Values};

/// The server, and how it has been.
pub(crate) struct Global {
    server: RedisServer,
    key_prefix: String,
    pub(crate) on_failure: OnFailure,
    outage: Outage,
}

impl Global {
    pub(crate) fn read(config: RedisConfig) -> Result<Self, ConfigError> {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(10);
        let timeout = Period::read(&config.timeout).map(Period::duration).filter(|timeout| bounds.contains(timeout));
        let timeout = timeout.ok_or_else(|| ConfigError::new("`redis.timeout` must be `1ms` to `10s`"))?;
        if config.key_prefix.len() > 64 {
            return Err(ConfigError::new("`redis.keyPrefix` has more than 64 bytes"));
        }
        let server = RedisServer::new(&config.cluster)
            .credentials(&config.username, &config.password)
            .database(u32::from(config.database))
            .timeout(timeout);
        let unknown = |error| ConfigError::new(format!("`redis.cluster` `{}` cannot be used: {error}", config.cluster));
        Ok(Self {
            server: server.connect().map_err(unknown)?,
            key_prefix: config.key_prefix,
            on_failure: config.on_failure,
            outage: Outage::default(),
        })
    }

    /// Asks Redis for a token; the filter goes on with rule number `place` when the answer is there. None when Redis is
    /// out of reach.
    pub(crate) fn ask(
        &self,
        request: &Request<'_>,
        place: usize,
        rule: &Rule,
        values: &Values<'_>,
    ) -> Result<Option<Action>, HostError> {
        let now = portolan_sdk::now()?;
        if self.outage.lasts(now) {
            return Ok(None);
        }
        let key = redis::key(&self.key_prefix, &rule.name, values.iter().map(Cow::as_ref));
        let Bucket { interval, burst } = rule.bucket;
        let call = self.server.command("EVAL").arg(SCRIPT).arg("1").arg(key);
        let call = call.arg(redis::microseconds(interval)).arg(redis::microseconds(burst));
        let asked = request.call(&call, move |filter: &RateLimit, told, request, answer: &RedisAnswer<'_>| {
            filter.go_on(told, request, place, answer)
        });
        match asked {
            Ok(action) => Ok(Some(action)),
            Err(error) => {
                self.failed(now, &error.to_string());
                Ok(None)
            }
        }
    }

    /// What Redis has said; none when that is nothing of use.
    pub(crate) fn verdict(&self, bucket: &Bucket, answer: &RedisAnswer<'_>) -> Result<Option<Verdict>, HostError> {
        let numbers: Option<Vec<i64>> = match answer.value() {
            Some(RedisValue::Array(values)) => values.iter().map(RedisValue::as_integer).collect(),
            _ => None,
        };
        let verdict = numbers.and_then(|numbers| redis::verdict(&numbers, bucket));
        match (&verdict, answer.value()) {
            (Some(_), _) => self.outage.answered(),
            (None, Some(RedisValue::Error(text))) => {
                self.failed(portolan_sdk::now()?, &text.escape_ascii().to_string())
            }
            (None, Some(_)) => self.failed(portolan_sdk::now()?, "it answers with something else"),
            (None, None) => self.failed(portolan_sdk::now()?, "it does not answer"),
        }
        Ok(verdict)
    }

    fn failed(&self, now: u64, why: &str) {
        if self.outage.failed(now) {
            log::warn(&["redis is out of reach: ", why].concat());
        }
    }
}

//! The bundled filter `rate-limit`: token buckets by header, cookie, path, address or any other property, counted by
//! this gateway or, through Redis, by all of them.

pub mod answer;
pub mod bucket;
pub mod config;
mod counts;
mod descriptor;
mod global;
mod outage;
mod redis;
mod rule;
mod slot;
mod table;

use answer::Told;
use bucket::Verdict;
use config::{Apply, Config, OnFailure, RatelimitHeaders, Scope};
use counts::Counts;
use global::Global;
use portolan_sdk::prelude::*;
use rule::{Rule, Values};
use table::Table;

/// Names the rule that refused a request, for the access log.
const RULE_PROPERTY: &str = "rate_limit_rule";

/// Most rules.
const MAX_RULES: usize = 64;

/// The filter.
pub struct RateLimit {
    rules: Vec<Rule>,
    counts: Counts,
    table: Table,
    global: Option<Global>,
    apply: Apply,
    tells: bool,
    status: u32,
}

impl Filter for RateLimit {
    type Config = Config;
    type Stream = Option<Told>;

    /// A limit that cannot be kept is not a limit.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        if !(400..600).contains(&config.status) {
            return Err(ConfigError::new("`status` must be 400 to 599"));
        }
        if !(1..=1 << 26).contains(&config.max_keys) {
            return Err(ConfigError::new("`maxKeys` must be 1 to 67108864"));
        }
        let rules = read_rules(config.rules)?;
        if config.redis.is_none() && rules.iter().any(|rule| rule.scope == Scope::Global) {
            return Err(ConfigError::new("a rule of scope `GLOBAL` needs `redis`"));
        }
        let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
        Ok(Self {
            counts: Counts::new(&names)?,
            table: Table::new(config.max_keys)?,
            global: config.redis.map(Global::read).transpose()?,
            apply: config.apply,
            tells: config.enable_x_ratelimit_headers == RatelimitHeaders::Draft03,
            status: config.status,
            rules,
        })
    }

    fn stream(&self) -> Option<Told> {
        None
    }

    fn on_request_headers(&self, told: &mut Option<Told>, request: &Request<'_>) -> Result<Action, HostError> {
        self.ask(told, request, 0)
    }

    fn on_response_headers(&self, told: &mut Option<Told>, response: &Response<'_>) -> Result<Action, HostError> {
        if let Some(told) = told {
            told.write(&self.rules[told.rule], response)?;
        }
        Ok(Action::Continue)
    }
}

impl RateLimit {
    /// Asks the rules from this one on.
    fn ask(&self, told: &mut Option<Told>, request: &Request<'_>, from: usize) -> Result<Action, HostError> {
        for (place, rule) in self.rules.iter().enumerate().skip(from) {
            let Some(values) = rule.values(request)? else { continue };
            if let Some(global) = self.global.as_ref().filter(|_| rule.scope == Scope::Global) {
                if let Some(waits) = global.ask(request, place, rule, &values)? {
                    return Ok(waits);
                }
                if let Some(refusal) = self.without_redis(told, request, place, &values)? {
                    return Ok(refusal);
                }
            } else {
                let verdict = self.take(rule, &values)?;
                if let Some(refusal) = self.settle(told, request, place, &verdict)? {
                    return Ok(refusal);
                }
            }
            if self.apply == Apply::First {
                break;
            }
        }
        Ok(Action::Continue)
    }

    /// Redis has answered for the rule at `place`, or will not.
    fn go_on(
        &self,
        told: &mut Option<Told>,
        request: &Request<'_>,
        place: usize,
        answer: &RedisAnswer<'_>,
    ) -> Result<Action, HostError> {
        let (Some(rule), Some(global)) = (self.rules.get(place), &self.global) else { return Ok(Action::Continue) };
        let refusal = match global.verdict(&rule.bucket, answer)? {
            Some(verdict) => self.settle(told, request, place, &verdict)?,
            None => match rule.values(request)? {
                Some(values) => self.without_redis(told, request, place, &values)?,
                None => None,
            },
        };
        match refusal {
            Some(refusal) => Ok(refusal),
            None if self.apply == Apply::First => Ok(Action::Continue),
            None => self.ask(told, request, place + 1),
        }
    }

    /// What the configuration wants of a global rule without Redis.
    fn without_redis(
        &self,
        told: &mut Option<Told>,
        request: &Request<'_>,
        place: usize,
        values: &Values<'_>,
    ) -> Result<Option<Action>, HostError> {
        self.counts.redis_failed()?;
        let rule = &self.rules[place];
        match self.global.as_ref().map(|global| global.on_failure) {
            Some(OnFailure::Local) => {
                let verdict = self.take(rule, values)?;
                self.settle(told, request, place, &verdict)
            }
            Some(OnFailure::Closed) if !rule.dry_run => answer::refuse_unknown(request).map(Some),
            _ => Ok(None),
        }
    }

    /// A token of this gateway's own.
    fn take(&self, rule: &Rule, values: &Values<'_>) -> Result<Verdict, HostError> {
        let taken = self.table.take(&rule.key(values), &rule.bucket, portolan_sdk::now()?)?;
        self.counts.table(&taken)?;
        Ok(taken.verdict)
    }

    /// Counts what a rule has said, and refuses the request if that is what it means.
    fn settle(
        &self,
        told: &mut Option<Told>,
        request: &Request<'_>,
        place: usize,
        verdict: &Verdict,
    ) -> Result<Option<Action>, HostError> {
        let rule = &self.rules[place];
        self.counts.verdict(place, verdict.allowed)?;
        if rule.dry_run {
            return Ok(None);
        }
        let strictest = told.as_ref().is_none_or(|told| verdict.remaining < told.remaining);
        if self.tells && (strictest || !verdict.allowed) {
            *told = Some(Told::new(place, verdict));
        }
        if verdict.allowed {
            return Ok(None);
        }
        request.set_property(RULE_PROPERTY, rule.name.as_bytes())?;
        answer::refuse(request, self.status, rule, verdict, told.as_ref()).map(Some)
    }
}

fn read_rules(configs: Vec<config::RuleConfig>) -> Result<Vec<Rule>, ConfigError> {
    if !(1..=MAX_RULES).contains(&configs.len()) {
        return Err(ConfigError::new("`rules` must be 1 to 64"));
    }
    let rules = configs.into_iter().map(Rule::read).collect::<Result<Vec<_>, _>>()?;
    for (place, rule) in rules.iter().enumerate() {
        if rules[..place].iter().any(|other| other.name == rule.name) {
            return Err(ConfigError::new(["two rules are named `", &rule.name, "`"].concat()));
        }
    }
    Ok(rules)
}

portolan_sdk::filter! { RateLimit: schema, stream, on_request_headers, on_response_headers, redis_calls }

#[cfg(test)]
mod tests;

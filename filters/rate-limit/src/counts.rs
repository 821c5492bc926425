//! What operators can count.

use portolan_sdk::HostError;
use portolan_sdk::metrics::{Counter, Named};

use crate::table::Taken;

/// The filter's metrics.
pub(crate) struct Counts {
    rules: Vec<RuleCounts>,
    evicted: Counter,
    contended: Counter,
    redis_failed: Counter,
}

struct RuleCounts {
    allowed: Counter,
    limited: Counter,
}

impl Counts {
    pub(crate) fn new(rules: &[&str]) -> Result<Self, HostError> {
        let decisions = Counter::named("rate_limit_decisions");
        Ok(Self {
            rules: rules.iter().map(|rule| RuleCounts::new(rule, &decisions)).collect::<Result<_, _>>()?,
            evicted: Counter::define("rate_limit_evicted")?,
            contended: Counter::define("rate_limit_contended")?,
            redis_failed: Counter::define("rate_limit_redis_failed")?,
        })
    }

    pub(crate) fn verdict(&self, rule: usize, allowed: bool) -> Result<(), HostError> {
        let counts = &self.rules[rule];
        if allowed { counts.allowed.increment() } else { counts.limited.increment() }
    }

    /// Keys that were forgotten, and decisions that other workers got in the way of.
    pub(crate) fn table(&self, taken: &Taken) -> Result<(), HostError> {
        self.evicted.add(u64::from(taken.evicted))?;
        self.contended.add(u64::from(taken.contended))
    }

    /// A decision that Redis should have taken and has not.
    pub(crate) fn redis_failed(&self) -> Result<(), HostError> {
        self.redis_failed.increment()
    }
}

impl RuleCounts {
    fn new(rule: &str, decisions: &Named<Counter>) -> Result<Self, HostError> {
        let of = |outcome| decisions.with(&[("rule", rule), ("outcome", outcome)]);
        Ok(Self { allowed: of("allowed")?, limited: of("limited")? })
    }
}

//! The bundled filter `circuit-breaker`: holds a cluster to its limits and ejects endpoints that keep failing.
//!
//! Reads [`CLUSTER_PROPERTY`] in both directions: that costs less than a context for each stream would. A cluster
//! without limits and outlier detection costs that one read.

pub mod breaker;
mod config;

use breaker::{Limits, Verdict, classify, judge};
use portolan_model::CircuitBreakers;
use portolan_model::filter::{
    ADMIT_FUNCTION, Admission, CLUSTER_PROPERTY, CircuitBreakerConfig, EJECT_FUNCTION, EndpointRecord, REPORT_FUNCTION,
    TRY_ENDED,
};
use portolan_sdk::prelude::*;

/// The filter: the limits by cluster.
pub struct CircuitBreaker {
    clusters: Vec<Option<Limits>>,
    /// Any cluster with outlier detection: without, responses are of no interest.
    watches_responses: bool,
    /// Argument of `portolan_admit` for a cluster without an entry: no limit, and no response is of interest.
    unlimited: [u8; 20],
    /// The argument when it is the same for all clusters: then the request's cluster need not be read.
    same_for_all: Option<[u8; 20]>,
}

impl Filter for CircuitBreaker {
    type Config = CircuitBreakerConfig;
    type Stream = ();

    fn configure(config: CircuitBreakerConfig) -> Result<Self, ConfigError> {
        let clusters = config::read(config)?;
        let watches_responses = clusters.iter().flatten().any(|limits| limits.outlier.is_some());
        let unlimited = breaker::admission_argument(&CircuitBreakers::default(), None);
        let mut arguments = clusters.iter().map(|limits| limits.map_or(unlimited, |limits| limits.admission));
        let first = arguments.next().unwrap_or(unlimited);
        let same_for_all = arguments.all(|argument| argument == first).then_some(first);
        Ok(Self { clusters, watches_responses, unlimited, same_for_all })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let argument = match (self.same_for_all, self.limits_unless_same(request)?) {
            (Some(argument), _) => argument,
            (None, Some(limits)) => limits.admission,
            (None, None) => self.unlimited,
        };
        if request.call_foreign(ADMIT_FUNCTION, &argument)? != [Admission::Overflow as u8] {
            return Ok(Action::Continue);
        }
        let reply = LocalReply::new(503)
            .body(b"upstream connect error or disconnect/reset before headers. reset reason: overflow")
            .header("x-envoy-overloaded", "true")
            .details("overflow");
        request.reply(&reply)
    }

    fn on_response_headers(&self, _: &mut (), response: &Response<'_>) -> Result<Action, HostError> {
        if self.watches_responses {
            self.observe(response, || response.status())?;
        }
        Ok(Action::Continue)
    }

    fn on_foreign_function(&self, _: &mut (), function: u32, exchange: &Exchange<'_>) -> Result<(), HostError> {
        if function != TRY_ENDED || !self.watches_responses {
            return Ok(());
        }
        let status = || exchange.call_data().map(|data| data.try_into().map_or(0, u16::from_le_bytes));
        self.observe(exchange, status)
    }
}

impl CircuitBreaker {
    /// Of the request's cluster. A cluster that a plugin chose by name has no entry here.
    fn limits(&self, exchange: &Exchange<'_>) -> Result<Option<&Limits>, HostError> {
        let Some(property) = exchange.property(CLUSTER_PROPERTY)? else { return Ok(None) };
        Ok(breaker::cluster(property).and_then(|cluster| self.clusters.get(cluster)?.as_ref()))
    }

    fn limits_unless_same(&self, exchange: &Exchange<'_>) -> Result<Option<&Limits>, HostError> {
        if self.same_for_all.is_some() { Ok(None) } else { self.limits(exchange) }
    }

    /// Reports an outcome of the request's endpoint, and ejects the endpoint when that was one too many.
    fn observe(
        &self,
        exchange: &Exchange<'_>,
        status: impl FnOnce() -> Result<u16, HostError>,
    ) -> Result<(), HostError> {
        let Some(policy) = self.limits(exchange)?.and_then(|limits| limits.outlier.as_ref()) else { return Ok(()) };
        let outcome = classify(status()?);
        let answer = exchange.call_foreign(REPORT_FUNCTION, &[outcome as u8])?;
        let Some(record) = EndpointRecord::from_bytes(answer) else { return Ok(()) };
        if let Verdict::Eject(argument) = judge(&record, outcome, policy) {
            exchange.call_foreign(EJECT_FUNCTION, &argument)?;
        }
        Ok(())
    }
}

portolan_sdk::filter! { CircuitBreaker: on_request_headers, on_response_headers, on_foreign_function }

#[cfg(test)]
mod tests;

//! The bundled filter `circuit-breaker`: holds a cluster to its limits and ejects endpoints that keep failing.
//!
//! Reads [`CLUSTER_PROPERTY`] in both directions: that costs less than a context for each stream would. A cluster
//! without limits and outlier detection costs that one read.

pub mod breaker;
mod config;

use breaker::{Limits, Verdict, classify, classify_failure, judge};
use portolan_model::filter::{
    ADMIT_FUNCTION, Admission, CLUSTER_PROPERTY, CircuitBreakerConfig, EJECT_FUNCTION, EndpointRecord, REPORT_FUNCTION,
    TRY_ENDED,
};
use portolan_model::{CircuitBreakers, OutlierDetection};
use portolan_sdk::prelude::*;

/// Where the host says what a response is.
const CODE_DETAILS: &str = "response\0code_details";

/// What it says of an endpoint's answer.
const ANSWERED: &[u8] = b"via_upstream";

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
            self.observe(response, |policy| {
                let status = response.status()?;
                // Asked for only where it matters.
                let is_apart = policy.consecutive_local_origin_failures.is_some() && status >= 500;
                let answered = !is_apart || response.property(CODE_DETAILS)? == Some(ANSWERED);
                Ok((status, answered))
            })?;
        }
        Ok(Action::Continue)
    }

    fn on_foreign_function(&self, _: &mut (), function: u32, exchange: &Exchange<'_>) -> Result<(), HostError> {
        if function != TRY_ENDED || !self.watches_responses {
            return Ok(());
        }
        self.observe(exchange, |_| {
            let data = exchange.call_data()?;
            let status = data.first_chunk().map_or(0, |status| u16::from_le_bytes(*status));
            Ok((status, data.get(2) != Some(&1)))
        })
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

    /// Reports an outcome of the request's endpoint, and ejects the endpoint when that was one too many. `status` tells it
    /// and whether it is the endpoint's own answer.
    fn observe(
        &self,
        exchange: &Exchange<'_>,
        status: impl FnOnce(&OutlierDetection) -> Result<(u16, bool), HostError>,
    ) -> Result<(), HostError> {
        let Some(policy) = self.limits(exchange)?.and_then(|limits| limits.outlier.as_ref()) else { return Ok(()) };
        let outcome = match status(policy)? {
            (status, true) => classify(status),
            (status, false) => classify_failure(status, policy),
        };
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

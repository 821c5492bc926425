//! [`EndpointState`]: what all workers know together of one upstream address.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use portolan_model::filter::{EndpointRecord, Outcome};
use portolan_model::{Endpoint, Origin, SlowStart};
use portolan_telemetry::UpstreamAddress;

use crate::clock;
use crate::health::ActiveHealth;
use crate::plan::warmth;
use crate::workload;

/// Health and load of one address of a cluster. Outlives snapshots: matched by cluster name and address.
#[derive(Debug)]
pub struct EndpointState {
    /// Where it listens.
    pub address: UpstreamAddress,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    /// `region/zone/subzone`, as much of it as is known.
    pub locality: Arc<str>,
    /// Endpoints of the lowest number come first.
    pub priority: u32,
    /// Of its whole locality, where localities are weighed.
    pub locality_weight: Option<u32>,
    /// What it is a part of, as [`crate::workload`] numbers it.
    pub(crate) workload: u32,
    /// The line that brought it.
    pub origin: Origin,
    /// [`clock::now_ms`] when it joined the cluster: warm-up counts from here.
    pub(crate) since_ms: u64,
    /// What has been seen of it: one and the same for the endpoint before and after a change of its weight, place or line.
    pub seen: Arc<Seen>,
}

/// What all workers have seen of an endpoint since it joined its cluster. Requests that were sent before a change of its
/// weight go on counting, and end here.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests in flight, of all workers.
    pub active_requests: AtomicU32,
    /// Requests sent so far.
    pub requests: AtomicU64,
    /// Answers of 500 and above, and requests without an answer.
    pub errors: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU32,
    /// Of the last connection, as [`crate::principals`] numbers them.
    pub(crate) principals: AtomicU32,
    health: Health,
}

#[derive(Debug, Default)]
struct Health {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_errors: AtomicU32,
    consecutive_local_origin_failures: AtomicU32,
    /// [`clock::now_ms`] when the ejection ends; 0 when not ejected.
    ejected_until: AtomicU64,
    ejections: Mutex<Ejections>,
    /// Since it joined the cluster.
    all_ejections: AtomicU64,
    /// [`ActiveHealth`] by its number.
    active: AtomicU8,
    /// [`clock::now_ms`] when checks found it healthy; 0 when they have not.
    healthy_since: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Ejections {
    /// Multiplier of the next ejection time, less one.
    count: u32,
    /// When the last ejection ended; none before the first.
    returned_ms: Option<u64>,
}

/// An address with what the model says of it, before it has state.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub(crate) address: UpstreamAddress,
    pub(crate) weight: u32,
    pub(crate) locality: Arc<str>,
    pub(crate) priority: u32,
    pub(crate) locality_weight: Option<u32>,
    pub(crate) workload: u32,
    pub(crate) origin: Origin,
}

impl NewEndpoint {
    /// An address of which nothing else is known.
    pub(crate) fn at(address: impl Into<UpstreamAddress>) -> Self {
        let (locality, origin) = ("".into(), Origin::default());
        Self { address: address.into(), weight: 1, locality, priority: 0, locality_weight: None, workload: 0, origin }
    }

    /// An endpoint of the model at one of its addresses.
    pub(crate) fn of(endpoint: &Endpoint, address: impl Into<UpstreamAddress>) -> Self {
        Self {
            address: address.into(),
            weight: endpoint.weight,
            locality: endpoint.locality.as_str().into(),
            priority: endpoint.priority,
            locality_weight: endpoint.locality_weight,
            workload: workload::number(endpoint.workload.as_deref()),
            origin: endpoint.origin.clone(),
        }
    }
}

impl EndpointState {
    /// A healthy endpoint.
    pub(crate) fn new(new: &NewEndpoint) -> Self {
        Self {
            address: new.address,
            weight: new.weight.max(1),
            locality: new.locality.clone(),
            priority: new.priority,
            locality_weight: new.locality_weight,
            workload: new.workload,
            origin: new.origin.clone(),
            since_ms: clock::now_ms(),
            seen: Arc::default(),
        }
    }

    /// True when the model still says the same of it.
    pub(crate) fn is(&self, new: &NewEndpoint) -> bool {
        self.address == new.address
            && self.weight == new.weight.max(1)
            && self.locality == new.locality
            && self.priority == new.priority
            && self.locality_weight == new.locality_weight
            && self.workload == new.workload
            && self.origin.line() == new.origin.line()
    }

    /// The same endpoint with another weight, place or line: requests in flight, counts, health and age go on.
    pub(crate) fn renewed(&self, new: &NewEndpoint) -> Self {
        Self { since_ms: self.since_ms, seen: self.seen.clone(), ..Self::new(new) }
    }

    /// True when both are the same endpoint, renewed or not.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.seen, &other.seen)
    }

    /// False while it is ejected, and while its health checks say so.
    pub fn is_healthy(&self) -> bool {
        self.active_health().passes() && !self.is_ejected()
    }

    /// True while outlier detection keeps it out. The clock is asked only when there was an ejection.
    pub fn is_ejected(&self) -> bool {
        let until = self.seen.health.ejected_until.load(Relaxed);
        until != 0 && !self.returned(until)
    }

    /// What its health checks say.
    pub fn active_health(&self) -> ActiveHealth {
        ActiveHealth::of(self.seen.health.active.load(Relaxed))
    }

    /// Notes what its health checks say; answers with what they said before. One that becomes healthy warms up anew.
    pub(crate) fn set_active_health(&self, health: ActiveHealth) -> ActiveHealth {
        let before = ActiveHealth::of(self.seen.health.active.swap(health as u8, Relaxed));
        if health.passes() && !before.passes() {
            self.seen.health.healthy_since.store(clock::now_ms(), Relaxed);
        }
        before
    }

    /// When warm-up began: it joined the cluster, or its health checks found it healthy.
    pub(crate) fn warm_since_ms(&self) -> u64 {
        self.since_ms.max(self.seen.health.healthy_since.load(Relaxed))
    }

    /// True when no failure is remembered in a row.
    pub(crate) fn is_clean(&self) -> bool {
        self.seen.health.counts().iter().all(|count| count.load(Relaxed) == 0)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.seen.health.all_ejections.load(Relaxed)
    }

    /// How much of its weight it has while it warms up, in percent.
    pub fn warmth_percent(&self, slow: &SlowStart) -> u32 {
        (warmth(self, slow) * 100.0).round() as u32
    }

    /// Milliseconds until it returns; none when it is not ejected.
    pub fn ejected_for_ms(&self) -> Option<u64> {
        let until = self.seen.health.ejected_until.load(Relaxed);
        (until != 0 && !self.returned(until)).then(|| until.saturating_sub(clock::now_ms()))
    }

    fn returned(&self, until: u64) -> bool {
        if clock::now_ms() < until {
            return false;
        }
        self.take_back(until, until);
        true
    }

    /// Ends an ejection before its time; false when there is none.
    pub(crate) fn end_ejection(&self) -> bool {
        let until = self.seen.health.ejected_until.load(Relaxed);
        until != 0 && self.take_back(until, clock::now_ms())
    }

    fn take_back(&self, until: u64, returned_ms: u64) -> bool {
        if self.seen.health.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_err() {
            return false;
        }
        for count in self.seen.health.counts() {
            count.store(0, Relaxed);
        }
        if let Ok(mut ejections) = self.seen.health.ejections.lock() {
            ejections.returned_ms = Some(returned_ms);
        }
        true
    }

    /// Counts an outcome and tells what is known. `interval_ms` is the outlier detection interval: the number of
    /// ejections falls by one for each that passed quietly since the last return.
    pub(crate) fn report(&self, outcome: Outcome, interval_ms: u64) -> EndpointRecord {
        let bump = |counter: &AtomicU32, hit: bool| {
            if hit {
                counter.fetch_add(1, Relaxed).saturating_add(1)
            } else {
                counter.store(0, Relaxed);
                0
            }
        };
        let health = &self.seen.health;
        let is_local = outcome == Outcome::LocalOriginFailure;
        let local = bump(&health.consecutive_local_origin_failures, is_local);
        // A failure that is no answer says nothing of the endpoint's answers.
        let of_answers =
            |counter: &AtomicU32, hit: bool| if is_local { counter.load(Relaxed) } else { bump(counter, hit) };
        let consecutive_5xx = of_answers(&health.consecutive_5xx, outcome != Outcome::Success);
        let gateway = of_answers(&health.consecutive_gateway_errors, outcome == Outcome::GatewayError);
        let ejected = self.is_ejected();
        let now = clock::now_ms();
        let (ejections, since_return_ms) = self.decayed(now, interval_ms);
        EndpointRecord {
            consecutive_5xx,
            consecutive_gateway_errors: gateway,
            consecutive_local_origin_failures: local,
            ejections,
            ejected: u32::from(ejected),
            since_return_ms,
            now_ms: now,
            ..EndpointRecord::default()
        }
    }

    fn decayed(&self, now: u64, interval_ms: u64) -> (u32, u64) {
        let Ok(ejections) = self.seen.health.ejections.lock() else { return (0, u64::MAX) };
        let Some(returned) = ejections.returned_ms else { return (ejections.count, u64::MAX) };
        let since = now.saturating_sub(returned);
        let quiet = u32::try_from(since / interval_ms.max(1)).unwrap_or(u32::MAX);
        (ejections.count.saturating_sub(quiet), since)
    }

    /// Takes it out for `duration_ms`. The caller holds the cluster's ejection lock.
    pub(crate) fn eject(&self, duration_ms: u64, interval_ms: u64) {
        let now = clock::now_ms();
        let (count, _) = self.decayed(now, interval_ms);
        if let Ok(mut ejections) = self.seen.health.ejections.lock() {
            *ejections = Ejections { count: count.saturating_add(1), returned_ms: None };
        }
        self.seen.health.all_ejections.fetch_add(1, Relaxed);
        self.seen.health.ejected_until.store(now.saturating_add(duration_ms).max(1), Relaxed);
    }
}

impl Health {
    fn counts(&self) -> [&AtomicU32; 3] {
        [&self.consecutive_5xx, &self.consecutive_gateway_errors, &self.consecutive_local_origin_failures]
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn endpoint() -> EndpointState {
        EndpointState::new(&NewEndpoint::at(SocketAddr::from(([127, 0, 0, 1], 80))))
    }

    #[test]
    fn consecutive_counts_start_again_after_a_success() {
        let endpoint = endpoint();
        assert_eq!(endpoint.report(Outcome::GatewayError, 1000).consecutive_5xx, 1);
        let second = endpoint.report(Outcome::ServerError, 1000);
        assert_eq!((second.consecutive_5xx, second.consecutive_gateway_errors), (2, 0));
        assert_eq!(endpoint.report(Outcome::Success, 1000).consecutive_5xx, 0);
    }

    #[test]
    fn an_ejected_endpoint_is_unhealthy_and_its_ejections_count() {
        let endpoint = endpoint();
        endpoint.eject(60_000, 1000);
        assert!(!endpoint.is_healthy());
        let record = endpoint.report(Outcome::ServerError, 1000);
        assert_eq!((record.ejected, record.ejections), (1, 1));
        assert!(endpoint.ejected_for_ms().is_some_and(|ms| ms > 50_000));
    }

    #[test]
    fn an_ejection_of_no_time_is_over_at_once_and_its_counts_start_again() {
        let endpoint = endpoint();
        endpoint.report(Outcome::ServerError, 1000);
        endpoint.eject(0, 1000);
        assert!(endpoint.is_healthy());
        assert_eq!(endpoint.report(Outcome::ServerError, 1000).consecutive_5xx, 1);
    }

    #[test]
    fn failures_that_are_no_answer_count_apart_and_any_answer_ends_their_row() {
        let endpoint = endpoint();
        endpoint.report(Outcome::GatewayError, 1000);
        let local = endpoint.report(Outcome::LocalOriginFailure, 1000);
        assert_eq!((local.consecutive_5xx, local.consecutive_local_origin_failures), (1, 1));
        let answered = endpoint.report(Outcome::ServerError, 1000);
        assert_eq!((answered.consecutive_5xx, answered.consecutive_local_origin_failures), (2, 0));
    }

    #[test]
    fn health_checks_and_ejections_keep_it_out_each_by_itself() {
        let endpoint = endpoint();
        assert_eq!(endpoint.set_active_health(ActiveHealth::Pending), ActiveHealth::Unchecked);
        assert!(!endpoint.is_healthy() && !endpoint.is_ejected());
        endpoint.set_active_health(ActiveHealth::Healthy);
        endpoint.eject(60_000, 1000);
        assert!(!endpoint.is_healthy() && endpoint.is_ejected());
        assert!(endpoint.end_ejection() && !endpoint.end_ejection());
        assert!(endpoint.is_healthy());
        endpoint.set_active_health(ActiveHealth::TimedOut);
        let new = NewEndpoint { weight: 5, ..NewEndpoint::at(endpoint.address) };
        assert_eq!(endpoint.renewed(&new).active_health(), ActiveHealth::TimedOut);
    }

    #[test]
    fn renewal_keeps_an_ejection() {
        let endpoint = endpoint();
        endpoint.eject(60_000, 1000);
        let new = NewEndpoint { weight: 5, ..NewEndpoint::at(endpoint.address) };
        assert!(!endpoint.renewed(&new).is_healthy());
    }

    #[test]
    fn what_was_sent_before_a_renewal_counts_and_ends_after_it() {
        let before = endpoint();
        before.seen.active_requests.fetch_add(3, Relaxed);
        before.report(Outcome::GatewayError, 1000);
        let after = before.renewed(&NewEndpoint { weight: 5, ..NewEndpoint::at(before.address) });
        assert!(after.is_same(&before) && after.weight == 5 && before.weight == 1);
        assert_eq!(after.seen.active_requests.load(Relaxed), 3);
        // The answers still to come are those of the endpoint as it is now.
        before.seen.active_requests.fetch_sub(1, Relaxed);
        before.report(Outcome::GatewayError, 1000);
        assert_eq!(after.seen.active_requests.load(Relaxed), 2);
        assert_eq!(after.report(Outcome::GatewayError, 1000).consecutive_gateway_errors, 3);
        before.eject(60_000, 1000);
        assert!(!after.is_healthy() && after.ejections() == 1);
        assert!(!after.is_same(&endpoint()));
    }
}

//! [`EndpointState`]: what all workers know together of one upstream address.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use portolan_model::Origin;
use portolan_model::filter::{EndpointRecord, Outcome};

use crate::clock;

/// Health and load of one address of a cluster. Outlives snapshots: matched by cluster name and address.
#[derive(Debug)]
pub struct EndpointState {
    /// Where it listens.
    pub address: SocketAddr,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    /// The line that brought it.
    pub origin: Origin,
    /// Requests in flight, of all workers.
    pub active_requests: AtomicU32,
    /// Requests sent so far.
    pub requests: AtomicU64,
    /// Answers of 500 and above, and requests without an answer.
    pub errors: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU32,
    health: Health,
}

#[derive(Debug, Default)]
struct Health {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_errors: AtomicU32,
    /// [`clock::now_ms`] when the ejection ends; 0 when not ejected.
    ejected_until: AtomicU64,
    ejections: Mutex<Ejections>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Ejections {
    /// Multiplier of the next ejection time, less one.
    count: u32,
    /// When the last ejection ended; none before the first.
    returned_ms: Option<u64>,
}

impl EndpointState {
    /// A healthy endpoint.
    pub fn new(address: SocketAddr, weight: u32, origin: Origin) -> Self {
        Self {
            address,
            weight: weight.max(1),
            origin,
            active_requests: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            connections: AtomicU32::new(0),
            health: Health::default(),
        }
    }

    /// The same endpoint with another weight or line; keeps what is known of its health.
    pub(crate) fn renewed(&self, weight: u32, origin: Origin) -> Self {
        let fresh = Self::new(self.address, weight, origin);
        fresh.requests.store(self.requests.load(Relaxed), Relaxed);
        fresh.errors.store(self.errors.load(Relaxed), Relaxed);
        let (old, new) = (&self.health, &fresh.health);
        new.consecutive_5xx.store(old.consecutive_5xx.load(Relaxed), Relaxed);
        new.consecutive_gateway_errors.store(old.consecutive_gateway_errors.load(Relaxed), Relaxed);
        new.ejected_until.store(old.ejected_until.load(Relaxed), Relaxed);
        if let (Ok(old), Ok(mut new)) = (old.ejections.lock(), new.ejections.lock()) {
            *new = *old;
        }
        fresh
    }

    /// False while it is ejected. The clock is asked only when there was an ejection.
    pub fn is_healthy(&self) -> bool {
        let until = self.health.ejected_until.load(Relaxed);
        until == 0 || self.returned(until)
    }

    /// True when no failure is remembered in a row.
    pub(crate) fn is_clean(&self) -> bool {
        self.health.consecutive_5xx.load(Relaxed) == 0 && self.health.consecutive_gateway_errors.load(Relaxed) == 0
    }

    /// Milliseconds until it returns; none when it is not ejected.
    pub fn ejected_for_ms(&self) -> Option<u64> {
        let until = self.health.ejected_until.load(Relaxed);
        (until != 0 && !self.returned(until)).then(|| until.saturating_sub(clock::now_ms()))
    }

    fn returned(&self, until: u64) -> bool {
        if clock::now_ms() < until {
            return false;
        }
        if self.health.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok() {
            self.health.consecutive_5xx.store(0, Relaxed);
            self.health.consecutive_gateway_errors.store(0, Relaxed);
            if let Ok(mut ejections) = self.health.ejections.lock() {
                ejections.returned_ms = Some(until);
            }
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
        let consecutive_5xx = bump(&self.health.consecutive_5xx, outcome != Outcome::Success);
        let gateway = bump(&self.health.consecutive_gateway_errors, outcome == Outcome::GatewayError);
        let ejected = !self.is_healthy();
        let now = clock::now_ms();
        let (ejections, since_return_ms) = self.decayed(now, interval_ms);
        EndpointRecord {
            consecutive_5xx,
            consecutive_gateway_errors: gateway,
            ejections,
            ejected: u32::from(ejected),
            since_return_ms,
            now_ms: now,
            ..EndpointRecord::default()
        }
    }

    fn decayed(&self, now: u64, interval_ms: u64) -> (u32, u64) {
        let Ok(ejections) = self.health.ejections.lock() else { return (0, u64::MAX) };
        let Some(returned) = ejections.returned_ms else { return (ejections.count, u64::MAX) };
        let since = now.saturating_sub(returned);
        let quiet = u32::try_from(since / interval_ms.max(1)).unwrap_or(u32::MAX);
        (ejections.count.saturating_sub(quiet), since)
    }

    /// Takes it out for `duration_ms`. The caller holds the cluster's ejection lock.
    pub(crate) fn eject(&self, duration_ms: u64, interval_ms: u64) {
        let now = clock::now_ms();
        let (count, _) = self.decayed(now, interval_ms);
        if let Ok(mut ejections) = self.health.ejections.lock() {
            *ejections = Ejections { count: count.saturating_add(1), returned_ms: None };
        }
        self.health.ejected_until.store(now.saturating_add(duration_ms).max(1), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> EndpointState {
        EndpointState::new(SocketAddr::from(([127, 0, 0, 1], 80)), 1, Origin::default())
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
    fn renewal_keeps_an_ejection() {
        let endpoint = endpoint();
        endpoint.eject(60_000, 1000);
        assert!(!endpoint.renewed(5, Origin::default()).is_healthy());
    }
}

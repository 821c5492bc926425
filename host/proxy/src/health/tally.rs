//! [`Tally`]: what the outcomes of checks make of an endpoint's health. Envoy's `ActiveHealthCheckSession`, without a clock
//! or a network.

use portolan_model::{CheckIntervals, HealthCheck};

/// What checks say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ActiveHealth {
    /// Nobody checks: as good as healthy.
    #[default]
    Unchecked,
    /// Not checked yet: unhealthy until then.
    Pending,
    /// Healthy.
    Healthy,
    /// Unhealthy.
    Failed,
    /// Unhealthy, and the last check had no answer in time.
    TimedOut,
}

impl ActiveHealth {
    /// True when requests may go there.
    pub fn passes(self) -> bool {
        matches!(self, Self::Unchecked | Self::Healthy)
    }

    /// Of its number; what is none is [`Self::Unchecked`].
    pub(crate) fn of(number: u8) -> Self {
        let all = [Self::Unchecked, Self::Pending, Self::Healthy, Self::Failed, Self::TimedOut];
        all.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure {
        kind: FailureKind,
        /// For people.
        why: String,
    },
}

/// Envoy's `HealthCheckFailureType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureKind {
    /// The endpoint has answered, and not well: it is unhealthy at once.
    Active,
    /// One of `retriable_statuses`.
    Retriable,
    /// No connection, or one that broke.
    Network,
    /// Nothing in time.
    Timeout,
}

impl FailureKind {
    pub(super) fn is_of_network(self) -> bool {
        matches!(self, Self::Network | Self::Timeout)
    }

    /// Envoy's word for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Active | Self::Retriable => "ACTIVE",
            Self::Network => "NETWORK",
            Self::Timeout => "NETWORK_TIMEOUT",
        }
    }
}

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    Unchanged,
    /// Some more like it change the health.
    Pending,
    Changed,
}

/// An endpoint's health, and what has come in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) health: ActiveHealth,
    /// No check has been made yet: the first one decides alone.
    is_first: bool,
    successes: u32,
    failures: u32,
}

impl Tally {
    /// An endpoint of which nothing is known.
    pub(crate) fn pending() -> Self {
        Self { health: ActiveHealth::Pending, is_first: true, successes: 0, failures: 0 }
    }

    /// An endpoint that has served without checks until now: it goes on, and its first check decides.
    pub(crate) fn serving() -> Self {
        Self { health: ActiveHealth::Healthy, ..Self::pending() }
    }

    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    pub(super) fn note(&mut self, outcome: &Outcome, check: &HealthCheck) -> Transition {
        let before = self.health;
        let transition = match outcome {
            Outcome::Success => self.success(check.healthy_threshold),
            Outcome::Failure { kind, .. } => self.failure(*kind, check.unhealthy_threshold),
        };
        self.is_first = false;
        // That it is no longer waited for is a change, whatever came of it.
        if before == ActiveHealth::Pending { Transition::Changed } else { transition }
    }

    fn success(&mut self, threshold: u32) -> Transition {
        self.failures = 0;
        if self.health.passes() {
            return Transition::Unchanged;
        }
        self.successes = self.successes.saturating_add(1);
        if !self.is_first && self.successes < threshold {
            return Transition::Pending;
        }
        self.health = ActiveHealth::Healthy;
        Transition::Changed
    }

    fn failure(&mut self, kind: FailureKind, threshold: u32) -> Transition {
        self.successes = 0;
        let failed = if kind == FailureKind::Timeout { ActiveHealth::TimedOut } else { ActiveHealth::Failed };
        if !self.health.passes() {
            self.health = failed;
            return Transition::Unchanged;
        }
        self.failures = self.failures.saturating_add(1);
        if kind != FailureKind::Active && !self.is_first && self.failures < threshold {
            return Transition::Pending;
        }
        (self.health, self.failures) = (failed, 0);
        Transition::Changed
    }
}

/// The pause after a check, in milliseconds and without jitter.
pub(super) fn pause(intervals: &CheckIntervals, succeeded: bool, transition: Transition, has_traffic: bool) -> u64 {
    let is_edge = transition == Transition::Pending;
    match intervals.no_traffic_ms.filter(|_| !has_traffic) {
        Some((healthy, _)) if succeeded && !is_edge => healthy,
        Some((_, other)) => other,
        None => match (succeeded, is_edge) {
            (true, false) => intervals.interval_ms,
            (true, true) => intervals.healthy_edge_ms,
            (false, false) => intervals.unhealthy_ms,
            (false, true) => intervals.unhealthy_edge_ms,
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use portolan_model::{HealthProbe, Origin};

    const INTERVALS: CheckIntervals = CheckIntervals {
        interval_ms: 1,
        unhealthy_ms: 2,
        unhealthy_edge_ms: 3,
        healthy_edge_ms: 4,
        no_traffic_ms: None,
        initial_jitter_ms: 0,
        jitter_ms: 0,
        jitter_percent: 0,
    };

    fn check(healthy_threshold: u32, unhealthy_threshold: u32) -> HealthCheck {
        HealthCheck {
            probe: HealthProbe::Tcp { send: Vec::new(), receive: Vec::new() },
            host: String::new(),
            port: None,
            timeout_ms: 1000,
            intervals: INTERVALS,
            unhealthy_threshold,
            healthy_threshold,
            reuse_connection: true,
            always_log_failures: false,
            origin: Origin::default(),
        }
    }

    fn failure(kind: FailureKind) -> Outcome {
        Outcome::Failure { kind, why: String::new() }
    }

    /// The health after each of these outcomes.
    fn course(mut tally: Tally, check: &HealthCheck, outcomes: &[Outcome]) -> Vec<(ActiveHealth, Transition)> {
        outcomes
            .iter()
            .map(|outcome| {
                let transition = tally.note(outcome, check);
                (tally.health, transition)
            })
            .collect()
    }

    use ActiveHealth::{Failed, Healthy, TimedOut};
    use FailureKind::{Active, Network, Retriable, Timeout};
    use Outcome::Success;
    use Transition::{Changed, Pending, Unchanged};

    #[test]
    fn the_first_check_decides_alone() {
        let check = check(3, 3);
        assert_eq!(course(Tally::pending(), &check, &[Success]), [(Healthy, Changed)]);
        assert_eq!(course(Tally::pending(), &check, &[failure(Network)]), [(Failed, Changed)]);
        assert_eq!(course(Tally::pending(), &check, &[failure(Timeout)]), [(TimedOut, Changed)]);
        assert_eq!(course(Tally::serving(), &check, &[failure(Network)]), [(Failed, Changed)]);
        assert_eq!(course(Tally::serving(), &check, &[Success]), [(Healthy, Unchanged)]);
    }

    #[test]
    fn failures_of_the_network_count_up_and_a_success_ends_their_row() {
        let outcomes = [Success, failure(Network), failure(Timeout), Success, failure(Network), failure(Network)];
        let healths = course(Tally::pending(), &check(1, 3), &outcomes);
        assert!(healths.iter().all(|(health, _)| *health == Healthy), "{healths:?}");
        let more = [&outcomes[..], &[failure(Timeout)]].concat();
        assert_eq!(course(Tally::pending(), &check(1, 3), &more).last(), Some(&(TimedOut, Changed)));
    }

    #[test]
    fn an_answer_that_says_so_is_unhealthy_at_once_and_a_retriable_one_counts_up() {
        let of = |kind| course(Tally::pending(), &check(1, 2), &[Success, failure(kind), failure(kind)]);
        assert_eq!(of(Active)[1..], [(Failed, Changed), (Failed, Unchanged)]);
        assert_eq!(of(Retriable)[1..], [(Healthy, Pending), (Failed, Changed)]);
    }

    #[test]
    fn an_unhealthy_endpoint_needs_its_successes_in_a_row() {
        let outcomes = [failure(Active), Success, failure(Network), Success, Success, Success];
        let healths = course(Tally::pending(), &check(3, 1), &outcomes);
        let expected = [
            (Failed, Changed),
            (Failed, Pending),
            (Failed, Unchanged),
            (Failed, Pending),
            (Failed, Pending),
            (Healthy, Changed),
        ];
        assert_eq!(healths, expected);
    }

    #[test]
    fn pauses_are_those_of_the_edge_while_a_change_is_pending_and_others_without_traffic() {
        let of = |succeeded, transition| pause(&INTERVALS, succeeded, transition, true);
        assert_eq!([of(true, Unchanged), of(false, Changed), of(false, Pending), of(true, Pending)], [1, 2, 3, 4]);
        let quiet = CheckIntervals { no_traffic_ms: Some((5, 6)), ..INTERVALS };
        let of = |succeeded, transition| pause(&quiet, succeeded, transition, false);
        assert_eq!([of(true, Unchanged), of(true, Pending), of(false, Unchanged)], [5, 6, 6]);
        assert_eq!(pause(&quiet, true, Unchanged, true), 1);
        assert_eq!(pause(&INTERVALS, true, Unchanged, false), 1);
    }
}

//! Picks an endpoint: ROUND_ROBIN, LEAST_REQUEST by two random choices, RANDOM; ejected endpoints are passed over.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use portolan_model::LbPolicy;
use rand::Rng;

use crate::cluster::EndpointSet;

/// How many times another endpoint than the one that failed is looked for on a retry: Envoy's
/// `host_selection_retry_max_attempts` as Istio sets it.
const RETRY_PICKS: usize = 5;

/// One worker's turn in a cluster.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    turn: usize,
    /// Where the golden-ratio sequence of weighted turns stands, as a fraction of 2^32.
    weighted_turn: u32,
}

/// 2^32 divided by the golden ratio: consecutive multiples, taken modulo 2^32, spread as evenly as any sequence can.
pub(crate) const GOLDEN: u32 = 0x9E37_79B9;

impl Balancer {
    /// A balancer that starts at a random turn, so that workers do not walk in step.
    pub(crate) fn new(rng: &mut impl Rng) -> Self {
        Self { turn: rng.random_range(0..1 << 20), weighted_turn: rng.random() }
    }

    /// Index of an endpoint, other than the one at `avoid` when that can be had in a few picks. None when none is
    /// healthy and `min_health_percent` forbids the use of unhealthy ones.
    pub(crate) fn pick(
        &mut self,
        set: &EndpointSet,
        policy: LbPolicy,
        min_health_percent: Option<u32>,
        avoid: Option<SocketAddr>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let panic = in_panic(set, min_health_percent);
        if let [only] = set.endpoints.as_slice() {
            return (panic || only.is_healthy()).then_some(0);
        }
        for _ in 0..RETRY_PICKS {
            let picked = self.pick_any(set, policy, panic, rng)?;
            if avoid.is_none_or(|avoid| set.endpoints[picked].address != avoid) {
                return Some(picked);
            }
        }
        self.pick_any(set, policy, panic, rng)
    }

    fn pick_any(&mut self, set: &EndpointSet, policy: LbPolicy, panic: bool, rng: &mut impl Rng) -> Option<usize> {
        match policy {
            LbPolicy::RoundRobin => {
                let start = self.next_turn(set);
                first_healthy(set, start, panic)
            }
            LbPolicy::Random => random_healthy(set, panic, rng),
            LbPolicy::LeastRequest => {
                let a = random_healthy(set, panic, rng)?;
                let b = random_healthy(set, panic, rng)?;
                let load = |i: usize| set.endpoints[i].active_requests.load(Relaxed);
                Some(if load(b) < load(a) { b } else { a })
            }
        }
    }

    fn next_turn(&mut self, set: &EndpointSet) -> usize {
        if set.uniform {
            self.turn = self.turn.wrapping_add(1);
            return self.turn % set.endpoints.len().max(1);
        }
        self.weighted_turn = self.weighted_turn.wrapping_add(GOLDEN);
        weighted_index(set, f64::from(self.weighted_turn) / 4_294_967_296.0)
    }
}

/// True when so few endpoints are healthy that all are used. Without an outlier detection block nothing is ever ejected;
/// with one, Istio's default is 0: never.
fn in_panic(set: &EndpointSet, min_health_percent: Option<u32>) -> bool {
    match min_health_percent {
        None | Some(0) => false,
        Some(percent) => {
            let healthy = set.endpoints.iter().filter(|e| e.is_healthy()).count();
            healthy * 100 < set.endpoints.len() * percent as usize
        }
    }
}

fn first_healthy(set: &EndpointSet, start: usize, panic: bool) -> Option<usize> {
    let n = set.endpoints.len();
    (start..n).chain(0..start.min(n)).find(|i| panic || set.endpoints[*i].is_healthy())
}

/// Draws again when an ejected one comes up, so that its share goes to all the others and not to its neighbour.
fn random_healthy(set: &EndpointSet, panic: bool, rng: &mut impl Rng) -> Option<usize> {
    for _ in 0..RETRY_PICKS {
        let drawn = random_index(set, rng)?;
        if panic || set.endpoints[drawn].is_healthy() {
            return Some(drawn);
        }
    }
    first_healthy(set, random_index(set, rng)?, panic)
}

fn random_index(set: &EndpointSet, rng: &mut impl Rng) -> Option<usize> {
    match set.endpoints.len() {
        0 => None,
        n if set.uniform => Some(rng.random_range(0..n)),
        _ => Some(weighted_index(set, rng.random())),
    }
}

/// The endpoint that holds `share` (0 to 1) of the cumulative weights.
fn weighted_index(set: &EndpointSet, share: f64) -> usize {
    let total: u64 = set.endpoints.iter().map(|e| u64::from(e.weight)).sum();
    let mut rest = share * total as f64;
    for (index, endpoint) in set.endpoints.iter().enumerate() {
        rest -= f64::from(endpoint.weight);
        if rest < 0.0 {
            return index;
        }
    }
    set.endpoints.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointState;
    use portolan_model::Origin;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::collections::HashMap;
    use std::sync::Arc;

    fn set(weights: &[u32]) -> EndpointSet {
        let endpoints: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(w, port)| {
                Arc::new(EndpointState::new(SocketAddr::from(([10, 0, 0, 1], port)), *w, Origin::default()))
            })
            .collect();
        let uniform = weights.windows(2).all(|w| w[0] == w[1]);
        EndpointSet { version: 1, endpoints, uniform }
    }

    fn counts(set: &EndpointSet, policy: LbPolicy, n: usize) -> HashMap<u16, usize> {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut balancer = Balancer::new(&mut rng);
        let mut counts = HashMap::new();
        for _ in 0..n {
            if let Some(e) = balancer.pick(set, policy, None, None, &mut rng) {
                *counts.entry(set.endpoints[e].address.port()).or_default() += 1;
            }
        }
        counts
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        assert_eq!(counts(&set(&[1, 1, 1]), LbPolicy::RoundRobin, 30), HashMap::from([(1, 10), (2, 10), (3, 10)]));
    }

    #[test]
    fn weighted_round_robin_is_even_at_low_counts() {
        let counts = counts(&set(&[3, 1]), LbPolicy::RoundRobin, 40);
        assert!((29..=31).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn random_keeps_weights() {
        let counts = counts(&set(&[8, 2]), LbPolicy::Random, 10_000);
        assert!((7_800..8_200).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn least_request_takes_the_less_loaded_of_two() {
        let set = set(&[1, 1]);
        set.endpoints[0].active_requests.store(10, Relaxed);
        let counts = counts(&set, LbPolicy::LeastRequest, 1_000);
        assert!(counts[&2] > 700, "{counts:?}");
    }

    #[test]
    fn ejected_endpoints_are_passed_over_and_none_healthy_is_none() {
        let set = set(&[1, 1]);
        set.endpoints[0].eject(60_000, 1_000);
        assert_eq!(counts(&set, LbPolicy::RoundRobin, 10), HashMap::from([(2, 10)]));
        set.endpoints[1].eject(60_000, 1_000);
        assert!(counts(&set, LbPolicy::RoundRobin, 10).is_empty());
    }

    #[test]
    fn below_the_minimum_health_all_are_used() {
        let set = set(&[1, 1]);
        set.endpoints[0].eject(60_000, 1_000);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut balancer = Balancer::new(&mut rng);
        let picked: Vec<_> = (0..10)
            .filter_map(|_| balancer.pick(&set, LbPolicy::RoundRobin, Some(60), None, &mut rng))
            .map(|i| set.endpoints[i].address.port())
            .collect();
        assert!(picked.contains(&1) && picked.contains(&2));
    }

    #[test]
    fn a_retry_prefers_another_endpoint() {
        let set = set(&[1, 1]);
        let mut rng = SmallRng::seed_from_u64(7);
        let mut balancer = Balancer::new(&mut rng);
        for _ in 0..20 {
            let picked = balancer.pick(&set, LbPolicy::RoundRobin, None, Some(set.endpoints[0].address), &mut rng);
            assert_eq!(picked, Some(1));
        }
    }
}

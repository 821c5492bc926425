//! The policies, by counting.

use super::*;
use crate::endpoint::{EndpointState, NewEndpoint};
use crate::plan::Balancing;
use portolan_model::SlowStart;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

const NEVER_PANIC: u32 = 0;

fn endpoint(port: u16, weight: u32) -> NewEndpoint {
    NewEndpoint { weight, ..NewEndpoint::at(SocketAddr::from(([10, 0, 0, 1], port))) }
}

fn of(policy: LbPolicy) -> Balancing {
    Balancing { policy, panic_percent: NEVER_PANIC, slow_start: None }
}

fn set_of(new: &[NewEndpoint]) -> Vec<Arc<EndpointState>> {
    new.iter().map(|new| Arc::new(EndpointState::new(new))).collect()
}

fn planned(endpoints: Vec<Arc<EndpointState>>, balancing: Balancing) -> EndpointSet {
    EndpointSet { version: 1, plan: Plan::new(&endpoints, balancing), endpoints }
}

fn set(weights: &[u32], policy: LbPolicy) -> EndpointSet {
    let new: Vec<_> = (1..).zip(weights).map(|(port, weight)| endpoint(port, *weight)).collect();
    planned(set_of(&new), of(policy))
}

fn picks(set: &EndpointSet, n: usize) -> Vec<u16> {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut balancer = Balancer::new(&mut rng);
    (0..n)
        .filter_map(|_| {
            Some(set.endpoints[balancer.pick(set, None, Avoid::default(), &mut rng)?].address.socket()?.port())
        })
        .collect()
}

fn counts(set: &EndpointSet, n: usize) -> HashMap<u16, usize> {
    let mut counts = HashMap::new();
    for port in picks(set, n) {
        *counts.entry(port).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_takes_each_in_turn() {
    let set = set(&[1, 1, 1], LbPolicy::RoundRobin);
    assert_eq!(counts(&set, 30), HashMap::from([(1, 10), (2, 10), (3, 10)]));
}

#[test]
fn weighted_round_robin_is_exact_over_each_round() {
    let set = set(&[3, 1], LbPolicy::RoundRobin);
    let picked = picks(&set, 40);
    for round in picked.chunks(4) {
        assert_eq!(round.iter().filter(|port| **port == 2).count(), 1, "{picked:?}");
    }
}

#[test]
fn random_does_not_look_at_weights() {
    let counts = counts(&set(&[8, 2], LbPolicy::Random), 10_000);
    assert!((4_800..5_200).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn least_request_takes_the_less_loaded_of_two() {
    let set = set(&[1, 1], LbPolicy::LeastRequest);
    set.endpoints[0].seen.active_requests.store(10, Relaxed);
    let counts = counts(&set, 1_000);
    assert!(counts[&2] > 700, "{counts:?}");
}

#[test]
fn least_request_with_unequal_weights_shares_them_among_requests_in_flight() {
    let set = set(&[2, 1], LbPolicy::LeastRequest);
    let calm = counts(&set, 300);
    assert!((199..=201).contains(&calm[&1]), "{calm:?}");
    set.endpoints[0].seen.active_requests.store(3, Relaxed);
    let busy = counts(&set, 300);
    assert!((99..=101).contains(&busy[&1]), "2/4 against 1/1: {busy:?}");
}

#[test]
fn ejected_endpoints_are_left_out_and_none_healthy_is_none() {
    let endpoints = set_of(&[endpoint(1, 1), endpoint(2, 1)]);
    endpoints[0].eject(60_000, 1_000);
    assert_eq!(counts(&planned(endpoints.clone(), of(LbPolicy::RoundRobin)), 10), HashMap::from([(2, 10)]));
    endpoints[1].eject(60_000, 1_000);
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest] {
        assert!(counts(&planned(endpoints.clone(), of(policy)), 10).is_empty());
    }
}

#[test]
fn below_the_minimum_health_all_are_used() {
    let endpoints = set_of(&[endpoint(1, 1), endpoint(2, 1)]);
    endpoints[0].eject(60_000, 1_000);
    let balancing = Balancing { panic_percent: 60, ..of(LbPolicy::RoundRobin) };
    assert_eq!(counts(&planned(endpoints, balancing), 10), HashMap::from([(1, 5), (2, 5)]));
}

#[test]
fn a_retry_prefers_another_endpoint() {
    let set = set(&[1, 1], LbPolicy::RoundRobin);
    let mut rng = SmallRng::seed_from_u64(7);
    let mut balancer = Balancer::new(&mut rng);
    for _ in 0..20 {
        assert_eq!(balancer.pick(&set, None, Avoid::hosts(&[set.endpoints[0].address]), &mut rng), Some(1));
    }
}

#[test]
fn one_hash_takes_one_endpoint_on_every_worker_and_none_takes_any() {
    for policy in [LbPolicy::RingHash { minimum_ring_size: 1024 }, LbPolicy::Maglev { table_size: 65_537 }] {
        let set = set(&[1, 1, 1, 1], policy);
        let mut rng = SmallRng::seed_from_u64(7);
        let (mut one, mut other) = (Balancer::new(&mut rng), Balancer::new(&mut rng));
        let mut moved = 0;
        for hash in (0..100_u64).map(|key| key.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let picked = one.pick(&set, Some(hash), Avoid::default(), &mut rng);
            assert_eq!(picked, other.pick(&set, Some(hash), Avoid::default(), &mut rng));
            let avoid = [set.endpoints[picked.unwrap()].address];
            let others = [(); 2].map(|()| one.pick(&set, Some(hash), Avoid::hosts(&avoid), &mut rng));
            assert_eq!(others[0], others[1], "the next one is as consistent");
            moved += usize::from(others[0] != picked);
        }
        assert!(moved > 90, "{moved} of 100 have found another in a few picks");
        assert_eq!(counts(&set, 200).len(), 4);
    }
}

#[test]
fn an_endpoint_ejected_since_the_table_was_made_is_passed_over() {
    let set = set(&[1, 1], LbPolicy::Maglev { table_size: 65_537 });
    set.endpoints[0].eject(60_000, 1_000);
    assert_eq!(counts(&set, 100), HashMap::from([(2, 100)]));
}

#[test]
fn localities_take_their_weights_and_give_up_what_they_cannot_take() {
    let of_place = |port, place: &str, weight| NewEndpoint {
        locality: place.into(),
        locality_weight: Some(weight),
        ..endpoint(port, 1)
    };
    let endpoints = set_of(&[of_place(1, "a", 80), of_place(2, "b", 20), of_place(3, "b", 20)]);
    for policy in [LbPolicy::RoundRobin, LbPolicy::Random, LbPolicy::LeastRequest] {
        let counts = counts(&planned(endpoints.clone(), of(policy)), 1_000);
        assert!((799..=801).contains(&counts[&1]), "{counts:?}");
    }
    // 1.4 times one half is 0.7: b weighs 14.
    endpoints[1].eject(60_000, 1_000);
    let counts = counts(&planned(endpoints, of(LbPolicy::RoundRobin)), 940);
    assert!((799..=801).contains(&counts[&1]), "{counts:?}");
}

#[test]
fn the_next_priority_takes_what_the_first_cannot() {
    let of_priority = |port, priority| NewEndpoint { priority, ..endpoint(port, 1) };
    let endpoints = set_of(&[of_priority(1, 0), of_priority(2, 0), of_priority(3, 1)]);
    assert_eq!(counts(&planned(endpoints.clone(), of(LbPolicy::RoundRobin)), 100), HashMap::from([(1, 50), (2, 50)]));
    endpoints[0].eject(60_000, 1_000);
    let counts = counts(&planned(endpoints, of(LbPolicy::RoundRobin)), 10_000);
    assert!((6_800..7_200).contains(&counts[&2]), "{counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 10_000);
}

#[test]
fn a_new_endpoint_begins_with_a_tenth_of_its_weight() {
    let slow_start = Some(SlowStart { window_ms: 3_600_000, aggression: 1.0, min_weight_percent: 10.0 });
    let mut old = EndpointState::new(&endpoint(1, 1));
    old.since_ms = 0;
    let old = Arc::new(old);
    // The clock starts with the process: what is 0 is younger than the window, but older than what comes now.
    let endpoints = vec![old, Arc::new(EndpointState::new(&endpoint(2, 10)))];
    for policy in [LbPolicy::RoundRobin, LbPolicy::LeastRequest] {
        let set = planned(endpoints.clone(), Balancing { slow_start, ..of(policy) });
        let counts = counts(&set, 110);
        assert!((99..=101).contains(&counts[&2]), "both are at a tenth: {counts:?}");
    }
    let slow = SlowStart { window_ms: 1_000, aggression: 2.0, min_weight_percent: 10.0 };
    let mut half = EndpointState::new(&endpoint(3, 1));
    half.since_ms = crate::clock::now_ms().saturating_sub(250);
    if half.since_ms > 0 {
        assert!((0.45..0.7).contains(&crate::plan::warmth(&half, &slow)));
    }
}

#[test]
fn after_every_second_try_the_priorities_that_were_tried_are_left_out() {
    let of_priority = |port, priority| NewEndpoint { priority, ..endpoint(port, 1) };
    let endpoints = [of_priority(1, 0), of_priority(2, 0), of_priority(3, 1), of_priority(4, 2)];
    let set = planned(set_of(&endpoints), of(LbPolicy::Random));
    let at = |index: usize| set.endpoints[index].address;
    assert_eq!(tried_priorities(&set, &[at(0)]), 0, "one try changes nothing");
    assert_eq!(tried_priorities(&set, &[at(0), at(1)]), 0b1);
    assert_eq!(tried_priorities(&set, &[at(0), at(1), at(2)]), 0b1);
    assert_eq!(tried_priorities(&set, &[at(0), at(1), at(2), at(2)]), 0b11);
    let all = [at(0), at(1), at(2), at(2), at(3), at(3)];
    assert_eq!(tried_priorities(&set, &all), 0, "nobody is left: as at first");
    let gone = SocketAddr::from(([10, 9, 9, 9], 1)).into();
    assert_eq!(tried_priorities(&set, &[at(0), gone]), 0);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = Balancer::new(&mut rng);
    for _ in 0..50 {
        let avoid = Avoid { hosts: &[], priorities: 0b1 };
        assert_eq!(balancer.pick(&set, None, avoid, &mut rng), Some(2));
    }
}

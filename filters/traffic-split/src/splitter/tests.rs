//! Shares of the sequence and stickiness, as properties.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn split(weights: &[u32], seed: u64) -> RouteSplit {
    let destinations = weights.iter().zip(0..).map(|(weight, cluster)| (cluster, *weight)).collect();
    let names = (0..weights.len()).map(|index| format!("outbound|80|v{index}|a")).collect();
    RouteSplit::new(Split { destinations, names, sticky: None }, Weyl::starting_at(seed))
}

fn counts(split: &RouteSplit, draws: usize) -> Vec<u32> {
    let mut counts = vec![0; split.len()];
    (0..draws).for_each(|_| counts[split.draw().unwrap()] += 1);
    counts
}

#[test]
fn a_single_destination_gets_all_whatever_its_weight() {
    for weight in [0, 1, 100] {
        assert_eq!(counts(&split(&[weight], 7), 10), [10]);
    }
}

#[test]
fn a_route_without_destination_has_no_choice() {
    assert_eq!(split(&[], 7).draw(), None);
    assert_eq!(split(&[], 7).of_user(b"a"), None);
}

#[test]
fn the_wire_form_is_cluster_then_index() {
    assert_eq!(split(&[1, 1], 0).wire(1), [1, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn every_second_request_of_an_even_split_sees_both_destinations() {
    let split = split(&[1, 1], 3);
    let seen: Vec<usize> = (0..100).map(|_| split.draw().unwrap()).step_by(2).collect();
    assert!((20..=30).contains(&seen.iter().filter(|index| **index == 0).count()), "{seen:?}");
}

proptest! {
    #[test]
    fn shares_in_percent_are_exact_over_any_hundred_requests(share in 0_u32..=100, skip in 0_usize..300, seed: u64) {
        let split = split(&[share, 100 - share], seed);
        counts(&split, skip);
        prop_assert_eq!(counts(&split, 100), [share, 100 - share]);
    }

    #[test]
    fn four_to_one_is_within_one_over_any_hundred_requests(skip in 0_usize..300, seed: u64) {
        let split = split(&[4, 1], seed);
        counts(&split, skip);
        prop_assert!(counts(&split, 100)[0].abs_diff(80) <= 1);
    }

    #[test]
    fn any_weights_are_nearly_kept_at_any_count(
        weights in prop::collection::vec(0_u32..1000, 2..6),
        draws in 1_usize..2000,
        seed: u64,
    ) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        for (count, weight) in counts(&split(&weights, seed), draws).into_iter().zip(&weights) {
            let expected = draws as f64 * f64::from(*weight) / f64::from(total);
            prop_assert!((f64::from(count) - expected).abs() < 6.0, "{} for {}", count, expected);
            prop_assert!(*weight > 0 || count == 0, "weight 0 gets nothing");
        }
    }

    #[test]
    fn huge_weights_do_not_overflow(weights in prop::collection::vec(any::<u32>(), 2..50), seed: u64) {
        counts(&split(&weights, seed), 10);
    }

    #[test]
    fn a_user_stays(value: Vec<u8>, seed: u64) {
        prop_assert_eq!(split(&[60, 40], seed).of_user(&value), split(&[60, 40], seed + 1).of_user(&value));
    }
}

#[test]
fn users_spread_by_weight() {
    let split = split(&[80, 20], 0);
    let first = (0..10_000).filter(|user| split.of_user(format!("user-{user}").as_bytes()) == Some(0)).count();
    assert!((7_800..8_200).contains(&first), "{first}");
}

#[test]
fn ids_name_destinations_and_do_not_depend_on_their_order() {
    let split = split(&[1, 1, 1], 0);
    for index in 0..3 {
        assert_eq!(split.of_id(split.id(index).unwrap().as_bytes()), Some(index));
    }
    assert_eq!(split.of_id(b"0"), None);
    let turned = Split { destinations: vec![(9, 1)], names: vec!["outbound|80|v2|a".into()], sticky: None };
    assert_eq!(RouteSplit::new(turned, Weyl::starting_at(1)).id(0), split.id(2));
}

//! [`HashTable`]: from a request's hash to an endpoint, by Envoy's ring or Maglev table: the same key takes the same
//! endpoint here and there. Built off the workers.

use portolan_model::LbPolicy;
use xxhash_rust::xxh64::xxh64;

/// Envoy's `maximum_ring_size`.
const MAXIMUM_RING_SIZE: f64 = 8.0 * 1024.0 * 1024.0;

/// How far is looked for an endpoint in place of one that has just been ejected; the next table comes at once.
const NEAR: usize = 64;

/// An endpoint to be put into a table.
#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    /// Among the cluster's endpoints.
    pub(crate) index: u32,
    /// `address:port`, what Envoy hashes.
    pub(crate) key: String,
    /// Its share; all together are 1.
    pub(crate) weight: f64,
}

/// Endpoints by hash.
#[derive(Debug)]
pub(crate) enum HashTable {
    /// Points in order of their hashes.
    Ring(Vec<(u64, u32)>),
    /// By remainder of the hash.
    Maglev(Vec<u32>),
}

impl HashTable {
    /// The table of a policy; none for policies without, and without endpoints.
    pub(crate) fn of(policy: LbPolicy, endpoints: Vec<Weighted>) -> Option<Self> {
        if endpoints.is_empty() {
            return None;
        }
        match policy {
            LbPolicy::RingHash { minimum_ring_size } => Some(Self::Ring(ring(&endpoints, minimum_ring_size))),
            LbPolicy::Maglev { table_size } => Some(Self::Maglev(maglev(endpoints, table_size))),
            LbPolicy::RoundRobin | LbPolicy::LeastRequest | LbPolicy::Random => None,
        }
    }

    /// The endpoint of a hash: the first that may be used, as seen from its place. Later attempts, for another endpoint, start at
    /// other places, Envoy's.
    pub(crate) fn find(&self, hash: u64, attempt: u32, may_use: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            Self::Ring(ring) => {
                let at = ring.partition_point(|(point, _)| *point < hash) + attempt as usize;
                let from = |step: usize| ring[(at + step) % ring.len()].1;
                (0..NEAR.min(ring.len())).map(from).find(|index| may_use(*index))
            }
            Self::Maglev(table) => {
                let hash = if attempt > 0 { hash ^ (u64::MAX - u64::from(attempt) + 1) } else { hash };
                let at = (hash % table.len() as u64) as usize;
                let from = |step: usize| table[(at + step) % table.len()];
                (0..NEAR.min(table.len())).map(from).find(|index| may_use(*index))
            }
        }
    }
}

/// Ketama as Envoy builds it: the lightest endpoint gets a whole number of points, the others in proportion, carrying
/// fractions over from one to the next.
fn ring(endpoints: &[Weighted], minimum: u64) -> Vec<(u64, u32)> {
    let lightest = endpoints.iter().map(|endpoint| endpoint.weight).fold(1.0, f64::min);
    let scale = ((lightest * minimum as f64).ceil() / lightest).min(MAXIMUM_RING_SIZE);
    let mut ring = Vec::with_capacity(scale.ceil() as usize);
    let (mut current, mut target) = (0.0, 0.0);
    let mut key = String::new();
    for endpoint in endpoints {
        target += scale * endpoint.weight;
        let mut point = 0_u64;
        while current < target {
            key.clear();
            // Writing to a string cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut key, format_args!("{}_{point}", endpoint.key));
            ring.push((xxh64(key.as_bytes(), 0), endpoint.index));
            point += 1;
            current += 1.0;
        }
    }
    ring.sort_by_key(|(hash, _)| *hash);
    ring
}

/// Maglev's table, in order of the keys, with Envoy's way of leaving turns out for lighter endpoints.
fn maglev(mut endpoints: Vec<Weighted>, size: u64) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    struct Entry {
        index: u32,
        place: u64,
        skip: u64,
        weight: f64,
        target: f64,
    }
    endpoints.sort_by(|a, b| a.key.cmp(&b.key));
    let heaviest = endpoints.iter().map(|endpoint| endpoint.weight).fold(0.0, f64::max);
    let entry = |endpoint: &Weighted| Entry {
        index: endpoint.index,
        place: xxh64(endpoint.key.as_bytes(), 0) % size,
        skip: xxh64(endpoint.key.as_bytes(), 1) % (size - 1).max(1) + 1,
        weight: endpoint.weight,
        target: 0.0,
    };
    let mut entries: Vec<Entry> = endpoints.iter().map(entry).collect();
    let mut table = vec![FREE; size as usize];
    let mut free = size;
    let mut round = 0.0;
    while free > 0 {
        round += 1.0;
        for entry in &mut entries {
            if free == 0 {
                break;
            }
            if round * entry.weight < entry.target {
                continue;
            }
            entry.target += heaviest;
            while table[entry.place as usize] != FREE {
                entry.place = (entry.place + entry.skip) % size;
            }
            table[entry.place as usize] = entry.index;
            entry.place = (entry.place + entry.skip) % size;
            free -= 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    const RING: LbPolicy = LbPolicy::RingHash { minimum_ring_size: 1024 };
    const MAGLEV: LbPolicy = LbPolicy::Maglev { table_size: 65_537 };
    const KEYS: u64 = 10_000;

    fn endpoints(weights: &[(u32, u32)]) -> Vec<Weighted> {
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let endpoint = |(index, weight): &(u32, u32)| Weighted {
            index: *index,
            key: format!("10.0.0.{index}:8080"),
            weight: f64::from(*weight) / f64::from(total),
        };
        weights.iter().map(endpoint).collect()
    }

    fn choices(policy: LbPolicy, weights: &[(u32, u32)]) -> Vec<u32> {
        let table = HashTable::of(policy, endpoints(weights)).unwrap();
        (0..KEYS).map(|key| table.find(xxh64(&key.to_le_bytes(), 0), 0, |_| true).unwrap()).collect()
    }

    fn moved(before: &[u32], after: &[u32]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    /// Envoy scales the whole ring with the number of endpoints, so besides the tenth that was the endpoint's own about
    /// another 7 % move; Maglev's moves hardly more than its own.
    #[test]
    fn removal_of_one_of_ten_moves_few_keys() {
        let ten: Vec<_> = (1..=10).map(|index| (index, 1)).collect();
        for (policy, most) in [(RING, 1_900), (MAGLEV, 1_500)] {
            for gone in 1..=10 {
                let nine: Vec<_> = ten.iter().copied().filter(|(index, _)| *index != gone).collect();
                let moved = moved(&choices(policy, &ten), &choices(policy, &nine));
                assert!(moved < most, "{policy:?} without {gone}: {moved}");
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        for (policy, within) in [(RING, 600), (MAGLEV, 200)] {
            let chosen = choices(policy, &[(1, 1), (2, 2), (3, 1)]);
            let share = chosen.iter().filter(|index| **index == 2).count();
            assert!(share.abs_diff(5_000) < within, "{policy:?}: {share}");
        }
    }

    #[test]
    fn the_order_of_endpoints_does_not_matter() {
        for policy in [RING, MAGLEV] {
            let there = choices(policy, &[(1, 1), (2, 1), (3, 1), (4, 1)]);
            assert_eq!(there, choices(policy, &[(3, 1), (1, 1), (4, 1), (2, 1)]), "{policy:?}");
        }
    }

    #[test]
    fn what_may_not_be_used_is_passed_over() {
        for policy in [RING, MAGLEV] {
            let table = HashTable::of(policy, endpoints(&[(1, 1), (2, 1)])).unwrap();
            for key in 0..1000_u64 {
                assert_eq!(table.find(xxh64(&key.to_le_bytes(), 0), 0, |index| index == 2), Some(2));
            }
            assert_eq!(table.find(7, 0, |_| false), None);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Keys of endpoints that stay move only for the ring's scale or the table's filling: not more than twice K/n.
        #[test]
        fn one_endpoint_less_moves_about_its_own_keys(count in 4_u32..16, gone in 0_u32..16, ring: bool) {
            let policy = if ring { LbPolicy::RingHash { minimum_ring_size: 4096 } } else { MAGLEV };
            let all: Vec<_> = (0..count).map(|index| (index, 1)).collect();
            let gone = gone % count;
            let rest: Vec<_> = all.iter().copied().filter(|(index, _)| *index != gone).collect();
            let moved = moved(&choices(policy, &all), &choices(policy, &rest));
            prop_assert!(moved <= 2 * KEYS as usize / count as usize, "{moved} of {count}");
        }
    }
}

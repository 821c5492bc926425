//! [`Edf`]: weighted turns, earliest deadline first, as Envoy takes them: whoever was picked is due again after the
//! reciprocal of its weight.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Who is due when. Picking costs the logarithm of their number and allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Edf {
    heap: BinaryHeap<Due>,
    /// Breaks ties by age.
    order: u64,
}

#[derive(Debug)]
struct Due {
    deadline: f64,
    order: u64,
    index: u32,
}

impl Edf {
    /// Entries 0 to n-1 with these weights (more than 0), as if so many had been picked already: workers must not walk in
    /// step.
    pub(crate) fn new(weights: &[f64], picks: u32) -> Self {
        let total: f64 = weights.iter().sum();
        let mut done = 0;
        let due = |(index, weight): (u32, &f64)| {
            let turns = (f64::from(picks) * weight / total).floor();
            done += turns as u32;
            Due { deadline: (turns + 1.0) / weight, order: u64::from(index), index }
        };
        let heap = (0..).zip(weights).map(due).collect();
        let mut edf = Self { heap, order: weights.len() as u64 };
        for _ in done..picks {
            edf.pick(|index| weights[index as usize]);
        }
        edf
    }

    /// The entry that is due, which is due again by its weight now.
    pub(crate) fn pick(&mut self, weight: impl FnOnce(u32) -> f64) -> Option<u32> {
        let mut first: PeekMut<'_, Due> = self.heap.peek_mut()?;
        let index = first.index;
        *first = Due { deadline: first.deadline + 1.0 / weight(index), order: self.order, index };
        self.order += 1;
        Some(index)
    }
}

impl Ord for Due {
    /// The greatest is the one that is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[f64], skipped: u32, count: usize) -> Vec<u32> {
        let mut edf = Edf::new(weights, skipped);
        (0..count).filter_map(|_| edf.pick(|index| weights[index as usize])).collect()
    }

    #[test]
    fn turns_are_exact_by_weight_and_spread() {
        assert_eq!(picks(&[1.0, 2.0, 1.0], 0, 8), [1, 0, 2, 1, 1, 0, 2, 1]);
        let many = picks(&[5.0, 3.0, 2.0], 0, 100);
        let count = |wanted: u32| many.iter().filter(|index| **index == wanted).count();
        assert_eq!([count(0), count(1), count(2)], [50, 30, 20]);
    }

    #[test]
    fn a_later_start_goes_on_where_so_many_picks_would_have_come() {
        let weights = [5.0, 3.0, 2.0];
        for skipped in [0, 1, 7, 10, 33] {
            let from_the_start = picks(&weights, 0, 100 + skipped as usize);
            let count = |list: &[u32], wanted: u32| list.iter().filter(|index| **index == wanted).count();
            let later = picks(&weights, skipped, 100);
            for index in 0..3 {
                let expected = count(&from_the_start[skipped as usize..], index);
                assert!(count(&later, index).abs_diff(expected) <= 1, "{skipped} {index}");
            }
        }
    }
}

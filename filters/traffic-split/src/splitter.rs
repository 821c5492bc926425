//! The decision: which of a route's destinations a request takes.

use std::cell::Cell;

use portolan_model::Sticky;
use portolan_model::filter::Split;

/// Small sums of weights are multiplied up to this period, so that the order of destinations does not beat with a
/// pattern in the requests.
const PERIOD: u64 = 100;

/// How far from the golden section a [`Weyl`] step may lie: the nearest number can divide the period badly.
const SEARCH: u64 = 24;

/// The destinations of one route, ready to choose from.
#[derive(Debug)]
pub struct RouteSplit {
    /// What goes over the wire for each destination: cluster and index.
    wire: Vec<[u8; 8]>,
    /// Sum of the weights up to and including each destination.
    ends: Vec<u64>,
    /// By destination, for a cookie.
    ids: Vec<String>,
    sticky: Option<Sticky>,
    sequence: Weyl,
}

impl RouteSplit {
    /// Takes over the configuration; `seed` decides which destination comes first.
    pub fn new(split: Split, seed: Weyl) -> Self {
        let wire = |(index, (cluster, _)): (usize, &(u32, u32))| wire(*cluster, index as u32);
        let mut total = 0;
        let mut ends: Vec<u64> = Vec::with_capacity(split.destinations.len());
        for (_, weight) in &split.destinations {
            total += u64::from(*weight);
            ends.push(total);
        }
        let times = (PERIOD / total.max(1)).max(1);
        ends.iter_mut().for_each(|end| *end *= times);
        Self {
            wire: split.destinations.iter().enumerate().map(wire).collect(),
            sequence: seed.of_period((total * times).max(1)),
            ends,
            ids: split.names.iter().map(|name| format!("{:016x}", hash(name.as_bytes()))).collect(),
            sticky: split.sticky,
        }
    }

    /// Number of destinations.
    #[expect(clippy::len_without_is_empty, reason = "callers ask for `< 2`, never for emptiness")]
    pub fn len(&self) -> usize {
        self.wire.len()
    }

    /// What keeps a user on one destination.
    pub fn sticky(&self) -> Option<&Sticky> {
        self.sticky.as_ref()
    }

    /// The value of `CLUSTER_PROPERTY` for a destination.
    pub fn wire(&self, index: usize) -> [u8; 8] {
        self.wire[index]
    }

    /// The next destination of the sequence; none when there is none. A single one is not drawn, and its weight does
    /// not count.
    pub fn draw(&self) -> Option<usize> {
        match self.wire.len() {
            0 => None,
            1 => Some(0),
            _ => Some(self.at(self.sequence.next())),
        }
    }

    /// The destination of the user with this header value: always the same, and each by its share of users.
    pub fn of_user(&self, value: &[u8]) -> Option<usize> {
        let total = *self.ends.last()?;
        if total == 0 { self.draw() } else { Some(self.at(hash(value) % total)) }
    }

    /// The destination that a cookie's value names; none when it is none of this route's.
    pub fn of_id(&self, id: &[u8]) -> Option<usize> {
        self.ids.iter().position(|known| known.as_bytes() == id)
    }

    /// The cookie's value for a destination.
    pub fn id(&self, index: usize) -> Option<&str> {
        self.ids.get(index).map(String::as_str)
    }

    /// The first destination whose end lies behind `position`.
    fn at(&self, position: u64) -> usize {
        self.ends.iter().position(|end| position < *end).unwrap_or_default()
    }
}

/// The value of `CLUSTER_PROPERTY` for a destination by its index.
pub fn wire(cluster: u32, index: u32) -> [u8; 8] {
    (u64::from(index) << 32 | u64::from(cluster)).to_le_bytes()
}

/// A Weyl sequence over the whole numbers below a period: multiples of a step near the golden section of the period.
///
/// Each number comes once in a period, so shares are exact over any such window; within it, any window of any length
/// holds nearly its share of each range, unlike random draws, which at 20 % of 100 requests are off by 4 on average.
#[derive(Clone, Debug)]
pub struct Weyl {
    position: Cell<u64>,
    step: u64,
    period: u64,
}

impl Weyl {
    /// A sequence that begins at a place made from `seed`; its period is still to be given.
    pub fn starting_at(seed: u64) -> Self {
        Self { position: Cell::new(mix(seed)), step: 0, period: 1 }
    }

    fn of_period(self, period: u64) -> Self {
        let golden = (period as f64 * 0.618_033_988_749_895) as u64;
        let near = golden.saturating_sub(SEARCH).max(1)..=golden + SEARCH;
        let step = near.min_by_key(|step| unevenness(*step, period)).unwrap_or(1);
        Self { position: Cell::new(self.position.get() % period), step: step % period, period }
    }

    fn next(&self) -> u64 {
        let position = self.position.get();
        let following = position + self.step;
        self.position.set(if following >= self.period { following - self.period } else { following });
        position
    }
}

/// The largest quotient of Euclid's algorithm, that is of the continued fraction of `step / period`: the smaller, the
/// more evenly the multiples spread at every count. The worst for a step that leaves numbers out.
fn unevenness(step: u64, period: u64) -> u64 {
    let (mut a, mut b, mut largest) = (period, step % period, 1);
    while b != 0 {
        largest = largest.max(a / b);
        (a, b) = (b, a % b);
    }
    if a == 1 { largest } else { u64::MAX }
}

/// FNV-1a, mixed: the same in every process, so that users stay where they are over restarts.
fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)))
}

/// The finalizer of splitmix64: spreads small differences over all bits.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests;

//! [`Plan`]: what the health of a cluster's endpoints means for the choice among them. Worked out when endpoints or their
//! health change, never for a request. Priorities, panic and localities are those of Envoy's `LoadBalancerBase`.

use std::sync::Arc;

use portolan_model::{LbPolicy, OutlierDetection, SlowStart};

use crate::clock;
use crate::endpoint::EndpointState;
use crate::hash_table::{HashTable, Weighted};

/// Envoy's overprovisioning factor in percent: a priority with 72 % of its endpoints healthy still takes everything.
const OVERPROVISIONING: usize = 140;

/// Envoy's `healthy_panic_threshold` in percent. Istio sets it to `minHealthPercent` once there is `outlierDetection`; without,
/// only health checks, which Istio does not configure, make endpoints unhealthy.
const PANIC_PERCENT: u32 = 50;

/// How a cluster chooses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Balancing {
    pub(crate) policy: LbPolicy,
    /// With less healthy than this, all endpoints are used.
    pub(crate) panic_percent: u32,
    pub(crate) slow_start: Option<SlowStart>,
}

/// The choice as it stands now.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) balancing: Balancing,
    /// By priority.
    pub(crate) levels: Vec<Level>,
    /// When the last endpoint has warmed up; 0 when all have.
    pub(crate) slow_until_ms: u64,
}

/// One priority.
#[derive(Debug, Default)]
pub(crate) struct Level {
    /// Percent of the requests; all levels together are 100.
    pub(crate) load: u32,
    /// How much of all requests its healthy members could take, in percent.
    available: u32,
    /// So few are healthy that all are used.
    pub(crate) panic: bool,
    /// One group, or one for each locality that has a weight.
    pub(crate) groups: Vec<Group>,
    /// For consistent policies.
    pub(crate) table: Option<HashTable>,
}

/// Endpoints that are chosen among alike.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Indexes of the cluster's endpoints.
    pub(crate) members: Vec<u32>,
    /// Relative to the other groups of the level.
    pub(crate) weight: f64,
    /// All members weigh the same.
    pub(crate) uniform: bool,
}

/// The endpoints of one priority by index.
struct Members<'a> {
    endpoints: &'a [Arc<EndpointState>],
    all: Vec<u32>,
    healthy: Vec<u32>,
}

impl Balancing {
    pub(crate) fn new(policy: LbPolicy, outlier: Option<&OutlierDetection>, slow_start: Option<SlowStart>) -> Self {
        Self { policy, panic_percent: outlier.map_or(PANIC_PERCENT, |outlier| outlier.min_health_percent), slow_start }
    }
}

impl Default for Balancing {
    fn default() -> Self {
        Self::new(LbPolicy::default(), None, None)
    }
}

impl Plan {
    pub(crate) fn new(endpoints: &[Arc<EndpointState>], balancing: Balancing) -> Self {
        let count = endpoints.iter().map(|endpoint| endpoint.priority as usize + 1).max().unwrap_or(0);
        let members: Vec<_> = (0..count).map(|priority| Members::of(endpoints, priority as u32)).collect();
        let loads = loads(&members, balancing.panic_percent);
        let level =
            |(members, (load, panic)): (&Members<'_>, (u32, bool))| members.level(load, panic, balancing.policy);
        Self {
            balancing,
            levels: members.iter().zip(loads).map(level).collect(),
            slow_until_ms: slow_until(endpoints, balancing.slow_start),
        }
    }

    /// The level of a hash or random number, other than those of `excluded`, a bit for each priority.
    pub(crate) fn level_besides(&self, number: u64, excluded: u64) -> Option<usize> {
        if excluded == 0 {
            return self.level(number);
        }
        let is_left = |priority: usize| excluded.checked_shr(priority as u32).unwrap_or(0) & 1 == 0;
        let left = self.levels.iter().enumerate().filter(|(priority, level)| is_left(*priority) && level.available > 0);
        let total = left.clone().map(|(_, level)| level.available).sum::<u32>().min(100);
        let wanted = u32::try_from(number % 100).unwrap_or(0);
        let mut sum = 0;
        let mut chosen = left.clone().find(|(_, level)| {
            sum += level.available * 100 / total.max(1);
            wanted < sum
        });
        // What rounding has left over.
        chosen = chosen.or_else(|| left.clone().next());
        chosen.map(|(priority, _)| priority)
    }

    /// The level of a hash or random number.
    fn level(&self, number: u64) -> Option<usize> {
        if self.levels.len() < 2 {
            return (!self.levels.is_empty()).then_some(0);
        }
        let wanted = u32::try_from(number % 100).unwrap_or(0);
        let mut sum = 0;
        self.levels.iter().position(|level| {
            sum += level.load;
            wanted < sum
        })
    }

    /// An endpoint's weight with what is missing while it warms up.
    pub(crate) fn weight(&self, endpoint: &EndpointState) -> f64 {
        let weight = f64::from(endpoint.weight);
        match self.balancing.slow_start.filter(|_| self.slow_until_ms != 0) {
            Some(slow) => weight * warmth(endpoint, &slow),
            None => weight,
        }
    }
}

/// How much of its weight an endpoint has: 0 to 1.
pub(crate) fn warmth(endpoint: &EndpointState, slow: &SlowStart) -> f64 {
    let age_ms = clock::now_ms().saturating_sub(endpoint.warm_since_ms());
    if age_ms >= slow.window_ms {
        return 1.0;
    }
    let time = age_ms.max(1) as f64 / slow.window_ms as f64;
    let grown = if slow.aggression == 1.0 { time } else { time.powf(1.0 / slow.aggression) };
    grown.max(slow.min_weight_percent / 100.0)
}

fn slow_until(endpoints: &[Arc<EndpointState>], slow: Option<SlowStart>) -> u64 {
    let Some(slow) = slow else { return 0 };
    let last = endpoints.iter().map(|endpoint| endpoint.warm_since_ms().saturating_add(slow.window_ms)).max();
    last.filter(|until| *until > clock::now_ms()).unwrap_or(0)
}

/// Load in percent and panic by priority.
fn loads(levels: &[Members<'_>], panic_percent: u32) -> Vec<(u32, bool)> {
    let available: Vec<u32> = levels.iter().map(Members::availability).collect();
    let total = available.iter().sum::<u32>().min(100);
    if total == 0 && panic_percent == 0 {
        return (0..levels.len()).map(|priority| (if priority == 0 { 100 } else { 0 }, false)).collect();
    }
    let panic: Vec<bool> = levels.iter().map(|level| total != 100 && level.is_below(panic_percent)).collect();
    let shares = if panic.iter().all(|panic| *panic) {
        let all: usize = levels.iter().map(|level| level.all.len()).sum();
        let of = |level: &Members<'_>| u32::try_from(100 * level.all.len() / all.max(1)).unwrap_or(0);
        with_rest(levels.iter().map(of).collect(), |priority| !levels[priority].all.is_empty())
    } else {
        let mut left = 100;
        let of = |available: &u32| {
            let share = (available * 100 / total.max(1)).min(left);
            left -= share;
            share
        };
        with_rest(available.iter().map(of).collect(), |priority| available[priority] > 0)
    };
    shares.into_iter().zip(panic).collect()
}

/// What rounding left over goes to the first that may have it.
fn with_rest(mut shares: Vec<u32>, may_have: impl Fn(usize) -> bool) -> Vec<u32> {
    let rest = 100 - shares.iter().sum::<u32>().min(100);
    if let Some(first) = (0..shares.len()).find(|priority| may_have(*priority)) {
        shares[first] += rest;
    }
    shares
}

impl<'a> Members<'a> {
    fn of(endpoints: &'a [Arc<EndpointState>], priority: u32) -> Self {
        let of_priority = |index: &u32| endpoints[*index as usize].priority == priority;
        let all: Vec<u32> = (0..).take(endpoints.len()).filter(of_priority).collect();
        let healthy = all.iter().copied().filter(|index| endpoints[*index as usize].is_healthy()).collect();
        Self { endpoints, all, healthy }
    }

    fn availability(&self) -> u32 {
        let percent = OVERPROVISIONING * self.healthy.len() / self.all.len().max(1);
        u32::try_from(percent).unwrap_or(100).min(100)
    }

    fn is_below(&self, percent: u32) -> bool {
        self.healthy.len() * 100 < self.all.len() * percent as usize
    }

    fn level(&self, load: u32, panic: bool, policy: LbPolicy) -> Level {
        let used = if panic { &self.all } else { &self.healthy };
        let localities = self.localities(used);
        let table = policy.is_consistent().then(|| HashTable::of(policy, self.weighted(used, &localities))).flatten();
        let mut groups: Vec<Group> = Vec::new();
        if !panic {
            groups.extend(localities.into_iter().filter_map(|locality| self.group(locality)));
        }
        if groups.is_empty() && !used.is_empty() {
            groups.push(Group { members: used.clone(), weight: 1.0, uniform: self.is_uniform(used) });
        }
        Level { load, available: self.availability(), panic, groups, table }
    }

    fn at(&self, index: u32) -> &EndpointState {
        &self.endpoints[index as usize]
    }

    fn is_uniform(&self, members: &[u32]) -> bool {
        members.windows(2).all(|pair| self.at(pair[0]).weight == self.at(pair[1]).weight)
    }

    /// The used endpoints by locality in order of appearance; none when localities are not weighed.
    fn localities(&self, used: &[u32]) -> Vec<Vec<u32>> {
        let mut localities: Vec<Vec<u32>> = Vec::new();
        if self.all.iter().all(|index| self.at(*index).locality_weight.is_none()) {
            return localities;
        }
        for index in used {
            let same = |members: &&mut Vec<u32>| self.at(members[0]).locality == self.at(*index).locality;
            match localities.iter_mut().find(same) {
                Some(members) => members.push(*index),
                None => localities.push(vec![*index]),
            }
        }
        localities
    }

    /// A locality weighs less when so many of its endpoints are gone that the rest could not do its work.
    fn group(&self, members: Vec<u32>) -> Option<Group> {
        let first = self.at(*members.first()?);
        let all = self.all.iter().filter(|index| self.at(**index).locality == first.locality).count();
        let available = (OVERPROVISIONING as f64 / 100.0 * members.len() as f64 / all as f64).min(1.0);
        let weight = f64::from(first.locality_weight.unwrap_or(0)) * available;
        (weight > 0.0).then(|| Group { weight, uniform: self.is_uniform(&members), members })
    }

    /// Endpoints with their shares, for a table.
    fn weighted(&self, used: &[u32], localities: &[Vec<u32>]) -> Vec<Weighted> {
        if localities.is_empty() {
            return self.shares(used, 1.0);
        }
        let weight = |members: &Vec<u32>| f64::from(self.at(members[0]).locality_weight.unwrap_or(0));
        let total: f64 = localities.iter().map(weight).sum();
        let with_weight = localities.iter().filter(|members| weight(members) > 0.0);
        with_weight.flat_map(|members| self.shares(members, weight(members) / total)).collect()
    }

    fn shares(&self, members: &[u32], of: f64) -> Vec<Weighted> {
        let total: u64 = members.iter().map(|index| u64::from(self.at(*index).weight)).sum();
        let share = |index: &u32| Weighted {
            index: *index,
            key: self.at(*index).address.to_string(),
            weight: f64::from(self.at(*index).weight) * of / total as f64,
        };
        members.iter().map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::NewEndpoint;
    use std::net::SocketAddr;

    /// By priority: endpoints, and how many of them are ejected.
    fn shares(levels: &[(usize, usize)], panic_percent: u32) -> Vec<(u32, bool)> {
        let mut endpoints = Vec::new();
        for (priority, (count, ejected)) in (0_u32..).zip(levels) {
            for index in 0..*count {
                let port = u16::try_from(endpoints.len() + 1).unwrap_or(0);
                let new = NewEndpoint { priority, ..NewEndpoint::at(SocketAddr::from(([10, 0, 0, 1], port))) };
                let endpoint = Arc::new(EndpointState::new(&new));
                if index < *ejected {
                    endpoint.eject(60_000, 1000);
                }
                endpoints.push(endpoint);
            }
        }
        let balancing = Balancing { panic_percent, ..Balancing::default() };
        Plan::new(&endpoints, balancing).levels.iter().map(|level| (level.load, level.panic)).collect()
    }

    /// The numbers of Envoy's documentation of priority levels.
    #[test]
    fn a_priority_gives_up_what_it_cannot_take() {
        let calm = |loads: [u32; 2]| loads.map(|load| (load, false)).to_vec();
        assert_eq!(shares(&[(100, 0), (100, 0)], 0), calm([100, 0]));
        assert_eq!(shares(&[(100, 28), (100, 0)], 0), calm([100, 0]));
        assert_eq!(shares(&[(100, 29), (100, 0)], 0), calm([99, 1]));
        assert_eq!(shares(&[(100, 50), (100, 0)], 0), calm([70, 30]));
        assert_eq!(shares(&[(100, 75), (100, 75)], 0), calm([50, 50]));
        assert_eq!(shares(&[(100, 100), (100, 0)], 0), calm([0, 100]));
        assert_eq!(shares(&[(2, 2), (2, 2)], 0), calm([100, 0]));
    }

    #[test]
    fn priorities_panic_only_when_all_together_have_too_little() {
        assert_eq!(shares(&[(100, 75), (100, 0)], 50), [(35, false), (65, false)]);
        assert_eq!(shares(&[(100, 95), (100, 75)], 50), [(50, true), (50, true)]);
        assert_eq!(shares(&[(100, 75), (50, 50)], 50), [(67, true), (33, true)]);
        assert_eq!(shares(&[(4, 3)], 50), [(100, true)]);
        assert_eq!(shares(&[(4, 2)], 50), [(100, false)]);
    }
}

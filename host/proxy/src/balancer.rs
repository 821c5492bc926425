//! Picks an endpoint by Envoy's policies: ROUND_ROBIN and LEAST_REQUEST (by two random choices, or weighted turns when
//! weights differ), RANDOM, and consistent hashing. What is healthy, and how much each priority and locality takes, stands
//! in the [`Plan`](crate::plan::Plan) already.

use std::sync::atomic::Ordering::Relaxed;

use portolan_model::LbPolicy;
use portolan_telemetry::UpstreamAddress;
use rand::Rng;

use crate::cluster::EndpointSet;
use crate::edf::Edf;
use crate::plan::{Group, Level, Plan};

/// How many picks there are for another endpoint than those that failed: the first, and Envoy's
/// `host_selection_retry_max_attempts` as Istio sets it.
const PICKS: u32 = 6;

/// Tries after which the priorities that were tried are looked at again, as Istio sets it.
const UPDATE_FREQUENCY: usize = 2;

/// At most so many turns are skipped at the start.
const SKIPPED: u32 = 1 << 16;

/// 2^32 divided by the golden ratio: consecutive multiples, taken modulo 2^32, spread as evenly as any sequence can.
pub(crate) const GOLDEN: u32 = 0x9E37_79B9;

/// What earlier tries of a request have met: to be left for others where there are any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Avoid<'a> {
    pub(crate) hosts: &'a [UpstreamAddress],
    /// Priorities, a bit for each: not even by chance while another one has somebody.
    pub(crate) priorities: u64,
}

impl<'a> Avoid<'a> {
    pub(crate) fn hosts(hosts: &'a [UpstreamAddress]) -> Self {
        Self { hosts, priorities: 0 }
    }
}

/// The priorities of hosts that were tried, as Envoy's `previous_priorities` has them with Istio's `update_frequency`: after
/// every second try, those of all so far. None once all priorities that have somebody have been tried, or a host has gone.
pub(crate) fn tried_priorities(set: &EndpointSet, tried: &[UpstreamAddress]) -> u64 {
    let counted = &tried[..tried.len() / UPDATE_FREQUENCY * UPDATE_FREQUENCY];
    let of = |host: &UpstreamAddress| set.endpoints.iter().find(|endpoint| endpoint.address == *host);
    let bit =
        |host: &UpstreamAddress| of(host).map_or(u64::MAX, |endpoint| 1u64.checked_shl(endpoint.priority).unwrap_or(0));
    let tried = counted.iter().fold(0, |all, host| all | bit(host));
    if set.plan.level_besides(0, tried).is_some() { tried } else { 0 }
}

/// One worker's turns in a cluster.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// Where this worker starts, so that workers do not walk in step.
    seed: u32,
    /// Of the set that the turns are for.
    version: u64,
    /// By priority.
    levels: Vec<LevelTurns>,
}

#[derive(Debug, Default)]
struct LevelTurns {
    /// Which group is next, when there are several.
    groups: Option<Edf>,
    turns: Vec<GroupTurn>,
}

#[derive(Debug)]
struct GroupTurn {
    /// Counts picks of equal members.
    turn: usize,
    /// Which member is next, when weights differ.
    weighted: Option<Edf>,
}

impl Balancer {
    /// A balancer that starts at a random turn.
    pub(crate) fn new(rng: &mut impl Rng) -> Self {
        Self { seed: rng.random_range(0..SKIPPED), ..Self::default() }
    }

    /// Index of an endpoint; `hash` is the request's, for consistent policies. It is another one than those at `avoid` when that
    /// can be had in a few picks; consistent policies go on in their table for it. None when none may be used.
    pub(crate) fn pick(
        &mut self,
        set: &EndpointSet,
        hash: Option<u64>,
        avoid: Avoid<'_>,
        rng: &mut impl Rng,
    ) -> Option<usize> {
        let is_consistent = set.plan.balancing.policy.is_consistent();
        let hash = is_consistent.then(|| hash.unwrap_or_else(|| rng.random()));
        if !is_consistent && self.version != set.version {
            self.follow(set);
        }
        let mut picked = None;
        for attempt in 0..PICKS {
            let index = match hash {
                Some(hash) => pick_consistent(set, hash, attempt, avoid.priorities)?,
                None => self.pick_any(set, avoid.priorities, rng)?,
            };
            picked = Some(index);
            if !avoid.hosts.contains(&set.endpoints[index].address) {
                break;
            }
        }
        picked
    }

    /// Makes turns for a new set; equal members go on where they were.
    fn follow(&mut self, set: &EndpointSet) {
        let old = std::mem::take(&mut self.levels);
        let turn_of = |level: usize, group: usize| old.get(level)?.turns.get(group).map(|turns| turns.turn);
        let mut levels = Vec::with_capacity(set.plan.levels.len());
        for (i, level) in set.plan.levels.iter().enumerate() {
            let turns = level.groups.iter().enumerate().map(|(j, group)| GroupTurn {
                turn: turn_of(i, j).unwrap_or(self.seed as usize),
                weighted: weighted_turns(set, group, self.seed),
            });
            levels.push(LevelTurns { groups: group_turns(level, self.seed), turns: turns.collect() });
        }
        self.levels = levels;
        self.version = set.version;
    }

    fn pick_any(&mut self, set: &EndpointSet, avoid: u64, rng: &mut impl Rng) -> Option<usize> {
        let plan = &set.plan;
        let number = if plan.levels.len() > 1 { rng.random() } else { 0 };
        let at = plan.level_besides(number, avoid)?;
        let (level, turns) = (plan.levels.get(at)?, self.levels.get_mut(at)?);
        let group = match &mut turns.groups {
            Some(edf) => edf.pick(|group| level.groups[group as usize].weight)? as usize,
            None => 0,
        };
        let (group, turns) = (level.groups.get(group)?, turns.turns.get_mut(group)?);
        let picked = match (plan.balancing.policy, &mut turns.weighted) {
            (LbPolicy::LeastRequest, Some(edf)) => {
                let member = edf.pick(|member| least_request_weight(set, group.members[member as usize]))?;
                group.members[member as usize]
            }
            (LbPolicy::RoundRobin, Some(edf)) => {
                let weight = |member: u32| plan.weight(&set.endpoints[group.members[member as usize] as usize]);
                group.members[edf.pick(weight)? as usize]
            }
            (LbPolicy::RoundRobin, None) => {
                turns.turn = turns.turn.wrapping_add(1);
                *group.members.get(turns.turn % group.members.len().max(1))?
            }
            (LbPolicy::LeastRequest, None) => less_loaded(set, group, rng)?,
            _ => any(group, rng)?,
        };
        Some(picked as usize)
    }
}

fn group_turns(level: &Level, seed: u32) -> Option<Edf> {
    let weights: Vec<f64> = level.groups.iter().map(|group| group.weight).collect();
    (weights.len() > 1).then(|| Edf::new(&weights, seed))
}

/// None where all members count alike.
fn weighted_turns(set: &EndpointSet, group: &Group, seed: u32) -> Option<Edf> {
    let Plan { balancing, slow_until_ms, .. } = &set.plan;
    let in_turn = matches!(balancing.policy, LbPolicy::RoundRobin | LbPolicy::LeastRequest);
    if !in_turn || group.members.len() < 2 || group.uniform && *slow_until_ms == 0 {
        return None;
    }
    let weight = |index: &u32| set.plan.weight(&set.endpoints[*index as usize]);
    Some(Edf::new(&group.members.iter().map(weight).collect::<Vec<_>>(), seed))
}

/// Envoy's `active_request_bias` is 1: the weight is shared among the requests in flight and the next one.
fn least_request_weight(set: &EndpointSet, index: u32) -> f64 {
    let endpoint = &set.endpoints[index as usize];
    set.plan.weight(endpoint) / (f64::from(endpoint.seen.active_requests.load(Relaxed)) + 1.0)
}

fn less_loaded(set: &EndpointSet, group: &Group, rng: &mut impl Rng) -> Option<u32> {
    if let [only] = group.members.as_slice() {
        return Some(*only);
    }
    let (a, b) = (any(group, rng)?, any(group, rng)?);
    let load = |index: u32| set.endpoints[index as usize].seen.active_requests.load(Relaxed);
    Some(if load(b) < load(a) { b } else { a })
}

fn any(group: &Group, rng: &mut impl Rng) -> Option<u32> {
    match group.members.as_slice() {
        [] => None,
        [only] => Some(*only),
        members => members.get(rng.random_range(0..members.len())).copied(),
    }
}

/// An endpoint that has been ejected since the table was made gives its keys to the next place of the table.
fn pick_consistent(set: &EndpointSet, hash: u64, attempt: u32, avoid: u64) -> Option<usize> {
    let level = set.plan.levels.get(set.plan.level_besides(hash, avoid)?)?;
    let may_use = |index: u32| level.panic || set.endpoints[index as usize].is_healthy();
    Some(level.table.as_ref()?.find(hash, attempt, may_use)? as usize)
}

#[cfg(test)]
mod tests;

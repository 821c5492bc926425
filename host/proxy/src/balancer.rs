//! Picks an endpoint by Envoy's policies: ROUND_ROBIN and LEAST_REQUEST (by two random choices, or weighted turns when
//! weights differ), RANDOM, and consistent hashing. What is healthy, and how much each priority and locality takes, stands
//! in the [`Plan`](crate::plan::Plan) already.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use portolan_model::LbPolicy;
use rand::Rng;

use crate::cluster::EndpointSet;
use crate::edf::Edf;
use crate::plan::{Group, Level, Plan};

/// How many picks there are for another endpoint than those that failed: the first, and Envoy's
/// `host_selection_retry_max_attempts` as Istio sets it.
const PICKS: u32 = 6;

/// At most so many turns are skipped at the start.
const SKIPPED: u32 = 1 << 16;

/// 2^32 divided by the golden ratio: consecutive multiples, taken modulo 2^32, spread as evenly as any sequence can.
pub(crate) const GOLDEN: u32 = 0x9E37_79B9;

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
        avoid: &[SocketAddr],
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
                Some(hash) => pick_consistent(set, hash, attempt)?,
                None => self.pick_any(set, rng)?,
            };
            picked = Some(index);
            if !avoid.contains(&set.endpoints[index].address) {
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

    fn pick_any(&mut self, set: &EndpointSet, rng: &mut impl Rng) -> Option<usize> {
        let plan = &set.plan;
        let number = if plan.levels.len() > 1 { rng.random() } else { 0 };
        let at = plan.level(number)?;
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
    set.plan.weight(endpoint) / (f64::from(endpoint.active_requests.load(Relaxed)) + 1.0)
}

fn less_loaded(set: &EndpointSet, group: &Group, rng: &mut impl Rng) -> Option<u32> {
    if let [only] = group.members.as_slice() {
        return Some(*only);
    }
    let (a, b) = (any(group, rng)?, any(group, rng)?);
    let load = |index: u32| set.endpoints[index as usize].active_requests.load(Relaxed);
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
fn pick_consistent(set: &EndpointSet, hash: u64, attempt: u32) -> Option<usize> {
    let level = set.plan.levels.get(set.plan.level(hash)?)?;
    let may_use = |index: u32| level.panic || set.endpoints[index as usize].is_healthy();
    Some(level.table.as_ref()?.find(hash, attempt, may_use)? as usize)
}

#[cfg(test)]
mod tests;

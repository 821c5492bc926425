//! The decisions: what a response means for its endpoint, when that is ejected, and for how long. Envoy's algorithm.

use portolan_model::filter::{EndpointRecord, Outcome};
use portolan_model::{CircuitBreakers, OutlierDetection};

/// Envoy's `max_ejection_time`, in milliseconds: no ejection lasts longer, unless the base time itself does.
const MAX_EJECTION_MS: u64 = 300_000;

/// The lowest status that counts as a failure.
const FIRST_FAILURE: u32 = 500;

/// What holds for one cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Argument of `portolan_admit`.
    pub admission: [u8; 20],
    /// When endpoints may be ejected.
    pub outlier: Option<OutlierDetection>,
}

/// Whether an endpoint stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays in the cluster, or is out of it already.
    Keep,
    /// It goes: the argument of `portolan_eject`.
    Eject([u8; 12]),
}

/// The cluster that `CLUSTER_PROPERTY` names by id; none when it holds a name.
pub fn cluster(property: &[u8]) -> Option<usize> {
    let property: [u8; 8] = property.try_into().ok()?;
    Some(u64::from_le_bytes(property) as u32 as usize)
}

/// The limits as `portolan_admit` takes them, and which responses are of interest: failures, for outlier detection.
pub fn admission_argument(limits: &CircuitBreakers, outlier: Option<&OutlierDetection>) -> [u8; 20] {
    let mut argument = [0; 20];
    let responses_from = if outlier.is_some() { FIRST_FAILURE } else { u32::MAX };
    let words =
        [limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries, responses_from];
    for (slot, word) in argument.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    argument
}

/// What a status says of the endpoint.
pub fn classify(status: u16) -> Outcome {
    match status {
        502..=504 => Outcome::GatewayError,
        500.. => Outcome::ServerError,
        _ => Outcome::Success,
    }
}

/// What a failure that is no answer says of the endpoint: it is a gateway error unless such failures count apart.
pub fn classify_failure(status: u16, policy: &OutlierDetection) -> Outcome {
    match policy.consecutive_local_origin_failures {
        Some(_) => Outcome::LocalOriginFailure,
        None => classify(status),
    }
}

/// Whether the outcome that `record` includes was one too many.
pub fn judge(record: &EndpointRecord, outcome: Outcome, policy: &OutlierDetection) -> Verdict {
    let one_too_many = match outcome {
        Outcome::Success => false,
        Outcome::LocalOriginFailure => policy
            .consecutive_local_origin_failures
            .is_some_and(|threshold| reached(record.consecutive_local_origin_failures, threshold)),
        Outcome::ServerError => reached(record.consecutive_5xx, policy.consecutive_5xx),
        Outcome::GatewayError => {
            reached(record.consecutive_5xx, policy.consecutive_5xx)
                || reached(record.consecutive_gateway_errors, policy.consecutive_gateway_errors)
        }
    };
    if record.ejected != 0 || !one_too_many || !may_eject_one_more(record, policy) {
        return Verdict::Keep;
    }
    let mut argument = [0; 12];
    argument[..8].copy_from_slice(&ejection_ms(record, policy).to_le_bytes());
    argument[8..].copy_from_slice(&policy.max_ejection_percent.to_le_bytes());
    Verdict::Eject(argument)
}

/// True at each multiple of the threshold: Envoy starts to count again once the threshold was reached, also when the
/// endpoint could not be ejected. The host counts on, and no two reports see the same count.
fn reached(count: u32, threshold: u32) -> bool {
    threshold != 0 && count != 0 && count.is_multiple_of(threshold)
}

/// The share counts the next one in, so 10 % of nine endpoints is none.
fn may_eject_one_more(record: &EndpointRecord, policy: &OutlierDetection) -> bool {
    let ejected = u64::from(record.ejected_endpoints) + 1;
    let percent = u64::from(policy.max_ejection_percent.min(100));
    ejected * 100 <= percent * u64::from(record.endpoints)
}

/// Base time times the number of ejections, this one included, up to the cap; then on to the next multiple of the
/// interval on the gateway's clock, as Envoy lets endpoints return in a sweep that runs at each.
fn ejection_ms(record: &EndpointRecord, policy: &OutlierDetection) -> u64 {
    let cap = MAX_EJECTION_MS.max(policy.base_ejection_time_ms);
    let ejections = u64::from(record.ejections).saturating_add(1);
    let time = policy.base_ejection_time_ms.saturating_mul(ejections).min(cap);
    let end = record.now_ms.saturating_add(time);
    let sweep = end.checked_next_multiple_of(policy.interval_ms.max(1)).unwrap_or(end);
    sweep - record.now_ms
}

#[cfg(test)]
mod tests;

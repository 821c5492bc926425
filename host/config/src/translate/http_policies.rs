//! Faults, CORS and mirrors of a rule.

use std::sync::Arc;

use portolan_model::{
    CorsPolicy, EVERY_REQUEST, FaultAbort, FaultPolicy, GRPC_STATUSES, MISSING_CLUSTER, Mirror, Share, StringMatch,
};

use super::actions::Reference;
use super::delegates::Rule;
use super::destinations::Destinations;
use crate::duration;
use crate::resources::istio::http_policy::{self as written, HttpFaultInjection, Percent};
use crate::resources::istio::virtual_service::{HttpRoute, RouteDestination};

/// What happens to nobody is left out; so a fault without a percentage is none, as in Istio.
pub(super) fn fault(rule: &HttpRoute) -> Option<FaultPolicy> {
    let HttpFaultInjection { delay, abort } = rule.fault.as_deref()?;
    let happens = |share: &Share| *share > 0;
    let delay = delay.as_ref().and_then(|delay| {
        let share = delay.percentage.map_or_else(|| percents(delay.percent), Percent::millionths);
        let ms = delay.fixed_delay.as_deref().and_then(duration::parse_ms).filter(|ms| *ms > 0)?;
        Some((ms, Some(share).filter(happens)?))
    });
    let abort = abort.as_ref().and_then(|abort| {
        let share = Some(abort.percentage.map_or(0, Percent::millionths)).filter(happens)?;
        Some((abort_with(abort)?, share))
    });
    (delay.is_some() || abort.is_some()).then_some(FaultPolicy { delay, abort })
}

fn abort_with(abort: &written::FaultAbort) -> Option<FaultAbort> {
    let http = abort.http_status.and_then(|status| u16::try_from(status).ok()).map(FaultAbort::Http);
    let grpc = || {
        let name = abort.grpc_status.as_deref()?;
        let number = GRPC_STATUSES.iter().position(|known| *known == name)?;
        u8::try_from(number).ok().map(FaultAbort::Grpc)
    };
    http.or_else(grpc)
}

/// Whole percents in millionths. What is out of range means all, also below 0, as in Envoy.
fn percents(percent: Option<i64>) -> Share {
    let share = |percent| u32::try_from(percent).map_or(EVERY_REQUEST, |percent: u32| percent.saturating_mul(10_000));
    percent.map_or(0, share).min(EVERY_REQUEST)
}

/// The deprecated `allowOrigin` counts only without `allowOrigins`.
pub(super) fn cors(rule: &HttpRoute) -> Option<CorsPolicy> {
    let written = rule.cors_policy.as_ref()?;
    let conditions = written.allow_origins.iter().filter_map(|origin| {
        let exact = origin.exact.clone().map(StringMatch::Exact);
        let prefix = || origin.prefix.clone().map(StringMatch::Prefix);
        exact.or_else(prefix).or_else(|| origin.regex.clone().map(StringMatch::Regex))
    });
    let allow_origins = if written.allow_origins.is_empty() {
        written.allow_origin.iter().cloned().map(StringMatch::Exact).collect()
    } else {
        conditions.collect()
    };
    Some(CorsPolicy {
        allow_origins,
        allow_methods: written.allow_methods.join(","),
        allow_headers: written.allow_headers.join(","),
        expose_headers: written.expose_headers.join(","),
        max_age: written.max_age.as_deref().and_then(duration::parse_ms).map(|ms| ms / 1000),
        allow_credentials: written.allow_credentials == Some(true),
        forward_unmatched: written.unmatched_preflights.as_deref() != Some("IGNORE"),
    })
}

/// The mirrors of a rule that get any request, and the clusters that they need. Names of one that comes from the root of a
/// delegate are completed there.
pub(super) fn mirrors(
    served: &Rule<'_>,
    destinations: &Destinations<'_>,
    listener_port: u16,
) -> (Vec<Mirror>, Vec<Arc<Reference>>) {
    let (mut mirrors, mut references) = (Vec::new(), Vec::new());
    for mirror in mirrors_of(&served.written).filter(|mirror| mirror.share > 0) {
        let (object, index) = match mirror.at {
            None => served.source(|rule| rule.mirror.is_some()),
            Some(_) => served.source(|rule| !rule.mirrors.is_empty()),
        };
        let (key, known) = destinations.resolve(&object.meta.namespace, mirror.destination, listener_port);
        let origin = object.origin(&format!("spec.http[{index}].{}", mirror.path()));
        let (cluster_name, share) = (key.name(), mirror.share);
        mirrors.push(Mirror { cluster: MISSING_CLUSTER, cluster_name, share, origin: origin.clone() });
        if known {
            references.push(destinations.reference(key, &mirror.destination.host, origin));
        }
    }
    (mirrors, references)
}

/// A mirror as a rule has it.
pub(super) struct WrittenMirror<'a> {
    /// Its place in `mirrors`; none for `mirror`.
    at: Option<usize>,
    pub(super) destination: &'a RouteDestination,
    share: Share,
}

impl WrittenMirror<'_> {
    /// Path of its destination in the rule.
    pub(super) fn path(&self) -> String {
        self.at.map_or_else(|| "mirror".to_owned(), |at| format!("mirrors[{at}].destination"))
    }
}

/// The mirrors of a rule.
pub(super) fn mirrors_of(rule: &HttpRoute) -> impl Iterator<Item = WrittenMirror<'_>> {
    let one = rule.mirror.iter().map(move |destination| {
        let deprecated = || rule.mirror_percent.map_or(EVERY_REQUEST, |percent| percents(Some(percent)));
        let share = rule.mirror_percentage.map_or_else(deprecated, Percent::millionths);
        WrittenMirror { at: None, destination, share }
    });
    let several = rule.mirrors.iter().enumerate().filter_map(move |(at, mirror)| {
        let share = mirror.percentage.map_or(EVERY_REQUEST, Percent::millionths);
        Some(WrittenMirror { at: Some(at), destination: mirror.destination.as_ref()?, share })
    });
    one.chain(several)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn rule(yaml: &str) -> HttpRoute {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn a_fault_without_a_percentage_is_none() {
        assert_eq!(fault(&rule("fault: {delay: {fixedDelay: 5s}, abort: {httpStatus: 503}}")), None);
        assert_eq!(fault(&rule("fault: {abort: {httpStatus: 503, percentage: {value: 0}}}")), None);
    }

    #[test]
    fn percentage_beats_the_deprecated_percent_of_a_delay() {
        let delay = |yaml| fault(&rule(yaml)).unwrap().delay;
        assert_eq!(delay("fault: {delay: {fixedDelay: 5s, percent: 7}}"), Some((5000, 70_000)));
        assert_eq!(delay("fault: {delay: {fixedDelay: 5s, percent: 101}}"), Some((5000, EVERY_REQUEST)));
        assert_eq!(delay("fault: {delay: {fixedDelay: 5s, percent: -1}}"), Some((5000, EVERY_REQUEST)));
        let both = "fault: {delay: {fixedDelay: 10ms, percent: 7, percentage: {value: 0.5}}}";
        assert_eq!(delay(both), Some((10, 5_000)));
    }

    #[test]
    fn an_abort_is_of_http_or_of_grpc() {
        let abort = |yaml| fault(&rule(yaml)).unwrap().abort;
        let http = "fault: {abort: {httpStatus: 418, percentage: {value: 100}}}";
        assert_eq!(abort(http), Some((FaultAbort::Http(418), EVERY_REQUEST)));
        let grpc = "fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}";
        assert_eq!(abort(grpc), Some((FaultAbort::Grpc(14), 10_000)));
    }

    #[test]
    fn mirrors_get_everything_unless_a_percentage_says_otherwise() {
        let shares = |yaml| mirrors_of(&rule(yaml)).map(|mirror| mirror.share).collect::<Vec<_>>();
        assert_eq!(shares("mirror: {host: a}"), [1_000_000]);
        assert_eq!(shares("{mirror: {host: a}, mirrorPercent: 20}"), [200_000]);
        assert_eq!(shares("{mirror: {host: a}, mirrorPercent: 20, mirrorPercentage: {value: 0}}"), [0]);
        let several = "mirrors: [{destination: {host: a}}, {destination: {host: b}, percentage: {value: 1.5}}]";
        assert_eq!(shares(several), [1_000_000, 15_000]);
    }

    #[test]
    fn the_deprecated_origins_count_only_without_the_others() {
        let origins = |yaml| cors(&rule(yaml)).unwrap().allow_origins;
        let exact = |text: &str| StringMatch::Exact(text.to_owned());
        assert_eq!(origins("corsPolicy: {allowOrigin: ['*', a]}"), [exact("*"), exact("a")]);
        let both = "corsPolicy: {allowOrigin: [a], allowOrigins: [{prefix: b}, {regex: c.*}]}";
        let expected = [StringMatch::Prefix("b".to_owned()), StringMatch::Regex("c.*".to_owned())];
        assert_eq!(origins(both), expected);
    }
}

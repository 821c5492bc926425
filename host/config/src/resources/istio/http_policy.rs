//! Fields of a VirtualService's rule that hold policies: faults, mirrors, CORS.

use serde::Deserialize;

use super::virtual_service::{RouteDestination, StringMatch};

/// Faults on purpose: delay, abort, or both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpFaultInjection {
    /// Requests wait.
    pub delay: Option<FaultDelay>,
    /// Requests are answered here.
    pub abort: Option<FaultAbort>,
}

/// How long requests wait.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FaultDelay {
    /// Deprecated share, whole percents.
    pub percent: Option<i64>,
    /// Duration.
    pub fixed_delay: Option<String>,
    /// Not in Istio's implementation either.
    pub exponential_delay: Option<String>,
    /// Share; absent means none.
    pub percentage: Option<Percent>,
}

/// What requests are answered with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct FaultAbort {
    /// 200 to 599.
    pub http_status: Option<i64>,
    /// A name such as `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// Not in Istio's implementation either.
    pub http2_error: Option<String>,
    /// Share; absent means none.
    pub percentage: Option<Percent>,
}

/// A share in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Percent {
    /// 0 to 100.
    pub value: f64,
}

impl Percent {
    /// In millionths, rounded down as Istio does.
    pub fn millionths(self) -> u32 {
        // The cast holds negative and too large numbers in.
        ((self.value * 10_000.0) as u32).min(1_000_000)
    }
}

/// One of several mirrors.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpMirrorPolicy {
    /// Required.
    pub destination: Option<RouteDestination>,
    /// Share; absent means all.
    pub percentage: Option<Percent>,
}

/// Cross-origin resource sharing.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CorsPolicy {
    /// Deprecated: exact origins; does not count beside `allowOrigins`.
    pub allow_origin: Vec<String>,
    /// Conditions, one must hold.
    pub allow_origins: Vec<StringMatch>,
    /// Methods, or `*`.
    pub allow_methods: Vec<String>,
    /// Names of headers, or `*`.
    pub allow_headers: Vec<String>,
    /// Names of headers, or `*`.
    pub expose_headers: Vec<String>,
    /// Duration in whole seconds.
    pub max_age: Option<String>,
    /// Cookies and the like.
    pub allow_credentials: Option<bool>,
    /// `FORWARD`, the default, or `IGNORE`.
    pub unmatched_preflights: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Percent;

    #[test]
    fn percentages_count_in_millionths_and_are_rounded_down() {
        let of = |value| Percent { value }.millionths();
        assert_eq!([0.0, 0.0001, 0.00019, 0.1, 33.3333, 100.0].map(of), [0, 1, 1, 1_000, 333_333, 1_000_000]);
        assert_eq!([-1.0, 100.1, f64::NAN].map(of), [0, 1_000_000, 0], "validation has refused these");
    }

    proptest! {
        /// More percent never hits fewer requests, and no value leaves the range.
        #[test]
        fn a_larger_percentage_is_no_smaller_share(a in 0.0..=100.0_f64, b in 0.0..=100.0_f64) {
            let of = |value| Percent { value }.millionths();
            prop_assert!(of(a.min(b)) <= of(a.max(b)) && of(a.max(b)) <= 1_000_000);
            prop_assert!(f64::from(of(a)) <= a * 10_000.0 && a * 10_000.0 - f64::from(of(a)) < 1.0);
        }
    }
}

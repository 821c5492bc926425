//! [`Injector`]: which faults happen to a request.

use std::time::Duration;

use portolan_filter_conditions::{Head, RequestMatch};
use portolan_sdk::HostError;

/// A share of the requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

/// Faults by configuration.
#[derive(Clone, Debug)]
pub struct Injector {
    /// Requests that faults may happen to.
    pub condition: RequestMatch,
    /// How long, and how many of them.
    pub delay: Option<(Duration, Share)>,
    /// The answer, and how many of them.
    pub abort: Option<(Abort, Share)>,
    /// What requests may ask for themselves.
    pub controls: Option<Controls>,
}

/// An answer in place of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abort {
    /// HTTP status.
    pub status: u32,
    /// For clients of gRPC; derived from `status` when none.
    pub grpc_status: Option<i32>,
    /// Text.
    pub body: String,
}

/// Names of headers that ask for faults, and their bounds. Values that make no sense ask for nothing.
#[derive(Clone, Debug)]
pub struct Controls {
    delay: String,
    delay_percentage: String,
    abort: String,
    abort_grpc: String,
    abort_percentage: String,
    max_delay: Duration,
    share: Share,
}

/// What happens to one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// It waits first.
    pub delay: Option<Duration>,
    /// Then it is answered.
    pub abort: Option<Abort>,
}

/// Numbers without a pattern: SplitMix64.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Share {
    /// Everybody.
    pub const ALL: Self = Self(1_000_000);

    /// None when it is not 0 to 100, or finer than a millionth of all.
    pub fn of_percent(percent: f64) -> Option<Self> {
        let millionths = percent * 10_000.0;
        let whole = millionths.round();
        // What a person writes with four decimals is off by less when it is read as binary.
        let is_whole = (millionths - whole).abs() < 1e-6;
        (is_whole && (0.0..=1_000_000.0).contains(&whole)).then_some(Self(whole as u32))
    }

    /// As it is; more than a million is everybody.
    pub fn of_millionths(millionths: u32) -> Self {
        Self(millionths.min(Self::ALL.0))
    }

    fn at_most(self, percent: Option<u32>) -> Self {
        percent.map_or(self, |percent| Self(self.0.min(percent.saturating_mul(10_000))))
    }

    fn hits(self, dice: &mut Dice) -> bool {
        dice.roll() % u64::from(Self::ALL.0) < u64::from(self.0)
    }
}

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Abort {
    /// With the HTTP status that gRPC's documents give for one of gRPC, for clients that do not speak it.
    pub fn of_grpc(grpc_status: i32, body: String) -> Self {
        let status = match grpc_status {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        };
        Self { status, grpc_status: Some(grpc_status), body }
    }
}

impl Controls {
    /// Headers `PREFIX-delay-request` (milliseconds), `PREFIX-abort-request` (an HTTP status), `PREFIX-abort-grpc-request`
    /// (a gRPC status), and `PREFIX-delay-request-percentage`, `PREFIX-abort-request-percentage` (whole, and at most
    /// `share`).
    pub fn new(prefix: &str, max_delay: Duration, share: Share) -> Self {
        let name = |rest: &str| format!("{prefix}-{rest}");
        Self {
            delay: name("delay-request"),
            delay_percentage: name("delay-request-percentage"),
            abort: name("abort-request"),
            abort_grpc: name("abort-grpc-request"),
            abort_percentage: name("abort-request-percentage"),
            max_delay,
            share,
        }
    }

    fn delay<'a>(&self, head: &impl Head<'a>) -> Result<Option<(Duration, Share)>, HostError> {
        let Some(millis) = number(head, &self.delay)?.filter(|millis| *millis > 0) else { return Ok(None) };
        let delay = Duration::from_millis(millis.into()).min(self.max_delay);
        Ok(Some((delay, self.share.at_most(number(head, &self.delay_percentage)?))))
    }

    fn abort<'a>(&self, head: &impl Head<'a>, body: &str) -> Result<Option<(Abort, Share)>, HostError> {
        let status = number(head, &self.abort)?.filter(|status| (200..=599).contains(status));
        let grpc = number(head, &self.abort_grpc)?.filter(|status| *status <= 16);
        let abort = match (status, grpc.and_then(|status| i32::try_from(status).ok())) {
            (Some(status), _) => Abort { status, grpc_status: None, body: body.to_owned() },
            (None, Some(status)) => Abort::of_grpc(status, body.to_owned()),
            (None, None) => return Ok(None),
        };
        Ok(Some((abort, self.share.at_most(number(head, &self.abort_percentage)?))))
    }
}

impl Injector {
    /// What happens to this request. What it asks for itself, where it may, goes before the configuration.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn plan<'a>(&self, head: &impl Head<'a>, dice: &mut Dice) -> Result<Plan, HostError> {
        if !self.condition.holds(head)? {
            return Ok(Plan::default());
        }
        let (delay, abort) = match &self.controls {
            Some(controls) => {
                let body = self.abort.as_ref().map_or("fault filter abort", |(abort, _)| &abort.body);
                (controls.delay(head)?, controls.abort(head, body)?)
            }
            None => (None, None),
        };
        let delay = delay.or(self.delay).filter(|(_, share)| share.hits(dice));
        let abort = abort.or_else(|| self.abort.clone()).filter(|(_, share)| share.hits(dice));
        Ok(Plan { delay: delay.map(|(delay, _)| delay), abort: abort.map(|(abort, _)| abort) })
    }
}

/// A whole number without a sign.
fn number<'a>(head: &impl Head<'a>, name: &str) -> Result<Option<u32>, HostError> {
    let digits = head.header(name)?.filter(|value| value.iter().all(u8::is_ascii_digit));
    Ok(digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()))
}

#[cfg(test)]
mod tests;

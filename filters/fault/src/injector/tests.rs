//! Plans for made-up requests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

struct Fixed(&'static [(&'static str, &'static str)]);

impl Head<'static> for Fixed {
    fn header(&self, name: &str) -> Result<Option<&'static [u8]>, HostError> {
        Ok(self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes()))
    }

    fn cookie(&self, _: &str) -> Result<Option<&'static [u8]>, HostError> {
        Ok(None)
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn injector() -> Injector {
    Injector { condition: RequestMatch::default(), delay: None, abort: None, controls: None }
}

fn abort(status: u32) -> Abort {
    Abort { status, grpc_status: None, body: String::new() }
}

fn plan(injector: &Injector, head: &'static [(&'static str, &'static str)]) -> Plan {
    injector.plan(&Fixed(head), &mut Dice(1)).unwrap()
}

#[test]
fn percentages_are_millionths() {
    for (percent, millionths) in
        [(0.0, 0), (0.0001, 1), (0.1, 1000), (33.3333, 333_333), (99.9999, 999_999), (100.0, 1_000_000)]
    {
        assert_eq!(Share::of_percent(percent), Some(Share(millionths)), "{percent}");
    }
    for percent in [-0.1, 100.0001, 0.00001, f64::NAN, f64::INFINITY] {
        assert_eq!(Share::of_percent(percent), None, "{percent}");
    }
}

#[test]
fn a_share_hits_about_as_many_as_it_says() {
    for percent in [0.0, 0.1, 25.0, 100.0] {
        let injector = Injector { abort: Some((abort(503), Share::of_percent(percent).unwrap())), ..injector() };
        let mut dice = Dice(42);
        let hits = (0..100_000).filter(|_| injector.plan(&Fixed(&[]), &mut dice).unwrap().abort.is_some()).count();
        let wanted = percent * 1000.0;
        assert!((hits as f64 - wanted).abs() <= wanted * 0.2, "{percent} %: {hits}");
    }
}

#[test]
fn delay_and_abort_are_decided_apart_and_only_where_the_condition_holds() {
    let condition = serde_json::from_str(r#"{"headers": {"x-test": {"exact": "1"}}}"#).unwrap();
    let all = Injector {
        condition,
        delay: Some((SECOND, Share::ALL)),
        abort: Some((abort(503), Share::ALL)),
        controls: None,
    };
    assert_eq!(plan(&all, &[("x-test", "1")]), Plan { delay: Some(SECOND), abort: Some(abort(503)) });
    assert_eq!(plan(&all, &[]), Plan::default());
}

#[test]
fn headers_ask_for_faults_only_where_they_may() {
    let asks = &[("x-fault-delay-request", "1500"), ("x-fault-abort-request", "418")];
    assert_eq!(plan(&injector(), asks), Plan::default());
    let controls = Some(Controls::new("x-fault", SECOND, Share::ALL));
    let allowed = Injector { controls, delay: Some((SECOND / 2, Share::ALL)), ..injector() };
    let Plan { delay, abort } = plan(&allowed, asks);
    assert_eq!((delay, abort.unwrap().status), (Some(SECOND), 418), "cut to the longest that is allowed");
    assert_eq!(plan(&allowed, &[]).delay, Some(SECOND / 2), "who asks for nothing gets what is configured");
    let grpc = plan(&allowed, &[("x-fault-abort-grpc-request", "14")]).abort.unwrap();
    assert_eq!((grpc.status, grpc.grpc_status), (503, Some(14)));
}

#[test]
fn what_headers_ask_for_in_no_sensible_way_is_not_done() {
    let allowed = Injector { controls: Some(Controls::new("x-fault", SECOND, Share::ALL)), ..injector() };
    for head in [
        &[("x-fault-delay-request", "soon"), ("x-fault-abort-request", "199")][..],
        &[("x-fault-delay-request", "-1"), ("x-fault-abort-request", "600")],
        &[("x-fault-delay-request", "0"), ("x-fault-abort-grpc-request", "17")],
        &[("x-fault-delay-request", "99999999999999"), ("x-fault-abort-request", "")],
        &[("x-fault-abort-request", "503"), ("x-fault-abort-request-percentage", "0")],
    ] {
        assert_eq!(plan(&allowed, Box::leak(head.to_vec().into_boxed_slice())), Plan::default(), "{head:?}");
    }
}

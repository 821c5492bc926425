//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::Status;
use std::time::Duration;

use portolan_sdk::testing::{TestAnswer, TestHost, TestReply};

use super::*;

/// A request without any header.
const NONE: &[(&str, &str)] = &[];

/// A configuration of one rule, whose tokens take an hour to come back.
fn one(rest: &str) -> String {
    format!(r#"{{"rules": [{{"name": "r", "tokenBucket": {{"maxTokens": 2, "fillInterval": "1h"}}{rest}}}]}}"#)
}

fn start(config: &str) -> TestHost<RateLimit> {
    TestHost::start(config).unwrap()
}

fn refusal(config: &str) -> String {
    TestHost::<RateLimit>::start(config).err().unwrap()
}

/// The refusal that a request gets.
fn ask(host: &TestHost<RateLimit>, headers: &[(&str, &str)]) -> Option<TestReply> {
    ask_from(host, "10.0.0.1:4711", headers)
}

fn ask_from(host: &TestHost<RateLimit>, address: &str, headers: &[(&str, &str)]) -> Option<TestReply> {
    let mut stream = host.stream();
    stream.set_property("source\0address", address.as_bytes());
    let action = stream.request_headers(headers);
    assert_eq!(action == Action::Pause, stream.reply().is_some());
    stream.reply()
}

/// Which of these requests are allowed.
fn allowed(host: &TestHost<RateLimit>, requests: &[&[(&str, &str)]]) -> Vec<bool> {
    requests.iter().map(|headers| ask(host, headers).is_none()).collect()
}

#[test]
fn the_third_of_two_is_refused() {
    let host = start(&one(""));
    assert_eq!(allowed(&host, &[&[], &[]]), [true, true]);
    let reply = ask(&host, &[]).unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.grpc_status), (429, "local_rate_limited", 8));
    assert_eq!(reply.details, "local_rate_limited");
    assert_eq!(reply.headers, [("retry-after".into(), "3600".into())]);
}

#[test]
fn each_value_has_a_bucket_of_its_own() {
    for (descriptor, name, one_value, other) in [
        (r#"{"header": "X-User"}"#, "x-user", "alice", "bob"),
        (r#"{"cookie": "sid"}"#, "cookie", "a=b; sid=1", "sid=2"),
        (r#"{"query": "key"}"#, ":path", "/?key=1", "/?key=2"),
        (r#"{"path": {}}"#, ":path", "/a?x", "/b?x"),
        (r#"{"path": {"segments": 1}}"#, ":path", "/a/b", "/b/b"),
        (r#"{"method": {}}"#, ":method", "GET", "PUT"),
        (r#"{"host": {}}"#, ":authority", "A.test:80", "b.test"),
    ] {
        let host = start(&one(&format!(r#", "descriptors": [{descriptor}]"#)));
        let (one_value, other): (&[_], &[_]) = (&[(name, one_value)], &[(name, other)]);
        let results = allowed(&host, &[one_value, one_value, one_value, other]);
        assert_eq!(results, [true, true, false, true], "{descriptor}");
    }
}

#[test]
fn properties_and_addresses_are_counted_by() {
    let host = start(&one(r#", "descriptors": [{"property": "source.address"}]"#));
    assert!((0..9).all(|port| ask_from(&host, &format!("10.0.0.1:{port}"), &[]).is_none()), "the port is part of it");
    let host = start(&one(r#", "descriptors": [{"remoteAddress": {}}]"#));
    let from = |address: &str| ask_from(&host, address, &[]).is_none();
    assert_eq!(["10.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "10.0.0.2:1"].map(from), [true, true, false, true]);
    assert_eq!(["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"].map(from), [true, true, false], "a /64");
}

#[test]
fn only_trusted_hops_name_an_address() {
    let host = start(&one(r#", "descriptors": [{"remoteAddress": {"trustedHops": 1}}]"#));
    let by = |forwarded: &str| ask(&host, &[("x-forwarded-for", forwarded)]).is_none();
    assert!(by("9.9.9.9, 1.1.1.1,10.0.0.1") && by("8.8.8.8, 1.1.1.1,10.0.0.1"));
    assert!(!by("7.7.7.7, 1.1.1.1,10.0.0.1"), "what the client wrote does not count");
    assert!(by("2.2.2.2,10.0.0.1"));
}

#[test]
fn a_combination_is_a_bucket_of_its_own() {
    let host = start(&one(r#", "descriptors": [{"header": "a"}, {"header": "b"}]"#));
    let with = |a: &str, b: &str| ask(&host, &[("a", a), ("b", b)]).is_none();
    assert!(with("1", "23") && with("1", "23") && !with("1", "23"));
    assert!(with("12", "3"));
}

#[test]
fn who_lacks_a_descriptor_is_not_counted_or_shares_a_bucket() {
    let host = start(&one(r#", "descriptors": [{"header": "x-user"}]"#));
    assert_eq!(allowed(&host, &[NONE; 5]), [true; 5]);
    let host = start(&one(r#", "descriptors": [{"header": "x-user"}], "whenAbsent": "SHARE""#));
    assert_eq!(allowed(&host, &[NONE; 3]), [true, true, false]);
}

#[test]
fn a_rule_is_about_the_requests_that_it_matches() {
    let matches = r#", "match": {"methods": ["POST"], "paths": [{"exact": "/login"}, {"prefix": "/api/"}],
        "headers": {"x-tier": {"prefix": "g"}}, "withoutHeaders": ["x-admin"]}"#;
    let host = start(&one(matches));
    let hit = [(":method", "POST"), (":path", "/login?x"), ("x-tier", "gold")];
    assert_eq!(allowed(&host, &[&hit, &hit, &hit]), [true, true, false]);
    for (name, value) in [(":method", "GET"), (":path", "/loginx"), ("x-tier", "iron"), ("x-admin", "yes")] {
        let mut miss: Vec<_> = hit.iter().copied().filter(|(known, _)| *known != name).collect();
        miss.push((name, value));
        assert_eq!(allowed(&host, &[&miss]), [true], "{name}: {value}");
    }
}

fn two_rules(apply: &str) -> String {
    format!(
        r#"{{"apply": "{apply}", "enableXRatelimitHeaders": "DRAFT_VERSION_03", "rules": [
            {{"name": "wide", "tokenBucket": {{"maxTokens": 10, "tokensPerFill": 5, "fillInterval": "10s"}}}},
            {{"name": "narrow", "tokenBucket": {{"maxTokens": 1, "fillInterval": "1h"}}}}]}}"#
    )
}

#[test]
fn all_rules_are_asked_or_the_first_that_applies() {
    assert_eq!(allowed(&start(&two_rules("ALL")), &[NONE; 2]), [true, false]);
    assert_eq!(allowed(&start(&two_rules("FIRST")), &[NONE; 2]), [true, true]);
}

#[test]
fn the_strictest_rule_is_told() {
    let host = start(&two_rules("ALL"));
    let mut stream = host.stream();
    stream.request_headers(&[]);
    stream.response_headers(&[(":status", "200"), ("x-ratelimit-limit", "the upstream's")]);
    let header = |name: &str| stream.response_header(name);
    assert_eq!(header("x-ratelimit-limit"), ["1, 1;w=3600"]);
    assert_eq!((header("x-ratelimit-remaining"), header("x-ratelimit-reset")), (vec!["0".into()], vec!["3600".into()]));
    drop(stream);
    let names: Vec<_> = ask(&host, &[]).unwrap().headers.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]);
    let host = start(&two_rules("FIRST"));
    let mut stream = host.stream();
    stream.request_headers(&[]);
    stream.response_headers(&[(":status", "200")]);
    assert_eq!(stream.response_header("x-ratelimit-limit"), ["10, 5;w=10"]);
}

#[test]
fn a_dry_run_counts_and_refuses_nothing() {
    let host = start(&one(r#", "dryRun": true"#));
    assert_eq!(allowed(&host, &[NONE; 5]), [true; 5]);
    assert_eq!(host.calls().iter().filter(|call| **call == "proxy_increment_metric").count(), 5);
}

#[test]
fn an_allowed_request_costs_two_calls_on_shared_data_and_a_refused_one_costs_one() {
    let host = start(&one(""));
    let shared = |calls: &[&str]| calls.iter().filter(|call| call.contains("shared_data")).count();
    for expected in [2, 2, 1] {
        let before = host.calls().len();
        ask(&host, &[]);
        assert_eq!(shared(&host.calls()[before..]), expected);
    }
}

#[test]
fn a_limit_that_cannot_be_kept_refuses() {
    let host = start(&one(""));
    host.fail("proxy_set_shared_data", Status::InternalFailure);
    let reply = ask(&host, &[]).unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (500, "filter_error"));
}

#[test]
fn a_busy_slot_lets_the_request_go_on_and_is_counted() {
    let host = start(&one(""));
    host.fail("proxy_set_shared_data", Status::CasMismatch);
    assert_eq!(ask(&host, &[]), None);
    let tries = host.calls().iter().filter(|call| **call == "proxy_set_shared_data").count();
    assert_eq!(tries, 8 + 1, "the seed was one");
    assert_eq!(host.calls().iter().filter(|call| **call == "proxy_increment_metric").count(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let bucket = |text: &str| format!(r#"{{"rules": [{{"name": "r", "tokenBucket": {text}}}]}}"#);
    for (config, expected) in [
        (r#"{"rules": []}"#.into(), "`rules` must be 1 to 64"),
        (one("").replace("\"r\"", "\"a b\""), "rule `a b`: a name has 1 to 64 letters, digits, `-`, `_` or `.`"),
        (one(r#", "descriptors": [{"header": ""}]"#), "rule `r`: `header` needs a name of 1 to 256 bytes"),
        (one(r#", "descriptors": [{"path": {"segments": 0}}]"#), "rule `r`: `path.segments` must be 1 to 32"),
        (one(r#", "descriptors": [{"remoteAddress": {"ipv4PrefixLength": 33}}]"#), "a prefix has at most 32 bits"),
        (bucket(r#"{"maxTokens": 0, "fillInterval": "1s"}"#), "rule `r`: `maxTokens` must be 1 to 10000000"),
        (bucket(r#"{"maxTokens": 1, "fillInterval": "1"}"#), "`fillInterval` is no duration"),
        (bucket(r#"{"maxTokens": 1, "fillInterval": "1ms", "tokensPerFill": 1001}"#), "more than a million requests"),
        (bucket(r#"{"maxTokens": 10000000, "fillInterval": "1h"}"#), "takes more than a year to fill"),
        (one("").replacen('{', r#"{"status": 200, "#, 1), "`status` must be 400 to 599"),
        (one("").replacen('{', r#"{"maxKeys": 0, "#, 1), "`maxKeys` must be 1 to 67108864"),
        (one(r#", "dryrun": true"#), "rules[0].dryrun: unknown field `dryrun`"),
    ] {
        assert!(refusal(&config).contains(expected), "{config}\n{}", refusal(&config));
    }
    let twice = two_rules("ALL").replace("narrow", "wide");
    assert!(refusal(&twice).contains("two rules are named `wide`"));
}

/// One rule by header, counted in Redis.
fn global(on_failure: &str) -> TestHost<RateLimit> {
    start(&format!(
        r#"{{"redis": {{"cluster": "redis.test:6379", "timeout": "20ms", "onFailure": "{on_failure}"}}, "rules": [
            {{"name": "g", "scope": "GLOBAL", "descriptors": [{{"header": "x-user"}}],
              "tokenBucket": {{"maxTokens": 2, "tokensPerFill": 3, "fillInterval": "1h"}}}},
            {{"name": "l", "tokenBucket": {{"maxTokens": 4, "fillInterval": "1h"}}}}]}}"#
    ))
}

/// The status of a request whose call of Redis is answered so; 0 when it goes on.
fn with_answer(host: &TestHost<RateLimit>, answer: &TestAnswer) -> u32 {
    let mut stream = host.stream();
    if stream.request_headers(&[("x-user", "ada")]) == Action::Pause
        && let Some(call) = host.pending_calls().first()
    {
        assert!(stream.reply().is_none());
        host.answer_call(call, answer);
    }
    assert_eq!(stream.is_paused(), stream.reply().is_some());
    stream.reply().map_or(0, |reply| reply.status)
}

#[test]
fn redis_is_asked_with_one_command_and_its_answer_counts() {
    let host = global("CLOSED");
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[("x-user", "ada")]), Action::Pause);
    let call = host.pending_calls().remove(0);
    assert_eq!(call.command(), ["EVAL", redis::SCRIPT, "1", "rl:g|ada", "1200000000", "2400000000"]);
    host.answer_call(&call, &TestAnswer::redis(b"*4\r\n:1\r\n:1\r\n:0\r\n:1200000000\r\n"));
    assert!(!stream.is_paused(), "and the local rule let it pass");
    drop(stream);
    let refused = TestAnswer::redis(b"*4\r\n:0\r\n:0\r\n:90000000\r\n:2400000000\r\n");
    assert_eq!(with_answer(&host, &refused), 429);
    assert_eq!(ask(&host, &[]), None, "a request without the header needs no Redis");
}

#[test]
fn rules_behind_a_global_one_are_asked_when_redis_has_answered() {
    let host = global("CLOSED");
    let allowed = TestAnswer::redis(b"*4\r\n:1\r\n:1\r\n:0\r\n:1\r\n");
    let statuses: Vec<u32> = (0..5).map(|_| with_answer(&host, &allowed)).collect();
    assert_eq!(statuses, [0, 0, 0, 0, 429]);
}

#[test]
fn without_redis_the_configuration_decides() {
    for (on_failure, expected) in [("OPEN", [0, 0, 0]), ("CLOSED", [503, 503, 503]), ("LOCAL", [0, 0, 429])] {
        for answer in [TestAnswer::unavailable(), TestAnswer::redis(b"-NOAUTH no\r\n"), TestAnswer::redis(b":1\r\n")] {
            let host = global(on_failure);
            assert_eq!([(); 3].map(|()| with_answer(&host, &answer)), expected, "{on_failure}");
        }
    }
}

#[test]
fn an_outage_is_not_waited_for_and_its_end_is_noticed() {
    let host = global("OPEN");
    host.set_time(Duration::from_secs(1_000));
    for _ in 0..3 {
        with_answer(&host, &TestAnswer::unavailable());
    }
    assert_eq!(host.logs().len(), 1, "{:?}", host.logs());
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[("x-user", "ada")]), Action::Continue, "nobody is asked");
    drop(stream);
    host.advance(Duration::from_secs(1));
    let refused = TestAnswer::redis(b"*4\r\n:0\r\n:0\r\n:1\r\n:1\r\n");
    assert_eq!(with_answer(&host, &refused), 429);
    assert_eq!(with_answer(&host, &refused), 429, "it is back");
}

#[test]
fn a_call_that_cannot_be_made_is_a_failure_too() {
    let host = global("CLOSED");
    host.fail("proxy_redis_call", Status::InternalFailure);
    let mut stream = host.stream();
    stream.request_headers(&[("x-user", "ada")]);
    assert_eq!(stream.reply().unwrap().status, 503);
}

#[test]
fn a_global_rule_needs_a_redis_that_can_be_named() {
    assert!(refusal(&one(r#", "scope": "GLOBAL""#)).contains("a rule of scope `GLOBAL` needs `redis`"));
    let redis = |rest: &str| one("").replacen('{', &format!(r#"{{"redis": {{"cluster": "r:1"{rest}}}, "#), 1);
    assert!(refusal(&redis(r#", "timeout": "11s""#)).contains("`redis.timeout` must be `1ms` to `10s`"));
    let long = format!(r#", "keyPrefix": "{}""#, "x".repeat(65));
    assert!(refusal(&redis(&long)).contains("`redis.keyPrefix` has more than 64 bytes"));
}

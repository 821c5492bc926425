//! `rate-limit` between real sockets, and with a real Redis.

use super::plugin;
use crate::support::await_true;
use crate::support::client::{Request, Response};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::upstream::Upstream;

/// Three requests for each user, and no more for an hour.
const BY_USER: &str = "\
enableXRatelimitHeaders: DRAFT_VERSION_03
rules:
- name: users
  descriptors: [{header: x-user}]
  tokenBucket: {maxTokens: 3, fillInterval: 1h}
";

fn start(app: &Upstream, config: &str) -> Gateway {
    super::start(app, &plugin("rate-limit", config))
}

fn ask(gateway: &Gateway, user: &str) -> Response {
    gateway.send(&Request::get("h", "/").header("x-user", user))
}

/// How many of so many requests, each on a connection of its own, are allowed.
fn allowed(gateway: &Gateway, user: &str, requests: usize) -> usize {
    (0..requests).filter(|_| ask(gateway, user).status == 200).count()
}

#[test]
fn a_limit_is_the_gateway_s_and_not_one_worker_s() {
    let app = Upstream::start("app");
    let gateway = start(&app, BY_USER);
    assert_eq!(allowed(&gateway, "ada", 40), 3);
    assert_eq!(allowed(&gateway, "bob", 40), 3);
    assert_eq!(app.requests(), 6);
    let response = ask(&gateway, "ada");
    assert_eq!((response.status, response.text().as_str()), (429, "local_rate_limited"));
    assert!(response.header("retry-after").is_some_and(|value| value.parse::<u64>().is_ok_and(|value| value > 3_000)));
    assert_eq!(response.header("x-ratelimit-limit"), Some("3, 1;w=3600"));
    assert_eq!(response.header("x-ratelimit-remaining"), Some("0"));
    assert_eq!(ask(&gateway, "carol").header("x-ratelimit-remaining"), Some("2"));
    gateway.await_access("local_rate_limited");
    let limited = gateway.metric("rate_limit_decisions", &["rule=\"users\"", "outcome=\"limited\""]);
    assert_eq!((limited, gateway.metric("rate_limit_decisions", &["outcome=\"allowed\""])), (75.0, 7.0));
}

#[test]
fn many_at_once_get_no_more() {
    let app = Upstream::start("app");
    let gateway = start(&app, &BY_USER.replace("maxTokens: 3", "maxTokens: 50"));
    let count: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| allowed(&gateway, "ada", 25))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(count, 50);
}

#[test]
fn counts_outlive_a_new_configuration() {
    let app = Upstream::start("app");
    let gateway = start(&app, BY_USER);
    assert_eq!(allowed(&gateway, "ada", 5), 3);
    gateway.replace("plugin.yaml", plugin("rate-limit", &BY_USER.replace("maxTokens: 3", "maxTokens: 4")));
    let of_four =
        |response: &Response| response.header("x-ratelimit-limit").is_some_and(|value| value.starts_with("4,"));
    await_true("the new limit", || of_four(&ask(&gateway, "bob")));
    assert_eq!(allowed(&gateway, "ada", 5), 1, "three of four are gone");
}

#[test]
fn grpc_clients_are_told_in_their_own_words() {
    let app = Upstream::start("app");
    let gateway = start(&app, BY_USER);
    let call = Request::new("POST", "h", "/a.B/C").header("content-type", "application/grpc").header("x-user", "ada");
    let responses: Vec<Response> = (0..4).map(|_| gateway.send(&call)).collect();
    let response = &responses[3];
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("8")));
}

/// The same limit, counted in Redis.
fn global(redis: &Redis, on_failure: &str) -> String {
    format!(
        "redis: {{cluster: '{}', timeout: 500ms, onFailure: {on_failure}}}\n{}  scope: GLOBAL\n",
        redis.address(),
        BY_USER
    )
}

#[test]
fn gateways_share_a_limit_through_redis() {
    let Some(redis) = Redis::start(None) else { return };
    let app = Upstream::start("app");
    let (one, two) = (start(&app, &global(&redis, "CLOSED")), start(&app, &global(&redis, "CLOSED")));
    assert_eq!(ask(&one, "ada").header("x-ratelimit-remaining"), Some("2"));
    assert_eq!(ask(&two, "ada").header("x-ratelimit-remaining"), Some("1"));
    assert_eq!(allowed(&one, "ada", 10) + allowed(&two, "ada", 10), 1);
    let refused = ask(&two, "ada");
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some_and(|value| value.parse::<u64>().is_ok_and(|value| value > 3_000)));
    assert_eq!(allowed(&two, "bob", 10), 3);
    let left = redis.ask(&["PTTL", "rl:users|ada"]).unwrap();
    let left: u64 = left.trim_start_matches(':').trim().parse().unwrap();
    assert!((1..=3 * 3_600_000).contains(&left), "a key goes when its bucket is full: {left}");
}

#[test]
fn tokens_come_back_by_the_clock_of_redis() {
    let Some(redis) = Redis::start(None) else { return };
    let app = Upstream::start("app");
    let config = global(&redis, "CLOSED").replace("fillInterval: 1h", "fillInterval: 200ms");
    let gateway = start(&app, &config);
    await_true("a refusal", || ask(&gateway, "ada").status == 429);
    await_true("a token", || ask(&gateway, "ada").status == 200);
}

/// Statuses while Redis is there, while it is gone, and once it is back.
fn lose_and_find(on_failure: &str) -> [usize; 2] {
    let Some(mut redis) = Redis::start(None) else { return [usize::MAX; 2] };
    let app = Upstream::start("app");
    let gateway = start(&app, &global(&redis, on_failure));
    assert_eq!(allowed(&gateway, "ada", 5), 3);
    redis.stop();
    let statuses: Vec<u16> = (0..20).map(|_| ask(&gateway, "ada").status).collect();
    let count = |status| statuses.iter().filter(|known| **known == status).count();
    let found = [count(200), count(503)];
    assert!(gateway.metric("rate_limit_redis_failed", &[]) >= 20.0);
    redis.restart();
    // It has forgotten everything: four requests for a new user show that it counts again.
    let mut user = 0;
    await_true("redis to count again", || {
        user += 1;
        let name = format!("new-{user}");
        let is_counted = |reply: Option<String>| reply.is_some_and(|reply| reply.starts_with(":1"));
        allowed(&gateway, &name, 5) == 3 && is_counted(redis.ask(&["EXISTS", &format!("rl:users|{name}")]))
    });
    found
}

#[test]
fn open_lets_everybody_pass_without_redis() {
    assert!(matches!(lose_and_find("OPEN"), [20, 0] | [usize::MAX, _]));
}

#[test]
fn closed_lets_nobody_pass_without_redis() {
    assert!(matches!(lose_and_find("CLOSED"), [0, 20] | [usize::MAX, _]));
}

#[test]
fn local_counts_by_itself_without_redis() {
    assert!(matches!(lose_and_find("LOCAL"), [3, 0] | [usize::MAX, _]));
}

#[test]
fn a_redis_that_hangs_costs_its_timeout_a_few_times_and_not_each_request() {
    let Some(redis) = Redis::start(None) else { return };
    let app = Upstream::start("app");
    let gateway = start(&app, &global(&redis, "OPEN"));
    assert_eq!(ask(&gateway, "ada").status, 200);
    redis.signal("STOP");
    let statuses: Vec<u16> = (0..60).map(|_| ask(&gateway, "ada").status).collect();
    redis.signal("CONT");
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(app.requests(), 61);
    gateway.await_log("redis is out of reach");
    await_true("redis to count again", || ask(&gateway, "ada").status == 429);
}

#[test]
fn a_wrong_rule_is_told_with_its_place_and_the_last_one_counts_on() {
    let app = Upstream::start("app");
    let gateway = start(&app, BY_USER);
    gateway.replace("plugin.yaml", plugin("rate-limit", &BY_USER.replace("1h", "soon")));
    gateway.await_log("rule `users`: `fillInterval` is no duration");
    assert_eq!(allowed(&gateway, "ada", 5), 3);
}

//! Redis callouts against a real server.

use super::gateway;
use super::guest::Guest;
use crate::support::config::service_entry;
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::upstream::Upstream;

fn start(guest: &str) -> (Gateway, tempfile::TempDir) {
    let app = Upstream::start("app");
    gateway(&app, &app, guest)
}

fn asking(redis: &Redis, parameters: &str, password: &str, words: &[&str]) -> (Gateway, tempfile::TempDir) {
    start(&Guest::redis_asking(&redis.address().to_string(), parameters, password, 1_000, words))
}

#[test]
fn a_command_goes_to_the_server_and_its_reply_comes_back() {
    let Some(redis) = Redis::start(None) else { return };
    let (gateway, _folder) = asking(&redis, "", "", &["INCR", "hits"]);
    for number in 1..=20 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text()), (200, format!(":{number}\r\n")));
    }
    assert_eq!(redis.ask(&["GET", "hits"]).as_deref(), Some("$2\r\n20\r\n"));
    assert!(gateway.metric("envoy_cluster_upstream_cx_total", &["\"callout\""]) <= 2.0, "one for each worker");
}

#[test]
fn replies_of_every_kind_come_as_they_are() {
    let Some(redis) = Redis::start(None) else { return };
    redis.ask(&["RPUSH", "list", "a", "", "b\r\n"]);
    for (words, reply) in [
        (&["LRANGE", "list", "0", "-1"][..], "*3\r\n$1\r\na\r\n$0\r\n\r\n$3\r\nb\r\n\r\n"),
        (&["GET", "absent"], "$-1\r\n"),
        (&["PING"], "+PONG\r\n"),
        (&["GET", "list"], "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ] {
        let (gateway, _folder) = asking(&redis, "", "", words);
        assert_eq!(gateway.get("h", "/").text(), reply);
    }
}

#[test]
fn a_cluster_credentials_and_a_data_base_are_used() {
    let Some(redis) = Redis::start(Some("secret")) else { return };
    let app = Upstream::start("app");
    let words = ["INCR", "hits"];
    let guest = Guest::redis_asking("outbound|80||redis.test", "?db=3", "secret", 1_000, &words);
    let (gateway, _folder) = gateway(&app, &app, &guest);
    gateway.write("redis.yaml", &service_entry("redis.test", &[("v1", redis.address())]));
    gateway.await_answer("h", "/", |response| response.text() == ":1\r\n");
    assert_eq!(redis.ask_in(3, &["GET", "hits"]).as_deref(), Some("$1\r\n1\r\n"));
    assert_eq!(redis.ask_in(0, &["GET", "hits"]).as_deref(), Some("$-1\r\n"));
    // A wrong password is the server's to refuse: filters know how to read that.
    let (gateway, _folder) = asking(&redis, "", "wrong", &words);
    assert!(gateway.get("h", "/").text().starts_with("-NOAUTH"), "{}", gateway.get("h", "/").text());
}

#[test]
fn a_server_that_goes_away_is_told_and_found_again() {
    let Some(mut redis) = Redis::start(None) else { return };
    let (gateway, _folder) = asking(&redis, "", "", &["PING"]);
    assert_eq!(gateway.get("h", "/").text(), "+PONG\r\n");
    redis.stop();
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "1"));
    redis.restart();
    gateway.await_answer("h", "/", |response| response.text() == "+PONG\r\n");
}

#[test]
fn a_server_that_hangs_is_given_up_after_the_timeout() {
    let Some(redis) = Redis::start(None) else { return };
    let (gateway, _folder) = asking(&redis, "", "", &["PING"]);
    assert_eq!(gateway.get("h", "/").text(), "+PONG\r\n");
    redis.signal("STOP");
    assert_eq!(gateway.get("h", "/").status, 503);
    redis.signal("CONT");
    gateway.await_answer("h", "/", |response| response.text() == "+PONG\r\n");
}

#[test]
fn a_command_that_would_change_the_connection_is_refused() {
    let Some(redis) = Redis::start(None) else { return };
    for words in [&["SUBSCRIBE", "news"][..], &["select", "1"], &["MULTI"]] {
        let (gateway, _folder) = asking(&redis, "", "", words);
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text().as_str()), (500, "2"), "BAD_ARGUMENT");
    }
}

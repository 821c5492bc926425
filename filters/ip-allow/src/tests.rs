//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::Status;
use portolan_sdk::testing::TestHost;

use super::*;

fn start(config: &str) -> TestHost<IpAllow> {
    TestHost::start(config).unwrap()
}

/// Status that a client with this address and `x-forwarded-for` gets; none when the request goes on.
fn ask(host: &TestHost<IpAllow>, peer: &str, forwarded: &str) -> Option<u32> {
    let mut stream = host.stream();
    stream.set_property("source\0address", peer.as_bytes());
    let action = stream.request_headers(&[(":path", "/"), ("x-forwarded-for", forwarded)]);
    let status = stream.reply().map(|reply| reply.status);
    assert_eq!(action == Action::Pause, status.is_some());
    status
}

#[test]
fn the_connection_s_address_decides_and_a_header_cannot_change_that() {
    let host = start(r#"{"allow": ["10.0.0.0/8"]}"#);
    assert_eq!(ask(&host, "10.1.2.3:50000", "6.6.6.6,10.1.2.3"), None);
    assert_eq!(ask(&host, "192.0.2.1:50000", "10.1.2.3,192.0.2.1"), Some(403));
    assert_eq!(ask(&host, "[::ffff:10.1.2.3]:50000", ""), None);
}

#[test]
fn behind_trusted_proxies_the_header_s_entry_decides() {
    let host = start(r#"{"deny": ["192.0.2.0/24"], "trustedHops": 1, "status": 404, "body": "nothing here"}"#);
    assert_eq!(ask(&host, "10.0.0.1:1", "192.0.2.9, 198.51.100.1,10.0.0.1"), None);
    assert_eq!(ask(&host, "10.0.0.1:1", "198.51.100.1, 192.0.2.9,10.0.0.1"), Some(404));
    assert_eq!(ask(&host, "10.0.0.1:1", "10.0.0.1"), Some(404), "it came past the proxy");
}

#[test]
fn a_refusal_says_why() {
    let host = start(r#"{"deny": ["::/0", "0.0.0.0/0"]}"#);
    let mut stream = host.stream();
    stream.set_property("source\0address", b"10.0.0.1:1");
    stream.request_headers(&[]);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.details.as_str()), (403, "access denied", "ip_denied"));
}

#[test]
fn a_host_that_does_not_tell_lets_nobody_in() {
    let host = start(r#"{"deny": ["10.0.0.1"]}"#);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[]), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 403);
    host.fail("proxy_get_property", Status::InternalFailure);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[]), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 500);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<IpAllow>::start(json).err().unwrap();
    assert_eq!(refusal("{}"), "invalid configuration: neither `allow` nor `deny` names an address");
    let range = refusal(r#"{"allow": ["10.0.0.0/8", "10.0.0.1/8"]}"#);
    assert!(range.contains("allow: `10.0.0.1/8` has bits beyond its prefix"), "{range}");
    assert!(refusal(r#"{"allow": ["::1"], "status": 200}"#).contains("status: 200 is not a refusal"));
    assert!(refusal(r#"{"alow": ["::1"]}"#).contains("unknown field `alow`"));
    assert!(
        refusal(r#"{"allow": ["::1"], "trustedHops": 99}"#).contains("trustedHops: 99 trusted proxies are too many")
    );
}

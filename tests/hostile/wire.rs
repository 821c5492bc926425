//! What a filter would like to have on the wire: injected headers, impossible statuses, framing of its own.

use crate::support::client::{Connection, Request};
use crate::support::probe::{Probe, asking};

/// Names and values that would end a header line, or a head.
const POISON: [(&str, &str); 10] = [
    ("x-a", "b\\x0d\\x0ax-smuggled: 1"),
    ("x-a", "b\\x0ax-smuggled: 1"),
    ("x-a", "b\\x0d\\x0a\\x0d\\x0aHTTP/1.1 200 OK"),
    ("x-a", "b\\x00c"),
    ("x-a\\x0d\\x0ax-smuggled", "1"),
    ("x-a: 1\\x0d\\x0ax-smuggled", "1"),
    ("x a", "1"),
    ("x-a:", "1"),
    ("", "1"),
    ("x-\\xff", "1"),
];

#[test]
fn header_injection_is_refused() {
    let probe = Probe::start();
    for (phase, map) in [("request_headers", 0), ("response_headers", 2)] {
        for (name, value) in POISON {
            let mut connection = probe.gateway.connect();
            for call in [
                format!("add_header_map_value {map} '{name}' '{value}'"),
                format!("replace_header_map_value {map} '{name}' '{value}'"),
                format!("set_header_map_pairs {map} [:path=/,:status=200,{name}={value}]"),
            ] {
                let request = asking(&format!("{phase} {{ {call} }}"));
                let response = connection.request(&request).unwrap_or_else(|error| panic!("{call}: {error}"));
                assert!(response.header("x-saw").unwrap().contains("=2"), "{call}: {response:?}");
                assert_eq!((response.status, response.header("x-smuggled")), (200, None), "{call}");
                assert_eq!(response.seen("x-smuggled"), None, "{call}");
            }
        }
    }
}

#[test]
fn injection_through_pseudo_headers_replies_and_trailers_is_refused() {
    let probe = Probe::start();
    for call in [
        "replace_header_map_value 0 ':path' '/ HTTP/1.1\\x0d\\x0ax-smuggled: 1'",
        "replace_header_map_value 0 ':path' ''",
        "replace_header_map_value 0 ':path' 'no slash'",
        "replace_header_map_value 0 ':method' 'GET / HTTP/1.1\\x0d\\x0ax-smuggled: 1\\x0d\\x0a'",
        "replace_header_map_value 0 ':method' ''",
        "replace_header_map_value 0 ':authority' 'h\\x0d\\x0ax-smuggled: 1'",
        "replace_header_map_value 0 'host' 'h\\x0d\\x0ax-smuggled: 1'",
        "replace_header_map_value 0 ':scheme' 'x\\x0d\\x0a'",
        "send_local_response 200 '' 'body' [x-a=b\\x0d\\x0ax-smuggled: 1] -1",
        "send_local_response 200 '' 'body' [x-a\\x0d\\x0ax-smuggled=1] -1",
    ] {
        let response = probe.get(&format!("request_headers {{ {call} }}"));
        assert!(response.header("x-saw").unwrap().contains("=2"), "{call}: {response:?}");
        assert_eq!((response.header("x-smuggled"), response.seen("x-smuggled")), (None, None), "{call}");
    }
    // Details go to the access log, one line for each request.
    let details = "send_local_response 403 'two\\x0d\\x0alines and blanks' '' [] -1";
    assert_eq!(probe.get(&format!("request_headers {{ {details} }}")).status, 403);
    assert!(probe.gateway.await_access(" 403 ").contains("two__lines_and_blanks"));
}

#[test]
fn impossible_statuses_are_refused() {
    let probe = Probe::start();
    for status in ["0", "1", "99", "100", "101", "199", "600", "999", "1000", "65736", "99999", "-1"] {
        let response = probe.get(&format!("request_headers {{ send_local_response {status} '' 'body' [] -1 }}"));
        assert_eq!(response.status, 200, "{status}");
        assert_eq!(response.header("x-saw").unwrap().split("): ").nth(1), Some("send_local_response=2"), "{status}");
    }
    for status in ["0", "099", "99", "999999", "abc", "", "2000", "-200", "20x", "1e2"] {
        let response = probe.get(&format!("response_headers {{ replace_header_map_value 2 ':status' '{status}' }}"));
        assert_eq!(response.status, 200, "{status}");
        assert!(response.header("x-saw").unwrap().ends_with("replace_header_map_value=2"), "{status}: {response:?}");
    }
}

#[test]
fn framing_headers_stay_the_host_s() {
    let probe = Probe::start();
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("content-length", "100"),
        ("connection", "close"),
        ("connection", "x-a"),
        ("upgrade", "websocket"),
        ("te", "trailers"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "0"),
    ] {
        for phase_and_map in ["request_headers 0", "response_headers 2"] {
            let (phase, map) = phase_and_map.split_once(' ').unwrap();
            let mut connection = probe.gateway.connect();
            let script = format!(
                "{phase} {{ add_header_map_value {map} '{name}' '{value}'; replace_header_map_value {map} '{name}' '{value}' }}"
            );
            let request = Request::new("POST", "h", "/").header("x-do", &script).body("abc");
            let response = connection.request(&request).unwrap();
            assert_eq!(response.status, 200, "{script}");
            let saw = response.header("x-saw").unwrap();
            assert!(saw.contains("add_header_map_value=2 replace_header_map_value=2"), "{script}: {saw}");
            // The connection is in step: the next request on it gets its own answer.
            let next = connection.request(&Request::get("h", "/next")).unwrap();
            assert_eq!(next.seen_request_line(), "GET /next HTTP/1.1", "{script}");
        }
    }
}

#[test]
fn removing_the_length_leaves_every_message_framed() {
    let probe = Probe::start();
    let mut connection: Connection = probe.gateway.connect();
    for script in [
        "request_headers { remove_header_map_value 0 'content-length' }",
        "request_headers { remove_header_map_value 0 'transfer-encoding'; remove_header_map_value 0 'content-length' }",
        "response_headers { remove_header_map_value 2 'content-length' }",
        "request_headers { set_header_map_pairs 0 [:path=/,:method=POST,:authority=h] }",
        "request_headers { replace_header_map_value 0 ':method' 'GET' }",
        "request_headers { replace_header_map_value 0 ':method' 'HEAD' }",
    ] {
        let request = Request::new("POST", "h", "/").header("x-do", script).body("abc");
        let response = connection.request(&request).unwrap_or_else(|error| panic!("{script}: {error}"));
        assert_eq!(response.status, 200, "{script}");
    }
    let next = connection.request(&Request::get("h", "/next")).unwrap();
    assert_eq!(next.seen_request_line(), "GET /next HTTP/1.1");
}

#[test]
fn header_counts_are_bounded() {
    let probe = Probe::start();
    let response = probe.get("response_headers { times 5000 { add_header_map_value 2 'x-many' '1' } }");
    assert!(response.status == 200 || response.status == 503, "{}", response.status);
    assert!(response.headers.len() < 2_000, "{}", response.headers.len());
    let response = probe.get("request_headers { times 5000 { add_header_map_value 0 'x-many' '1' } }");
    assert!([200, 431, 502, 503].contains(&response.status), "{}", response.status);
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

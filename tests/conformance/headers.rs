//! Header maps and trailers: who may read and write which when, and what is in them.

use crate::support::client::Request;
use crate::support::probe::{Probe, asking};

#[test]
fn header_maps_are_read_in_their_phases() {
    let probe = Probe::start();
    let saw = probe.saw(
        "request_headers { get_header_map_value 2 'a' &&; add_header_map_value 2 'a' 'b'; get_header_map_pairs 2 &&; \
         get_header_map_size 2 &; get_header_map_value 1 'a' &&; get_header_map_value 6 'a' &&; \
         get_header_map_value 0 ':scheme' && } \
         response_headers { get_header_map_value 0 'x-do' &&; add_header_map_value 0 'a' 'b'; get_header_map_pairs 0 &&; \
         get_header_map_value 2 ':status' &&; add_header_map_value 3 'a' 'b' }",
    );
    assert_eq!(
        saw.of("request_headers"),
        "get_header_map_value=2: add_header_map_value=2 get_header_map_pairs=0: get_header_map_size=2:0 \
         get_header_map_value=2: get_header_map_value=2: get_header_map_value=0:http"
    );
    assert_eq!(
        saw.of("response_headers"),
        "get_header_map_value=2: add_header_map_value=2 get_header_map_pairs=0: get_header_map_value=0:200 \
         add_header_map_value=2"
    );
}

#[test]
fn every_map_is_read_and_none_is_written_when_the_stream_is_logged() {
    let probe = Probe::start();
    let script = "log { get_header_map_value 0 ':path' &&; get_header_map_value 2 ':status' &&; \
                  add_header_map_value 0 'a' 'b'; replace_header_map_value 2 'a' 'b'; remove_header_map_value 2 'a' }";
    let (_, saw) = probe.saw_to_the_end(asking(script));
    assert_eq!(
        saw.of("log"),
        "get_header_map_value=0:/ get_header_map_value=0:200 add_header_map_value=2 replace_header_map_value=2 \
         remove_header_map_value=2"
    );
}

#[test]
fn a_missing_header_is_not_found() {
    let probe = Probe::start();
    let script = "request_headers { get_header_map_value 0 'x-none' &&; get_header_map_value 0 ':none' &&; \
                  get_header_map_value 0 '' && }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "get_header_map_value=1: get_header_map_value=1: get_header_map_value=1:"
    );
}

#[test]
fn a_value_is_the_first_of_several_and_names_ignore_case() {
    let probe = Probe::start();
    let request =
        asking("request_headers { get_header_map_value 0 'X-a' && }").header("x-A", "one").header("X-A", "two");
    assert_eq!(probe.saw_of(&request).of("request_headers"), "get_header_map_value=0:one");
}

#[test]
fn pairs_hold_every_value() {
    let probe = Probe::start();
    let request = asking("request_headers { get_header_map_pairs 0 && }").header("X-A", "one").header("x-a", "two");
    let saw = probe.saw_of(&request);
    let pairs = saw.of("request_headers");
    assert!(pairs.starts_with("get_header_map_pairs=0:"), "{pairs}");
    for pair in [":authority\\x00h\\x00", ":path\\x00/\\x00", ":method\\x00GET\\x00", ":scheme\\x00http\\x00"] {
        assert!(pairs.contains(pair), "{pair} in {pairs}");
    }
    assert!(pairs.contains("x-a\\x00one\\x00") && pairs.contains("x-a\\x00two\\x00"), "{pairs}");
    assert!(!pairs.contains("host\\x00"), "`host` is `:authority`: {pairs}");
}

#[test]
fn the_number_of_headers_counts_pseudo_headers() {
    let probe = Probe::start();
    let saw = probe.saw("request_headers { get_header_map_pairs 0 && } response_headers { is 1 }");
    let count = saw.order()[0].trim_start_matches("request_headers(").split(',').next().unwrap().parse::<u8>().unwrap();
    assert!(saw.of("request_headers").starts_with(&format!("get_header_map_pairs=0:\\x{count:02x}\\x00\\x00\\x00")));
}

#[test]
fn values_are_added_replaced_and_removed() {
    let probe = Probe::start();
    let response = probe.get(
        "request_headers { add_header_map_value 0 'x-a' 'b'; add_header_map_value 0 'X-A' 'c'; \
         get_header_map_value 0 'x-a' &&; replace_header_map_value 0 'x-a' 'd'; get_header_map_value 0 'x-a' &&; \
         replace_header_map_value 0 'x-new' 'n'; remove_header_map_value 0 'x-none'; remove_header_map_value 0 'x-gone'; \
         remove_header_map_value 0 ':path' } \
         response_headers { add_header_map_value 2 'x-r' '1'; replace_header_map_value 2 'server' 'mine'; \
         remove_header_map_value 2 'x-upstream' }",
    );
    let saw = response.header("x-saw").unwrap();
    assert!(
        saw.contains(
            "add_header_map_value=0 add_header_map_value=0 get_header_map_value=0:b replace_header_map_value=0 \
             get_header_map_value=0:d replace_header_map_value=0 remove_header_map_value=0 remove_header_map_value=0 \
             remove_header_map_value=2 |"
        ),
        "{saw}"
    );
    assert_eq!((response.seen("x-a").as_deref(), response.seen("x-new").as_deref()), (Some("d"), Some("n")));
    assert_eq!(response.header("x-r"), Some("1"));
    assert_eq!(response.header("x-upstream"), None);
}

#[test]
fn several_values_of_a_name_reach_the_client() {
    let probe = Probe::start();
    let response = probe.get(
        "response_headers { add_header_map_value 2 'set-cookie' 'a=1'; add_header_map_value 2 'set-cookie' 'b=2' }",
    );
    let cookies: Vec<_> = response.headers.iter().filter(|(n, _)| n == "set-cookie").map(|(_, v)| v.as_str()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
}

#[test]
fn a_list_replaces_the_whole_map() {
    let probe = Probe::start();
    let response = probe.get("response_headers { set_header_map_pairs 2 [:status=201,x-n=1,x-n=2] }");
    let values: Vec<_> = response.headers.iter().filter(|(n, _)| n == "x-n").map(|(_, v)| v.as_str()).collect();
    assert_eq!((response.status, values), (201, vec!["1", "2"]));
    assert_eq!(response.header("x-upstream"), None);
    assert_eq!(response.seen_request_line(), "GET / HTTP/1.1", "the body keeps its framing");
}

#[test]
fn a_malformed_list_changes_nothing() {
    let probe = Probe::start();
    for garbage in [
        "'garbage'",
        "'\\x01\\x00\\x00\\x00'",
        "'\\xff\\xff\\xff\\xff'",
        "'\\x01\\x00\\x00\\x00\\xff\\xff\\xff\\xff\\x00\\x00\\x00\\x00'",
    ] {
        let response = probe
            .get(&format!("request_headers {{ set_header_map_pairs 0 {garbage}; get_header_map_value 0 ':path' && }}"));
        assert_eq!(response.status, 200);
        let saw = response.header("x-saw").unwrap();
        assert!(saw.contains("set_header_map_pairs=2 get_header_map_value=0:/"), "{garbage}: {saw}");
    }
}

#[test]
fn pseudo_headers_of_the_request_can_be_changed() {
    let probe = Probe::start();
    let response = probe.get(
        "request_headers { replace_header_map_value 0 ':method' 'PUT'; add_header_map_value 0 ':path' '/x?y=z'; \
         replace_header_map_value 0 ':authority' 'other.test'; replace_header_map_value 0 ':status' '200' }",
    );
    assert_eq!(response.seen_request_line(), "PUT /x?y=z HTTP/1.1");
    assert_eq!(response.seen("host").as_deref(), Some("other.test"));
    assert!(response.header("x-saw").unwrap().contains("replace_header_map_value=2"), "no status in a request");
}

#[test]
fn the_status_can_be_changed_and_not_removed() {
    let probe = Probe::start();
    let response = probe
        .get("response_headers { replace_header_map_value 2 ':status' '503'; remove_header_map_value 2 ':status' }");
    assert_eq!(response.status, 503);
    assert!(response.header("x-saw").unwrap().ends_with("replace_header_map_value=0 remove_header_map_value=2"));
}

#[test]
fn trailers_end_a_body() {
    let probe = Probe::start();
    let mut connection = probe.gateway.connect();
    let head = Request::new("POST", "h", "/").header("x-do", "request_body { is 1 } request_trailers { get_header_map_value 1 'x-t' &&; add_header_map_value 1 'x-u' '2'; get_header_map_pairs 1 && }");
    let head = head.header("transfer-encoding", "chunked").header("te", "trailers").header("x-order", "sink");
    connection.send(&head.to_bytes()).unwrap();
    connection.send(b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n").unwrap();
    let response = connection.response(false).unwrap();
    let saw = response.header("x-saw").unwrap();
    assert!(saw.contains("request_body(3,0): 1"), "{saw}");
    assert!(saw.contains("request_trailers(1): get_header_map_value=0:1 add_header_map_value=0"), "{saw}");
    assert!(!saw.contains(",1): 1"), "no end of stream before trailers: {saw}");
}

#[test]
fn trailers_may_be_added_at_the_end_of_a_body() {
    let probe = Probe::start();
    let script = "request_body { add_header_map_value 1 'x-t' 'y'; get_header_map_value 1 'x-t' && }";
    let request = Request::new("POST", "h", "/").header("x-do", script).body("abc");
    let saw = probe.saw_of(&request);
    assert_eq!(*saw.all("request_body").last().unwrap(), "add_header_map_value=0 get_header_map_value=0:y");
}

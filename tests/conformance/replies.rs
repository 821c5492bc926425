//! Local replies.

use crate::support::client::Request;
use crate::support::probe::{Probe, asking};

#[test]
fn a_local_reply_is_what_was_asked_for() {
    let probe = Probe::start();
    let reply = "send_local_response 418 'my details' 'a body' [x-r=1,content-length=99,transfer-encoding=chunked] -1";
    let response = probe.get(&format!("request_headers {{ {reply} }}"));
    assert_eq!((response.status, response.text().as_str(), response.header("x-r")), (418, "a body", Some("1")));
    assert_eq!(probe.app.requests(), 0);
    let line = probe.gateway.await_access(" 418 ");
    assert!(line.contains("my_details"), "{line}");
}

#[test]
fn the_first_of_two_replies_wins_and_the_action_does_not_count() {
    let probe = Probe::start();
    for answer in ["", "; return 1", "; return 0", "; return 7"] {
        let response = probe.get(&format!(
            "request_headers {{ send_local_response 401 '' 'first' [] -1; send_local_response 500 '' 'second' [] -1{answer} }}"
        ));
        assert_eq!((response.status, response.text().as_str()), (401, "first"), "{answer}");
    }
}

#[test]
fn a_reply_runs_back_through_the_response_callbacks() {
    let probe = Probe::start();
    let response = probe.get(
        "request_headers { send_local_response 403 '' 'no' [] -1 } \
         response_headers { get_header_map_value 2 ':status' &&; add_header_map_value 2 'x-seen' 'yes' }",
    );
    assert_eq!((response.status, response.header("x-seen")), (403, Some("yes")));
    assert!(response.header("x-saw").unwrap().contains("get_header_map_value=0:403"));
}

#[test]
fn a_reply_in_the_request_s_body_answers_the_client() {
    let probe = Probe::start();
    let script = "request_body { send_local_response 413 '' 'too much' [] -1; return 1 }";
    let response = probe.gateway.send(&Request::new("POST", "h", "/").header("x-do", script).body("abc"));
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));
}

#[test]
fn a_reply_in_the_request_s_trailers_answers_the_client() {
    let probe = Probe::start();
    let mut connection = probe.gateway.connect();
    let script = "request_trailers { send_local_response 409 '' 'trailers' [] -1; return 1 }";
    let head = Request::new("POST", "h", "/").header("x-do", script).header("transfer-encoding", "chunked");
    connection.send(&head.to_bytes()).unwrap();
    connection.send(b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (409, "trailers"));
}

#[test]
fn a_reply_in_the_response_s_head_replaces_it() {
    let probe = Probe::start();
    let response = probe.get("response_headers { send_local_response 502 '' 'instead' [x-r=1] -1; return 1 }");
    assert_eq!((response.status, response.text().as_str(), response.header("x-r")), (502, "instead", Some("1")));
    assert_eq!(response.header("x-upstream"), None);
}

#[test]
fn a_reply_in_the_response_s_body_cuts_it_and_the_next_request_is_served() {
    let probe = Probe::start();
    let cut = crate::support::client::send(
        probe.gateway.address(),
        &asking("response_body { send_local_response 502 '' 'late' [] -1 }").order("chunks 5"),
    );
    if let Ok(response) = cut {
        assert!(!response.text().contains("0000000004"), "not the whole body: {response:?}");
    }
    assert_eq!(probe.get("request_headers { is 1 }").status, 200);
}

#[test]
fn a_grpc_request_gets_its_status_in_a_header() {
    let probe = Probe::start();
    let script = "request_headers { send_local_response 403 '' 'no' [] 7 }";
    let plain = probe.get(script);
    assert_eq!((plain.status, plain.header("grpc-status")), (403, None));
    let grpc = probe.gateway.send(&asking(script).header("content-type", "application/grpc"));
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("7")));
}

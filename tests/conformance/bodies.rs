//! Bodies and other buffers.

use crate::support::client::Request;
use crate::support::probe::{Probe, asking};

fn post(script: &str, body: &str) -> Request {
    Request::new("POST", "h", "/").header("x-do", script).body(body)
}

#[test]
fn buffers_are_read_within_their_bounds() {
    let probe = Probe::start();
    let script = "request_body { get_buffer_bytes 0 0 100 &&; get_buffer_bytes 0 3 2 &&; get_buffer_bytes 0 50 2 &&; \
                  get_buffer_bytes 0 -1 2 &&; get_buffer_bytes 0 2 -1 &&; get_buffer_status 0 & &; \
                  get_buffer_bytes 1 0 9 &&; set_buffer_bytes 1 0 0 'x' }";
    assert_eq!(
        probe.saw_of(&post(script, "abcdef")).of("request_body"),
        "get_buffer_bytes=0:abcdef get_buffer_bytes=0:de get_buffer_bytes=0: get_buffer_bytes=0: \
         get_buffer_bytes=0:cdef get_buffer_status=0:6:0 get_buffer_bytes=0: set_buffer_bytes=2"
    );
}

#[test]
fn buffers_that_are_not_there_are_empty_or_not_found() {
    let probe = Probe::start();
    let script = "request_headers { get_buffer_bytes 0 0 9 &&; get_buffer_bytes 1 0 9 &&; get_buffer_bytes 4 0 9 &&; \
                  get_buffer_bytes 7 0 9 &&; get_buffer_status 0 & &; set_buffer_bytes 0 0 0 'x' }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "get_buffer_bytes=0: get_buffer_bytes=0: get_buffer_bytes=1: get_buffer_bytes=1: get_buffer_status=0:0:0 \
         set_buffer_bytes=2"
    );
}

#[test]
fn configurations_are_read_while_they_are_due() {
    let probe = Probe::configured("configure { get_buffer_bytes 7 0 3 &&; get_buffer_status 7 & & } tick { is 1 }");
    probe.gateway.await_log("configure(");
    let log = probe.gateway.log();
    assert!(log.contains("get_buffer_bytes=0:{\\\"d") || log.contains("get_buffer_bytes=0:{\"d"), "{log}");
}

#[test]
fn bodies_are_changed_at_the_front_the_end_and_in_the_middle() {
    let probe = Probe::start();
    let script = "request_body { set_buffer_bytes 0 0 0 'P'; set_buffer_bytes 0 99 0 'E'; set_buffer_bytes 0 3 2 'xyz'; \
                  set_buffer_bytes 0 1 0 '-'; get_buffer_bytes 0 0 99 && }";
    let response = probe.gateway.send(&post(script, "abcdef").order("echo"));
    assert_eq!(response.text(), "P-abxyzefE");
    let script = "request_body { set_buffer_bytes 0 0 -1 'whole' }";
    assert_eq!(probe.gateway.send(&post(script, "abcdef").order("echo")).text(), "whole");
    let script = "request_body { set_buffer_bytes 0 0 -1 '' }";
    assert_eq!(probe.gateway.send(&post(script, "abcdef").order("sink")).text(), "0");
}

#[test]
fn a_response_s_body_is_changed_and_its_length_is_right() {
    let probe = Probe::start();
    let script = "response_headers { remove_header_map_value 2 'content-length' } \
                  response_body { set_buffer_bytes 1 0 -1 'mine' }";
    let response = probe.get(script);
    assert!(response.text().starts_with("mine"), "{response:?}");
    // Without the filter's removing the length: the gateway frames what is sent, whatever the upstream said.
    let response = probe.get("response_body { set_buffer_bytes 1 0 0 'longer ' }");
    assert!(response.text().starts_with("longer GET /"), "{response:?}");
}

#[test]
fn a_body_ends_with_a_last_chunk() {
    let probe = Probe::start();
    let (_, saw) = probe.saw_to_the_end(post("request_body { is 1 } response_body { is 2 }", "abc"));
    let order = saw.order();
    let ends = |phase: &str| order.iter().filter(|entry| entry.starts_with(phase) && entry.ends_with(",1")).count();
    assert_eq!((ends("request_body"), ends("response_body")), (1, 1), "{order:?}");
    assert!(order.iter().any(|entry| entry.starts_with("request_body(3,")), "{order:?}");
}

#[test]
fn a_head_and_a_204_end_with_their_head() {
    let probe = Probe::start();
    let head = Request::new("HEAD", "h", "/").header("x-do", "response_headers { is 1 } response_body { is 2 }");
    let (_, saw) = probe.saw_to_the_end(head);
    assert!(saw.order()[0].ends_with(",1"), "{saw:?}");
    assert!(saw.all("response_body").is_empty(), "{saw:?}");
    let none = asking("response_headers { is 1 } response_body { is 2 }").order("status 204");
    let (response, saw) = probe.saw_to_the_end(none);
    assert_eq!(response.status, 204);
    assert!(saw.order()[0].ends_with(",1"), "{saw:?}");
    assert!(saw.all("response_body").is_empty(), "{saw:?}");
}

//! Callbacks: which, in which order, with which numbers.

use crate::support::client::Request;
use crate::support::probe::{Probe, asking};

const EVERY: &str = "request_headers { is $id } request_body { is $id } response_headers { is $id } \
                     response_body { is $id } log { is $id } done { is $id } delete { is $id }";

#[test]
fn callbacks_come_in_their_order() {
    let probe = Probe::start();
    let request = Request::new("POST", "h", "/").header("x-do", EVERY).body("abc");
    let (_, saw) = probe.saw_to_the_end(request);
    let mut names: Vec<_> = saw.order().iter().map(|entry| entry.split('(').next().unwrap().to_owned()).collect();
    names.dedup();
    let wanted = ["request_headers", "request_body", "response_headers", "response_body", "log", "done", "delete"];
    assert_eq!(names, wanted);
}

#[test]
fn a_stream_s_callbacks_share_one_number_above_the_root_s() {
    let probe = Probe::start();
    let request = Request::new("POST", "h", "/").header("x-do", EVERY).body("abc");
    let (_, saw) = probe.saw_to_the_end(request);
    let id = saw.of("request_headers").to_owned();
    assert!(id.parse::<u32>().unwrap() > 1, "{saw:?}");
    for phase in ["request_body", "response_headers", "response_body", "log", "done", "delete"] {
        assert_eq!(saw.of(phase), id, "{phase}");
    }
}

#[test]
fn a_get_ends_with_its_head_and_has_no_body_callback() {
    let probe = Probe::start();
    let (_, saw) = probe.saw_to_the_end(asking(EVERY));
    assert!(saw.order()[0].starts_with("request_headers(") && saw.order()[0].ends_with(",1"), "{saw:?}");
    assert!(saw.all("request_body").is_empty(), "{saw:?}");
}

#[test]
fn the_effective_context_is_a_known_one() {
    let probe = Probe::start();
    let script = "request_headers { set_effective_context 9999999; set_effective_context $root; \
                  get_header_map_value 0 'x-do' &&; set_effective_context $id; get_header_map_value 0 ':method' && }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "set_effective_context=2 set_effective_context=0 get_header_map_value=2: set_effective_context=0 \
         get_header_map_value=0:GET"
    );
}

#[test]
fn an_interim_answer_is_no_response() {
    let probe = Probe::start();
    let request = Request::new("POST", "h", "/").header("expect", "100-continue").header("x-do", EVERY);
    let mut connection = probe.gateway.connect();
    connection.send(&request.header("content-length", 3).to_bytes()).unwrap();
    connection.send(b"abc").unwrap();
    let mut response = connection.response(false).unwrap();
    if response.status == 100 {
        response = connection.response(false).unwrap();
    }
    assert_eq!(response.status, 200);
    let saw = response.header("x-saw").unwrap();
    assert_eq!(saw.matches("response_headers(").count(), 1, "{saw}");
}

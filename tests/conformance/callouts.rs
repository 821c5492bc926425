//! Calls to other hosts.

use crate::support::client::Request;
use crate::support::probe::{Probe, asking};
use crate::support::{await_some, await_true};

const APP: &str = "outbound|80||app.test";

/// A request that calls `upstream` and waits for the answer, which resumes it.
fn calling(upstream: &str, headers: &str, timeout: u32) -> Request {
    let root = "http_call_response { get_header_map_value 6 ':status' &&; get_buffer_bytes 4 0 20 &&; \
                get_header_map_value 6 'x-upstream' &&; get_header_map_value 0 ':path' &&; set_effective_context $last; \
                get_header_map_value 0 ':path' &&; add_header_map_value 0 'x-called' 'yes'; continue_stream 0 }";
    let script = format!("request_headers {{ http_call '{upstream}' [{headers}] '' [] {timeout} &; return 1 }}");
    asking(&script).header("x-do-root", root)
}

/// What the callback of the last call saw.
fn answered(probe: &Probe) -> String {
    await_some("an answer of the call", || {
        let log = probe.gateway.log();
        let (_, rest) = log.rsplit_once("http_call_response(")?;
        rest.split_once(" ||").map(|(saw, _)| saw.to_owned())
    })
}

#[test]
fn a_call_to_a_cluster_is_answered_on_the_plugin_s_context_and_resumes_the_stream() {
    let probe = Probe::start();
    let response = probe.gateway.send(&calling(APP, ":method=GET,:path=/called,:authority=a", 2000));
    assert_eq!((response.status, response.seen("x-called").as_deref()), (200, Some("yes")));
    let saw = answered(&probe);
    assert!(
        saw.contains(
            "get_header_map_value=0:200 get_buffer_bytes=0:GET /called HTTP/1.1 get_header_map_value=0:app \
             get_header_map_value=2: set_effective_context=0 get_header_map_value=0:/ add_header_map_value=0 \
             continue_stream=0"
        ),
        "{saw}"
    );
    assert_eq!(probe.app.requests(), 2);
}

#[test]
fn a_call_to_host_and_port_is_answered() {
    let probe = Probe::start();
    let upstream = probe.app.address().to_string();
    let response = probe.gateway.send(&calling(&upstream, ":method=GET,:path=/called,:authority=a", 2000));
    assert_eq!((response.status, response.seen("x-called").as_deref()), (200, Some("yes")));
    assert!(answered(&probe).contains("get_header_map_value=0:200"));
}

#[test]
fn a_call_that_cannot_be_made_is_a_bad_argument() {
    let probe = Probe::start();
    let call = |upstream: &str, headers: &str| format!("http_call '{upstream}' [{headers}] '' [] 100 &");
    let script = [
        call("none", ":method=GET,:path=/,:authority=a"),
        call(APP, ":path=/,:authority=a"),
        call(APP, ":method=GET,:authority=a"),
        call(APP, ":method=GET,:path=/"),
        call(APP, ""),
    ]
    .join("; ");
    let saw = probe.saw(&format!("request_headers {{ {script} }}"));
    assert_eq!(saw.of("request_headers"), ["http_call=2:0"; 5].join(" "));
    assert_eq!(probe.app.requests(), 1);
}

#[test]
fn a_timeout_comes_back_as_504_and_a_reset_as_503() {
    let probe = Probe::start();
    let slow = calling(APP, ":method=GET,:path=/,:authority=a,x-order=delay 3000", 100);
    assert_eq!(probe.gateway.send(&slow).status, 200);
    assert!(answered(&probe).contains("get_header_map_value=0:504"), "{}", answered(&probe));
    let reset = calling(APP, ":method=GET,:path=/,:authority=a,x-order=close", 2000);
    assert_eq!(probe.gateway.send(&reset).status, 200);
    await_true("a 503", || answered(&probe).contains("get_header_map_value=0:503"));
    let refused = calling("127.0.0.1:1", ":method=GET,:path=/,:authority=a", 2000);
    assert_eq!(probe.gateway.send(&refused).status, 200);
    assert!(answered(&probe).contains("get_header_map_value=0:503"), "{}", answered(&probe));
}

#[test]
fn a_call_carries_its_body_with_its_length() {
    let probe = Probe::start();
    let script = format!(
        "request_headers {{ http_call '{APP}' [:method=POST,:path=/,:authority=a,x-order=sink] 'twelve bytes' [] 2000 &; return 1 }}"
    );
    let root = "http_call_response { get_buffer_bytes 4 0 20 &&; set_effective_context $last; continue_stream 0 }";
    let response = probe.gateway.send(&asking(&script).header("x-do-root", root));
    assert_eq!(response.status, 200);
    assert!(answered(&probe).contains("get_buffer_bytes=0:12 "), "{}", answered(&probe));
}

#[test]
fn calls_are_made_from_ticks_and_from_answers() {
    let call = format!("http_call '{APP}' [:method=GET,:path=/,:authority=a] '' [] 2000 &");
    let probe = Probe::configured(&format!(
        "configure {{ set_tick_period_milliseconds 20 }} tick {{ {call}; set_tick_period_milliseconds 0 }} \
         http_call_response {{ {call} }}"
    ));
    // Each answer asks again: two workers go on for ever.
    await_true("chained calls", || probe.app.requests() >= 10);
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn an_answer_finds_its_plugin_when_the_stream_has_gone() {
    let probe = Probe::start();
    let script = format!(
        "request_headers {{ http_call '{APP}' [:method=GET,:path=/,:authority=a,x-order=delay 300] '' [] 2000 &; keep }}"
    );
    let root =
        "http_call_response { set_effective_context $last; continue_stream 0; get_header_map_value 6 ':status' && }";
    assert_eq!(probe.gateway.send(&asking(&script).header("x-do-root", root)).status, 200);
    let saw = answered(&probe);
    assert!(saw.contains("set_effective_context=2") && saw.contains("get_header_map_value=0:200"), "{saw}");
}

#[test]
fn a_local_reply_from_an_answer_reaches_the_client() {
    let probe = Probe::start();
    let script =
        format!("request_headers {{ http_call '{APP}' [:method=GET,:path=/,:authority=a] '' [] 2000 &; return 1 }}");
    let root = "http_call_response { set_effective_context $last; send_local_response 401 '' 'denied' [] -1 }";
    let response = probe.gateway.send(&asking(&script).header("x-do-root", root));
    assert_eq!((response.status, response.text().as_str()), (401, "denied"));
}

#[test]
fn grpc_calls_that_cannot_be_made_get_a_status() {
    let probe = Probe::start();
    let script = "request_headers { grpc_call 'none' 's' 'm' [] '' 100 &; grpc_stream 'none' 's' 'm' [] &; \
                  grpc_send 5 'a' 1; grpc_cancel 5; grpc_close 5; get_status & && }";
    let saw = probe.saw(script);
    let saw = saw.of("request_headers");
    assert!(saw.starts_with("grpc_call=4:0 grpc_stream=4:0 grpc_send="), "{saw}");
    for call in ["grpc_send", "grpc_cancel", "grpc_close"] {
        assert!(saw.contains(&format!("{call}=1")) || saw.contains(&format!("{call}=2")), "{saw}");
    }
}

#[test]
fn calls_in_flight_are_bounded() {
    let mut probe = Probe::start();
    let call = format!("http_call '{APP}' [:method=GET,:path=/,:authority=a,x-order=delay 500] '' [] 2000 &");
    let response = probe.get(&format!("request_headers {{ times 2000 {{ {call} }} }}"));
    assert_eq!(response.status, 200);
    assert!(response.header("x-saw").unwrap().contains("http_call=10"), "{response:?}");
    assert!(probe.gateway.is_running());
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

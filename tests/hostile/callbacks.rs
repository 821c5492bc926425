//! Loops, traps and exits in every callback; calls in the wrong phase; pauses without end.

use std::io;
use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::{Connection, Request, Response};
use crate::support::config::routes;
use crate::support::probe::{Probe, asking, options};
use crate::support::upstream::Upstream;

/// A request with body and trailers that meets every callback, with a script.
fn send(probe: &Probe, script: &str) -> io::Result<Response> {
    let mut connection = Connection::open(probe.gateway.address())?;
    let head = Request::new("POST", "h", "/").header("x-do", script).header("transfer-encoding", "chunked");
    connection.send(&head.to_bytes())?;
    connection.send(b"3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n")?;
    connection.response(false)
}

/// What the client gets when a callback fails.
fn assert_answer(phase: &str, deed: &str, answer: io::Result<Response>) {
    match (phase, answer) {
        ("request_headers" | "request_body" | "request_trailers" | "response_headers", answer) => {
            let answer = answer.unwrap_or_else(|error| panic!("{deed} in {phase}: {error}"));
            assert_eq!(answer.status, 503, "{deed} in {phase}");
        }
        // The head has gone: the body is cut, or the head was still held back.
        ("response_body", answer) => {
            assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 503), "{deed} in {phase}");
        }
        // The client has its answer before.
        (_, answer) => assert_eq!(answer.unwrap().status, 200, "{deed} in {phase}"),
    }
}

const PHASES: [&str; 8] = [
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "log",
    "done",
    "delete",
];

/// Plain requests are served by the filter, on both workers.
fn served_again(probe: &Probe, when: &str) {
    for _ in 0..4 {
        await_true(&format!("the filter to serve {when}"), || {
            let next = probe.get("response_headers { is 7 }");
            (next.status, next.header("x-saw").is_some()) == (200, true)
        });
    }
}

/// The same deed in every callback of a stream, and plain requests after each. A gateway for four of them: five
/// deadlines in a row would put the filter aside.
fn in_every_callback(deed: &str) {
    for phases in PHASES.chunks(4) {
        let mut probe = Probe::start();
        for phase in phases {
            assert_answer(phase, deed, send(&probe, &format!("{phase} {{ {deed} }}")));
            served_again(&probe, &format!("after {deed} in {phase}"));
        }
        assert!(probe.gateway.is_running());
    }
}

#[test]
fn an_endless_loop_in_any_callback_is_cut_off() {
    in_every_callback("spin");
}

#[test]
fn a_trap_in_any_callback_costs_one_request() {
    in_every_callback("trap");
}

#[test]
fn exit_in_any_callback_costs_one_request() {
    in_every_callback("exit 0");
}

#[test]
fn a_loop_in_the_allocator_or_the_context_s_creation_is_cut_off() {
    let probe = Probe::start();
    let answer = probe.get("request_headers { allocator { spin }; get_header_map_pairs 0 && }");
    assert_eq!(answer.status, 503);
    served_again(&probe, "after a loop in the allocator");
    let armed = probe.gateway.send(&asking("request_headers { is 1 }").header("x-do-root", "context_create { spin }"));
    assert_eq!(armed.status, 200);
    served_again(&probe, "after a loop in the context's creation");
}

#[test]
fn an_allocator_that_calls_the_host_gets_answers_and_no_recursion() {
    let probe = Probe::start();
    let script = "request_headers { allocator { get_header_map_pairs 0 &&; get_property 'request\\x00path' &&; \
                  send_local_response 400 '' 'from malloc' [] -1; log 2 'from malloc' }; get_header_map_value 0 ':path' && }";
    let answer = probe.get(script);
    assert_eq!((answer.status, answer.text().as_str()), (400, "from malloc"));
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn continuing_twice_is_harmless() {
    let probe = Probe::start();
    for script in [
        "request_headers { continue_stream 0; continue_stream 0 }",
        "request_headers { continue_stream 0; continue_stream 1 }",
        "request_headers { continue_stream 0; return 1 }",
        "response_headers { continue_stream 1; continue_stream 0; return 1 }",
        "response_headers { continue_stream 1; continue_stream 1 }",
        "request_headers { set_effective_context $root; continue_stream 0; continue_stream 1 }",
        "log { continue_stream 0; continue_stream 1 } done { continue_stream 0 } delete { continue_stream 1 }",
    ] {
        assert_eq!(probe.get(script).status, 200, "{script}");
    }
}

#[test]
fn replies_at_the_end_are_refused() {
    let probe = Probe::start();
    let reply = "send_local_response 500 '' 'late' [] -1";
    let script = format!("log {{ {reply} }} done {{ {reply} }} delete {{ {reply} }}");
    let (response, saw) = probe.saw_to_the_end(asking(&script));
    assert_eq!(response.status, 200);
    for phase in ["log", "done", "delete"] {
        assert_eq!(saw.of(phase), "send_local_response=2", "{phase}");
    }
}

#[test]
fn replies_in_several_phases_give_one_answer() {
    let probe = Probe::start();
    let one = "send_local_response 401 '' 'one' [] -1; return 1";
    let two = "send_local_response 402 '' 'two' [] -1; return 1";
    let answer = probe.get(&format!("request_headers {{ {one} }} response_headers {{ {two} }}"));
    assert!([401, 402].contains(&answer.status), "{answer:?}");
    let answer = probe.get(&format!("response_headers {{ {one} }} response_body {{ {two} }}"));
    assert_eq!(answer.status, 401);
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn calls_of_the_wrong_phase_get_a_status() {
    let probe = Probe::configured(
        "configure { get_header_map_value 0 'a' &&; add_header_map_value 0 'a' 'b'; get_buffer_bytes 0 0 9 &&; \
         send_local_response 200 '' '' [] -1; continue_stream 0; close_stream 0; get_property 'request' &&; \
         get_header_map_pairs 0 &&; done }",
    );
    probe.gateway.await_log("configure(");
    let log = probe.gateway.log();
    let line = log.lines().find(|line| line.contains("configure(")).unwrap();
    assert!(line.contains("get_header_map_value=2: add_header_map_value=2"), "{line}");
    assert!(line.contains("send_local_response=2"), "{line}");
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn closing_a_stream_ends_it_alone() {
    let probe = Probe::start();
    for script in [
        "request_headers { close_stream 0 }",
        "request_headers { close_stream 1; return 1 }",
        "response_headers { close_stream 1 }",
    ] {
        let answer = crate::support::client::send(probe.gateway.address(), &asking(script));
        assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.status >= 500), "{script}: {answer:?}");
        assert_eq!(probe.get("response_headers { is 1 }").status, 200, "after {script}");
    }
}

#[test]
fn a_stream_paused_for_ever_ends() {
    let app = Upstream::start("app");
    let routes = routes("- timeout: 1s\n  route: [{destination: {host: app.test}}]\n");
    let probe = Probe::on(options(&app).file("routes.yaml", routes), app);
    for phase in ["request_headers", "request_body", "request_trailers", "response_headers", "response_body"] {
        let start = Instant::now();
        // A body that waits goes on with trailers that do not.
        let answer =
            send(&probe, &format!("{phase} {{ return 1 }} {} {{ return 1 }}", phase.replace("body", "trailers")));
        let took = start.elapsed();
        assert!(took < Duration::from_secs(6), "{phase}: {took:?}");
        match answer {
            Ok(answer) => assert_eq!(answer.status, 504, "{phase}"),
            Err(error) => assert_eq!(phase, "response_body", "{phase}: {error}"),
        }
    }
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

//! Streams that wait, and what wakes them: ticks, queues, other streams, through `set_effective_context`.

use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::probe::{Probe, asking};

/// A request that waits in this callback until a tick of its VM resumes it.
fn woken(phase: &str, stream: u32, with: &str) -> Request {
    let root = format!(
        "tick {{ set_effective_context $last; {with}; continue_stream {stream}; \
         set_effective_context $root; set_tick_period_milliseconds 0 }}"
    );
    let script = format!(
        "{phase} {{ set_effective_context $root; set_tick_period_milliseconds 20; set_effective_context $id; return 1 }}"
    );
    Request::new("POST", "h", "/").header("x-do", script).header("x-do-root", root)
}

#[test]
fn ticks_come_in_their_period_until_it_is_zero() {
    let probe = Probe::configured(
        "configure { set_tick_period_milliseconds 20 } tick { define_metric 0 'ticks' &; increment_metric $out 1 }",
    );
    let ticks = || probe.gateway.metric("ticks", &[]) + probe.gateway.metric("wasmcustom_ticks", &[]);
    await_true("ticks", || ticks() >= 10.0);
    let (start, before) = (Instant::now(), ticks());
    await_true("more ticks", || ticks() >= before + 40.0);
    // Two workers, every 20 ms each.
    assert!(start.elapsed() > Duration::from_millis(250), "{:?}", start.elapsed());
}

#[test]
fn ticks_see_no_stream() {
    let probe = Probe::configured(
        "configure { set_tick_period_milliseconds 20 } tick { get_header_map_value 0 ':path' &&; \
         add_header_map_value 0 'a' 'b'; get_property 'request' &&; send_local_response 400 '' '' [] -1; \
         get_buffer_bytes 0 0 9 &&; is $id; set_tick_period_milliseconds 0 }",
    );
    probe.gateway.await_log("tick(");
    let log = probe.gateway.log();
    let line = log.lines().find(|line| line.contains("tick(")).unwrap();
    assert!(line.contains("get_header_map_value=2: add_header_map_value=2 get_property=1:"), "{line}");
    assert!(line.contains("send_local_response=2"), "{line}");
}

#[test]
fn a_tick_resumes_a_head_that_waits_and_changes_it() {
    let probe = Probe::start();
    let request = woken("request_headers", 0, "add_header_map_value 0 'x-from-tick' 'yes'");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.seen("x-from-tick").as_deref()), (200, Some("yes")));
}

#[test]
fn a_tick_answers_a_stream_that_waits() {
    let probe = Probe::start();
    let request = woken("request_headers", 0, "send_local_response 418 '' 'from a tick' [] -1");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.text().as_str()), (418, "from a tick"));
    assert_eq!(probe.app.requests(), 0);
}

#[test]
fn a_tick_closes_a_stream_that_waits() {
    let probe = Probe::start();
    let request = woken("request_headers", 0, "close_stream 0");
    let answer = crate::support::client::send(probe.gateway.address(), &request);
    assert!(answer.is_err() || answer.as_ref().is_ok_and(|answer| answer.status >= 500), "{answer:?}");
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn a_response_s_head_waits_and_goes_on() {
    let probe = Probe::start();
    let request = woken("response_headers", 1, "add_header_map_value 2 'x-from-tick' 'yes'");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.header("x-from-tick")), (200, Some("yes")));
    assert!(response.text().starts_with("POST /"), "{response:?}");
}

#[test]
fn a_body_that_waits_goes_on_whole() {
    let probe = Probe::start();
    let request = woken("request_body", 0, "is 1").order("echo").body("abcdef");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "abcdef"));
}

#[test]
fn a_response_s_body_that_waits_goes_on_whole() {
    let probe = Probe::start();
    let request = woken("response_body", 1, "is 1").order("chunks 3");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "000000000000000000010000000002"));
}

#[test]
fn body_callbacks_wait_while_the_head_does() {
    let probe = Probe::start();
    let root = "tick { set_effective_context $last; continue_stream 0; set_effective_context $root; \
                set_tick_period_milliseconds 0 }";
    let script = "request_headers { set_effective_context $root; set_tick_period_milliseconds 60; \
                  set_effective_context $id; return 1 } request_body { is 1 }";
    let request = Request::new("POST", "h", "/").header("x-do", script).header("x-do-root", root).body("abc");
    let (_, saw) = probe.saw_to_the_end(request);
    assert!(saw.order()[1].starts_with("request_body(3,"), "once, and whole: {saw:?}");
}

#[test]
fn held_bodies_show_the_whole_buffer_so_far() {
    let probe = Probe::start();
    // Nothing resumes it but the trailers, whose callback lets everything go.
    let script = "request_body { get_buffer_status 0 & &; return 1 } request_trailers { get_buffer_status 0 & & }";
    let head = Request::new("POST", "h", "/").header("x-do", script).header("x-id", "held").order("echo");
    let mut connection = probe.gateway.connect();
    connection.send(&head.header("transfer-encoding", "chunked").to_bytes()).unwrap();
    for chunk in ["abc", "def", "ghi"] {
        connection.send(format!("3\r\n{chunk}\r\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    connection.send(b"0\r\nx-t: 1\r\n\r\n").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!(response.text(), "abcdefghi");
    let saw = probe.ended("held");
    let sizes: Vec<u32> =
        saw.all("request_body").iter().map(|saw| saw.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(sizes.is_sorted() && sizes.last() == Some(&9), "{sizes:?}");
}

#[test]
fn a_body_over_the_limit_is_refused_while_it_waits() {
    let probe = Probe::start();
    let script = "request_body { return 1 }";
    let request = Request::new("POST", "h", "/").header("x-do", script).body(vec![b'x'; 3 * 1024 * 1024]);
    let mut connection = probe.gateway.connect();
    // The answer may come before all was sent.
    let _ = connection.send(&request.to_bytes());
    assert_eq!(connection.response(false).unwrap().status, 413);
    assert_eq!(probe.get("response_headers { is 1 }").status, 200);
}

#[test]
fn a_queue_s_owner_hears_that_it_holds_something() {
    let probe =
        Probe::configured("configure { register_shared_queue 'q' & } queue_ready { dequeue_shared_queue 1 && }");
    let script = "request_headers { resolve_shared_queue '' 'q' &; enqueue_shared_queue $out 'an item' }";
    assert_eq!(probe.saw(script).of("request_headers"), "resolve_shared_queue=0:1 enqueue_shared_queue=0");
    probe.gateway.await_log("dequeue_shared_queue=0:an item");
}

#[test]
fn a_stream_reaches_another_of_its_vm() {
    // Two streams of one worker: the second resumes the first.
    let probe = Probe::start();
    let held = (0..8).map(|number| {
        let mut connection = probe.gateway.connect();
        let keep = "request_headers { set_effective_context $id; is $id; return 1 }";
        connection.send(&asking(keep).header("x-id", format!("first-{number}")).to_bytes()).unwrap();
        connection
    });
    let mut held: Vec<_> = held.collect();
    // Ids rise from 2 in each VM and are not used again.
    let resume: Vec<_> = (2..40).map(|id| format!("set_effective_context {id}; continue_stream 0")).collect();
    let script = format!("request_headers {{ {} }}", resume.join("; "));
    let mut asked = 0;
    await_true("each to be resumed", || {
        asked += 1;
        let _ = probe.get(&script);
        probe.app.requests() >= 8 + asked
    });
    for connection in &mut held {
        assert_eq!(connection.response(false).unwrap().status, 200);
    }
}

#[test]
fn a_stream_that_waits_and_whose_client_goes_away_ends() {
    let probe = Probe::start();
    let mut connection = probe.gateway.connect();
    connection.send(&asking("request_headers { return 1 }").header("x-id", "gone").to_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    drop(connection);
    await_true("its end", || probe.gateway.log().contains("probe gone |"));
}

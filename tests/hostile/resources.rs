//! Memory bombs and recursion.

use crate::support::probe::Probe;

#[test]
fn memory_bombs_and_recursion_cost_one_request() {
    let mut probe = Probe::start();
    let before = probe.gateway.resident_bytes();
    for deed in ["bomb", "recurse", "grow 60000", "bomb", "recurse"] {
        let answer = probe.get(&format!("request_headers {{ {deed} }}"));
        assert_eq!(answer.status, 503, "{deed}");
        for _ in 0..4 {
            assert_eq!(probe.get("response_headers { is 1 }").status, 200, "after {deed}");
        }
    }
    let grown = probe.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 150 * 1024 * 1024, "{grown} bytes stay");
    assert!(probe.gateway.is_running());
}

#[test]
fn a_guest_s_backtrace_names_its_functions() {
    let probe = Probe::start();
    assert_eq!(probe.get("request_headers { recurse }").status, 503);
    probe.gateway.await_log("descend");
}

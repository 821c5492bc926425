//! Log, clock, foreign functions, WASI, numbers that no version of the ABI knows.

use crate::support::config::{routes, service_entry};
use crate::support::probe::Probe;
use crate::support::upstream::Upstream;

#[test]
fn log_takes_six_levels() {
    let probe = Probe::start();
    let script = "request_headers { log 0 'l0'; log 2 'an info line'; log 3 'a warning'; log 5 'critical'; log 6 'none'; \
                  get_log_level & }";
    assert_eq!(probe.saw(script).of("request_headers"), "log=0 log=0 log=0 log=0 log=2 get_log_level=0:2");
    probe.gateway.await_log("an info line");
    probe.gateway.await_log("a warning");
}

#[test]
fn the_clock_is_the_wall_s() {
    let probe = Probe::start();
    let saw = probe.saw("request_headers { get_current_time_nanoseconds &8 }");
    let told = saw.of("request_headers").rsplit(':').next().unwrap().parse::<u128>().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    assert!(now.abs_diff(told) < 5_000_000_000, "{told} at {now}");
}

#[test]
fn unknown_numbers_are_bad_arguments() {
    let probe = Probe::start();
    let script = "request_headers { get_header_map_value 9 'a' &&; add_header_map_value 9 'a' 'b'; \
                  get_header_map_pairs 9 &&; get_header_map_size 9 &; remove_header_map_value 9 'a'; \
                  set_header_map_pairs 9 [a=b]; get_buffer_bytes 9 0 10 &&; set_buffer_bytes 9 0 0 'a'; \
                  get_buffer_status 9 & &; continue_stream 9; close_stream 9; define_metric 3 'a' & }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "get_header_map_value=2: add_header_map_value=2 get_header_map_pairs=2: get_header_map_size=2:0 \
         remove_header_map_value=2 set_header_map_pairs=2 get_buffer_bytes=2: set_buffer_bytes=2 \
         get_buffer_status=2:0:0 continue_stream=2 close_stream=2 define_metric=2:0"
    );
}

#[test]
fn an_unknown_foreign_function_is_not_found() {
    let probe = Probe::start();
    let script = "request_headers { call_foreign_function 'none' 'a' &&; call_foreign_function 'clear_route_cache' '' &&; \
                  call_foreign_function 'clear_route_cache' '' 0 0 }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "call_foreign_function=1: call_foreign_function=0: call_foreign_function=0"
    );
}

#[test]
fn the_functions_of_the_decision_filters_are_unknown_to_others() {
    let probe = Probe::start();
    let names = ["portolan_admit", "portolan_report", "portolan_eject", "portolan_found_route", "portolan_split"];
    // Arguments of a right length each, so that nothing but the caller is what refuses.
    let sizes = [20, 1, 12, 20, 0];
    for phase in ["request_headers", "response_headers"] {
        let calls = names.iter().zip(sizes).map(|(name, size)| {
            let arguments = "a".repeat(size);
            format!("call_foreign_function '{name}' '{arguments}' &&")
        });
        let saw = probe.saw(&format!("{phase} {{ {} }}", calls.collect::<Vec<_>>().join("; ")));
        assert_eq!(saw.of(phase), vec!["call_foreign_function=1:"; names.len()].join(" "), "{phase}");
    }
    let clusters = probe.gateway.admin("/clusters").text();
    assert!(clusters.contains("::health_flags::healthy"), "nobody is out: {clusters}");
}

#[test]
fn a_changed_request_is_routed_anew() {
    let probe = Probe::start();
    let other = Upstream::start("other");
    probe.gateway.write("other.yaml", &service_entry("other.test", &[("v1", other.address())]));
    let rules = "- match: [{uri: {prefix: /other}}]\n  route: [{destination: {host: other.test}}]\n\
                 - route: [{destination: {host: app.test}}]\n";
    probe.gateway.replace("routes.yaml", routes(rules));
    probe.gateway.await_answer("h", "/other", |response| response.upstream() == "other");
    assert_eq!(probe.get("request_headers { is 1 }").upstream(), "app");
    assert_eq!(probe.get("request_headers { replace_header_map_value 0 ':path' '/other/x' }").upstream(), "other");
}

#[test]
fn wasi_answers_as_in_envoy() {
    let probe = Probe::with("  vmConfig: {env: [{name: A, value: bc}]}\n");
    let script = "request_headers { args_get 0 0; args_sizes_get & &; environ_sizes_get & &; clock_time_get 0 0 0; \
                  clock_time_get 2 0 &8; clock_res_get 0 &8; clock_res_get 5 &8; fd_close 1; fd_fdstat_get 5 &8; \
                  fd_fdstat_set_flags 1 0; fd_prestat_get 3 &8; fd_write 1 0 0 &; fd_write 5 0 0 &; \
                  path_open 3 0 'a' 0 0 0 0 &; poll_oneoff 0 0 0 &; random_get 65536 8; random_get 65536 65537; \
                  sched_yield }";
    assert_eq!(
        probe.saw(script).of("request_headers"),
        "args_get=0 args_sizes_get=0:0:0 environ_sizes_get=0:1:5 clock_time_get=0 clock_time_get=58:0 \
         clock_res_get=0:1 clock_res_get=58:0 fd_close=0 fd_fdstat_get=8:0 fd_fdstat_set_flags=52 fd_prestat_get=8:0 \
         fd_write=0:0 fd_write=8:0 path_open=44:0 poll_oneoff=0:0 random_get=0 random_get=28 sched_yield=0"
    );
}

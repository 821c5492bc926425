//! Routes that a filter does not see, while it is attacked.

use std::time::Duration;

use crate::support::client::Request;
use crate::support::load::{Load, Report};
use crate::support::probe::{self, asking, options, plugin_of};
use crate::support::upstream::Upstream;
use crate::support::{await_true, client};

/// Requests without the filter over this long a time.
const TIME: Duration = Duration::from_secs(3);

fn p99(report: &Report) -> Duration {
    report.latencies[report.latencies.len() * 99 / 100]
}

#[test]
fn other_routes_are_served_while_a_filter_is_attacked() {
    let app = Upstream::start("app");
    let matched = plugin_of("probe", &probe::module(), "").replace(
        "metadata:\n  name: probe\n",
        "metadata:\n  name: probe\n  annotations:\n    portolan.dev/match: '[{paths: [{prefix: /attacked}]}]'\n",
    );
    let gateway = options(&app).file("plugin.yaml", matched).start();
    let load = || {
        let load = Load::start(gateway.address(), &Request::get("h", "/other"), 4);
        std::thread::sleep(TIME);
        load
    };
    let trap = Request::new("GET", "h", "/attacked").header("x-do", "request_headers { trap }");
    assert_eq!(gateway.send(&trap).status, 503, "the filter sees this route");
    let calm = load().stop();
    calm.assert_no_failures();
    for deed in ["spin", "trap", "recurse", "bomb", "times 100 { log 2 'flood' }"] {
        let attacker = {
            let (address, request) = (gateway.address(), asking(&format!("request_headers {{ {deed} }}")));
            let request = String::from_utf8(request.to_bytes()).unwrap().replacen("GET / ", "GET /attacked ", 1);
            move || {
                let sent = client::Connection::open(address).and_then(|mut connection| {
                    connection.send(request.as_bytes())?;
                    connection.response(false)
                });
                sent.is_ok_and(|response| [200, 503].contains(&response.status))
            }
        };
        let stop = std::sync::atomic::AtomicBool::new(false);
        let report = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                            assert!(attacker(), "an answer to {deed}");
                        }
                    })
                })
                .collect();
            let report = load().stop();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            report
        });
        report.assert_no_failures();
        println!("{deed}: {} requests, p99 {:?}, calm {:?}", report.answered, p99(&report), p99(&calm));
        // Numbers for a busy machine: a loop holds a worker for 100 ms of CPU time before the filter is put aside.
        assert!(p99(&report) < Duration::from_millis(500).max(p99(&calm) * 4), "{deed}: {:?}", p99(&report));
        assert!(report.answered > calm.answered / 10, "{deed}: {} of {}", report.answered, calm.answered);
    }
    await_true("the attacked route to be served", || gateway.get("h", "/attacked").status == 200);
}

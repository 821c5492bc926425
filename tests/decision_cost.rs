//! What single decisions of the library's filters cost, in the host that the gateway has. Measurements: each is run alone,
//! optimised, on a quiet machine:
//!
//! ```sh
//! cargo test --release --workspace --test decision_cost -- --ignored --nocapture --test-threads 1
//! ```
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use std::sync::Arc;
use std::time::Duration;

use cpu_time::ThreadTime;
use portolan_wasm::{Engine, EngineOptions, FilterAction, ModuleStore, PluginVm, Shared, StreamState, VmSettings};

fn start(filter: &str, configuration: &str, shared: &Arc<Shared>) -> PluginVm<()> {
    let store = ModuleStore::new(Engine::new(&EngineOptions::default()).unwrap());
    let module = store.load(portolan_filters::bundled(filter).unwrap()).unwrap();
    let settings = VmSettings { configuration: configuration.as_bytes().to_vec(), ..VmSettings::default() };
    PluginVm::start(&module, &Arc::new(settings), shared).unwrap()
}

/// A request with one header.
fn stream(name: &str, value: &str) -> Box<StreamState<()>> {
    let (parts, ()) = http::Request::get("/").header(name, value).body(()).unwrap().into_parts();
    Box::new(StreamState::new(parts, "http", ()))
}

/// Requests of one batch.
const BATCH: u32 = 10_000;

/// The CPU time of one request, with all that this test does for it: of so many batches the quickest, since what else
/// the machine does only adds to it, and the median.
fn cost(vm: &mut PluginVm<()>, batches: u32, name: &str, value: impl Fn(u32) -> String) -> [Duration; 2] {
    let mut times: Vec<Duration> = (0..batches)
        .map(|batch| {
            let start = ThreadTime::now();
            for number in batch * BATCH..(batch + 1) * BATCH {
                let (state, id) = vm.new_stream(stream(name, &value(number)));
                let id = id.unwrap();
                let (state, action) = vm.on_request_headers(id, state, true);
                assert!(matches!(action.unwrap(), FilterAction::Continue));
                drop(vm.end_stream(id, state));
            }
            start.elapsed() / BATCH
        })
        .collect();
    times.sort();
    [times[0], times[times.len() / 2]]
}

const LIMIT: &str = r#"{"rules": [{"name": "r", "descriptors": [{"header": "x-user"}],
    "tokenBucket": {"maxTokens": 1000000, "fillInterval": "1s"}}]}"#;

#[test]
#[ignore = "a measurement"]
fn a_rate_limit_decision_takes_less_than_a_microsecond() {
    let mut vm = start("rate-limit", LIMIT, &Shared::new());
    // The same callback without a decision: the rule does not apply.
    let without = cost(&mut vm, 20, "x-none", |number| format!("user-{number}"));
    println!("a request without a decision: {without:?} (quickest of batches, median)");
    let mut decision = |what: &str, batches: u32, value: &dyn Fn(u32) -> String| {
        let with = cost(&mut vm, batches, "x-user", value);
        let times = [0, 1].map(|place| with[place].saturating_sub(without[place]));
        println!("decision, {what}: {times:?}");
        times[0]
    };
    let times = [
        decision("a new key each time, a million of them", 100, &|number| format!("user-{number}")),
        decision("a known one of a million", 20, &|number| format!("user-{}", number * 7_919 % 1_000_000)),
        decision("always the same key", 20, &|_| "hot".to_owned()),
    ];
    assert!(times.iter().all(|time| *time < Duration::from_micros(1)), "{times:?}");
}

#[test]
#[ignore = "a measurement"]
fn what_a_password_takes() {
    for (kind, hash) in [
        ("{SHA}", "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="),
        ("$apr1$", "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"),
        ("bcrypt of cost 5", "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"),
    ] {
        let config = format!(r#"{{"users": "a:{hash}", "maxCpuPerSecond": "1s"}}"#);
        let mut vm = start("basic-auth", &config, &Shared::new());
        let mut wrong = || {
            let start = ThreadTime::now();
            // `a:wrong` in Base64.
            let (state, id) = vm.new_stream(stream("authorization", "Basic YTp3cm9uZw=="));
            let id = id.unwrap();
            let (state, action) = vm.on_request_headers(id, state, true);
            let is_done = matches!(action.unwrap(), FilterAction::Reply);
            drop(vm.end_stream(id, state));
            is_done.then(|| start.elapsed())
        };
        let quickest = (0..40).filter_map(|_| wrong()).min().unwrap();
        println!("{kind}: {quickest:?} for a wrong password");
    }
}

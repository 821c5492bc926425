//! Load, faults and changes for a while: memory and descriptors stay within bounds, and what can be answered is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::Options;
use crate::support::load::Load;
use crate::support::upstream::Upstream;

/// Seconds, unless `PORTOLAN_TEST_SOAK` says otherwise.
const TIME: u64 = 20;
/// What may come beside the state after a quarter of the time.
const MORE_MEMORY: u64 = 32 * 1024 * 1024;
const MORE_DESCRIPTORS: usize = 32;

/// What the misbehaving upstream is told, one after the other.
const ORDERS: [&str; 7] = ["close", "half", "status 503", "delay 30", "bytes 300000", "chunks 500", "status 200"];

/// Sends requests that fail in every way, and goes away in the middle of some.
fn misbehave(address: std::net::SocketAddr, stop: &AtomicBool) {
    for (number, order) in ORDERS.iter().cycle().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut connection) = Connection::open(address) else { continue };
        let request = Request::new(if number % 3 == 0 { "POST" } else { "GET" }, "h", "/chaos").order(order);
        let sent = connection.send(&request.to_bytes());
        if number % 5 != 0 && sent.is_ok() {
            // Cut and refused answers are what is ordered.
            let _ = connection.response(false);
        }
    }
}

#[test]
fn load_faults_and_changes_for_a_while_leave_no_memory_and_no_descriptor_behind() {
    let seconds = std::env::var("PORTOLAN_TEST_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(TIME);
    let (good, bad) = (Upstream::start("good"), Upstream::start("bad"));
    let table = |number: usize| {
        routes(&format!(
            "- match: [{{uri: {{prefix: /chaos}}}}]\n  route: [{{destination: {{host: bad.test}}}}]\n\
             - route: [{{destination: {{host: good.test}}}}]\n  headers: {{response: {{set: {{x-generation: '{number}'}}}}}}\n"
        ))
    };
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", table(0))
        .file("good.yaml", service_entry("good.test", &[("v1", good.address())]))
        .file("bad.yaml", service_entry("bad.test", &[("v1", bad.address())]))
        .start();
    let load = Load::start(gateway.address(), &Request::get("h", "/load"), 2);
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let mut settled = None;
    std::thread::scope(|scope| {
        scope.spawn(|| misbehave(gateway.address(), &stop));
        let mut number = 0;
        while start.elapsed() < Duration::from_secs(seconds) {
            number += 1;
            gateway.replace("routes.yaml", table(number));
            gateway.await_answer("h", "/", |answer| answer.header("x-generation") == Some(&number.to_string()));
            if settled.is_none() && start.elapsed() > Duration::from_secs(seconds / 4) {
                settled = Some((gateway.resident_bytes(), gateway.open_descriptors()));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    load.stop().assert_no_failures();
    let (memory, descriptors) = settled.expect("a quarter of the time is over");
    await_true("descriptors to be closed", || gateway.open_descriptors() <= descriptors + MORE_DESCRIPTORS);
    let after = gateway.resident_bytes();
    assert!(after <= memory + MORE_MEMORY, "{memory} bytes have become {after}");
}

//! Clients of HTTP/2 that ask for work and give nothing: each is sent away within a thousand frames, and others are served.

use std::net::SocketAddr;

use crate::support::DEADLINE;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::upstream::Upstream;

const CALM: u32 = 11;
const MIB: u64 = 1024 * 1024;

fn start(upstream: &Upstream) -> Gateway {
    let files = routes("- route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])];
    Options::new().file("app.yaml", files.concat()).start()
}

fn head(flags: u8, stream: u32) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(&request("POST", "/", &[("x-order", "delay 20")])))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}

/// Sends ten of them and awaits an answer, again and again: how many until the connection ended, and with which code.
fn flood(address: SocketAddr, begin: &[u8], mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, Option<u32>) {
    let mut client = RawHttp2::connect(address, &[]);
    client.send(begin);
    let mut sent = 0;
    while !client.closed && sent < 2000 {
        for _ in 0..10 {
            client.send(&next(sent));
            sent += 1;
        }
        client.is_alive();
    }
    (sent, client.goaway())
}

fn is_served(address: SocketAddr) {
    let mut other = RawHttp2::connect(address, &[]);
    other.send(&frame(HEADERS, WHOLE, 1, &block(&request("GET", "/", &[]))));
    other.until(DEADLINE, |other| other.has_ended(1));
    assert_eq!(other.status(1), Some(200));
}

#[test]
fn floods_are_told_to_calm_down_within_a_thousand_frames() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let before = gateway.resident_bytes();
    let (address, id) = (gateway.address(), |n: u32| 2 * n + 1);
    let waiting = frame(HEADERS, WHOLE, 1, &block(&request("GET", "/", &[("x-order", "delay 3000")])));
    type Next<'a> = Box<dyn FnMut(u32) -> Vec<u8> + 'a>;
    let open = frame(HEADERS, END_HEADERS, 1, &block(&request("POST", "/", &[])));
    let cases: [(&str, &[u8], Next<'_>); 14] = [
        ("empty DATA", &open, Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("PING", &[], Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("answers to PING", &[], Box::new(|_| frame(PING, 1, 0, &[0; 8]))),
        ("SETTINGS", &[], Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("windows up and down", &waiting, Box::new(|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, n as u8]))),
        ("PRIORITY", &[], Box::new(|n| frame(PRIORITY, 0, id(n), &[0; 5]))),
        ("WINDOW_UPDATE", &[], Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("WINDOW_UPDATE of a stream", &waiting, Box::new(|_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]))),
        ("unknown frames", &[], Box::new(|_| frame(99, 0, 0, b"x"))),
        ("rapid reset", &[], Box::new(|n| [head(WHOLE, id(n)), reset(id(n))].concat())),
        ("reset again", &waiting, Box::new(|_| reset(1))),
        (
            "made you reset",
            &[],
            Box::new(|n| [head(WHOLE, id(n)), frame(WINDOW_UPDATE, 0, id(n), &[127, 255, 255, 255])].concat()),
        ),
        (
            "depends on itself",
            &[],
            Box::new(|n| {
                [head(WHOLE, id(n)), frame(PRIORITY, 0, id(n), &[&id(n).to_be_bytes()[..], &[0]].concat())].concat()
            }),
        ),
        (
            "a body too long",
            &[],
            Box::new(|n| {
                let fields = request("POST", "/", &[("content-length", "1")]);
                [frame(HEADERS, END_HEADERS, id(n), &block(&fields)), frame(DATA, 1, id(n), b"xx")].concat()
            }),
        ),
    ];
    for (name, begin, next) in cases {
        let (sent, code) = flood(address, begin, next);
        assert!(sent <= 1000 && code == Some(CALM), "{name}: {sent} {code:?}");
        is_served(address);
    }
    for (name, at_least) in [
        ("envoy_http2_outbound_control_flood", 8.0),
        ("envoy_http2_inbound_priority_frames_flood", 1.0),
        ("envoy_http2_inbound_empty_frames_flood", 1.0),
        ("envoy_http2_inbound_window_update_frames_flood", 2.0),
        ("envoy_http_downstream_rq_too_many_premature_resets", 2.0),
        ("envoy_http2_rx_reset", 20.0),
    ] {
        assert!(gateway.metric(name, &[]) >= at_least, "{name}: {}", gateway.metric(name, &[]));
    }
    assert!(gateway.resident_bytes() < before + 64 * MIB);
}

#[test]
fn clients_that_flood_are_told_of_once_in_a_while() {
    let upstream = Upstream::start("app");
    let gateway = Options::new()
        .file("app.yaml", [ANY_GATEWAY, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])].concat())
        .start();
    for _ in 0..6 {
        assert_eq!(flood(gateway.address(), &[], |_| frame(PING, 0, 0, &[0; 8])).1, Some(CALM));
    }
    gateway.await_log("a client floods and is sent away: ENHANCE_YOUR_CALM peer=127.0.0.1:");
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("a client floods")).collect();
    assert!(
        told.iter().all(|line| line.contains(&format!("listener=0.0.0.0:{}", gateway.address().port()))),
        "{told:?}"
    );
    // Each worker tells its first, unless that took more than 10 s.
    assert!(told.len() < 6, "{told:?}");
}

#[test]
fn requests_reset_after_they_were_passed_on_are_a_flood_too() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let mut streams = 0;
    while !client.closed && streams < 1000 {
        let stream = 2 * streams + 1;
        client.send(&head(WHOLE, stream));
        client.is_alive();
        client.send(&reset(stream));
        streams += 1;
    }
    client.until(DEADLINE, |client| client.closed);
    assert!(client.closed && streams <= 500, "{streams}");
    is_served(gateway.address());
}

#[test]
fn what_a_client_gets_lets_it_send_more() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    // Small windows: many updates for what was read.
    let fields = block(&request("GET", "/", &[("x-order", "chunks 5000")]));
    for round in 0..3 {
        let stream = 2 * round + 1;
        client.send(&frame(HEADERS, WHOLE, stream, &fields));
        let mut acknowledged = 0;
        while !client.has_ended(stream) {
            let seen = client.of(DATA, stream).count();
            for _ in acknowledged..seen {
                client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 10]));
                client.send(&frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 10]));
            }
            acknowledged = seen;
            let grown =
                client.until(DEADLINE, |client| client.has_ended(stream) || client.of(DATA, stream).count() > seen);
            assert!(grown && !client.closed, "{:?}", client.goaway());
        }
        assert_eq!(client.body(stream).len(), 50_000);
    }
    assert!(client.is_alive());
}

#[test]
fn bombs_in_heads_are_refused_in_little_memory() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let before = gateway.resident_bytes();
    let pseudo = block(&request("GET", "/", &[]));
    // An entry of the table, and then 14,000 times its number.
    for (name, entry) in [
        ("a field", [&b"\x40\x03x-a\x7f\xa1\x1e"[..], &[b'a'; 4000]].concat()),
        ("cookies", [&b"\x60\x7f\xa1\x1e"[..], &[b'c'; 4000]].concat()),
        ("hosts", b"\x66\x08app.test".to_vec()),
    ] {
        let mut client = RawHttp2::connect(gateway.address(), &[]);
        client.send(&frame(HEADERS, WHOLE, 1, &[&pseudo[..], &entry].concat()));
        for number in 1..50 {
            client.send(&frame(HEADERS, WHOLE, 2 * number + 1, &[&pseudo[..], &[0xbe; 14_000]].concat()));
        }
        client.until(DEADLINE, |client| client.closed || client.has_ended(99));
        let refused = |stream: u32| client.status(stream).is_none_or(|status| status == 431);
        assert!(client.closed || (1..50).all(|number| refused(2 * number + 1)), "{name}");
        is_served(gateway.address());
    }
    // A head without an end.
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&frame(HEADERS, END_STREAM, 1, &pseudo));
    for _ in 0..100 {
        client.send(&frame(CONTINUATION, 0, 1, &block(&[("x-a", &"a".repeat(1000))])));
    }
    client.until(DEADLINE, |client| client.closed);
    assert!(client.closed && client.goaway() == Some(CALM));
    assert!(gateway.resident_bytes() < before + 64 * MIB);
}

#[test]
fn a_client_that_shuts_its_windows_costs_little() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    is_served(gateway.address());
    let before = gateway.resident_bytes();
    let mut client = RawHttp2::connect(gateway.address(), &[0, 4, 0, 0, 0, 0]);
    let fields = block(&request("GET", "/", &[("x-order", "bytes 20000000")]));
    for number in 0..100 {
        client.send(&frame(HEADERS, WHOLE, 2 * number + 1, &fields));
    }
    assert!(client.until(DEADLINE, |client| (0..100).all(|number| client.status_seen(2 * number + 1))));
    is_served(gateway.address());
    assert!(client.is_alive() && client.frames.iter().all(|frame| frame.kind != DATA));
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{grown}");
}

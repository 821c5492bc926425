//! How connections of HTTP/2 end when the gateway drains: what a client has sent before it knew of that is answered, and what it
//! is still reading is not taken from it.

use std::time::Duration;

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::{DATA, HEADERS};
use crate::support::h2::{
    END_HEADERS, END_STREAM, Frame, GOAWAY, PING, RawHttp2, WHOLE, WINDOW_UPDATE, block, frame, request,
};
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_true};

/// Longer than what one packet may hold, and shorter than what the system keeps of it.
const LARGE: usize = 300_000;

fn start(app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.backend}}]\n"))
        .file("app.yaml", service_entry("app.backend", &[("v1", app.address())]))
        .argument("--minimum-drain-time")
        .argument("100ms")
        .start()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &block(&request("GET", path, &[])))
}

/// The PING that asks whether GOAWAY was read.
fn ping(client: &RawHttp2) -> Option<&Frame> {
    client.of(PING, 0).find(|frame| frame.flags == 0)
}

/// The last streams of all GOAWAYs.
fn last_streams(client: &RawHttp2) -> Vec<u32> {
    client.of(GOAWAY, 0).map(|frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap())).collect()
}

#[test]
fn a_request_that_comes_behind_the_answer_to_goaways_ping_is_served() {
    let app = Upstream::start("app");
    let mut gateway = start(&app);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&get(1, "/first"));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    gateway.signal("TERM");
    assert!(client.until(DEADLINE, |client| ping(client).is_some()));
    let answer = frame(PING, 1, 0, &ping(&client).unwrap().payload);
    // A client writes the answer first, and then what had waited to be written; its body comes later.
    let head = frame(HEADERS, END_HEADERS, 3, &block(&request("POST", "/late", &[])));
    client.send(&[answer, head, get(5, "/later")].concat());
    assert!(client.until(DEADLINE, |client| client.has_ended(5)));
    client.send(&frame(DATA, END_STREAM, 3, b"body"));
    assert!(client.until(DEADLINE, |client| client.closed));
    assert_eq!((client.status(1), client.status(3), client.status(5)), (Some(200), Some(200), Some(200)));
    assert_eq!(last_streams(&client), [0x7fff_ffff, 5], "then it is said which was the last");
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_an_answer_that_was_the_last() {
    let app = Upstream::start("app");
    app.always(&format!("bytes {LARGE}"));
    let mut gateway = start(&app);
    let window = [0, 4, 0, 16, 0, 0];
    let more = frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
    let mut client = RawHttp2::connect_with_small_buffer(gateway.address(), &window);
    client.send(&[more, get(1, "/large")].concat());
    // All of it is on its way, most of it in the gateway's socket.
    gateway.await_access("/large");
    gateway.signal("TERM");
    // What it would answer to the PING, which it has not read yet.
    let answer = frame(PING, 1, 0, b"\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54");
    client.send(&answer);
    // It says that it has read a little, over and over: after a second the gateway has nothing more to say.
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(100));
        client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    }
    assert!(client.until(DEADLINE, |client| client.closed));
    assert!(client.has_ended(1));
    assert_eq!(client.body(1).len(), LARGE);
    assert_eq!(last_streams(&client), [0x7fff_ffff, 1]);
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn a_client_that_does_not_close_is_not_waited_for() {
    let app = Upstream::start("app");
    let mut gateway = start(&app);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&get(1, "/"));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    gateway.signal("TERM");
    assert!(client.until(DEADLINE, |client| ping(client).is_some()));
    let answer = frame(PING, 1, 0, &ping(&client).unwrap().payload);
    client.send(&answer);
    await_true("the gateway's end", || !gateway.is_running());
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!(gateway.log().contains("every request was finished"));
}

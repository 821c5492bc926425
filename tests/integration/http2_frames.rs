//! HTTP/2 as RFC 9113 and RFC 7541 have it: what h2spec asks, section by section, and what a request must not be.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_true};

fn start(upstream: &Upstream) -> Gateway {
    let files = routes("- route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])];
    Options::new().file("app.yaml", files.concat()).start()
}

/// What must come of a case.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// The stream has this answer.
    Status(u16),
    /// GOAWAY with one of these codes; the connection ends.
    Goaway(&'static [u32]),
    /// The stream is reset or refused, or the whole connection ends.
    Refused,
    /// Nothing comes of it.
    Ignored,
}
use Expect::*;

const PROTOCOL: Expect = Goaway(&[1]);
const FLOW: Expect = Goaway(&[3]);
const SIZE: Expect = Goaway(&[1, 6]);
const COMPRESSION: Expect = Goaway(&[9]);
const CLOSED: Expect = Goaway(&[1, 5]);

fn get() -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, &block(&request("GET", "/", &[])))
}

/// Answered only after a while.
fn slow(flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, 1, &block(&request("POST", "/", &[("x-order", "delay 300")])))
}

fn setting(number: u16, value: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Sends it after preface and SETTINGS and looks at stream 1.
fn check(address: SocketAddr, name: &str, bytes: &[u8], expect: Expect) {
    let mut client = RawHttp2::connect(address, &[]);
    client.send(bytes);
    judge(&mut client, name, expect);
}

fn judge(client: &mut RawHttp2, name: &str, expect: Expect) {
    match expect {
        Status(status) => {
            client.until(DEADLINE, |client| client.has_ended(1));
            assert_eq!(client.status(1), Some(status), "{name}: {:?}", client.frames);
        }
        Goaway(codes) => {
            client.until(DEADLINE, |client| client.closed);
            let code = client.goaway();
            assert!(client.closed && code.is_some_and(|code| codes.contains(&code)), "{name}: {:?}", client.frames);
        }
        Refused => {
            client.until(DEADLINE, |client| client.has_ended(1));
            let refused = client.reset(1).is_some() || client.status(1).is_some_and(|status| status == 400);
            assert!(refused || client.closed, "{name}: {:?}", client.frames);
        }
        Ignored => assert!(client.is_alive() && client.reset(1).is_none(), "{name}: {:?}", client.frames),
    }
}

fn check_all(cases: &[(&str, Vec<u8>, Expect)]) -> usize {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    for (name, bytes, expect) in cases {
        check(gateway.address(), name, bytes, *expect);
    }
    // None of them has harmed it.
    check(gateway.address(), "after all", &get(), Status(200));
    assert_eq!(gateway.metric("portolan_panics_total", &[]), 0.0);
    upstream.requests()
}

#[test]
fn frames_that_must_not_be_end_the_connection() {
    let post = slow(END_HEADERS);
    let head = block(&request("GET", "/", &[]));
    check_all(&[
        ("4.1 unknown kind", frame(22, 0, 0, &[0; 8]), Ignored),
        ("4.1 unknown flags", frame(PING, 0x16, 0, &[0; 8]), Ignored),
        ("4.1 reserved bit", frame(PING, 0, 1 << 31, &[0; 8]), Ignored),
        ("4.2 longest", join(&[&post, &frame(DATA, END_STREAM, 1, &[0; 16_384])]), Status(200)),
        ("4.2 too long", join(&[&post, &frame(DATA, END_STREAM, 1, &[0; 16_385])]), SIZE),
        ("4.2 head too long", frame(HEADERS, WHOLE, 1, &[0; 16_385]), SIZE),
        ("4.3 broken block", frame(HEADERS, WHOLE, 1, b"\x00\x05abc"), COMPRESSION),
        (
            "4.3 PRIORITY within",
            join(&[&frame(HEADERS, 1, 1, &head), &frame(PRIORITY, 0, 1, &[0; 5]), &frame(CONTINUATION, 4, 1, b"")]),
            PROTOCOL,
        ),
        ("4.3 another head within", join(&[&frame(HEADERS, 1, 1, &head), &frame(HEADERS, WHOLE, 3, &head)]), PROTOCOL),
        ("5.1 DATA of an idle stream", frame(DATA, 1, 1, b"x"), PROTOCOL),
        ("5.1 RST_STREAM of an idle stream", frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), PROTOCOL),
        ("5.1 WINDOW_UPDATE of an idle stream", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 8]), PROTOCOL),
        ("5.1 CONTINUATION of an idle stream", frame(CONTINUATION, 4, 1, &head), PROTOCOL),
        ("5.1 DATA after the end", join(&[&slow(WHOLE), &frame(DATA, 1, 1, b"x")]), CLOSED),
        ("5.1 a head after the end", join(&[&slow(WHOLE), &get()]), CLOSED),
        ("5.1 CONTINUATION after the end", join(&[&slow(WHOLE), &frame(CONTINUATION, 4, 1, &head)]), CLOSED),
        (
            "5.1 DATA after RST_STREAM",
            join(&[&post, &frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]), &frame(DATA, 1, 1, b"x")]),
            Refused,
        ),
        ("5.1.1 an even number", frame(HEADERS, WHOLE, 2, &head), PROTOCOL),
        ("5.1.1 a lower number", join(&[&frame(HEADERS, WHOLE, 5, &head), &frame(HEADERS, WHOLE, 3, &head)]), PROTOCOL),
        (
            "5.3.1 depends on itself",
            frame(HEADERS, WHOLE | HAS_PRIORITY, 1, &join(&[&[0, 0, 0, 1, 9], &head])),
            Refused,
        ),
        ("5.5 unknown kind within a head", join(&[&frame(HEADERS, 1, 1, &head), &frame(22, 0, 1, b"x")]), PROTOCOL),
    ]);
}

#[test]
fn each_kind_of_frame_has_its_own_rules() {
    let post = slow(END_HEADERS);
    let head = block(&request("GET", "/", &[]));
    check_all(&[
        ("6.1 DATA of no stream", frame(DATA, 1, 0, b"x"), PROTOCOL),
        ("6.1 padding", join(&[&post, &frame(DATA, 1 | PADDED, 1, b"\x02test\0\0")]), Status(200)),
        ("6.1 too much padding", join(&[&post, &frame(DATA, 1 | PADDED, 1, b"\x06test")]), PROTOCOL),
        ("6.2 a head of no stream", frame(HEADERS, WHOLE, 0, &head), PROTOCOL),
        ("6.2 too much padding", frame(HEADERS, WHOLE | PADDED, 1, &join(&[&[255], &head])), PROTOCOL),
        ("6.3 PRIORITY of no stream", frame(PRIORITY, 0, 0, &[0; 5]), PROTOCOL),
        ("6.3 its length", frame(PRIORITY, 0, 1, &[0; 4]), SIZE),
        ("6.4 RST_STREAM of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), PROTOCOL),
        ("6.4 its length", join(&[&post, &frame(RST_STREAM, 0, 1, &[0; 3])]), SIZE),
        ("6.5 SETTINGS of a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL),
        ("6.5 their length", frame(SETTINGS, 0, 0, &[0; 3]), SIZE),
        ("6.5 an answer with something in it", frame(SETTINGS, 1, 0, &[0; 6]), SIZE),
        ("6.5.2 push", frame(SETTINGS, 0, 0, &setting(2, 2)), PROTOCOL),
        ("6.5.2 window", frame(SETTINGS, 0, 0, &setting(4, 1 << 31)), FLOW),
        ("6.5.2 short frames", frame(SETTINGS, 0, 0, &setting(5, 16_383)), PROTOCOL),
        ("6.5.2 long frames", frame(SETTINGS, 0, 0, &setting(5, 1 << 24)), PROTOCOL),
        ("6.5.2 an unknown one", frame(SETTINGS, 0, 0, &setting(255, 1)), Ignored),
        ("6.6 PUSH_PROMISE", join(&[&post, &frame(PUSH_PROMISE, 4, 1, &join(&[&[0, 0, 0, 2], &head]))]), PROTOCOL),
        ("6.7 PING of a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL),
        ("6.7 its length", frame(PING, 0, 0, &[0; 6]), SIZE),
        ("6.7 an answer", frame(PING, 1, 0, &[0; 8]), Ignored),
        ("6.8 GOAWAY of a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL),
        ("6.9 nothing for the connection", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), PROTOCOL),
        ("6.9 nothing for a stream", join(&[&post, &frame(WINDOW_UPDATE, 0, 1, &[0; 4])]), Refused),
        ("6.9 its length", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE),
        ("6.9.1 the connection's bound", frame(WINDOW_UPDATE, 0, 0, &[127, 255, 255, 255]).repeat(2), FLOW),
        ("6.9.1 a stream's", join(&[&post, &frame(WINDOW_UPDATE, 0, 1, &[127, 255, 255, 255]).repeat(2)]), Refused),
        ("6.10 after the end", join(&[&get(), &frame(CONTINUATION, 4, 1, b"")]), CLOSED),
        ("6.10 of no stream", join(&[&frame(HEADERS, 1, 1, &head), &frame(CONTINUATION, 4, 0, b"")]), PROTOCOL),
        ("6.10 of another", join(&[&frame(HEADERS, 1, 1, &head), &frame(CONTINUATION, 4, 3, b"")]), PROTOCOL),
        ("6.10 after DATA", join(&[&post, &frame(DATA, 0, 1, b"x"), &frame(CONTINUATION, 4, 1, b"")]), PROTOCOL),
        (
            "6.10 several",
            join(&[&frame(HEADERS, 1, 1, &head), &frame(CONTINUATION, 0, 1, b""), &frame(CONTINUATION, 4, 1, b"")]),
            Status(200),
        ),
    ]);
}

#[test]
fn blocks_that_hpack_does_not_know_end_the_connection() {
    let with = |tail: &[u8]| frame(HEADERS, WHOLE, 1, &join(&[&block(&request("GET", "/", &[])), tail]));
    let long = frame(HEADERS, WHOLE, 1, &join(&[b"\x3f\xe1\xff\x03", &block(&request("GET", "/", &[]))]));
    check_all(&[
        ("2.3.3 no such entry", with(b"\xc6"), COMPRESSION),
        ("4.2 a size at the end", with(b"\x20"), COMPRESSION),
        ("5.1 a number too long", with(&[255; 20]), COMPRESSION),
        ("5.2 padding too long", with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"), COMPRESSION),
        ("5.2 padding of zeroes", with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"), COMPRESSION),
        ("5.2 the end within", with(b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"), COMPRESSION),
        ("6.1 entry 0", with(b"\x80"), COMPRESSION),
        ("6.3 a size too large", long, COMPRESSION),
    ]);
}

/// Fields of which one makes a request malformed.
const FIELDS: &[(&str, &str)] = &[
    ("X-Upper", "1"),
    ("x y", "1"),
    ("x:y", "1"),
    ("", "1"),
    ("x\x01", "1"),
    ("x", "a\0b"),
    ("x", "a\nb"),
    ("x", "a\rb"),
    (":test", "1"),
    (":status", "200"),
    (":path", "/again"),
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "app.test"),
    (":protocol", "websocket"),
    ("connection", "close"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("te", "gzip"),
    ("te", "trailers, deflate"),
    ("host", "other.test"),
    ("host", ""),
    ("content-length", "5"),
    ("content-length", "+0"),
    ("content-length", "0x0"),
    ("content-length", ""),
    ("content-length", "99999999999999999999999"),
];

#[test]
fn malformed_requests_are_refused_and_reach_no_upstream() {
    let mut cases = Vec::new();
    let head =
        |name: &str, fields: &[(&str, &str)]| (name.to_owned(), frame(HEADERS, WHOLE, 1, &block(fields)), Refused);
    for (name, value) in FIELDS {
        cases.push(head(&format!("8.2 {name}: {value:?}"), &request("GET", "/", &[(*name, *value)])));
    }
    let whole = request("GET", "/", &[]);
    for missing in 0..3 {
        let fields: Vec<_> =
            whole.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, field)| *field).collect();
        cases.push(head(&format!("8.3.1 without {}", whole[missing].0), &fields));
    }
    cases.push(head("8.3.1 without a host", &whole[..3]));
    let twice = [("host", "app.test"), ("host", "app.test")];
    cases.push(head("8.3.1 two hosts", &request("GET", "/", &twice)));
    let twice = [("content-length", "0"), ("content-length", "0")];
    cases.push(head("8.1.1 two lengths", &request("POST", "/", &twice)));
    for scheme in ["", "1x"] {
        let mut fields = whole.clone();
        fields[1].1 = scheme;
        cases.push(head(&format!("8.3.1 scheme {scheme:?}"), &fields));
    }
    cases.push(head("8.3 pseudo-fields after others", &[&[("x", "1")], &whole[..]].concat()));
    for path in ["", "a", "?a", "*", "/a b", "/a\tb", "/a\0b", "/a#b", "/#", "/a\r\nx: y", "http://app.test/"] {
        cases.push(head(&format!("8.3.1 path {path:?}"), &request("GET", path, &[])));
    }
    for authority in [
        "",
        "u@app.test",
        "u:p@app.test",
        "app.test/",
        "app test",
        "a,b",
        "app.test:99999",
        "app.test:x",
        "a#b",
        "[::1",
    ] {
        let mut fields = whole.clone();
        fields[3].1 = authority;
        cases.push(head(&format!("8.3.1 authority {authority:?}"), &fields));
    }
    for method in ["", "G T", "GET / HTTP/1.1\r\nx: y"] {
        cases.push(head(&format!("method {method:?}"), &request(method, "/", &[])));
    }
    let cases: Vec<_> = cases.iter().map(|(name, bytes, expect)| (name.as_str(), bytes.clone(), *expect)).collect();
    assert_eq!(check_all(&cases), 1, "only the last one is a request");
}

#[test]
fn bodies_and_trailers_must_fit_their_head() {
    let post = |length: &str| {
        let fields = request("POST", "/", &[("content-length", length), ("x-order", "sink")]);
        frame(HEADERS, END_HEADERS, 1, &block(&fields))
    };
    let open = || frame(HEADERS, END_HEADERS, 1, &block(&request("POST", "/", &[("x-order", "sink")])));
    let data = |flags: u8, data: &[u8]| frame(DATA, flags, 1, data);
    let trailers = |fields: &[(&str, &str)]| frame(HEADERS, WHOLE, 1, &block(fields));
    check_all(&[
        ("8.1.1 it fits", join(&[&post("4"), &data(0, b"te"), &data(1, b"st")]), Status(200)),
        ("8.1.1 too much", join(&[&post("1"), &data(1, b"test")]), Refused),
        ("8.1.1 too much in parts", join(&[&post("3"), &data(0, b"te"), &data(1, b"st")]), Refused),
        ("8.1.1 too little", join(&[&post("9"), &data(1, b"test")]), Refused),
        ("8.1.1 too little before trailers", join(&[&post("9"), &data(0, b"test"), &trailers(&[("x", "1")])]), Refused),
        ("8.1.1 a list", join(&[&post("4, 4"), &data(1, b"test")]), Refused),
        ("8.1 trailers", join(&[&open(), &data(0, b"test"), &trailers(&[("x", "1")])]), Status(200)),
        ("8.1 a second head", join(&[&open(), &frame(HEADERS, END_HEADERS, 1, &block(&[("x", "1")]))]), Refused),
        ("8.1 :method in trailers", join(&[&open(), &data(0, b"x"), &trailers(&[(":method", "GET")])]), Refused),
        ("8.1 :method by index", join(&[&open(), &data(0, b"x"), &frame(HEADERS, WHOLE, 1, b"\x82")]), Refused),
        ("8.1 :path after another", join(&[&open(), &trailers(&[("x", "1"), (":path", "/x")])]), Refused),
        ("8.1 :status in trailers", join(&[&open(), &data(0, b"x"), &trailers(&[(":status", "200")])]), Refused),
        ("8.1 fields of HTTP/1", join(&[&open(), &trailers(&[("transfer-encoding", "chunked")])]), Refused),
        ("8.1 upper case", join(&[&open(), &trailers(&[("X-Up", "1")])]), Refused),
    ]);
}

#[test]
fn a_preface_must_be_whole_and_settings_come_first() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    for (name, bytes) in [
        ("another word", join(&[b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &frame(SETTINGS, 0, 0, &[])])),
        ("its last byte", join(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", &frame(SETTINGS, 0, 0, &[])])),
        ("another line", b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()),
        ("no SETTINGS", join(&[PREFACE, &get()])),
        ("SETTINGS after a PING", join(&[PREFACE, &frame(PING, 0, 0, &[0; 8]), &frame(SETTINGS, 0, 0, &[]), &get()])),
        ("an answer to SETTINGS", join(&[PREFACE, &frame(SETTINGS, 1, 0, &[]), &get()])),
    ] {
        let mut client = RawHttp2::silent(gateway.address());
        client.send(&bytes);
        client.until(DEADLINE, |client| client.closed);
        assert!(client.closed, "{name}");
    }
    assert_eq!(upstream.requests(), 0);
    assert!(gateway.metric("envoy_http2_rx_messaging_error", &[]) >= 2.0);
}

#[test]
fn windows_of_the_client_are_kept_to_the_byte() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let sent = |client: &RawHttp2| client.body(1).len();
    // RFC 9113 section 6.9.1 and 6.9.2: a small one, then one that was made negative.
    let mut client = RawHttp2::connect(gateway.address(), &setting(4, 3));
    client.send(&get());
    assert!(client.until(DEADLINE, |client| sent(client) == 3));
    client.send(&frame(SETTINGS, 0, 0, &setting(4, 2)));
    client.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 2]));
    assert!(client.until(DEADLINE, |client| sent(client) == 4));
    assert!(client.is_alive() && sent(&client) == 4);
    // A stream that is not read stalls no other.
    client.send(&frame(SETTINGS, 0, 0, &setting(4, 65_535)));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    client.send(&frame(HEADERS, WHOLE, 3, &block(&request("GET", "/", &[("x-order", "bytes 8000000")]))));
    assert!(client.until(DEADLINE, |client| client.body(3).len() >= 65_000 - 1000));
    client.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]));
    client.send(&frame(HEADERS, WHOLE, 5, &block(&request("GET", "/", &[]))));
    assert!(client.until(DEADLINE, |client| client.has_ended(5)), "another stream");
    assert!(!client.has_ended(3));
}

#[test]
fn more_streams_than_may_be_at_once_are_refused_unseen() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let fields = block(&request("GET", "/", &[("x-order", "delay 500")]));
    for number in 0..110 {
        client.send(&frame(HEADERS, WHOLE, 2 * number + 1, &fields));
    }
    assert!(client.until(DEADLINE, |client| (0..110).all(|number| client.has_ended(2 * number + 1))));
    let refused = (0..110).filter(|number| client.reset(2 * number + 1) == Some(7)).count();
    assert!((1..=10).contains(&refused), "{refused}");
    assert_eq!(upstream.requests(), 110 - refused);
}

#[test]
fn heads_have_a_bound_in_bytes_and_fields() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let ask = |count: usize, size: usize| {
        let value = "a".repeat(size);
        let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
        let others: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
        let block = block(&request("GET", "/", &others));
        let pieces: Vec<_> = block.chunks(16_000).collect();
        let mut client = RawHttp2::connect(gateway.address(), &[]);
        for (at, piece) in pieces.iter().enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let flags = if at == 0 { END_STREAM } else { 0 } | if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            client.send(&frame(kind, flags, 1, piece));
        }
        client.until(DEADLINE, |client| client.has_ended(1));
        client.status(1)
    };
    assert_eq!([(90, 1), (50, 1000), (1, 50_000)].map(|(count, size)| ask(count, size)), [Some(200); 3]);
    assert_eq!([(101, 1), (1000, 1), (70, 1000), (1, 70_000)].map(|(count, size)| ask(count, size)), [Some(431); 4]);
    assert_eq!(upstream.requests(), 3);
}

#[test]
fn a_request_that_its_client_takes_back_and_one_that_is_left_are_told_apart() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let slow = |path| block(&request("POST", path, &[("x-order", "delay 20000"), ("content-length", "5")]));
    for (stream, path) in [(1, "/waits"), (3, "/sends"), (5, "/leaves")] {
        client.send(&frame(HEADERS, END_HEADERS, stream, &slow(path)));
    }
    client.send(&join(&[&frame(DATA, END_STREAM, 1, b"12345"), &frame(DATA, 0, 3, b"12"), &frame(DATA, 0, 5, b"12")]));
    gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 3.0);
    for (stream, path) in [(1, "/waits"), (3, "/sends")] {
        client.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        let line = gateway.await_access(path);
        assert!(line.contains(" 0 DR http2.remote_reset "), "{line}");
    }
    drop(client);
    let line = gateway.await_access("/leaves");
    assert!(line.contains(" 0 DC downstream_remote_disconnect "), "{line}");
}

#[test]
fn what_h2_refuses_by_itself_is_counted_and_told_once() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    let lines = |part: &str| gateway.access_log().lines().filter(|line| line.contains(part)).count();
    let head = |stream: u32, fields: &[(&str, &str)]| frame(HEADERS, WHOLE, stream, &block(fields));
    let refused = "\"- - HTTP/2\" 0 DPE http2.violation.of.messaging.rule ";
    // One malformed among good ones.
    let (good, bad) = (request("GET", "/good", &[]), request("GET", "/", &[("connection", "close")]));
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&join(&[&head(1, &good), &head(3, &bad), &head(5, &good)]));
    client.until(DEADLINE, |client| [1, 3, 5].iter().all(|stream| client.has_ended(*stream)));
    assert_eq!((client.status(1), client.reset(3), client.status(5)), (Some(200), Some(1), Some(200)));
    gateway.await_access(refused);
    gateway.await_metric("envoy_http2_rx_messaging_error", &[], 1.0);
    // One whose body comes at once, and one whose body is at fault: the request was served, and its own line tells.
    let post = |stream: u32, fields: &[(&str, &str)]| {
        join(&[&frame(HEADERS, END_HEADERS, stream, &block(fields)), &frame(DATA, END_STREAM, stream, b"test")])
    };
    client.send(&post(7, &request("POST", "/", &[("connection", "close")])));
    client.until(DEADLINE, |client| client.has_ended(7));
    gateway.await_metric("envoy_http2_rx_messaging_error", &[], 2.0);
    client.send(&post(9, &request("POST", "/short", &[("content-length", "9")])));
    client.until(DEADLINE, |client| client.has_ended(9));
    let line = gateway.await_access("POST /short ");
    assert!(line.contains(" 0 DPE http2.violation.of.messaging.rule "), "{line}");
    let long = "a".repeat(16_000);
    let whole = block(&request("GET", "/", &[("a", &long), ("b", &long), ("c", &long), ("d", &long)]));
    let pieces: Vec<_> = whole.chunks(16_000).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let kind = if at == 0 { HEADERS } else { CONTINUATION };
        let flags = if at == 0 { END_STREAM } else { 0 } | if at + 1 == pieces.len() { END_HEADERS } else { 0 };
        client.send(&frame(kind, flags, 11, piece));
    }
    client.until(DEADLINE, |client| client.has_ended(11));
    assert_eq!(client.status(11), Some(431));
    gateway.await_access("\"- - HTTP/2\" 431 DPE http2.too_many_headers ");
    gateway.await_metric("envoy_http2_header_overflow", &[], 1.0);
    client.send(&head(13, &request("GET", "/last", &[])));
    client.until(DEADLINE, |client| client.has_ended(13));
    gateway.await_access("GET /last ");
    gateway.await_metric("envoy_http_downstream_rq_active", &[], 0.0);
    let told = [refused, "GET /good ", "POST /short ", " 431 DPE ", "GET /last "].map(lines);
    assert_eq!(told, [2, 2, 1, 1, 1], "{}", gateway.access_log());
    assert_eq!(gateway.metric("envoy_http2_rx_messaging_error", &[]), 2.0);
    // A path that is no text costs its own stream only.
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "app.test")];
    let odd = join(&[&block(&fields), b"\0\x05:path\x03/\xff\xfe"]);
    client.send(&join(&[&frame(HEADERS, WHOLE, 15, &odd), &head(17, &request("GET", "/beside", &[]))]));
    client.until(DEADLINE, |client| [15, 17].iter().all(|stream| client.has_ended(*stream)));
    assert_eq!((client.reset(15), client.status(17)), (Some(1), Some(200)));
    await_true("its line", || lines(refused) == 3);
    // One that ends the whole connection.
    client.send(&head(19, &request("GET", "/", &[("X-Up", "1")])));
    client.until(DEADLINE, |client| client.closed);
    gateway.await_access("\"- - HTTP/2\" 0 DPE http2.invalid.header.field ");
    gateway.await_metric("envoy_http2_rx_messaging_error", &[], 4.0);
    gateway.await_metric("envoy_http_downstream_cx_protocol_error", &[], 1.0);
}

#[test]
fn fields_of_http1_in_an_answer_stay_with_it_and_a_cut_answer_is_reset() {
    let script = |seen: &crate::support::upstream::Seen| match seen.line.as_str() {
        "GET /hop" => {
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-named\r\nkeep-alive: timeout=5\r\nproxy-connection: x\r\n\
            upgrade: foo\r\nx-named: 1\r\nx-kept: 1\r\ncontent-length: 2\r\n\r\nok"
                .to_vec()
        }
        _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz".to_vec(),
    };
    let upstream = Upstream::scripted("app", Box::new(script));
    let gateway = start(&upstream);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&frame(HEADERS, WHOLE, 1, &block(&request("GET", "/cut", &[]))));
    client.until(DEADLINE, |client| client.has_ended(1));
    assert!(client.status(1) == Some(200) && client.reset(1).is_some(), "{:?}", client.frames);
    // h2 closes a connection whose answer has a field of HTTP/1.
    let client = h2_client(gateway.address(), "/hop");
    assert_eq!(client, ["content-length", "date", "server", "x-envoy-upstream-service-time", "x-kept"]);
}

/// The names of an answer's fields, as a client of hyper takes them.
fn h2_client(address: SocketAddr, path: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://app.test{path}")).body(()).unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await.unwrap().unwrap();
        let mut names: Vec<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names.sort_unstable();
        names
    })
}

//! HTTP/3: a client of QUIC against the real binary, from the handshake to GOAWAY.

use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};

use crate::support::client::{Request, Response};
use crate::support::config::service_entry;
use crate::support::gateway::Options;
use crate::support::http3::{Http3, OneWay, answer, frame, head, headers};
use crate::support::secure;
use crate::support::tls::{self, Authority, Tls};
use crate::support::upstream::Upstream;
use crate::support::{await_some, await_true};

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "https");
const AUTHORITY: (&str, &str) = (":authority", "a.test");
const PATH: (&str, &str) = (":path", "/");

/// Two hosts with `portolan.dev/http3` switched on.
fn two_hosts(authority: &Authority, a: &Upstream, b: &Upstream) -> String {
    let files = tls::two_hosts(authority, a, b);
    files.replace("{name: tls}", "{name: tls, annotations: {portolan.dev/http3: 'true'}}")
}

struct Served {
    authority: Authority,
    a: Upstream,
    b: Upstream,
    tls: Tls,
}

impl Served {
    fn start() -> Self {
        Self::start_with(Options::new(), |files| files)
    }

    fn start_with(options: Options, change: impl Fn(String) -> String) -> Self {
        let (authority, a, b) = (Authority::new("ca"), Upstream::start("a"), Upstream::start("b"));
        let tls = Tls::start_with(options.file("tls.yaml", change(two_hosts(&authority, &a, &b))));
        let served = Self { authority, a, b, tls };
        // The endpoint opens beside the listener.
        await_some("HTTP/3", || served.try_connect("a.test").ok());
        served
    }

    fn try_connect(&self, server: &str) -> Result<Http3, quinn::ConnectionError> {
        Http3::connect(self.tls.port.address(), &self.authority.pem(), server)
    }

    fn connect(&self, server: &str) -> Http3 {
        self.try_connect(server).unwrap()
    }

    fn over_tcp(&self, server: &str) -> Response {
        let mut connection = self.tls.client(&self.authority).http(server).unwrap();
        connection.request(&Request::get(server, "/")).unwrap()
    }
}

fn get(client: &mut Http3, host: &str) -> Response {
    client.request(&Request::get(host, "/")).unwrap()
}

#[test]
fn a_request_is_served_counted_and_told_as_http_3() {
    let served = Served::start();
    let before = served.tls.gateway.metric("envoy_http_downstream_cx_http3_total", &[]);
    let mut client = served.connect("a.test");
    let answer = get(&mut client, "a.test");
    assert_eq!((answer.status, answer.upstream()), (200, "a"));
    assert_eq!(answer.header("server"), Some("portolan"));
    assert_eq!(answer.header("alt-svc"), None, "who is there needs no way there");
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(answer.seen("host").as_deref(), Some("a.test"));
    // What has no body gets none.
    assert_eq!((answer.seen("transfer-encoding"), answer.seen("content-length")), (None, None));
    let line = served.tls.gateway.await_access("\"GET / HTTP/3\" 200");
    assert!(line.contains(" a.test "), "the server name is in the line: {line}");
    let gateway = &served.tls.gateway;
    gateway.await_metric("envoy_http_downstream_rq_http3_total", &[], 1.0);
    assert_eq!(gateway.metric("envoy_http_downstream_cx_http3_total", &[]), before + 1.0);
    assert_eq!(gateway.metric("envoy_http_downstream_rq_http2_total", &[]), 0.0);
    assert_eq!(gateway.metric("envoy_http_downstream_cx_http2_total", &[]), 0.0);
}

#[test]
fn answers_over_tcp_of_the_same_server_offer_http_3_and_no_others() {
    let served = Served::start();
    assert_eq!(served.over_tcp("a.test").header("alt-svc"), Some("h3=\":443\"; ma=86400"));
    assert_eq!(served.tls.gateway.get("a.test", "/").header("alt-svc"), None, "of the plain server");
    // What the gateway answers by itself, too.
    let mut connection = served.tls.client(&served.authority).http("a.test").unwrap();
    let unknown = connection.request(&Request::get("c.test", "/")).unwrap();
    assert_eq!((unknown.status, unknown.header("alt-svc")), (404, Some("h3=\":443\"; ma=86400")));
}

#[test]
fn http_3_is_off_unless_it_is_switched_on_and_can_be_switched_off_again() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    assert_eq!(get(&mut client, "a.test").status, 200);
    let off = two_hosts(&served.authority, &served.a, &served.b).replace("http3: 'true'", "http3: 'false'");
    served.tls.gateway.replace("tls.yaml", off);
    // Those that are there are told to go.
    assert_eq!(client.closed(), Some(Code::H3_NO_ERROR.value()));
    await_true("no offer", || served.over_tcp("a.test").header("alt-svc").is_none());
    assert_eq!(served.over_tcp("a.test").status, 200);
    served.tls.gateway.replace("tls.yaml", two_hosts(&served.authority, &served.a, &served.b));
    await_true("the offer again", || served.over_tcp("a.test").header("alt-svc").is_some());
    assert_eq!(get(&mut served.connect("a.test"), "a.test").status, 200);
}

#[test]
fn bodies_go_both_ways_with_trailers_and_without() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let answer = client.request(&Request::new("POST", "a.test", "/").order("echo").body(body.clone())).unwrap();
    assert_eq!((answer.status, answer.body == body), (200, true));
    // Of unknown length.
    let request = Request::new("POST", "a.test", "/").order("echo");
    let mut exchange = client.begin(head(&request)).unwrap();
    let echoed = client.wait(async {
        for _ in 0..3 {
            exchange.send_data(Bytes::from_static(b"part")).await?;
        }
        exchange.finish().await?;
        self::answer(&mut exchange).await
    });
    assert_eq!(echoed.unwrap().text(), "partpartpart");
    assert_eq!(client.request(&Request::new("HEAD", "a.test", "/")).unwrap().body.len(), 0);
}

#[test]
fn parts_of_bodies_come_as_they_are_sent_and_trailers_at_the_end() {
    let backend = secure::Options::plain().http2().start();
    let served = Served::start_with(Options::new(), |files| {
        let entry = service_entry("a.backend", &[("v1", backend.address())]);
        let own = files
            .split("---\n")
            .map(|file| if file.contains("kind: ServiceEntry") && file.contains("a.backend") { &entry } else { file });
        let own: Vec<_> = own.map(|file| file.replace("protocol: HTTP\n", "protocol: HTTP2\n")).collect();
        own.join("---\n")
    });
    let mut client = served.connect("a.test");
    let mut exchange = client.begin(head(&Request::new("POST", "a.test", "/echo"))).unwrap();
    for part in [&b"one"[..], b"two"] {
        let echoed = client.wait(async {
            exchange.send_data(Bytes::from_static(part)).await?;
            if part == b"one" {
                exchange.recv_response().await?;
            }
            let mut echoed = exchange.recv_data().await?.expect("an echo");
            Ok::<_, StreamError>(echoed.copy_to_bytes(echoed.remaining()))
        });
        assert_eq!(echoed.unwrap(), part);
    }
    let mut exchange = client.begin(head(&Request::new("POST", "a.test", "/grpc"))).unwrap();
    let trailers = client.wait(async {
        exchange.finish().await?;
        answer(&mut exchange).await?;
        exchange.recv_trailers().await
    });
    assert_eq!(trailers.unwrap().unwrap()["grpc-status"], "0");
}

#[test]
fn large_bodies_flow_at_the_readers_pace_in_little_memory() {
    const SIZE: usize = 48 << 20;
    let served = Served::start();
    let mut client = served.connect("a.test");
    assert_eq!(get(&mut client, "a.test").status, 200);
    let before = served.tls.gateway.resident_bytes();
    let mut stalled = client.begin(head(&Request::get("a.test", "/").order(&format!("bytes {SIZE}")))).unwrap();
    client.wait(async { stalled.finish().await }).unwrap();
    // Another stream goes on while nobody reads that one.
    assert_eq!(get(&mut client, "a.test").status, 200);
    let (mut got, mut most) = (0, 0);
    client.wait(async { stalled.recv_response().await }).unwrap();
    while let Some(mut part) = client.wait(async { stalled.recv_data().await }).unwrap() {
        let length = part.copy_to_bytes(part.remaining()).len();
        if got >> 22 != (got + length) >> 22 {
            most = most.max(served.tls.gateway.resident_bytes());
        }
        got += length;
    }
    assert_eq!(got, SIZE);
    let request = Request::new("POST", "a.test", "/").order("sink");
    let mut upload = client.begin(head(&request)).unwrap();
    let part = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..SIZE >> 20 {
        client.wait(async { upload.send_data(part.clone()).await }).unwrap();
        most = most.max(served.tls.gateway.resident_bytes());
    }
    let answer = client.wait(async {
        upload.finish().await?;
        self::answer(&mut upload).await
    });
    assert_eq!(answer.unwrap().text(), SIZE.to_string());
    assert!(most < before + (20 << 20), "{}", most - before);
}

#[test]
fn the_server_name_decides_the_certificate_and_the_routes() {
    let served = Served::start();
    let mut to_b = served.connect("x.b.test");
    assert_eq!(get(&mut to_b, "x.b.test").upstream(), "b");
    // Each server has its own hosts: another one's is unknown on this connection, which serves on.
    let elsewhere = get(&mut to_b, "a.test");
    assert_eq!((elsewhere.status, elsewhere.text()), (404, String::new()));
    assert_eq!(get(&mut to_b, "y.b.test").status, 200);
}

#[test]
fn an_unknown_server_name_is_refused_and_counted() {
    let served = Served::start();
    for server in ["c.test", "127.0.0.1"] {
        let refused = served.try_connect(server).err().expect("a refusal");
        assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
    }
    served.tls.gateway.await_metric("envoy_listener_no_filter_chain_match", &[], 2.0);
    assert_eq!(served.a.requests() + served.b.requests(), 0);
}

#[test]
fn a_reload_keeps_connections_and_their_next_request_has_the_new_routes() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    assert_eq!(get(&mut client, "a.test").upstream(), "a");
    let other = two_hosts(&served.authority, &served.b, &served.a);
    // The certificates are others, too: it is the same server.
    served.tls.gateway.replace("tls.yaml", other);
    await_true("the new route", || get(&mut client, "a.test").upstream() == "b");
    assert_eq!(client.connection.close_reason(), None);
}

#[test]
fn a_new_certificate_is_shown_to_new_clients_and_old_ones_go_on() {
    let served = Served::start();
    let mut old = served.connect("a.test");
    let other = Authority::new("another");
    served.tls.gateway.replace("tls.yaml", two_hosts(&other, &served.a, &served.b));
    let address = served.tls.port.address();
    let mut new = await_some("the new certificate", || Http3::connect(address, &other.pem(), "a.test").ok());
    assert_eq!(get(&mut new, "a.test").status, 200);
    assert!(served.try_connect("a.test").is_err());
    assert_eq!(get(&mut old, "a.test").status, 200);
}

#[test]
fn a_drain_says_goaway_and_what_is_under_way_is_answered() {
    let mut served = Served::start();
    let mut client = served.connect("a.test");
    let slow = head(&Request::get("a.test", "/").order("delay 1500"));
    let mut exchange = client.begin(slow).unwrap();
    client.wait(async { exchange.finish().await }).unwrap();
    await_true("the request at its upstream", || served.a.in_flight() == 1);
    served.tls.gateway.signal("TERM");
    let answer = client.wait(async { answer(&mut exchange).await }).unwrap();
    assert_eq!((answer.status, answer.upstream()), (200, "a"));
    drop(exchange);
    // The client knows that nothing else was taken in, and closes.
    let next = client.begin(head(&Request::get("a.test", "/")));
    assert!(matches!(next.err(), Some(StreamError::RemoteClosing { .. } | StreamError::ConnectionError { .. })));
    assert_eq!(client.closed(), Some(Code::H3_NO_ERROR.value()));
    assert_eq!(served.tls.gateway.await_exit().code(), Some(0));
}

#[test]
fn requests_on_their_way_when_a_client_is_told_to_go_are_answered() {
    let mut served = Served::start();
    let mut client = served.connect("a.test");
    assert_eq!(get(&mut client, "a.test").status, 200);
    served.tls.gateway.signal("TERM");
    // This client goes on as if it had not heard, as one does that has not.
    let block = headers(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let told = await_some("GOAWAY", || client.begin(head(&Request::get("a.test", "/"))).err());
    assert!(matches!(told, StreamError::RemoteClosing { .. }), "{told}");
    assert!(!client.answer_of(&block).is_empty());
    let refused = served.try_connect("a.test").err().expect("a refusal");
    assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
    assert_eq!(client.closed(), Some(Code::H3_NO_ERROR.value()));
    assert_eq!(served.tls.gateway.await_exit().code(), Some(0));
}

/// Bytes of streams and what is wrong with them.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let with = |fields: &[(&'static str, &'static str)]| headers(fields);
    let whole = [METHOD, SCHEME, AUTHORITY, PATH];
    let and = |field| headers(&[&whole[..], &[field]].concat());
    vec![
        ("no method", with(&[SCHEME, AUTHORITY, PATH])),
        ("no scheme", with(&[METHOD, AUTHORITY, PATH])),
        ("no path", with(&[METHOD, SCHEME, AUTHORITY])),
        ("neither scheme nor path", with(&[METHOD, AUTHORITY])),
        ("no authority", with(&[METHOD, SCHEME, PATH])),
        ("an empty path", with(&[METHOD, SCHEME, AUTHORITY, (":path", "")])),
        ("a second path", and((":path", "/other"))),
        ("a second authority", and((":authority", "a.test"))),
        ("a status", and((":status", "200"))),
        ("an unknown pseudo-field", and((":other", "x"))),
        ("another protocol", headers(&[(":method", "CONNECT"), (":protocol", "connect-udp"), SCHEME, AUTHORITY, PATH])),
        (
            "a protocol h3 knows",
            headers(&[(":method", "CONNECT"), (":protocol", "webtransport"), SCHEME, AUTHORITY, PATH]),
        ),
        ("a WebSocket without a path", headers(&[(":method", "CONNECT"), (":protocol", "websocket"), AUTHORITY])),
        ("a protocol of GET", headers(&[METHOD, (":protocol", "websocket"), SCHEME, AUTHORITY, PATH])),
        ("CONNECT with a path", with(&[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH])),
        ("a path after a field", with(&[METHOD, SCHEME, AUTHORITY, ("x-a", "b"), PATH])),
        ("a fragment", with(&[METHOD, SCHEME, AUTHORITY, (":path", "/a#b")])),
        ("upper case", and(("X-A", "b"))),
        ("a line break", and(("x-a", "b\r\nx-b: c"))),
        ("Connection", and(("connection", "close"))),
        ("Transfer-Encoding", and(("transfer-encoding", "chunked"))),
        ("TE with something else", and(("te", "gzip"))),
        ("another Host", and(("host", "b.test"))),
        ("too short a body", [and(("content-length", "5")), frame(0, b"abc")].concat()),
        ("a pseudo-field in trailers", [headers(&whole), frame(0, b"abc"), headers(&[PATH])].concat()),
    ]
}

#[test]
fn malformed_requests_are_reset_and_the_others_go_on() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    for (what, bytes) in malformed() {
        assert_eq!(client.reset_of(&bytes), Some(Code::H3_MESSAGE_ERROR.value()), "{what}");
    }
    assert_eq!(client.reset_of(&[]), Some(Code::H3_REQUEST_INCOMPLETE.value()));
    assert_eq!(get(&mut client, "a.test").status, 200, "on the same connection");
    assert_eq!(served.a.seen().len(), 0);
}

#[test]
fn frames_that_mean_nothing_and_empty_data_are_no_part_of_a_request() {
    let served = Served::start();
    let client = served.connect("a.test");
    let order = headers(&[(":method", "POST"), SCHEME, AUTHORITY, PATH, ("x-order", "echo"), ("te", "trailers")]);
    let odd = frame(0x21, &[7; 5000]);
    let empty = frame(0, &[]);
    let bytes = [&odd[..], &order, &empty, &odd, &frame(0, b"one"), &empty, &frame(0, b"two"), &empty].concat();
    let answered = client.answer_of(&bytes);
    let text = String::from_utf8_lossy(&answered);
    assert!(text.contains("one") && text.contains("two"), "{text}");
}

#[test]
fn a_body_that_breaks_off_within_a_frame_ends_the_connection() {
    let served = Served::start();
    let client = served.connect("a.test");
    let bytes = [headers(&[(":method", "POST"), SCHEME, AUTHORITY, PATH]), vec![0, 9, b'a']].concat();
    client.wait(async {
        let (mut sending, _receiving) = client.connection.open_bi().await.unwrap();
        sending.write_all(&bytes).await.unwrap();
        sending.finish().unwrap();
        client.connection.closed().await
    });
    assert_eq!(client.closed(), Some(Code::H3_FRAME_ERROR.value()));
}

#[test]
fn heads_have_a_bound() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    let large = "a".repeat(61 * 1024);
    let answered = client.answer_of(&headers(&[METHOD, SCHEME, AUTHORITY, PATH, ("x-large", &large)]));
    // 431, by Huffman's code.
    assert!(answered.windows(3).any(|part| part == [0x69, 0x90, 0xff]), "{answered:?}");
    let too_large = [&[1, 0x80, 1, 0, 1][..], &[0; 100]].concat();
    assert_eq!(client.reset_of(&too_large), Some(Code::H3_EXCESSIVE_LOAD.value()));
    assert_eq!(get(&mut client, "a.test").status, 200);
    assert_eq!(served.a.requests(), 1);
}

#[test]
fn a_client_that_goes_takes_its_request_with_it() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    let mut exchange = client.begin(head(&Request::get("a.test", "/").order("delay 5000"))).unwrap();
    client.wait(async { exchange.finish().await }).unwrap();
    await_true("the request at its upstream", || served.a.in_flight() == 1);
    exchange.stop_sending(Code::H3_REQUEST_CANCELLED);
    let line = served.tls.gateway.await_access("\"GET / HTTP/3\" 0 DC");
    assert!(line.contains("a.test"), "{line}");
    assert_eq!(get(&mut client, "a.test").status, 200);
}

#[test]
fn an_answer_before_the_bodys_end_stops_the_upload_and_nothing_else() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    for _ in 0..3 {
        let mut exchange = client.begin(head(&Request::new("POST", "c.test", "/"))).unwrap();
        let early = client.wait(async {
            exchange.send_data(Bytes::from_static(b"begun")).await?;
            answer(&mut exchange).await
        });
        assert_eq!(early.unwrap().status, 404);
    }
    assert_eq!(get(&mut client, "a.test").status, 200);
}

#[test]
fn connections_have_a_bound_that_is_shared_with_tcp() {
    let served = Served::start_with(Options::new(), |files| {
        files.replace("http3: 'true'", "http3: 'true', portolan.dev/max-connections: '1'")
    });
    let gateway = &served.tls.gateway;
    await_true("the first client's end", || gateway.metric("envoy_listener_downstream_cx_active", &[]) == 0.0);
    let mut client = served.connect("a.test");
    assert_eq!(get(&mut client, "a.test").status, 200);
    let refused = served.try_connect("a.test").err().expect("a refusal");
    assert!(matches!(refused, quinn::ConnectionError::ConnectionClosed(_)), "{refused}");
    assert_eq!(get(&mut client, "a.test").status, 200);
}

#[test]
fn clients_prove_their_address_when_many_handshakes_are_under_way() {
    let served = Served::start();
    let way = OneWay::to(served.tls.port.address());
    let gateway = &served.tls.gateway;
    await_true("the first client's end", || gateway.metric("envoy_listener_downstream_cx_active", &[]) == 0.0);
    let _few = way.begin_handshakes(20, &served.authority.pem(), "a.test");
    await_true("handshakes", || gateway.metric("envoy_listener_downstream_cx_active", &[]) >= 20.0);
    assert!(!way.has_retry());
    let _many = way.begin_handshakes(120, &served.authority.pem(), "a.test");
    await_true("Retry", || way.has_retry());
    // Who can prove it is served.
    assert_eq!(get(&mut served.connect("a.test"), "a.test").status, 200);
}

#[test]
fn a_client_that_resets_what_it_asks_for_over_and_over_is_sent_away_and_others_are_served() {
    let served = Served::start();
    let client = served.connect("a.test");
    let block = headers(&[METHOD, SCHEME, AUTHORITY, PATH]);
    client.wait(async {
        while let Ok((mut sending, mut receiving)) = client.connection.open_bi().await {
            // A stream of a connection that has ended takes nothing.
            let _ = sending.write_all(&block).await;
            let _ = sending.reset(Code::H3_REQUEST_CANCELLED.value().try_into().unwrap());
            let _ = receiving.stop(Code::H3_REQUEST_CANCELLED.value().try_into().unwrap());
        }
    });
    assert_eq!(client.closed(), Some(Code::H3_EXCESSIVE_LOAD.value()));
    served.tls.gateway.await_metric("envoy_http_downstream_rq_too_many_premature_resets", &[], 1.0);
    assert_eq!(get(&mut served.connect("a.test"), "a.test").status, 200);
}

#[test]
fn streams_at_once_have_a_bound() {
    let served = Served::start();
    let client = served.connect("a.test");
    let opened = client.wait(async {
        let mut opened = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), client.connection.open_bi()).await {
            opened.push(stream);
        }
        opened.len()
    });
    assert_eq!(opened, 100);
}

#[test]
fn a_process_that_takes_over_serves_http_3_when_the_old_one_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let options = Options::new()
        .argument("--minimum-drain-time")
        .argument("1s")
        .argument("--takeover")
        .argument(socket.display().to_string());
    let mut served = Served::start_with(options, |files| files);
    let mut client = served.connect("a.test");
    let mut exchange = client.begin(head(&Request::get("a.test", "/").order("delay 1500"))).unwrap();
    client.wait(async { exchange.finish().await }).unwrap();
    await_true("the request at its upstream", || served.a.in_flight() == 1);
    let next = served.tls.gateway.start_again();
    let mut old = served.tls.gateway.become_process(next);
    // What is under way ends where it began.
    assert_eq!(client.wait(async { answer(&mut exchange).await }).unwrap().status, 200);
    drop(exchange);
    assert_eq!(client.closed(), Some(Code::H3_NO_ERROR.value()));
    assert_eq!(await_some("the old process's end", || old.try_wait().unwrap()).code(), Some(0));
    await_true("the offer of the new process", || served.over_tcp("a.test").header("alt-svc").is_some());
    assert_eq!(get(&mut served.connect("a.test"), "a.test").status, 200);
}

/// A stream on which bytes go both ways behind a head.
struct Piped {
    sending: quinn::SendStream,
    receiving: quinn::RecvStream,
}

impl Piped {
    /// Sends a head; the answer's status must be this entry of QPACK's table.
    fn open(client: &Http3, head: &[u8], status: u8) -> Self {
        client.wait(async {
            let (mut sending, receiving) = client.connection.open_bi().await.unwrap();
            sending.write_all(head).await.unwrap();
            let mut piped = Self { sending, receiving };
            let (kind, block) = piped.frame().await.expect("an answer");
            assert!(kind == 1 && block[2] == 0xc0 | status, "{kind}: {block:x?}");
            piped
        })
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.receiving.read_exact(&mut head).await.ok()?;
        let mut rest = vec![0; (1 << (head[1] >> 6)) - 1];
        self.receiving.read_exact(&mut rest).await.ok()?;
        let length = rest.iter().fold(usize::from(head[1] & 0x3f), |value, byte| value << 8 | usize::from(*byte));
        let mut payload = vec![0; length];
        self.receiving.read_exact(&mut payload).await.ok()?;
        Some((head[0], payload))
    }

    /// Sends a piece in one frame and reads as much back.
    fn echo(&mut self, client: &Http3, piece: &[u8]) {
        client.wait(async {
            self.sending.write_all(&frame(0, piece)).await.unwrap();
            let mut back = Vec::new();
            while back.len() < piece.len() {
                let (kind, payload) = self.frame().await.expect("a frame");
                assert_eq!(kind, 0);
                back.extend(payload);
            }
            assert!(back == piece, "{} bytes", back.len());
        });
    }

    /// Ends it, and waits for the end.
    fn end(mut self, client: &Http3) {
        let _ = self.sending.finish();
        assert_eq!(client.wait(async { self.frame().await }), None);
    }
}

#[test]
fn websockets_go_over_http_3_beside_requests() {
    let served = Served::start();
    let mut client = served.connect("a.test");
    let head = |path| {
        headers(&[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, (":path", path), ("x-a", "b")])
    };
    let mut first = Piped::open(&client, &head("/socket"), 25);
    let mut second = Piped::open(&client, &head("/other"), 25);
    first.echo(&client, b"ping");
    second.echo(&client, &vec![b'x'; 30_000]);
    assert_eq!(get(&mut client, "a.test").status, 200);
    first.echo(&client, &vec![b'y'; 30_000]);
    first.end(&client);
    let line = served.tls.gateway.await_access("/socket");
    assert!(line.contains("\"GET /socket HTTP/3\" 101 - via_upstream ") && line.contains(" 30004 30004 "), "{line}");
    // The client's end is the end of all.
    drop(client);
    served.tls.gateway.await_access("/other");
    await_true("the end of all", || served.a.in_flight() == 0);
}

#[test]
fn connect_over_http_3_is_taken_where_a_gateway_asks_for_it() {
    let head = headers(&[(":method", "CONNECT"), (":authority", "a.test:443")]);
    let served = Served::start();
    let answer = served.connect("a.test").answer_of(&head);
    let refused = b"Method Not Allowed";
    assert!(answer.ends_with(refused), "{answer:x?}");
    let echo = crate::support::tcp::Server::echo();
    let served = Served::start_with(Options::new(), |files| {
        let files = files.replace("http3: 'true'", "http3: 'true', portolan.dev/connect: terminate");
        files.replace("{host: a.backend}", "{host: echo.test}") + "---\n" + &service_entry("echo.test", &[("v1", echo)])
    });
    let client = served.connect("a.test");
    let mut piped = Piped::open(&client, &head, 25);
    piped.echo(&client, b"GET / HTTP/1.1\r\n");
    piped.end(&client);
}

//! HTTP/1 that could be read in two ways is refused, counted and told, and nothing of it reaches an upstream.

use crate::support::await_some;
use crate::support::client::{Connection, Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::strict::StrictUpstream;

fn start() -> (Gateway, StrictUpstream) {
    let upstream = StrictUpstream::start();
    let routes = routes(
        "- match: [{uri: {prefix: /here}}]\n  directResponse: {status: 403}\n- route: [{destination: {host: app.test}}]\n",
    );
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes)
        .file("app.yaml", service_entry("app.test", &[("v1", upstream.address())]))
        .start();
    (gateway, upstream)
}

/// A request line, `Host`, further fields and what follows the head.
fn bytes(line: &str, fields: &str, rest: &str) -> Vec<u8> {
    format!("{line}\r\nHost: app.test\r\n{fields}\r\n{rest}").into_bytes()
}

fn get(fields: &str) -> Vec<u8> {
    bytes("GET / HTTP/1.1", fields, "")
}

fn post(fields: &str, rest: &str) -> Vec<u8> {
    bytes("POST / HTTP/1.1", fields, rest)
}

fn arrived(upstream: &StrictUpstream) -> usize {
    let received = upstream.received();
    assert!(received.iter().all(|received| received.malformed.is_none()), "{received:?}");
    received.iter().map(|received| received.messages.len()).sum()
}

/// The n-th line of the access log, from 0.
fn line(gateway: &Gateway, number: usize) -> String {
    await_some(&format!("line {number} of the access log"), || {
        let text = std::fs::read_to_string(gateway.folder().join("access.log")).ok()?;
        text.split_inclusive('\n').nth(number)?.strip_suffix('\n').map(str::to_owned)
    })
}

/// Sends bytes; the answer, after which the connection must be closed.
fn refusal(gateway: &Gateway, bytes: &[u8]) -> Response {
    let mut connection = gateway.connect();
    let _ = connection.send(bytes);
    let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
    let response = connection.response(false).unwrap_or_else(|error| panic!("{error}: {}", text()));
    assert_eq!(response.header("connection"), Some("close"), "{response:?} to {}", text());
    assert!(connection.is_closed(), "{}", text());
    response
}

const CODEC: &str = "DPE http1.codec_error";
const ENCODING: &str = "DPE http1.invalid_transfer_encoding";
const BOTH: &str = "DPE http1.content_length_and_chunked_not_allowed";
const CHARACTERS: &str = "DPE http1.invalid_characters";
const LARGE: &str = "DPE http1.headers_too_large";
const END: &str = "0\r\n\r\n";

/// What a client sends, the status that it gets, and what the log tells.
fn ambiguous_heads() -> Vec<(Vec<u8>, u16, &'static str)> {
    let (long, many) = ("a".repeat(100_000), "x: y\r\n".repeat(120));
    let coding = |coding: &str| post(&format!("Transfer-Encoding: {coding}\r\n"), END);
    let length = |length: &str| post(&format!("Content-Length: {length}\r\n"), "abc");
    vec![
        (post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", END), 400, BOTH),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", END), 400, BOTH),
        (post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), 400, CODEC),
        (post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), 400, CODEC),
        (length("3, 3"), 400, CODEC),
        (length(""), 400, CODEC),
        (length("+3"), 400, CODEC),
        (length("0x3"), 400, CODEC),
        (length("18446744073709551615"), 400, CODEC),
        (coding("gzip, chunked"), 501, ENCODING),
        (coding("chunked, chunked"), 501, ENCODING),
        (coding(",chunked"), 501, ENCODING),
        (coding("identity"), 501, ENCODING),
        (coding(""), 501, ENCODING),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", END), 501, ENCODING),
        (post("Transfer-Encoding : chunked\r\n", END), 400, CODEC),
        (post("Transfer-Encoding:\r\n chunked\r\n", END), 400, CODEC),
        (bytes("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n", END), 400, CODEC),
        (get("x: a\r\n b\r\n"), 400, CODEC),
        (get("x: a\rb\r\n"), 400, CODEC),
        (get("x: a\ny: b\r\n"), 400, CODEC),
        (b"GET / HTTP/1.1\nHost: app.test\n\n".to_vec(), 400, CODEC),
        (get("x: a\0b\r\n"), 400, CHARACTERS),
        (get("x: a\x01b\r\n"), 400, CHARACTERS),
        (get("x: a\x7fb\r\n"), 400, CODEC),
        (get("x : b\r\n"), 400, CODEC),
        (get(": b\r\n"), 400, CODEC),
        (get("x(y): b\r\n"), 400, CODEC),
        (get("xyz\r\n"), 400, CODEC),
        (bytes("GET / HTTP/2.0", "", ""), 400, CODEC),
        (bytes("GET / HTTP/1.2", "", ""), 400, CODEC),
        (bytes("GET / http/1.1", "", ""), 400, CODEC),
        (bytes("GET  / HTTP/1.1", "", ""), 400, CODEC),
        (bytes("GET /  HTTP/1.1", "", ""), 400, CODEC),
        (bytes("GET\t/ HTTP/1.1", "", ""), 400, CODEC),
        (bytes("GET /", "", ""), 400, CODEC),
        (bytes("GET /a#b HTTP/1.1", "", ""), 400, "- path_normalization_failed"),
        (bytes("GET http://app.test/?a#b HTTP/1.1", "", ""), 400, "- path_normalization_failed"),
        (bytes("PRI * HTTP/2.0", "", "SM\r\n\r\n")[1..].to_vec(), 400, CODEC),
        (get(&format!("x: {long}\r\n")), 431, LARGE),
        (get(&many), 431, "DPE http1.too_many_headers"),
        (bytes(&format!("GET /{long} HTTP/1.1"), "", ""), 414, LARGE),
    ]
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_refused_counted_and_told() {
    let (gateway, upstream) = start();
    let cases = ambiguous_heads();
    for (number, (bytes, status, told)) in cases.iter().enumerate() {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
        let refused = refusal(&gateway, bytes).status;
        assert_eq!(refused, *status, "{text}");
        let told = format!("\"- - HTTP/1.1\" {status} {told} ");
        let line = line(&gateway, number);
        assert!(line.contains(&told), "{told:?} is not in {line:?} for {text}");
    }
    assert_eq!(arrived(&upstream), 0);
    let count = cases.len() as f64;
    gateway.await_metric("envoy_http_downstream_cx_protocol_error", &[], count);
    gateway.await_metric("envoy_http_downstream_rq_xx", &["response_code_class=\"4\""], count - 6.0);
    gateway.await_metric("envoy_http_downstream_rq_active", &[], 0.0);
}

#[test]
fn a_host_that_is_none_and_methods_that_are_not_served_are_refused() {
    let (gateway, upstream) = start();
    let host = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n").into_bytes();
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Host: a b\r\n",
        "Host: a,b\r\n",
        "Host: a:x\r\n",
        "Host: a:99999\r\n",
        "Host: a:80:80\r\n",
        "Host: [::1\r\n",
    ] {
        assert_eq!(refusal(&gateway, &host(hosts)).status, 400, "{hosts:?}");
    }
    for target in ["http://u@a/", "http://u:p@a/", "http://a:99999/", "http:///a"] {
        assert_eq!(refusal(&gateway, &bytes(&format!("GET {target} HTTP/1.1"), "", "")).status, 400, "{target}");
    }
    for line in ["CONNECT app.test:80 HTTP/1.1", "TRACE / HTTP/1.1"] {
        assert_eq!(refusal(&gateway, &bytes(line, "", "")).status, 405, "{line}");
    }
    for line in ["get / HTTP/1.1", "FOO / HTTP/1.1"] {
        assert_eq!(refusal(&gateway, &bytes(line, "", "")).status, 400, "{line}");
    }
    let mut old = gateway.connect();
    old.send(&bytes("GET / HTTP/1.0", "", "")).unwrap();
    assert_eq!(old.exactly(12).unwrap(), b"HTTP/1.1 426", "not in its own version");
    assert_eq!(arrived(&upstream), 0);
}

#[test]
fn targets_that_no_route_may_have_are_refused_in_envoys_words() {
    let (gateway, upstream) = start();
    let cases = [
        ("GET https://app.test/ HTTP/1.1", 403, "Forbidden", "DPE http1.https_url_on_plaintext_connection"),
        ("GET ftp://app.test/ HTTP/1.1", 400, "Bad Request", "DPE http1.invalid_scheme"),
        ("GET http://u@app.test/ HTTP/1.1", 400, "Bad Request", "DPE http.invalid_authority"),
        ("GET app.test:80 HTTP/1.1", 400, "Bad Request", CODEC),
        ("GET word HTTP/1.1", 400, "Bad Request", CODEC),
        ("OPTIONS * HTTP/1.1", 404, "", "- absolute_path_rejected"),
        ("GET * HTTP/1.1", 400, "Bad Request", "DPE http1.invalid_url"),
        ("FOO / HTTP/1.1", 400, "Bad Request", CODEC),
        ("GET /a#b HTTP/1.1", 400, "", "- path_normalization_failed"),
        ("GET / HTTP/1.0", 426, "Upgrade Required", "DPE low_version"),
        ("POST / HTTP/1.0\r\nContent-Length: 3", 426, "Upgrade Required", "DPE low_version"),
    ];
    for (number, (line_sent, status, text, told)) in cases.into_iter().enumerate() {
        let response = refusal(&gateway, &bytes(line_sent, "", ""));
        assert_eq!((response.status, response.text().as_str()), (status, text), "{line_sent}");
        let content_type = (!text.is_empty()).then_some("text/plain");
        assert_eq!(response.header("content-type"), content_type, "{line_sent}");
        let line = line(&gateway, number);
        assert!(line.contains(&format!(" {status} {told} ")), "{told:?} is not in {line:?} for {line_sent}");
    }
    assert_eq!(arrived(&upstream), 0);
}

#[test]
fn bytes_that_belong_percent_encoded_are_encoded_on_their_way() {
    let (gateway, upstream) = start();
    let mut connection = gateway.connect();
    let targets = [
        ("/a<b>`c?q=\"<`>\"", "/a%3Cb%3E%60c?q=%22%3C`%3E%22"),
        ("/a\"^{|}'[]", "/a%22%5E%7B%7C%7D'[]"),
        ("http://app.test/<?<", "/%3C?%3C"),
        ("/plain?a=b", "/plain?a=b"),
    ];
    let all: Vec<u8> = targets.iter().flat_map(|(sent, _)| bytes(&format!("GET {sent} HTTP/1.1"), "", "")).collect();
    // All at once, and then with a head in pieces.
    connection.send(&all).unwrap();
    for (sent, _) in targets {
        assert_eq!(connection.response(false).unwrap().status, 200, "{sent}");
    }
    let (first, last) = all.split_at(10);
    connection.send(first).unwrap();
    connection.send(last).unwrap();
    for (sent, _) in targets {
        assert_eq!(connection.response(false).unwrap().status, 200, "{sent}");
    }
    let mut arrived: Vec<_> =
        upstream.received().iter().flat_map(|received| &received.messages).map(|m| m.target.clone()).collect();
    arrived.sort();
    let mut expected: Vec<_> = targets.iter().chain(&targets).map(|(_, target)| (*target).to_owned()).collect();
    expected.sort();
    assert_eq!(arrived, expected);
    assert!(line(&gateway, 0).contains("\"GET /a%3Cb%3E%60c?q=%22%3C`%3E%22 HTTP/1.1\" 200 "), "{}", line(&gateway, 0));
    for line in ["GET /\u{e9} HTTP/1.1", "GET http://a<b/ HTTP/1.1"] {
        assert_eq!(refusal(&gateway, &bytes(line, "", "")).status, 400, "{line}");
    }
}

#[test]
fn what_only_hyper_refuses_is_answered_counted_and_told_as_the_rest() {
    let (gateway, upstream) = start();
    let heads = [
        get("x y: a\r\n"),
        get("x(: a\r\n"),
        get("x : a\r\n"),
        get(": a\r\n"),
        get("x: a\u{7f}\r\n"),
        bytes("GET  / HTTP/1.1", "", ""),
        bytes("GET /a b HTTP/1.1", "", ""),
        bytes("G(T / HTTP/1.1", "", ""),
        bytes("GET http:///a HTTP/1.1", "", ""),
        bytes("GET http://a<b/ HTTP/1.1", "", ""),
    ];
    for head in &heads {
        let response = refusal(&gateway, head);
        let text = String::from_utf8_lossy(head);
        assert_eq!((response.status, response.text().as_str()), (400, "Bad Request"), "{text}");
        assert!(response.header("server").is_some() && response.header("date").is_some(), "{text}: {response:?}");
        // Behind a request that is served, in one piece.
        let mut connection = gateway.connect();
        connection.send(&[get(""), head.clone()].concat()).unwrap();
        assert_eq!(connection.response(false).unwrap().status, 200, "{text}");
        assert_eq!(connection.response(false).unwrap().text(), "Bad Request", "{text}");
        assert!(connection.is_closed(), "{text}");
    }
    let told: Vec<_> = (0..3 * heads.len()).map(|number| line(&gateway, number)).collect();
    let refused = told.iter().filter(|line| line.contains("\"- - HTTP/1.1\" 400 DPE http1.codec_error "));
    assert_eq!(refused.count(), 2 * heads.len(), "{told:?}");
    assert_eq!(arrived(&upstream), heads.len());
    gateway.await_metric("envoy_http_downstream_cx_protocol_error", &[], (2 * heads.len()) as f64);
}

#[test]
fn what_is_refused_once_its_head_is_known_is_told_with_method_and_user_agent() {
    let (gateway, upstream) = start();
    let cases = [
        ("PUT /%00 HTTP/1.1", "", "PUT /%00", "400 - path_normalization_failed"),
        ("TRACE /a HTTP/1.1", "", "TRACE /a", "405 DPE method_not_allowed"),
        ("GET /a HTTP/1.1", "connection: upgrade\r\nupgrade: foo\r\n", "GET /a", "403 - upgrade_failed"),
        ("GET /a HTTP/1.1", "x_y: a\r\n", "GET /a", "400 DPE http1.unexpected_underscore"),
    ];
    for (number, (request_line, fields, target, told)) in cases.into_iter().enumerate() {
        refusal(&gateway, &bytes(request_line, &format!("user-agent: ua-{number}\r\n{fields}"), ""));
        let line = line(&gateway, number);
        assert!(line.contains(&format!("\"{target} HTTP/1.1\" {told} ")), "{line}");
        assert!(line.contains(&format!("\"ua-{number}\"")), "{line}");
    }
    assert_eq!(arrived(&upstream), 0);
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let (gateway, upstream) = start();
    let mut connection = gateway.connect();
    connection.send(&bytes("GET http://other.test:8080/a HTTP/1.1", "", "")).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    let received = &upstream.received()[0].messages[0];
    assert_eq!((received.target.as_str(), received.all("host")), ("/a", vec![&b"other.test:8080"[..]]));
}

#[test]
fn chunks_that_are_none_are_400_and_their_upstream_connection_is_not_used_again() {
    let (gateway, upstream) = start();
    let long = format!("3;{}\r\nabc\r\n", "a".repeat(20_000));
    for chunks in [
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "\r\nabc\r\n",
        "10000000000000003\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n",
        "3;a\0\r\nabc\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\r\nx: 1\ny: 2\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: 1\r\n 2\r\n\r\n",
        "3\r\nabc\r\n0\r\nxyz\r\n\r\n",
        &long,
    ] {
        let before = gateway.metric("envoy_http_downstream_cx_protocol_error", &[]);
        let path = format!("/{}", before + 1.0);
        let request = bytes(&format!("POST {path} HTTP/1.1"), "Transfer-Encoding: chunked\r\n", chunks);
        assert_eq!(refusal(&gateway, &request).status, 400, "{chunks:?}");
        assert!(gateway.await_access(&format!("{path} ")).contains(" 400 DPE http1.codec_error "), "{chunks:?}");
        assert_eq!(gateway.get("app.test", "/").status, 200);
        if !chunks.contains("xyz") {
            gateway.await_metric("envoy_http_downstream_cx_protocol_error", &[], before + 1.0);
        }
    }
    assert_eq!(arrived(&upstream), 18);
    gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 0.0);
}

#[test]
fn a_body_that_goes_wrong_later_or_is_cut_is_400() {
    let (gateway, _upstream) = start();
    let mut connection = gateway.connect();
    connection.send(&post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n")).unwrap();
    gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 1.0);
    connection.send(b"zz\r\n").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.header("connection")), (400, Some("close")));
    assert_eq!(response.text(), "Bad Request");
    assert!(connection.is_closed());
    gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 0.0);
}

#[test]
fn whoever_leaves_within_a_body_is_gone_and_has_sent_nothing_wrong() {
    let (gateway, _upstream) = start();
    for (path, fields) in [("/length", "Content-Length: 9\r\n"), ("/chunks", "Transfer-Encoding: chunked\r\n")] {
        let mut connection = gateway.connect();
        connection.send(&bytes(&format!("POST {path} HTTP/1.1"), fields, "3\r\nabc")).unwrap();
        gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 1.0);
        drop(connection);
        let line = gateway.await_access(path);
        assert!(line.contains(" 0 DC downstream_remote_disconnect "), "{line}");
        gateway.await_metric("envoy_cluster_upstream_rq_active", &[], 0.0);
    }
    assert_eq!(gateway.metric("envoy_http_downstream_rq_xx", &["envoy_response_code_class=\"4\""]), 0.0);
}

#[test]
fn a_query_says_what_it_asks_with() {
    let (gateway, upstream) = start();
    let query = |fields: &str| bytes("QUERY / HTTP/1.1", &format!("Content-Length: 2\r\n{fields}"), "ab");
    for fields in ["", "Content-Type:\r\n"] {
        assert_eq!(refusal(&gateway, &query(fields)).text(), "");
        gateway.await_access(" 400 - query_missing_content_type ");
    }
    let mut connection = gateway.connect();
    connection.send(&query("Content-Type: text/x\r\n")).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    assert_eq!(arrived(&upstream), 1);
}

#[test]
fn forbidden_trailers_do_not_pass() {
    let (gateway, upstream) = start();
    let trailers = "X-T: 1\r\nContent-Length: 9\r\nHost: b\r\nTransfer-Encoding: x\r\nAuthorization: y\r\n";
    let fields =
        "Transfer-Encoding: chunked\r\nTrailer: X-T, Content-Length, Host, Transfer-Encoding, Authorization\r\n";
    let mut connection = gateway.connect();
    connection.send(&post(fields, &format!("3\r\nabc\r\n0\r\n{trailers}\r\n"))).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    let message = &upstream.received()[0].messages[0];
    let names: Vec<_> = message.trailers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.iter().all(|name| *name == "x-t"), "{names:?}");
}

#[test]
fn what_follows_a_refused_upgrade_is_a_request_of_its_own() {
    let (gateway, upstream) = start();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut connection = gateway.connect();
    connection.send(&[get(upgrade), get("")].concat()).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    assert_eq!(connection.response(false).unwrap().status, 200);
    connection.send(&[get(upgrade), bytes("GET /a#b HTTP/1.1", "", "")].concat()).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    assert_eq!(connection.response(false).unwrap().status, 400);
    assert!(connection.is_closed());
    assert_eq!(arrived(&upstream), 3);
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    ] {
        let mut connection = gateway.connect();
        connection.send(&get(fields)).unwrap();
        assert_eq!(connection.response(false).unwrap().status, 200);
    }
    for fields in
        ["Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", "Connection: x, upgrade\r\nUpgrade: websocket, h2c\r\n"]
    {
        let mut connection = gateway.connect();
        connection.send(&[get(fields), get("")].concat()).unwrap();
        assert_eq!(connection.response(false).unwrap().status, 403, "{fields}");
        assert!(connection.is_closed());
        assert!(gateway.await_access(" 403 ").contains(" 403 - upgrade_failed "));
    }
    let received = upstream.received();
    let messages = received.iter().flat_map(|received| &received.messages);
    let names = messages.flat_map(|message| &message.fields).map(|(name, _)| name.as_str());
    assert!(!names.clone().any(|name| name == "http2-settings"), "{:?}", names.collect::<Vec<_>>());
}

#[test]
fn whole_requests_are_served_however_their_bytes_come() {
    let (gateway, upstream) = start();
    let mut connection = gateway.connect();
    let body = "3;a=\"b\"\r\nabc\r\n0a\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
    for byte in [b"\r\n".to_vec(), get("x:\ty\r\n"), post("Transfer-Encoding: Chunked\r\n", body)].concat() {
        connection.send(&[byte]).unwrap();
    }
    let large = "a".repeat(50_000);
    let pipelined = [post("Content-Length: 3\r\n", "abc"), b"\r\n".to_vec(), get(&format!("x: {large}\r\n")), get("")];
    connection.send(&pipelined.concat()).unwrap();
    for _ in 0..5 {
        assert_eq!(connection.response(false).unwrap().status, 200);
    }
    let messages: Vec<_> = upstream.received().into_iter().flat_map(|received| received.messages).collect();
    assert_eq!(messages.len(), 5);
    assert!(messages.iter().any(|message| message.body == b"abc0123456789"));
    assert!(messages.iter().any(|message| message.all("x") == [large.as_bytes()]));
}

#[test]
fn a_request_that_waits_for_100_is_told_to_go_on_only_when_it_is_served() {
    let (gateway, _upstream) = start();
    let fields = "Content-Length: 3\r\nExpect: 100-continue\r\n";
    let mut connection = gateway.connect();
    connection.send(&post(fields, "")).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send(b"abc").unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    let mut connection = gateway.connect();
    connection.send(&bytes("POST /here HTTP/1.1", fields, "")).unwrap();
    assert_eq!(connection.response(false).unwrap().status, 403);
}

#[test]
fn an_answer_reaches_a_client_that_is_still_sending() {
    let (gateway, _upstream) = start();
    let body = "a".repeat(400_000);
    for request in [
        bytes("POST /here HTTP/1.1", &format!("Content-Length: {}\r\n", body.len()), &body),
        get(&format!("x: {body}\r\n")),
    ] {
        let mut connection = Connection::open(gateway.address()).unwrap();
        connection.send(&request).unwrap();
        let status = connection.response(false).unwrap().status;
        assert!(matches!(status, 403 | 431), "{status}");
    }
    let next = gateway.send(&Request::get("app.test", "/"));
    assert_eq!(next.status, 200);
}

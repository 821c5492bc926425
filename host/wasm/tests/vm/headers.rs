//! Header maps: pseudo headers, phases, validation.

use http::header::HeaderValue;
use http::{HeaderMap, StatusCode};

use crate::support::{answered_stream, guest, notes, on_request, property, run, start, stream};

#[test]
fn values_and_pseudo_headers_are_read() {
    let read = |name: &str| {
        let stream = run(&on_request(&format!(
            r#"(call $note (call $get (i32.const 0) @"{name}" (i32.const 16) (i32.const 20))) (call $keep @"value")"#
        )));
        (notes(&stream)[0], property(&stream, "value").map(<[u8]>::to_vec).unwrap_or_default())
    };
    assert_eq!(read(":authority"), (0, b"example.com".to_vec()));
    assert_eq!(read(":path"), (0, b"/a?b=c".to_vec()));
    assert_eq!(read(":method"), (0, b"GET".to_vec()));
    assert_eq!(read(":scheme"), (0, b"http".to_vec()));
    assert_eq!(read("X-One"), (0, b"1".to_vec()), "the first value, whatever the case");
    assert_eq!(read("absent"), (1, Vec::new()));
    assert_eq!(read(":status"), (1, Vec::new()));
    assert_eq!(read("b\\ff"), (1, Vec::new()));
}

#[test]
fn pairs_list_pseudo_headers_first_and_all_values() {
    let stream = run(&on_request(
        r#"(call $note (call $pairs (i32.const 0) (i32.const 16) (i32.const 20))) (call $keep @"value")
           (call $note (call $size (i32.const 0) (i32.const 40)))
           (call $note (call $u32 (i32.const 40)))"#,
    ));
    let texts = b":authority\0example.com\0:path\0/a?b=c\0:method\0GET\0:scheme\0http\0x-one\x001\0x-one\x002\0content-length\x000\0";
    assert!(property(&stream, "value").unwrap().ends_with(texts));
    assert_eq!(notes(&stream), [0, 0, (texts.len() - 14) as u8]);
}

#[test]
fn headers_are_added_replaced_and_removed_and_the_route_is_chosen_anew() {
    let stream = run(&on_request(
        r#"(call $note (call $add (i32.const 0) @"X-New" @"a"))
           (call $note (call $add (i32.const 0) @"x-new" @"b"))
           (call $note (call $replace (i32.const 0) @"x-one" @"3"))
           (call $note (call $remove (i32.const 0) @"content-length"))
           (call $note (call $remove (i32.const 0) @"absent"))
           (call $note (call $replace (i32.const 0) @":path" @"/new?x"))
           (call $note (call $replace (i32.const 0) @":method" @"PUT"))
           (call $note (call $replace (i32.const 0) @":authority" @"other.org:81"))"#,
    ));
    assert_eq!(notes(&stream), [0; 8]);
    let headers = &stream.request.headers;
    assert_eq!(headers.get_all("x-new").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(headers.get_all("x-one").iter().collect::<Vec<_>>(), ["3"]);
    assert!(!headers.contains_key("content-length"));
    assert_eq!(stream.request.uri, "/new?x");
    assert_eq!(stream.request.method, "PUT");
    assert_eq!(headers["host"], "other.org:81");
    assert!(stream.route_cleared);
}

#[test]
fn what_http_forbids_and_what_frames_a_message_is_refused() {
    let stream = run(&on_request(
        r#"(call $note (call $add (i32.const 0) @"x" @"a\0d\0ab: c"))
           (call $note (call $add (i32.const 0) @"x\0a" @"a"))
           (call $note (call $add (i32.const 0) @"" @"a"))
           (call $note (call $add (i32.const 0) @"a b" @"a"))
           (call $note (call $replace (i32.const 0) @"x" @"a\00"))
           (call $note (call $add (i32.const 0) @"content-length" @"5"))
           (call $note (call $replace (i32.const 0) @"Transfer-Encoding" @"chunked"))
           (call $note (call $add (i32.const 0) @"connection" @"close"))
           (call $note (call $add (i32.const 0) @"te" @"trailers"))
           (call $note (call $add (i32.const 0) @"keep-alive" @"1"))
           (call $note (call $replace (i32.const 0) @":path" @"no-slash"))
           (call $note (call $replace (i32.const 0) @":path" @"/a b"))
           (call $note (call $replace (i32.const 0) @":authority" @"a b"))
           (call $note (call $replace (i32.const 0) @"host" @"a/b"))
           (call $note (call $replace (i32.const 0) @":method" @"CONNECT"))
           (call $note (call $replace (i32.const 0) @":scheme" @"ftp"))
           (call $note (call $replace (i32.const 0) @":status" @"200"))
           (call $note (call $remove (i32.const 0) @":path"))
           (call $note (call $remove (i32.const 0) @"host"))
           (call $note (call $set_pairs (i32.const 0) @"\01\00\00\00garbage"))"#,
    ));
    assert_eq!(notes(&stream), [2; 20]);
    assert_eq!(stream.request.headers.len(), 4);
    assert!(!stream.route_cleared);
}

#[test]
fn maps_are_there_in_their_phases_only() {
    let probe = r#"
        (call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))
        (call $note (call $add (i32.const 0) @"x" @"y"))
        (call $note (call $get (i32.const 2) @":status" (i32.const 16) (i32.const 20)))
        (call $note (call $add (i32.const 2) @"x" @"y"))
        (call $note (call $pairs (i32.const 2) (i32.const 16) (i32.const 20)))
        (call $note (call $u32 (i32.const 20)))
        (call $note (call $get (i32.const 9) @"x" (i32.const 16) (i32.const 20)))"#;
    let text = guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {probe} (i32.const 0))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {probe} (i32.const 0))
           (func (export "proxy_on_log") (param i32) {probe})"#
    ));
    let mut vm = start(&text);
    let (mut stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    stream = vm.on_request_headers(id, stream, true).0;
    assert_eq!(notes(&stream), [0, 0, 2, 2, 0, 0, 2]);
    stream.response = answered_stream().response;
    stream = vm.on_response_headers(id, stream, true).0;
    assert_eq!(notes(&stream)[7..12], [2, 2, 0, 0, 0]);
    assert_ne!(notes(&stream)[12], 0);
    stream = vm.end_stream(id, stream).0;
    assert_eq!(notes(&stream)[14..19], [0, 2, 0, 2, 0]);
}

#[test]
fn the_response_s_status_can_be_changed_within_reason() {
    let text = guest(
        r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (call $note (call $replace (i32.const 2) @":status" @"418"))
             (call $note (call $replace (i32.const 2) @":status" @"99999"))
             (call $note (call $replace (i32.const 2) @":status" @"0"))
             (call $note (call $replace (i32.const 2) @"host" @"plain"))
             (i32.const 0))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(answered_stream());
    let (stream, _) = vm.on_response_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [0, 2, 2, 0]);
    let response = stream.response.unwrap();
    assert_eq!(response.status, StatusCode::IM_A_TEAPOT);
    assert_eq!(response.headers["host"], "plain");
}

/// The list that a guest gets, with one header more, sent back.
#[test]
fn a_whole_map_can_be_replaced_and_framing_stays_the_gateway_s() {
    let list = |pairs: &[(&str, &str)]| {
        let number = |n: usize| format!("\\{n:02x}\\00\\00\\00");
        let mut text = number(pairs.len());
        pairs.iter().for_each(|(name, value)| text += &(number(name.len()) + &number(value.len())));
        pairs.iter().for_each(|(name, value)| text += &format!("{name}\\00{value}\\00"));
        text
    };
    let pairs =
        list(&[(":path", "/other"), ("x-new", "n"), ("content-length", "77"), ("transfer-encoding", "chunked")]);
    let stream = run(&on_request(&format!(r#"(call $note (call $set_pairs (i32.const 0) @"{pairs}"))"#)));
    assert_eq!(notes(&stream), [0]);
    let mut wanted = HeaderMap::new();
    wanted.insert("x-new", HeaderValue::from_static("n"));
    wanted.insert("content-length", HeaderValue::from_static("0"));
    wanted.insert("host", HeaderValue::from_static("example.com"));
    assert_eq!(stream.request.headers, wanted);
    assert_eq!(stream.request.uri, "/other");
    let stream = run(&on_request(r#"(call $note (call $set_pairs (i32.const 0) @""))"#));
    assert_eq!(stream.request.headers.len(), 1, "only the host stays");
}

#[test]
fn trailers_may_be_added_at_the_end_of_a_body() {
    let text = guest(
        r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
             (call $note (call $add (i32.const 1) @"x-sum" @"1")) (i32.const 0))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (stream, _) = vm.on_request_body(id, stream, 0, false);
    assert!(stream.request_trailers.is_none());
    let (stream, _) = vm.on_request_body(id, stream, 0, true);
    assert_eq!(notes(&stream), [2, 0]);
    assert_eq!(stream.request_trailers.unwrap()["x-sum"], "1");
}

#[test]
fn an_absent_header_is_empty_in_the_oldest_abi() {
    let text = on_request(r#"(call $note (call $get (i32.const 0) @"absent" (i32.const 16) (i32.const 20)))"#);
    assert_eq!(notes(&run(&text.replace("version_0_2_1", "version_0_1_0"))), [0]);
}

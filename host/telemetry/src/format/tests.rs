//! Tests of format strings.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Version};
use proptest::prelude::*;

use super::*;
use crate::{ResponseFlags, UpstreamAddress};

fn line(format: &str, info: &StreamInfo) -> String {
    let mut out = Vec::new();
    Format::compile(format).unwrap().write(info, &mut out);
    String::from_utf8(out).unwrap()
}

fn full() -> StreamInfo {
    StreamInfo {
        start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_261_353_045),
        method: Some(Method::POST),
        path: Some("/cart?item=1".parse().unwrap()),
        protocol: Some(Version::HTTP_2),
        response_code: 503,
        flags: ResponseFlags::UF | ResponseFlags::URX,
        details: "upstream_reset_before_response_started{connection failure}".into(),
        connection_termination: None,
        cause: Some("Connection refused".to_owned()),
        bytes_received: 12,
        bytes_sent: 91,
        duration: Duration::from_micros(7_900),
        upstream_service_time: Some(Duration::from_millis(6)),
        x_forwarded_for: Some(HeaderValue::from_static("192.0.2.7")),
        user_agent: Some(HeaderValue::from_static("curl/8.5")),
        request_id: Some(HeaderValue::from_static("9f0c7d3e-1c1f-4b7e-8a55-0c6a1f1f8f00")),
        authority: Some(HeaderValue::from_static("shop.example")),
        upstream_host: Some(UpstreamAddress::Socket("10.0.3.4:8080".parse().unwrap())),
        upstream_cluster: Some("outbound|8080|v1|shop.default.svc.cluster.local".into()),
        upstream_local: Some("10.0.0.1:40000".parse().unwrap()),
        downstream_local: Some("[::1]:8080".parse().unwrap()),
        downstream_remote: Some("192.0.2.7:51000".parse().unwrap()),
        requested_server_name: Some("shop.example".into()),
        route_name: Some("cart".into()),
        ..StreamInfo::default()
    }
}

#[test]
fn the_default_format_is_istios() {
    let expected = concat!(
        r#"[2026-09-24T14:49:13.045Z] "POST /cart?item=1 HTTP/2" 503 URX,UF "#,
        r#"upstream_reset_before_response_started{connection_failure} - "Connection_refused" 12 91 7 6 "#,
        r#""192.0.2.7" "curl/8.5" "9f0c7d3e-1c1f-4b7e-8a55-0c6a1f1f8f00" "shop.example" "10.0.3.4:8080" "#,
        r#"outbound|8080|v1|shop.default.svc.cluster.local 10.0.0.1:40000 [::1]:8080 192.0.2.7:51000 "#,
        r#"shop.example cart"#,
    );
    assert_eq!(line(DEFAULT_FORMAT, &full()), expected);
}

#[test]
fn absent_values_are_dashes() {
    let expected = r#"[1970-01-01T00:00:00.000Z] "- - -" 0 - - - "-" 0 0 0 - "-" "-" "-" "-" "-" - - - - - -"#;
    assert_eq!(line(DEFAULT_FORMAT, &StreamInfo::default()), expected);
}

#[test]
fn what_a_client_sends_ends_neither_quotes_nor_lines() {
    let info = StreamInfo {
        user_agent: Some(HeaderValue::from_bytes(b"a\" 200 \\ \t\xff").unwrap()),
        cause: Some("one\ntwo\x1b[2J".to_owned()),
        ..StreamInfo::default()
    };
    assert_eq!(line("\"%REQ(USER-AGENT)%\"", &info), r#""a\" 200 \\ \x09\xff""#);
    assert_eq!(line("%UPSTREAM_TRANSPORT_FAILURE_REASON%", &info), r"one\x0atwo\x1b[2J");
}

#[test]
fn the_first_header_that_is_there_is_taken() {
    assert_eq!(line("%REQ(X-REQUEST-ID?:AUTHORITY)%", &StreamInfo { request_id: None, ..full() }), "shop.example");
    assert_eq!(line("%REQ(:AUTHORITY?X-REQUEST-ID)%", &full()), "shop.example");
}

#[test]
fn values_are_cut_before_they_are_escaped() {
    let quotes = StreamInfo { authority: Some(HeaderValue::from_static("\"\"\"\"")), ..full() };
    assert_eq!(line("%REQ(:AUTHORITY):2%", &quotes), r#"\"\""#);
    assert_eq!(line("%RESPONSE_CODE:1%%DURATION%", &full()), "57");
    assert_eq!(line("a%REQ(:AUTHORITY):0%b", &full()), "a-b");
}

#[test]
fn times_can_have_a_pattern() {
    assert_eq!(line("%START_TIME(%Y/%m/%d %H:%M:%S.%3f)%|", &full()), "2026/09/24 14:49:13.045|");
    assert_eq!(line("%START_TIME(%s)%", &full()), "1790261353");
    assert!(matches!(Format::compile("%START_TIME(%!)%"), Err(FormatError::TimeFormat { .. })));
}

#[test]
fn percent_signs_are_doubled() {
    assert_eq!(line("100%% %PROTOCOL%%%", &full()), "100% HTTP/2%");
}

#[test]
fn mistakes_are_named() {
    let error = |format: &str| Format::compile(format).unwrap_err().to_string();
    assert_eq!(error("a %PROTOCOL"), "`%PROTOCOL` has no closing `%`; a literal percent sign is written `%%`");
    assert_eq!(error("%NOPE%"), "unknown command `%NOPE%`");
    assert_eq!(error("%NOPE(x)%"), "unknown command `%NOPE(x)%`");
    assert_eq!(error("%REQ(a b)%"), "`a b` is no header name");
    assert_eq!(error("%PROTOCOL:x%"), "`%PROTOCOL:x%` is malformed; expected `%COMMAND(ARGUMENTS):LENGTH%`");
    assert_eq!(error("%PROTOCOL(x)%"), "`%PROTOCOL(x)%` is malformed; expected `%COMMAND(ARGUMENTS):LENGTH%`");
    assert_eq!(error("%REQ%"), "unknown command `%REQ%`");
}

proptest! {
    #[test]
    fn addresses_and_numbers_print_as_the_standard_library_prints_them(
        address in any::<std::net::SocketAddr>(),
        number in any::<u64>(),
    ) {
        let info = StreamInfo { downstream_remote: Some(address), bytes_sent: number, ..StreamInfo::default() };
        let format = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %BYTES_SENT%";
        prop_assert_eq!(line(format, &info), format!("{address} {} {number}", address.ip()));
    }

    #[test]
    fn compiling_and_printing_never_panic(format in "([%():?A-Z_0-9a-z é\"-]|%REQ\\(|%START_TIME\\(|:PATH){0,40}") {
        if let Ok(format) = Format::compile(&format) {
            format.write(&full(), &mut Vec::new());
        }
    }

    #[test]
    fn a_line_cannot_be_forged(
        agent in proptest::collection::vec(any::<u8>(), 0..60),
        cause in any::<String>(),
        route in any::<String>(),
        cut in 0..20_usize,
    ) {
        let info = StreamInfo {
            user_agent: HeaderValue::from_bytes(&agent).ok(),
            cause: Some(cause),
            route_name: Some(route.into()),
            ..full()
        };
        let mut out = Vec::new();
        let format = format!("\"%REQ(USER-AGENT):{cut}%\" \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \"%ROUTE_NAME%\"");
        Format::compile(&format).unwrap().write(&info, &mut out);
        prop_assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)));
        prop_assert_eq!(unescaped_quotes(&out), 6);
    }
}

fn unescaped_quotes(line: &[u8]) -> usize {
    let mut bytes = line.iter();
    let mut quotes = 0;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => quotes += 1,
            _ => {}
        }
    }
    quotes
}

fn json(format: &str, info: &StreamInfo) -> String {
    let mut out = Vec::new();
    Format::compile_json(format).unwrap().write(info, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_keeps_numbers_and_says_null_for_what_is_absent() {
    let format = r#"{"code":"%RESPONSE_CODE%","ms":"%DURATION%","host":"%REQ(:AUTHORITY)%","sub":{"cause":"%UPSTREAM_TRANSPORT_FAILURE_REASON%"},
        "both":"%PROTOCOL% %CONNECTION_TERMINATION_DETAILS%","fixed":[1,true,null]}"#;
    let info = StreamInfo { cause: None, ..full() };
    let value: serde_json::Value = serde_json::from_str(&json(format, &info)).unwrap();
    let expected = serde_json::json!({
        "code": 503, "ms": 7, "host": "shop.example", "sub": {"cause": null}, "both": "HTTP/2 -", "fixed": [1, true, null]
    });
    assert_eq!(value, expected);
}

#[test]
fn empty_values_can_be_left_out() {
    let info = StreamInfo { cause: None, ..full() };
    let mut out = Vec::new();
    let format = Format::compile_json(r#"{"a":"%UPSTREAM_TRANSPORT_FAILURE_REASON%","b":"%PROTOCOL%"}"#).unwrap();
    format.omitting_empty(true).write(&info, &mut out);
    assert_eq!(out, br#"{"b":"HTTP/2"}"#);
    out.clear();
    let format = Format::compile("<%UPSTREAM_TRANSPORT_FAILURE_REASON%>").unwrap();
    format.omitting_empty(true).write(&info, &mut out);
    assert_eq!(out, b"<>");
}

#[test]
fn the_default_json_has_istios_keys() {
    let value: serde_json::Value = serde_json::from_str(&json(DEFAULT_JSON_FORMAT, &full())).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 24);
    assert_eq!((&value["response_code"], &value["path"]), (&503.into(), &"/cart?item=1".into()));
}

#[test]
fn any_header_can_be_named_and_a_clients_text_cannot_leave_its_place() {
    let mut headers = http::HeaderMap::new();
    headers.append("x-team", HeaderValue::from_static("a\"b"));
    headers.append("x-team", HeaderValue::from_bytes(b"\xc3\xa9").unwrap());
    let info = StreamInfo { request_headers: Some(headers), ..full() };
    assert_eq!(line("%REQ(X-Team)% %RESP(x-team)%", &info), r#"a\"b -"#, "of several lines the first, as in Envoy");
    let format = Format::compile("%REQ(X-Team)%").unwrap();
    assert!(format.wants_headers());
    assert!(!Format::compile(DEFAULT_FORMAT).unwrap().wants_headers());
    let value: serde_json::Value = serde_json::from_str(&json(r#"{"team":"%REQ(x-team)%"}"#, &info)).unwrap();
    assert_eq!(value["team"], "a\"b");
}

#[test]
fn what_filters_have_told_is_dynamic_metadata() {
    let told = vec![("envoy.common:access_log_hint".to_owned(), "true".to_owned())].into_boxed_slice();
    let info = StreamInfo { dynamic_metadata: Some(told), ..full() };
    assert_eq!(
        line("%DYNAMIC_METADATA(envoy.common:access_log_hint)% %DYNAMIC_METADATA(envoy.common)%", &info),
        "true -"
    );
    assert!(Format::compile("%DYNAMIC_METADATA(a:b)%").unwrap().wants_headers());
}

#[test]
fn what_envoy_knows_and_is_not_kept_here_prints_as_absent() {
    assert_eq!(
        line("%DYNAMIC_METADATA% %FILTER_STATE(a)% %DYNAMIC_METADATA(a:b)% %DOWNSTREAM_TLS_VERSION%", &full()),
        "- - - -"
    );
}

/// Real Envoy 1.40 printed these of such requests.
#[test]
fn paths_are_told_before_and_after_a_rewrite() {
    let format = "%REQ(:PATH)% %REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PATH% %PATH(NQ)% \
        %PATH(WQ:ORIG)% %PATH(WQ:PATH)% %QUERY_PARAM(item)% %QUERY_PARAMS%";
    assert_eq!(line(format, &full()), "/cart?item=1 - /cart?item=1 /cart?item=1 /cart - /cart?item=1 1 item=1");
    let info = StreamInfo { rewritten_path: Some("/new?item=%41%20b&item=2".parse().unwrap()), ..full() };
    let expected = "/new?item=%41%20b&item=2 /cart?item=1 /cart?item=1 /cart?item=1 /cart /cart?item=1 \
        /new?item=%41%20b&item=2 A b item=%41%20b&item=2";
    assert_eq!(line(format, &info), expected);
}

#[test]
fn no_flag_is_a_dash_where_absent_values_leave_nothing_too() {
    let mut out = Vec::new();
    let format = Format::compile("%RESPONSE_FLAGS%%ROUTE_NAME%").unwrap().omitting_empty(true);
    format.write(&StreamInfo::default(), &mut out);
    assert_eq!(out, b"-");
    assert_eq!(json(r#"{"flags":"%RESPONSE_FLAGS%"}"#, &StreamInfo::default()), r#"{"flags":"-"}"#);
}

#[test]
fn a_header_s_value_is_not_escaped() {
    let info = StreamInfo { user_agent: Some(HeaderValue::from_static("a \"b\" \\")), ..full() };
    let mut out = Vec::new();
    Format::compile("%REQ(USER-AGENT)%,%REQ(X-NONE)%").unwrap().write_header(&info, &mut out);
    assert_eq!(out, b"a \"b\" \\,");
}

#[test]
fn a_status_of_grpc_is_a_name_or_a_number() {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let info = StreamInfo { response_trailers: Some(trailers), ..full() };
    let format = "%GRPC_STATUS% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%";
    assert_eq!(line(format, &info), "Unavailable 14 14");
    assert_eq!(line(format, &full()), "- - -");
}

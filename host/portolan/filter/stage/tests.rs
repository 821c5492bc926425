//! The stage around small modules: what goes in, what comes out, and what the trace tells.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::*;

/// A filter: `configure` answers whether a configuration will do, `request` and `response` are the callbacks' bodies.
fn module(configure: &str, request: &str, response: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
          (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "x-stamp") (data (i32.const 16) "one") (data (i32.const 32) "two")
          (data (i32.const 64) "outbound|9000||authz")
          (data (i32.const 96) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\02\00\00\00\0a\00\00\00\05\00\00\00:method\00GET\00:path\00/a\00:authority\00authz\00")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) i32.const 4096)
          (func (export "proxy_on_context_create") (param i32 i32))
          (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
          (func (export "proxy_on_configure") (param i32 i32) (result i32) {configure})
          (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32))
          (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {request} i32.const 0)
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {response} i32.const 0))"#
    );
    wat::parse_str(text).unwrap()
}

/// Sets `x-stamp` on requests, to the text at this address.
fn stamping(at: u32) -> Vec<u8> {
    let set = format!(
        "(drop (call $set (i32.const 0) (i32.const 0) (i32.const 7) (i32.const {at}) (i32.const 3)))
         (drop (call $log (i32.const 2) (i32.const {at}) (i32.const 3)))"
    );
    module("i32.const 1", &set, "")
}

fn subject(config: Value) -> Subject {
    Subject { name: "stamp".to_owned(), plugin_name: None, config, phase: None, fail_strategy: None }
}

fn options(module: Vec<u8>) -> StageOptions {
    StageOptions {
        subject: subject(json!({ "a": 1 })),
        module,
        listen: None,
        config: None,
        services: Vec::new(),
        callbacks: Some(TraceLimits::default()),
        admin: None,
    }
}

fn run<R>(test: impl Future<Output = R>) -> R {
    run::runtime().unwrap().block_on(test)
}

fn stamp(exchange: &Exchange) -> &[u8] {
    exchange.upstream.as_ref().unwrap().headers["x-stamp"].as_bytes()
}

#[test]
fn a_request_goes_through_and_all_of_it_is_told() {
    run(async {
        let (stage, change) = Stage::start(options(stamping(16))).await.unwrap();
        assert_eq!(change.refusal, None);
        let request = Request {
            method: Method::POST,
            path: "/hello?a".to_owned(),
            body: Bytes::from_static(b"abc"),
            ..Request::default()
        };
        let exchange = stage.send(&request).await.unwrap();
        let seen = exchange.upstream.as_ref().unwrap();
        assert_eq!((&seen.method, &*seen.path, &*seen.body), (&Method::POST, "/hello?a", &b"abc"[..]));
        assert_eq!(stamp(&exchange), b"one");
        let response = exchange.response.as_ref().unwrap();
        let echoed: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status, &echoed["headers"]["x-stamp"]), (StatusCode::OK, &json!("one")));
        let told: Vec<_> = exchange.record.callbacks.iter().map(|callback| callback.name()).collect();
        assert_eq!(told, ["on_context_create", "on_request_headers", "on_response_headers"]);
        let calls: Vec<_> = exchange.record.callbacks[1].calls.iter().map(ToString::to_string).collect();
        assert_eq!(calls, ["set_header(\"x-stamp\", \"one\")", "log(info, \"one\")"]);
        assert_eq!(exchange.log().collect::<Vec<_>>(), ["info: one"]);
        assert_eq!(exchange.record.info.response_code, 200);
    });
}

#[test]
fn a_module_is_swapped_at_once_and_one_that_is_refused_is_not() {
    run(async {
        let (stage, _) = Stage::start(options(stamping(16))).await.unwrap();
        let change = stage.swap(Some(&stamping(32)), None).await.unwrap();
        assert_eq!(change.refusal, None);
        assert_eq!(stamp(&stage.send(&Request::default()).await.unwrap()), b"two");
        let change = stage.swap(Some(&module("i32.const 0", "", "")), None).await.unwrap();
        assert!(change.refusal.unwrap().contains("refused its configuration in `proxy_on_configure`"));
        assert_eq!(stamp(&stage.send(&Request::default()).await.unwrap()), b"two", "the one before serves on");
        let change = stage.swap(Some(b"no module"), None).await.unwrap();
        assert!(change.refusal.unwrap().contains("not a valid WebAssembly module"));
        let change = stage.swap(Some(&stamping(16)), None).await.unwrap();
        assert_eq!(change.refusal, None);
        assert_eq!(stamp(&stage.send(&Request::default()).await.unwrap()), b"one");
    });
}

#[test]
fn another_configuration_starts_the_filter_anew() {
    // A configuration of 7 bytes will do: `{"a":1}`.
    let picky = module("(i32.eq (local.get 1) (i32.const 7))", "", "");
    run(async {
        let (stage, change) = Stage::start(options(picky)).await.unwrap();
        assert_eq!(change.refusal, None);
        let change = stage.swap(None, Some(&subject(json!({ "longer": true })))).await.unwrap();
        assert!(change.refusal.is_some());
        let change = stage.swap(None, Some(&subject(json!({ "b": 2 })))).await.unwrap();
        assert_eq!(change.refusal, None);
    });
}

#[test]
fn a_filter_that_is_refused_at_the_start_leaves_a_gateway_that_runs() {
    run(async {
        let (stage, change) = Stage::start(options(module("i32.const 0", "", ""))).await.unwrap();
        assert!(change.refusal.is_some());
        let exchange = stage.send(&Request::default()).await.unwrap();
        assert_eq!(exchange.response.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(exchange.upstream.is_none() && exchange.record.callbacks.is_empty());
        assert_eq!(stage.swap(Some(&stamping(16)), None).await.unwrap().refusal, None);
        assert_eq!(stage.send(&Request::default()).await.unwrap().response.unwrap().status, StatusCode::OK);
    });
}

#[test]
fn the_backend_answers_as_it_is_told_with_trailers_and_not_at_all() {
    run(async {
        let (stage, _) = Stage::start(options(stamping(16))).await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "3".parse().unwrap());
        let response =
            Response { body: Bytes::from_static(b"tea"), trailers, ..Response::new(StatusCode::IM_A_TEAPOT) };
        stage.backend().answer_with(Script::Answer { response: response.into(), delay: Duration::from_millis(1) });
        let request = Request {
            headers: [("te".parse().unwrap(), "trailers".parse().unwrap())].into_iter().collect(),
            ..Request::default()
        };
        let got = stage.send(&request).await.unwrap().response.unwrap();
        assert_eq!((got.status, &*got.body), (StatusCode::IM_A_TEAPOT, &b"tea"[..]));
        assert_eq!(got.trailers["x-sum"], "3");
        let again = stage.send(&request).await.unwrap();
        assert_eq!(again.response.unwrap().trailers["x-sum"], "3", "on a connection that is used again");
        assert!(!again.upstream.unwrap().headers.contains_key("te"));
        stage.backend().answer_with(Script::Down);
        let exchange = stage.send(&request).await.unwrap();
        assert_eq!(exchange.response.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(exchange.upstream.is_some(), "it has seen the request and closed");
    });
}

#[test]
fn callouts_reach_a_service_by_the_name_of_its_cluster() {
    let call = "(if (call $call (i32.const 64) (i32.const 20) (i32.const 96) (i32.const 66) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 8192)) (then unreachable))";
    let slow = Response { body: Bytes::from_static(b"x"), ..Response::new(StatusCode::OK) };
    run(async {
        let authz = Named::parse("outbound|9000||authz").unwrap();
        let services = vec![(authz.clone(), Script::default())];
        let (stage, change) =
            Stage::start(StageOptions { services, ..options(module("i32.const 1", call, "")) }).await.unwrap();
        assert_eq!((change.refusal, authz.cluster()), (None, "outbound|9000||authz".to_owned()));
        stage.backend().answer_with(Script::Answer { response: slow.into(), delay: Duration::from_millis(300) });
        let exchange = stage.send(&Request::default()).await.unwrap();
        let [(named, seen)] = &exchange.callouts[..] else { panic!("{:?}", exchange.callouts) };
        assert_eq!((named, &*seen[0].path, &*seen[0].host), (&authz, "/a", "authz"));
        assert!(
            exchange.record.callbacks[1].calls[0]
                .to_string()
                .starts_with("http_call(\"outbound|9000||authz\", [:method: GET, ")
        );
    });
}

#[test]
fn without_callbacks_only_the_end_of_a_stream_is_told() {
    run(async {
        let quiet = StageOptions { callbacks: None, ..options(stamping(16)) };
        let (stage, _) = Stage::start(quiet).await.unwrap();
        let exchange = stage.send(&Request::default()).await.unwrap();
        assert!(exchange.record.callbacks.is_empty());
        assert_eq!((stamp(&exchange), exchange.record.info.response_code), (&b"one"[..], 200));
    });
}

//! Faults, CORS policies and retries of routes, in real Envoy and here, answer by answer.

use serde_json::{Value, json};

use crate::pair::{Case, answer};
use crate::support::client::Request;
use crate::support::envoy::cluster;
use crate::support::upstream::Seen;

const RULES: &str = "\
- match: [{uri: {prefix: /abort}}]
  route: [{destination: {host: app.test}}]
  fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
  headers: {response: {set: {x-route: abort}}}
- match: [{uri: {prefix: /grpc}}]
  route: [{destination: {host: app.test}}]
  fault: {delay: {fixedDelay: 10ms, percentage: {value: 100}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
- match: [{uri: {prefix: /any}}]
  route: [{destination: {host: app.test}}]
  corsPolicy: {allowOrigins: [{exact: '*'}], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*']}
- match: [{uri: {prefix: /ignore}}]
  route: [{destination: {host: app.test}}]
  headers: {response: {set: {x-route: cors}}}
  corsPolicy:
    allowOrigins: [{prefix: 'https://a.'}, {regex: 'https://[a-z]+'}]
    allowMethods: [GET, PUT]
    allowHeaders: [x-one, '*']
    exposeHeaders: [x-seen]
    maxAge: 1m
    allowCredentials: true
    unmatchedPreflights: IGNORE
";

fn routes() -> Value {
    let to = json!({"cluster": cluster("app.test"), "timeout": "0s"});
    let of = |prefix: &str, filter: &str, kind: &str, mut config: Value| {
        config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.filters.http.{kind}"));
        let set =
            json!([{"header": {"key": "x-route", "value": filter}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]);
        let filters = json!({format!("envoy.filters.http.{filter}"): config});
        let set = if prefix == "/abort" || prefix == "/ignore" { set } else { json!([]) };
        json!({"match": {"prefix": prefix}, "route": to, "typed_per_filter_config": filters, "response_headers_to_add": set})
    };
    let all = json!({"numerator": 1_000_000, "denominator": "MILLION"});
    let fault = "fault.v3.HTTPFault";
    let cors = "cors.v3.CorsPolicy";
    let mut abort = of("/abort", "fault", fault, json!({"abort": {"http_status": 418, "percentage": all}}));
    abort["response_headers_to_add"][0]["header"]["value"] = json!("abort");
    let grpc = json!({
        "delay": {"fixed_delay": "0.01s", "percentage": all},
        "abort": {"grpc_status": 14, "percentage": all},
    });
    let any = json!({
        "allow_origin_string_match": [{"exact": "*"}],
        "allow_methods": "*", "allow_headers": "*", "expose_headers": "*",
    });
    let ignore = json!({
        "allow_origin_string_match": [{"prefix": "https://a."}, {"safe_regex": {"regex": "https://[a-z]+"}}],
        "allow_methods": "GET,PUT", "allow_headers": "x-one,*", "expose_headers": "x-seen", "max_age": "60",
        "allow_credentials": true, "forward_not_matching_preflights": false,
    });
    json!([
        abort,
        of("/grpc", "fault", fault, grpc),
        of("/any", "cors", cors, any),
        of("/ignore", "cors", cors, ignore)
    ])
}

#[test]
fn faults_and_cors_policies_of_routes_are_those_of_envoy() {
    let from_app = |_: &Seen| {
        answer(200, &[("vary", "accept"), ("access-control-allow-credentials", "app"), ("content-type", "a/b")], b"app")
    };
    let preflight = |target: &str, origin: &str, method: &str, headers: &str| {
        let request = Request::new("OPTIONS", "h", target).header("origin", origin);
        let request = request.header("access-control-request-method", method);
        if headers.is_empty() { request } else { request.header("access-control-request-headers", headers) }
    };
    let mut requests = vec![
        Request::get("h", "/abort"),
        Request::new("POST", "h", "/abort").body("unread"),
        Request::get("h", "/grpc"),
        Request::new("POST", "h", "/grpc").header("content-type", "application/grpc").body("x"),
    ];
    for target in ["/any", "/ignore"] {
        for origin in ["https://a.test", "https://abc", "https://abc.test", "null", ""] {
            requests.push(Request::get("h", target).header("origin", origin));
            requests.push(Request::new("OPTIONS", "h", target).header("origin", origin));
            requests.push(preflight(target, origin, "PUT", "x-one, x-two"));
            requests.push(preflight(target, origin, "", ""));
            requests.push(preflight(target, origin, "GET", ""));
        }
        requests.push(Request::get("h", target));
    }
    Case::of_routes(RULES, routes(), from_app).same(&requests);
}

/// Word of `retryOn`, and Envoy's policy when the word is a number.
const WORDS: [&str; 12] = [
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "retriable-4xx",
    "unavailable",
    "internal",
    "deadline-exceeded",
    "resource-exhausted",
    "cancelled",
    "envoy-ratelimited",
    "reset-before-request",
];

/// What the upstream does in its first two tries.
const FAULTS: [&str; 10] = ["500", "502", "503", "409", "limited", "grpc1", "grpc4", "grpc13", "grpc14", "close"];

fn failing_twice(seen: &Seen) -> Vec<u8> {
    let attempt = seen.headers.iter().find(|(name, _)| name == "x-envoy-attempt-count");
    let attempt: u32 = attempt.and_then(|(_, count)| count.parse().ok()).unwrap_or(0);
    let fault = seen.line.rsplit('/').next().unwrap_or_default();
    match fault {
        _ if attempt > 2 => answer(200, &[("content-type", "a/b")], b"at last"),
        "limited" => answer(503, &[("x-envoy-ratelimited", "true")], b""),
        "close" => Vec::new(),
        fault => match fault.strip_prefix("grpc") {
            Some(status) => answer(200, &[("grpc-status", status), ("content-type", "application/grpc")], b""),
            None => answer(fault.parse().unwrap(), &[("content-type", "a/b")], b"failed"),
        },
    }
}

#[test]
fn each_word_of_retries_takes_what_it_takes_in_envoy() {
    let words = || WORDS.into_iter().chain(["503"]);
    let rule = |word: &str, attempts: u32| {
        format!(
            "- match: [{{uri: {{prefix: /{word}-{attempts}/}}}}]\n  route: [{{destination: {{host: app.test}}}}]\n  \
             retries: {{attempts: {attempts}, retryOn: '{word}', backoff: 1ms}}\n"
        )
    };
    let route = |word: &str, attempts: u32| {
        let (on, codes) = match word.parse::<u16>() {
            Ok(code) => ("retriable-status-codes", vec![code]),
            Err(_) => (word, Vec::new()),
        };
        let policy = json!({
            "retry_on": on, "num_retries": attempts, "retriable_status_codes": codes,
            "retry_back_off": {"base_interval": "0.001s"},
        });
        let to = json!({"cluster": cluster("app.test"), "timeout": "0s", "retry_policy": policy});
        json!({"match": {"prefix": format!("/{word}-{attempts}/")}, "route": to})
    };
    let all = || words().flat_map(|word| [1, 2].map(|attempts| (word, attempts)));
    let rules: String = all().map(|(word, attempts)| rule(word, attempts)).collect();
    let routes: Vec<Value> = all().map(|(word, attempts)| route(word, attempts)).collect();
    let mut requests = Vec::new();
    for (word, attempts) in all() {
        for fault in FAULTS {
            // A POST with a body: one on a kept connection that ends is not sent again for another reason.
            requests.push(Request::new("POST", "h", &format!("/{word}-{attempts}/{fault}")).body("body"));
        }
    }
    let Some(answers) = Case::of_routes(&rules, json!(routes), failing_twice).same(&requests) else { return };
    let recovered = answers.responses.iter().filter(|response| response.text() == "at last").count();
    assert_eq!(recovered, 15, "of {} were tried again until they succeeded", requests.len());
    assert!(answers.upstream.iter().all(|seen| seen.body == b"body"));
}

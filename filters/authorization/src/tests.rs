//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::Status;
use portolan_sdk::testing::{TestHost, TestStream};
use serde_json::{Value, json};

use super::*;

fn start(policies: &Value) -> TestHost<Authorization> {
    TestHost::start(&json!({"policies": policies}).to_string()).unwrap()
}

/// One policy of this action.
fn with(action: &str, rules: &Value) -> TestHost<Authorization> {
    start(&json!([{"name": "p", "namespace": "n", "action": action, "rules": rules}]))
}

/// Details of a refusal; none when the request goes on.
fn details(stream: &mut TestStream<'_, Authorization>, headers: &[(&str, &str)]) -> Option<String> {
    let action = stream.request_headers(headers);
    let reply = stream.reply().map(|reply| (reply.status, reply.body.clone(), reply.details.clone()));
    assert_eq!(action == Action::Pause, reply.is_some());
    reply.map(|(status, body, details)| {
        assert_eq!((status, body.as_str()), (403, "RBAC: access denied"));
        details
    })
}

fn passes(host: &TestHost<Authorization>, headers: &[(&str, &str)]) -> bool {
    let mut stream = host.stream();
    stream.set_property("source\0address", b"192.0.2.7:50000");
    stream.set_property("destination\0address", b"10.0.0.1:8080");
    details(&mut stream, headers).is_none()
}

fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":authority", "Shop.Test:8080"), (":path", path)]
}

fn denies_operation(operation: Value, path: &str) -> bool {
    !passes(&with("DENY", &json!([{"to": [{"operation": operation}]}])), &get(path))
}

fn denies_when(key: &str, condition: Value, headers: &[(&str, &str)]) -> bool {
    let mut condition = condition;
    condition["key"] = json!(key);
    !passes(&with("DENY", &json!([{"when": [condition]}])), headers)
}

#[test]
fn without_policies_all_passes_and_an_allow_without_rules_refuses_all() {
    assert!(passes(&start(&json!([])), &get("/")));
    assert!(!passes(&with("ALLOW", &json!([])), &get("/")));
    assert!(passes(&with("ALLOW", &json!([{}])), &get("/")));
    assert!(passes(&with("DENY", &json!([])), &get("/")) && !passes(&with("DENY", &json!([{}])), &get("/")));
}

#[test]
fn what_denies_comes_before_what_allows_and_is_named() {
    let path = |path| json!([{"to": [{"operation": {"paths": [path]}}]}]);
    let host = start(&json!([
        {"name": "all", "namespace": "n", "rules": path("/a*")},
        {"name": "z", "namespace": "n", "action": "DENY", "rules": path("/a/secret")},
        {"name": "y", "namespace": "n", "action": "DENY", "rules": [{"to": [{"operation": {"methods": ["PUT"]}}]}, path("/a/secret")[0]]},
    ]));
    let ask = |path| details(&mut host.stream(), &get(path));
    assert_eq!(ask("/a/b"), None);
    assert_eq!(ask("/a/secret?x").as_deref(), Some("rbac_access_denied_matched_policy[ns[n]-policy[y]-rule[1]]"));
    assert_eq!(ask("/b").as_deref(), Some("rbac_access_denied_matched_policy[none]"));
}

#[test]
fn what_is_tried_out_is_counted_and_told_and_refuses_nothing() {
    let path = |path| json!([{"to": [{"operation": {"paths": [path]}}]}]);
    let host = start(&json!([
        {"name": "no", "namespace": "n", "action": "DENY", "dryRun": true, "rules": path("/a*")},
        {"name": "yes", "namespace": "n", "dryRun": true, "rules": path("/ok")},
        {"name": "all", "namespace": "n", "dryRun": true, "action": "ALLOW"},
        {"name": "told", "namespace": "n", "action": "AUDIT", "rules": path("/ok")},
    ]));
    let told = |path: &str| {
        let mut stream = host.stream();
        assert_eq!(details(&mut stream, &get(path)), None, "{path}");
        let property = |name: &str| stream.property(name).map(|value| String::from_utf8(value.to_vec()).unwrap());
        let rbac = |key: &str| property(&format!("dynamic_metadata\0envoy.filters.http.rbac\0istio_dry_run_{key}"));
        let keys = ["deny_shadow_engine_result", "deny_shadow_effective_policy_id"];
        let more = ["allow_shadow_engine_result", "allow_shadow_effective_policy_id"];
        let hint = property("dynamic_metadata\0envoy.common\0access_log_hint");
        let texts: Vec<String> =
            keys.iter().chain(&more).map(|key| rbac(key).unwrap_or_default()).chain(hint).collect();
        texts.join(" ")
    };
    assert_eq!(told("/a"), "denied ns[n]-policy[no]-rule[0] denied  false");
    assert_eq!(told("/ok"), "allowed  allowed ns[n]-policy[yes]-rule[0] true");
    let counter = |name: &str| host.counter(&format!("rbac_istio_dry_run_{name}"), &[]);
    assert_eq!((counter("deny_shadow_denied"), counter("deny_shadow_allowed")), (1, 1));
    assert_eq!((counter("allow_shadow_denied"), counter("allow_shadow_allowed")), (1, 1));
}

#[test]
fn what_is_tried_out_costs_nothing_where_the_host_does_not_tell() {
    let rules = json!([{"from": [{"source": {"ipBlocks": ["10.0.0.1"]}}]}]);
    let host = start(&json!([
        {"name": "no", "action": "DENY", "dryRun": true, "rules": rules},
        {"name": "told", "action": "AUDIT", "rules": rules},
    ]));
    host.fail("proxy_get_property", Status::InternalFailure);
    assert_eq!(details(&mut host.stream(), &get("/")), None);
}

#[test]
fn operations_ask_for_host_method_path_and_port() {
    assert!(denies_operation(json!({"hosts": ["shop.test:8080"]}), "/"), "case does not matter");
    assert!(denies_operation(json!({"hosts": ["SHOP.*"]}), "/") && denies_operation(json!({"hosts": ["*"]}), "/"));
    assert!(!denies_operation(json!({"hosts": ["shop.test"]}), "/"), "the port is part of it");
    assert!(
        denies_operation(json!({"ports": ["80", "8080"]}), "/") && !denies_operation(json!({"ports": ["80"]}), "/")
    );
    assert!(denies_operation(json!({"methods": ["G*"]}), "/") && !denies_operation(json!({"methods": ["get"]}), "/"));
    assert!(denies_operation(json!({"paths": ["/a"]}), "/a?b") && !denies_operation(json!({"paths": ["/a"]}), "/a/"));
    assert!(denies_operation(json!({"paths": ["/a/{*}/c"]}), "/a/b/c"));
    assert!(
        denies_operation(json!({"notPaths": ["/a*"]}), "/b") && !denies_operation(json!({"notPaths": ["/a*"]}), "/ab")
    );
    assert!(!denies_operation(json!({"paths": ["/a"], "methods": ["PUT"]}), "/a"), "all fields must hold");
}

#[test]
fn sources_ask_for_addresses_and_certificates() {
    let source = |source: Value| with("ALLOW", &json!([{"from": [{"source": source}]}]));
    assert!(passes(&source(json!({"ipBlocks": ["192.0.2.99/24"]})), &get("/")), "bits beyond the prefix are nothing");
    assert!(!passes(&source(json!({"ipBlocks": ["192.0.2.8"]})), &get("/")));
    assert!(!passes(
        &source(json!({"remoteIpBlocks": ["192.0.2.0/24"], "notRemoteIpBlocks": ["192.0.2.7"]})),
        &get("/")
    ));
    for (known, field) in [
        (true, json!({"principals": ["cluster.local/ns/shop/sa/ada"]})),
        (true, json!({"principals": ["*"]})),
        (false, json!({"notPrincipals": ["*"]})),
        (true, json!({"namespaces": ["shop"]})),
        (true, json!({"serviceAccounts": ["shop/ada"]})),
        (false, json!({"serviceAccounts": ["ada"]})),
    ] {
        let host = source(field.clone());
        let mut stream = host.stream();
        stream.set_property("connection\0mtls", &[1]);
        stream.set_property("connection\0uri_san_peer_certificate", b"spiffe://cluster.local/ns/shop/sa/ada");
        assert_eq!(details(&mut stream, &get("/")).is_none(), known, "{field}");
        assert_eq!(passes(&host, &get("/")), field.get("notPrincipals").is_some(), "{field} without a certificate");
    }
}

#[test]
fn tokens_are_known_by_issuer_subject_and_claims() {
    let payload = json!({"iss": "https://issuer.test", "sub": "ada", "aud": ["shop", "till"], "azp": "app", "scope": "read write",
        "admin": true, "deep": {"er": ["x"]}, "a.b": "dotted"});
    let asks = |rule: Value| {
        let host = with("ALLOW", &json!([rule]));
        assert!(!passes(&host, &get("/")), "{rule} without a token");
        let mut stream = host.stream();
        stream.set_property("jwt_auth.payload", payload.to_string().as_bytes());
        details(&mut stream, &get("/")).is_none()
    };
    let principal = |value: &str| asks(json!({"from": [{"source": {"requestPrincipals": [value]}}]}));
    for (fits, value) in [
        (true, "*"),
        (true, "https://issuer.test/ada"),
        (true, "https://issuer.test/*"),
        (true, "*/ada"),
        (true, "*issuer.test/ada"),
        (true, "*da"),
        (true, "https*"),
        (false, "https://issuer.test"),
        (false, "https://issuer.test/bob"),
        (false, "https://other.test/*"),
    ] {
        assert_eq!(principal(value), fits, "{value}");
    }
    let when = |key: &str, value: &str| asks(json!({"when": [{"key": key, "values": [value]}]}));
    for (fits, key, value) in [
        (true, "request.auth.principal", "https://issuer.test/ada"),
        (true, "request.auth.audiences", "till"),
        (true, "request.auth.presenter", "app"),
        (true, "request.auth.claims[scope]", "write"),
        (false, "request.auth.claims[scope]", "read write"),
        (false, "request.auth.claims[admin]", "true"),
        (true, "request.auth.claims[deep][er]", "x"),
        (true, "request.auth.claims[a.b]", "dot*"),
        (false, "request.auth.claims[none]", "*"),
    ] {
        assert_eq!(when(key, value), fits, "{key} {value}");
    }
}

#[test]
fn conditions_ask_for_headers_and_the_connection() {
    let headers = [get("/"), vec![("x-team", "blue"), ("x-team", "red"), ("x-none", "")]].concat();
    let denies = |key, condition| denies_when(key, condition, &headers);
    assert!(denies("request.headers[X-Team]", json!({"values": ["red"]})));
    assert!(!denies("request.headers[x-team]", json!({"values": ["blue,red"]})), "each line by itself");
    assert!(denies("request.headers[x-none]", json!({"values": ["*"]})));
    assert!(denies("request.headers[x-other]", json!({"notValues": ["a"]})), "an absent header has none of them");
    assert!(!denies("request.headers[x-other]", json!({"values": ["*"]})));
    assert!(
        denies("source.ip", json!({"values": ["192.0.2.0/24"]})) && denies("remote.ip", json!({"notValues": ["::1"]}))
    );
    assert!(denies("destination.ip", json!({"values": ["10.0.0.1"]})));
    assert!(denies("destination.port", json!({"values": ["8080"], "notValues": ["80"]})));
    assert!(
        !denies("connection.sni", json!({"values": ["*"]}))
            && denies("connection.sni", json!({"notValues": ["a.test"]}))
    );
}

#[test]
fn a_host_that_does_not_tell_lets_nobody_in() {
    let host = with("DENY", &json!([{"from": [{"source": {"ipBlocks": ["10.0.0.1"]}}]}]));
    host.fail("proxy_get_property", Status::InternalFailure);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&get("/")), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 500);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |rule: Value| {
        let config = json!({"policies": [{"name": "p", "rules": [{}, rule]}]});
        TestHost::<Authorization>::start(&config.to_string()).err().unwrap()
    };
    let address = refusal(json!({"from": [{"source": {"ipBlocks": ["10.0.0.0/33"]}}]}));
    assert!(address.contains("p: rules[1]: ipBlocks: `10.0.0.0/33` is neither an address nor a range"), "{address}");
    let key = refusal(json!({"when": [{"key": "request.header[x]", "values": ["a"]}]}));
    assert!(key.contains("when: request.header[x]: no attribute has this name"), "{key}");
    assert!(refusal(json!({"to": [{"operation": {"ports": ["http"]}}]})).contains("`http` is not a port"));
    assert!(refusal(json!({"to": [{"operation": {"path": ["/"]}}]})).contains("unknown field `path`"));
}

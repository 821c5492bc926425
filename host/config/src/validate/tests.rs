//! Each check with the smallest object that fails it.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::*;
use crate::diagnostic::{Diagnostic, Severity};
use crate::object::{Meta, Object, Places};

fn object<T: DeserializeOwned>(spec: &str) -> Object<T> {
    let meta = Meta { namespace: "default".into(), name: "x".into(), ..Meta::default() };
    let spec = serde_yaml::from_str(spec).unwrap();
    Object { meta: Arc::new(meta), spec, places: Arc::new(Places::default()) }
}

fn codes(found: &[Diagnostic]) -> Vec<&str> {
    found.iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect()
}

fn rule_codes(rule: &str) -> Vec<&'static str> {
    let spec = format!("{{hosts: [a.com], gateways: [g], http: [{rule}]}}");
    virtual_service(&object(&spec)).iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect()
}

const TO: &str = "route: [{destination: {host: app}}]";

#[test]
fn a_rule_has_exactly_one_action() {
    assert!(rule_codes(&format!("{{{TO}}}")).is_empty());
    assert_eq!(rule_codes("{name: n}"), ["P0108"]);
    assert_eq!(rule_codes(&format!("{{{TO}, redirect: {{uri: /}}}}")), ["P0108"]);
    assert_eq!(rule_codes(&format!("{{{TO}, directResponse: {{status: 200}}}}")), ["P0108"]);
}

#[test]
fn weights_are_checked_over_the_rule() {
    let two = |a: i64, b: i64| {
        rule_codes(&format!(
            "{{route: [{{destination: {{host: a}}, weight: {a}}}, {{destination: {{host: b}}, weight: {b}}}]}}"
        ))
    };
    assert!(two(80, 20).is_empty());
    assert!(two(0, 1).is_empty());
    assert_eq!(two(0, 0), ["P0109"]);
    assert_eq!(two(-1, 5), ["P0109"]);
    assert!(rule_codes("{route: [{destination: {host: a}, weight: 0}]}").is_empty());
}

#[test]
fn faults_are_checked() {
    let with = |fault: &str| rule_codes(&format!("{{fault: {fault}, {TO}}}"));
    assert!(with("{delay: {fixedDelay: 1s, percentage: {value: 0.0001}}, abort: {httpStatus: 503}}").is_empty());
    assert!(with("{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 0}}}").is_empty());
    assert_eq!(with("{}"), ["P0102"]);
    assert_eq!(with("{delay: {exponentialDelay: 1s}}"), ["P0120"]);
    assert!(with("{delay: {}, abort: {percentage: {value: 1}}}").is_empty(), "Istio takes them, and nothing happens");
    assert_eq!(with("{delay: {fixedDelay: 1s, percentage: {value: 0.00009}}}"), ["P0117"]);
    assert_eq!(with("{abort: {http2Error: CANCEL}}"), ["P0120"]);
    assert_eq!(with("{abort: {httpStatus: 503, grpcStatus: UNAVAILABLE}}"), ["P0102"]);
}

#[test]
fn matches_are_checked() {
    let with = |condition: &str| rule_codes(&format!("{{match: [{condition}], {TO}}}"));
    assert!(with("{uri: {prefix: /}, headers: {a: {}, b: {regex: '*'}}}").is_empty());
    assert!(with("{uri: {}}").is_empty(), "Istio takes it, and it asks for nothing");
    assert!(with("{uri: {prefix: ''}}").is_empty(), "Istio takes it; it is told when rules are looked at together");
    assert_eq!(with("{uri: {prefix: /, exact: /}}"), ["P0102"]);
    assert_eq!(with("{method: {prefix: ''}}"), ["P0107"]);
    assert_eq!(with("{headers: {a: {prefix: ''}}}"), ["P0107"]);
    assert_eq!(with("{uri: {regex: ''}}"), ["P0107"]);
    assert_eq!(with("{uri: {regex: '('}}"), ["P0106"]);
    for regex in [r"/items/{id}", r"/\Qa.b(\E", r"[[]\pL[a&&b]", r"(?P<a>x)(?<b>y)"] {
        assert!(with(&format!("{{uri: {{regex: '{regex}'}}}}")).is_empty(), "RE2 reads it: {regex}");
    }
    for regex in [r"(?=a)", r"(a)\1", r"*a", r"a)"] {
        assert_eq!(with(&format!("{{uri: {{regex: '{regex}'}}}}")), ["P0106"], "RE2 does not: {regex}");
    }
    assert_eq!(with(&format!("{{uri: {{regex: {}}}}}", "a".repeat(1025))), ["P0106"]);
    assert_eq!(with("{port: 0}"), ["P0104"]);
    assert!(with("{sourceLabels: {app.kubernetes.io/name: a_b, x: ''}, sourceNamespace: Shop}").is_empty());
    assert_eq!(with("{sourceLabels: {'a b': c}}"), ["P0103"]);
    assert_eq!(with("{sourceLabels: {a: '-c'}}"), ["P0103"]);
    assert_eq!(with("{sourceNamespace: a.b}"), ["P0103"]);
    assert_eq!(with("{gateways: [a/b/c]}"), ["P0103"]);
    assert_eq!(with("{gateways: [a/b.c]}"), ["P0103"]);
    assert!(with("{gateways: [a, ./b, a/b, b.a.svc.cluster.local]}").is_empty());
}

#[test]
fn claims_are_for_gateways() {
    let of = |gateways: &str| {
        let rule = format!("{{match: [{{headers: {{'@request.auth.claims.group': {{exact: a}}}}}}], {TO}}}");
        codes(&virtual_service(&object(&format!("{{hosts: [a.com], gateways: {gateways}, http: [{rule}]}}")))).join(" ")
    };
    assert_eq!(of("[g]"), "");
    assert_eq!((of("[]"), of("[g, mesh]")), ("P0118".to_owned(), "P0118".to_owned()));
}

#[test]
fn mirrors_and_cors_are_checked() {
    let with = |rest: &str| rule_codes(&format!("{{{rest}, {TO}}}"));
    assert!(with("mirror: {host: b}, mirrorPercentage: {value: 0.00001}").is_empty());
    assert_eq!(with("mirror: {host: '*'}"), ["P0103"]);
    assert_eq!(with("mirror: {host: b}, mirrors: [{destination: {host: c}}]"), ["P0120"]);
    assert_eq!(
        with("mirrors: [{destination: {host: b, subset: 'v 1'}, percentage: {value: 101}}]"),
        ["P0117", "P0103"]
    );
    assert!(with("corsPolicy: {allowHeaders: ['*', x-a_b]}").is_empty());
    assert!(with("corsPolicy: {allowHeaders: [x.a]}").is_empty());
    assert_eq!(with("corsPolicy: {allowHeaders: ['x a']}"), ["P0118"]);
    assert_eq!(with("corsPolicy: {maxAge: 0s}"), ["P0105"]);
    assert_eq!(with("corsPolicy: {allowOrigins: [{}]}"), ["P0102"]);
    assert_eq!(with("corsPolicy: {allowOrigins: [{regex: '*'}]}"), ["P0106"]);
}

#[test]
fn values_of_headers_have_no_control_characters() {
    for value in ["\"b\\x7f\"", "\"b\\n\""] {
        assert_eq!(
            rule_codes(&format!("{{headers: {{request: {{set: {{a: {value}}}}}}}, {TO}}}")),
            ["P0118"],
            "{value}"
        );
    }
}

#[test]
fn policies_are_attached_to_what_istio_knows() {
    let of = |target: &str| codes(&request_authentication(&object(&format!("{{targetRef: {target}}}")))).join(" ");
    assert_eq!(of("{group: gateway.networking.k8s.io, kind: Gateway, name: g}"), "");
    assert_eq!(of("{kind: Service, name: g}"), "");
    assert_eq!(of("{kind: Pod}"), "P0101 P0116");
    assert_eq!(of("{kind: Service, name: g, namespace: other}"), "P0120");
    let telemetry_of = |spec: &str| codes(&telemetry(&object(spec))).join(" ");
    assert_eq!(telemetry_of("{selector: {matchLabels: {a: '*'}}, targetRef: {kind: Service, name: g}}"), "P0120 P0103");
    assert_eq!(telemetry_of("{accessLogging: [{providers: [{name: a}, {name: b}]}]}"), "");
    assert_eq!(telemetry_of("{metrics: [{providers: [{}]}]}"), "P0101");
    assert_eq!(telemetry_of("{tracing: [{providers: [{name: a}, {name: b}], customTags: {a: {}}}]}"), "", "told only");
    assert_eq!(telemetry_of("{tracing: [{providers: [{name: a}, {}]}]}"), "P0101");
}

#[test]
fn a_filter_of_a_log_is_an_expression() {
    let found = |text: &str| {
        let spec = format!("{{accessLogging: [{{filter: {{expression: {text:?}}}}}]}}");
        telemetry(&object(&spec))
    };
    for text in ["response.code >= 400", "unknown(1) + words", "a ? b : c", "'text'"] {
        assert!(found(text).is_empty(), "{text}: what it means is nobody's business here");
    }
    assert_eq!(codes(&found(" ")), ["P0101"]);
    for text in [&"(".repeat(5000), &"a+".repeat(5000), &"!".repeat(257)] {
        assert!(found(text).is_empty(), "too deep to be looked at");
    }
    for text in ["response.code >=", "a b", "(", "'open", &"(".repeat(256), &"a+".repeat(256), &"-(".repeat(128)] {
        let found = found(text);
        assert_eq!(codes(&found), ["P0354"], "{:.40}", text);
        let label = found[0].label.as_deref().unwrap();
        assert!(!label.is_empty() && !label.contains('\n') && label.chars().count() <= 120, "{label}");
    }
    assert!(found("response.code >=")[0].label.as_deref().unwrap().contains("mismatched input '<EOF>'"));
}

#[test]
fn rewrites_and_redirects_are_checked() {
    assert_eq!(rule_codes(&format!("{{rewrite: {{}}, {TO}}}")), ["P0110"]);
    assert_eq!(
        rule_codes(&format!("{{rewrite: {{uri: /, uriRegexRewrite: {{match: a, rewrite: b}}}}, {TO}}}")),
        ["P0110"]
    );
    assert_eq!(rule_codes("{redirect: {uri: /, redirectCode: 204}}"), ["P0111"]);
    let told =
        virtual_service(&object("{hosts: [a.com], gateways: [g], http: [{redirect: {uri: /, redirectCode: 304}}]}"));
    assert_eq!(told.iter().map(|d| (d.code, d.severity)).collect::<Vec<_>>(), [("P0111", Severity::Warning)]);
    assert!(rule_codes("{redirect: {uri: /, redirectCode: 0}}").is_empty());
    assert_eq!(rule_codes("{redirect: {}}"), ["P0110"]);
    assert_eq!(rule_codes("{redirect: {port: 80, derivePort: FROM_REQUEST_PORT}}"), ["P0102"]);
    assert_eq!(rule_codes("{directResponse: {status: 100}}"), ["P0112"]);
    assert_eq!(rule_codes("{directResponse: {status: 200, body: {}}}"), ["P0102"]);
    assert_eq!(rule_codes("{directResponse: {status: 200, body: {bytes: '!'}}}"), ["P0112"]);
}

#[test]
fn timeouts_retries_and_headers_are_checked() {
    assert_eq!(rule_codes(&format!("{{timeout: 5, {TO}}}").replace(": 5,", ": '5',")), ["P0105"]);
    assert_eq!(rule_codes(&format!("{{retries: {{attempts: -1}}, {TO}}}")), ["P0117"]);
    assert_eq!(rule_codes(&format!("{{retries: {{attempts: 1, retryOn: '5xx,teapot'}}, {TO}}}")), ["P0121"]);
    assert!(rule_codes(&format!("{{retries: {{attempts: 1, retryOn: '5xx,503'}}, {TO}}}")).is_empty());
    for refused in ["5xx, 503", "5xx,", "499", "306"] {
        assert_eq!(
            rule_codes(&format!("{{retries: {{attempts: 1, retryOn: '{refused}'}}, {TO}}}")),
            ["P0121"],
            "{refused}"
        );
    }
    assert_eq!(rule_codes(&format!("{{headers: {{request: {{set: {{'a b': c}}}}}}, {TO}}}")), ["P0118"]);
    let twice = format!("{{rewrite: {{authority: a}}, headers: {{request: {{set: {{Host: b}}}}}}, {TO}}}");
    assert_eq!(rule_codes(&twice), ["P0118"]);
}

#[test]
fn empty_texts_count_as_absent() {
    assert_eq!(rule_codes(&format!("{{rewrite: {{uri: ''}}, {TO}}}")), ["P0110"]);
    assert_eq!(rule_codes("{redirect: {uri: '', authority: ''}}"), ["P0110"]);
    let once = format!("{{rewrite: {{uri: /, authority: ''}}, headers: {{request: {{set: {{Host: b}}}}}}, {TO}}}");
    assert!(rule_codes(&once).is_empty());
}

#[test]
fn retries_that_are_off_have_no_settings() {
    assert!(rule_codes(&format!("{{retries: {{attempts: 0}}, {TO}}}")).is_empty());
    assert_eq!(rule_codes(&format!("{{retries: {{attempts: 0, perTryTimeout: 1s}}, {TO}}}")), ["P0120"]);
}

#[test]
fn no_time_at_all_is_refused_but_where_the_api_says_that_it_is_none() {
    let of_rule = |rest: &str| {
        let spec = format!("{{hosts: [a.com], gateways: [g], http: [{{{rest}, {TO}}}]}}");
        virtual_service(&object(&spec)).iter().map(|d| (d.code, d.severity)).collect::<Vec<_>>()
    };
    assert_eq!(of_rule("timeout: 0s"), [("P0105", Severity::Error)]);
    assert_eq!(of_rule("timeout: 0.0001s"), [("P0105", Severity::Error)]);
    assert_eq!(of_rule("retries: {attempts: 1, perTryTimeout: 0s}"), [("P0105", Severity::Error)]);
    let of_pool = |pool: &str| {
        let found = destination_rule(&object(&format!("{{host: a, trafficPolicy: {{connectionPool: {pool}}}}}")));
        found.iter().map(|d| (d.code, d.severity)).collect::<Vec<_>>()
    };
    assert_eq!(of_pool("{http: {idleTimeout: 0s}}"), [("P0105", Severity::Error)]);
    assert_eq!(of_pool("{tcp: {idleTimeout: 0s}}"), [("P0105", Severity::Warning)]);
}

#[test]
fn an_address_is_no_service_and_a_delay_of_more_than_all_is_one_of_all() {
    for address in ["10.0.0.1", "'::1'"] {
        assert_eq!(rule_codes(&format!("{{route: [{{destination: {{host: {address}}}}}]}}")), ["P0103"]);
        assert_eq!(rule_codes(&format!("{{mirror: {{host: {address}}}, {TO}}}")), ["P0103"]);
    }
    for percent in [-1, 101] {
        let spec = format!(
            "{{hosts: [a.com], gateways: [g], http: [{{fault: {{delay: {{fixedDelay: 1s, percent: {percent}}}}}, {TO}}}]}}"
        );
        let found = virtual_service(&object(&spec));
        assert_eq!(found.iter().map(|d| (d.code, d.severity)).collect::<Vec<_>>(), [("P0360", Severity::Warning)]);
    }
}

#[test]
fn a_root_rule_has_no_route_and_no_redirect_beside_its_delegate() {
    let with = |rest: &str| rule_codes(&format!("{{delegate: {{name: d}}{rest}}}"));
    assert!(with("").is_empty() && with(", directResponse: {status: 200}").is_empty());
    assert_eq!(with(&format!(", {TO}")), ["P0108"]);
    assert_eq!(with(", redirect: {uri: /}"), ["P0108"]);
}

#[test]
fn a_delegate_has_rules_and_nothing_of_a_root() {
    let of = |spec: &str| codes(&virtual_service(&object(spec))).join(" ");
    assert_eq!(of(&format!("{{http: [{{{TO}}}]}}")), "");
    assert_eq!(of(&format!("{{gateways: [g], http: [{{{TO}}}]}}")), "P0131");
    assert_eq!(of(&format!("{{tcp: [{{{TO}}}], http: [{{{TO}}}]}}")), "P0131");
    assert_eq!(of("{http: [{delegate: {name: d}}]}"), "P0131");
    let claims = format!("{{http: [{{match: [{{headers: {{'@request.auth.claims.a': {{exact: b}}}}}}], {TO}}}]}}");
    assert_eq!(of(&claims), "P0118", "it names no Gateway");
}

#[test]
fn server_names_are_hosts_of_their_virtual_service() {
    let of = |names: &str| {
        let rule = format!("{{match: [{{sniHosts: {names}}}], {TO}}}");
        codes(&virtual_service(&object(&format!("{{hosts: ['*.a.com', b.com], gateways: [g], tls: [{rule}]}}"))))
            .join(" ")
    };
    assert_eq!(of("[x.a.com, y.z.a.com, '*.a.com', B.com]"), "");
    assert_eq!(of("[a.com]"), "P0129");
    assert_eq!(of("['*.b.com']"), "P0129");
    assert_eq!(of("[]"), "P0101");
    let bare = object("{hosts: [b.com], gateways: [g], tls: [{match: [{sniHosts: [b.com], port: 0}]}]}");
    assert_eq!(codes(&virtual_service(&bare)), ["P0104", "P0101"]);
}

#[test]
fn responses_have_no_authority() {
    let with = |side: &str| rule_codes(&format!("{{headers: {{{side}: {{set: {{Host: a}}}}}}, {TO}}}"));
    assert!(with("request").is_empty());
    assert_eq!(with("response"), ["P0118"]);
}

#[test]
fn export_to_is_a_list_of_namespaces_or_one_word() {
    let of = |list: &str| {
        codes(&virtual_service(&object(&format!(
            "{{hosts: [a.com], exportTo: {list}, gateways: [g], http: [{{{TO}}}]}}"
        ))))
        .join(" ")
    };
    assert_eq!(of("['*']") + &of("['.', shop]"), "");
    assert_eq!(of("['.', default]"), "P0128");
    assert_eq!(of("['*', shop]"), "P0128");
    assert_eq!(of("['~']"), "P0128");
    assert_eq!(of("['a b']"), "P0103");
    let nobody = "{hosts: [a.com], ports: [{number: 80, name: http}], resolution: DNS, exportTo: ['~']}";
    assert!(codes(&service_entry(&object(nobody))).is_empty());
    let selected = "{host: a, exportTo: ['*'], workloadSelector: {matchLabels: {a: b}}}";
    assert_eq!(codes(&destination_rule(&object(selected))), ["P0128"]);
}

#[test]
fn tls_settings_fit_the_server() {
    let of = |protocol: &str, tls: &str| {
        let port = format!("{{number: 443, name: a, protocol: {protocol}}}");
        codes(&gateway(&object(&format!("{{servers: [{{port: {port}, hosts: ['*'], tls: {tls}}}]}}")))).join(" ")
    };
    assert_eq!(of("HTTPS", "{mode: SIMPLE, credentialName: c}"), "");
    assert_eq!(of("HTTPS", "{mode: SIMPLE, serverCertificate: c}"), "P0123");
    assert_eq!(of("HTTPS", "{mode: SIMPLE, serverCertificate: c, privateKey: k}"), "");
    assert_eq!(of("HTTPS", "{mode: MUTUAL, serverCertificate: c, privateKey: k}"), "P0123");
    assert_eq!(of("HTTPS", "{mode: MUTUAL, serverCertificate: c, privateKey: k, caCertificates: a}"), "");
    assert_eq!(of("HTTPS", "{mode: ISTIO_MUTUAL, credentialName: c}"), "P0123");
    assert_eq!(of("HTTPS", "{}") + &of("TLS", "{mode: PASSTHROUGH}"), "");
    assert_eq!(of("HTTP", "{httpsRedirect: true}") + &of("HTTPS", "{httpsRedirect: true}"), "");
    assert_eq!(of("HTTP", "{mode: SIMPLE, credentialName: c}"), "P0123");
    assert_eq!(of("TCP", "{mode: SIMPLE, credentialName: c}"), "P0123");
}

#[test]
fn hosts_have_the_form_that_admission_takes() {
    let found = |host: &str| {
        let spec = format!("{{hosts: ['{host}'], gateways: [g], http: [{{{TO}}}]}}");
        codes(&virtual_service(&object(&spec))).join(" ")
    };
    for taken in ["*", "*.a.com", "*a.com", "*-a.com", "a.com.", "10.0.0.1", "::1", "a-b.com"] {
        assert_eq!(found(taken), "", "{taken}");
    }
    for refused in ["a_b.com", "a.*.com", "a.1", "-a.com", "a..com", "a.com:80"] {
        assert_eq!(found(refused), "P0103", "{refused}");
    }
    let rule = |host: &str| rule_codes(&format!("{{route: [{{destination: {{host: '{host}'}}}}]}}"));
    assert!(rule("a.com.").is_empty());
    assert_eq!(codes(&destination_rule(&object("{host: 10.0.0.1}"))), ["P0103"]);
    let server = |host: &str| {
        let server = format!("{{servers: [{{port: {{number: 80, name: a, protocol: HTTP}}, hosts: ['{host}']}}]}}");
        codes(&gateway(&object(&server))).join(" ")
    };
    assert_eq!(server("*a.com") + &server("::1"), "P0103P0103");
    assert_eq!(server("10.0.0.1") + &server("a.com."), "");
}

#[test]
fn wildcards_within_a_label_that_find_nobody_are_told() {
    let all = |found: Vec<Diagnostic>| found.iter().map(|d| d.code).collect::<Vec<_>>();
    assert_eq!(all(destination_rule(&object("{host: '*a.com'}"))), ["P0351"]);
    let entry = "{hosts: ['*a.com'], ports: [{number: 80, name: a, protocol: HTTP}]}";
    assert!(all(service_entry(&object(entry))).contains(&"P0351"));
    let rule = format!("{{match: [{{sniHosts: ['*b.com']}}], {TO}}}");
    let spec = format!("{{hosts: ['*b.com'], gateways: [g], tls: [{rule}]}}");
    assert_eq!(all(virtual_service(&object(&spec))), ["P0351"]);
}

#[test]
fn only_what_may_be_removed_is_and_matches_ask_for_known_pseudo_headers() {
    for name in ["Host", ":authority", ":path"] {
        assert_eq!(rule_codes(&format!("{{headers: {{request: {{remove: ['{name}']}}}}, {TO}}}")), ["P0118"], "{name}");
    }
    assert!(rule_codes(&format!("{{match: [{{headers: {{':method': {{exact: GET}}}}}}], {TO}}}")).is_empty());
    assert_eq!(rule_codes(&format!("{{match: [{{headers: {{':other': {{exact: x}}}}}}], {TO}}}")), ["P0118"]);
}

#[test]
fn policies_and_filters_are_checked_as_admission_does() {
    let policy = |rule: &str| codes(&authorization_policy(&object(&format!("{{rules: [{rule}]}}")))).join(" ");
    assert_eq!(policy("{to: [{operation: {paths: ['/a/{b}', '/a*', '/{*}/a/{**}']}}]}"), "");
    assert_eq!(policy("{to: [{operation: {paths: ['/{*}/{b}', '/{*}/a*']}}]}"), "P0250 P0250");
    assert_eq!(policy("{when: [{key: 'request.headers[a]', values: [b]}]}"), "");
    assert_eq!(policy("{when: [{key: 'request.headers[]', values: [b]}]}"), "P0250");
    let labels = "{url: a.wasm, selector: {matchLabels: {app: 'a*'}}}";
    assert_eq!(codes(&wasm_plugin(&object(labels))), ["P0103"]);
}

#[test]
fn only_policies_that_allow_or_deny_are_tried_out() {
    let read = |kind: &str, value: &str, spec: &str| {
        let text = format!(
            "apiVersion: {kind}\nmetadata: {{name: x, annotations: {{istio.io/dry-run: '{value}'}}}}\nspec: {spec}\n"
        );
        codes(&crate::read_str("x.yaml", &text).1).join(" ")
    };
    let policy = "security.istio.io/v1\nkind: AuthorizationPolicy";
    assert_eq!(read(policy, "true", "{action: DENY, rules: [{}]}"), "");
    assert_eq!(read(policy, "yes", "{action: DENY, rules: [{}]}"), "P0116");
    assert_eq!(read(policy, "true", "{action: AUDIT, rules: [{}]}"), "P0120");
    assert_eq!(read("networking.istio.io/v1\nkind: DestinationRule", "true", "{host: a}"), "P0120");
}

#[test]
fn hosts_that_cover_each_other_are_refused() {
    let of = |hosts: &str| {
        let spec = format!("{{hosts: {hosts}, gateways: [g], http: [{{{TO}}}]}}");
        codes(&virtual_service(&object(&spec))).join(" ")
    };
    assert_eq!(of("[a.com, b.com, '*.c.com']"), "");
    assert_eq!(of("[a.com, a.com]"), "P0113");
    assert_eq!(of("['*.a.com', b.a.com]"), "P0113");
    assert_eq!(of("['*', a.com, b.com]"), "P0113 P0113");
    assert_eq!(of("['*a.com', b.com, a.com]"), "P0113");
    assert_eq!(of("[app, app.default.svc.cluster.local]"), "", "as they are written");
}

#[test]
fn gateways_are_checked() {
    let of = |server: &str| codes(&gateway(&object(&format!("{{servers: [{server}]}}")))).join(" ");
    assert_eq!(of("{port: {number: 80, name: a, protocol: http}, hosts: ['*', ns/a.com]}"), "");
    assert_eq!(of("{port: {number: 80, protocol: HTTP}, hosts: ['*']}"), "P0101");
    assert_eq!(of("{port: {number: 80, name: a, protocol: HTTTP}, hosts: ['*']}"), "P0116");
    assert_eq!(of("{port: {number: 0, name: a, protocol: HTTP}, hosts: [app]}"), "P0103 P0104");
    assert_eq!(of("{port: {number: 443, name: a, protocol: HTTPS}, hosts: ['*']}"), "P0123");
    assert_eq!(of("{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*'], bind: here}"), "P0119");
    let two = "{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}, {port: {number: 81, name: a, protocol: HTTP}, hosts: ['*']}";
    assert_eq!(of(two), "P0114");
    assert_eq!(of("{port: {number: 80, name: a, protocol: HTTP, targetPort: 8080}, hosts: ['*']}"), "P0120");
    assert_eq!(of("{port: {number: 80, name: a, protocol: HTTP}, hosts: ['a b/c.com']}"), "P0103");
}

#[test]
fn destination_rules_are_checked() {
    let of = |spec: &str| codes(&destination_rule(&object(spec))).join(" ");
    assert_eq!(of("{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"), "");
    assert_eq!(of("{subsets: [{name: v1}, {name: v1}]}"), "P0101 P0114");
    assert_eq!(of("{host: a, trafficPolicy: {connectionPool: {}}}"), "P0115");
    assert_eq!(of("{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}"), "P0115");
    assert_eq!(of("{host: a, subsets: [{name: 'v 1'}]}"), "P0103");
    assert_eq!(of("{host: a, subsets: [{name: v1, labels: {'a b': c}}]}"), "P0103");
    assert_eq!(of("{host: a, workloadSelector: {matchLabels: {a: '*'}}}"), "P0103");
    assert_eq!(of("{host: a, trafficPolicy: {tunnel: {protocol: GET, targetHost: b.com, targetPort: 443}}}"), "P0116");
    assert_eq!(of("{host: a, trafficPolicy: {tunnel: {}}}"), "P0103 P0104");
    assert_eq!(of("{host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 1}}}"), "P0120");
    assert_eq!(
        of("{host: a, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}}"),
        "P0120"
    );
    assert_eq!(
        of("{host: a, trafficPolicy: {outlierDetection: {interval: 1, maxEjectionPercent: 101}}}"
            .replace("1,", "'1',")
            .as_str()),
        "P0105 P0117"
    );
}

#[test]
fn load_balancers_are_checked() {
    let all = |block: &str| {
        let found = destination_rule(&object(&format!("{{host: a, trafficPolicy: {{loadBalancer: {{{block}}}}}}}")));
        found.iter().map(|d| d.code).collect::<Vec<_>>().join(" ")
    };
    let hash = |block: &str| all(&format!("consistentHash: {{{block}}}"));
    assert_eq!(hash("useSourceIp: true, maglev: {tableSize: 1009}"), "");
    assert_eq!(hash("ringHash: {}"), "P0311", "a warning: there is nothing to hash");
    assert_eq!(hash("useSourceIp: true, maglev: {}"), "", "Istio's API has a default, though its admission has none");
    assert_eq!(hash("useSourceIp: true, maglev: {tableSize: 5000011}"), "P0117");
    assert_eq!(hash("useSourceIp: true, maglev: {tableSize: 1}"), "");
    assert_eq!(hash("useSourceIp: true, minimumRingSize: 8, ringHash: {}"), "P0102");
    assert_eq!(hash("useSourceIp: true, httpHeaderName: x-user"), "P0102");
    assert_eq!(hash("httpCookie: {ttl: 5}".replace('5', "'5'").as_str()), "P0101 P0105");
    assert_eq!(hash("useSourceIp: true, maglev: {tableSize: 1024}"), "P0117");
    assert_eq!(hash("useSourceIp: true, ringHash: {minimumRingSize: 8388609}"), "P0117");
    assert_eq!(all("simple: RANDOM, warmup: {duration: 5s}"), "P0312");
    assert_eq!(all("simple: ROUND_ROBIN, warmup: {duration: 0s}"), "P0105");
    assert_eq!(all("simple: ROUND_ROBIN, warmupDurationSecs: 0s"), "P0105");
    assert_eq!(all("warmup: {minimumPercent: 101, aggression: 0.5}"), "P0101 P0117 P0117");
    let places = |block: &str| all(&format!("localityLbSetting: {{{block}}}"));
    assert_eq!(places("distribute: [{from: eu/*, to: {eu/*: 80, us/*: 20}}]"), "");
    assert_eq!(places("distribute: [{from: eu/*, to: {eu/*: 80, us/*: 30}}]"), "P0109");
    assert_eq!(places("distribute: [{from: eu, to: {eu: 100}}, {from: eu/a, to: {eu/a: 100}}]"), "P0103");
    assert_eq!(places("distribute: [{from: eu, to: {'eu/*/1': 100}}]"), "P0103");
    assert_eq!(places("failover: [{from: eu/a, to: us}]"), "P0103 P0312");
    assert_eq!(places("failover: [{from: eu, to: us}]"), "P0312", "a warning: nothing is ever ejected");
    assert_eq!(places("failover: [{from: eu, to: eu}]"), "P0120 P0312");
    let both = |label: &str| places(&format!("failover: [{{from: eu, to: us}}], failoverPriority: [{label}]"));
    assert_eq!(both("topology.kubernetes.io/zone"), "P0120 P0312");
    assert_eq!(both("topology.kubernetes.io/zone=a"), "P0312", "Istio takes only the bare label for a place");
}

#[test]
fn service_entries_are_checked() {
    let of = |rest: &str| {
        codes(&service_entry(&object(&format!("{{hosts: [a.com], ports: [{{number: 80, name: http}}], {rest}}}"))))
            .join(" ")
    };
    assert_eq!(of("resolution: DNS"), "");
    assert_eq!(of("resolution: STATIC"), "", "Istio takes it, and requests get 503");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: b.com}]"), "P0119");
    assert_eq!(of("resolution: DNS, endpoints: [{address: b.com, ports: {https: 1}}]"), "P0104");
    assert_eq!(of("endpoints: [{address: 10.0.0.1}]"), "P0120");
    assert_eq!(of("resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.com}, {address: b.com}]"), "P0120");
    assert_eq!(of("resolution: DNS, addresses: [10.0.0.0/8]"), "P0120");
    assert_eq!(of("addresses: [here]"), "P0119");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: 'unix:///a', ports: {http: 1}}]"), "P0120");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: 'unix:///a'}, {address: 'unix://@a'}]"), "");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: 'unix://a'}]"), "P0119");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: 'unix:///a/'}]"), "P0119");
    assert_eq!(of("resolution: DNS, endpoints: [{address: 'unix:///a'}]"), "P0119");
    assert_eq!(of("resolution: STATIC, endpoints: [{address: 10.0.0.1, labels: {a: 'b c'}}]"), "P0103");
    assert_eq!(of("resolution: DNS, workloadSelector: {labels: {a: '*'}}"), "P0103");
    assert!(codes(&service_entry(&object("{hosts: [a.com], resolution: DNS}"))).is_empty(), "Istio takes it");
    assert_eq!(of("resolution: STATIC, endpoints: [{network: n}]"), "");
    let two = "{hosts: [a.com, b.com], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS}";
    assert_eq!(codes(&service_entry(&object(two))), ["P0130"]);
    assert!(codes(&service_entry(&object(&two.replace("TCP", "TLS")))).is_empty());
}

#[test]
fn wasm_plugins_are_checked() {
    let of = |spec: &str| codes(&wasm_plugin(&object(spec))).join(" ");
    assert_eq!(of("{url: ./a.wasm, phase: AUTHN}"), "");
    assert_eq!(of("{phase: AUTH, sha256: abc}"), "P0101 P0122 P0116");
    assert_eq!(of("{url: 'ftp://a'}"), "P0116");
    assert_eq!(of(&format!("{{url: a, sha256: {}}}", "A".repeat(64))), "P0122");
    assert_eq!(of(&format!("{{url: a, pluginName: {}}}", "a".repeat(257))), "P0117");
    assert_eq!(of("{url: 'bundled://ip-allow', imagePullPolicy: UNSPECIFIED_POLICY}"), "");
    assert_eq!(of("{url: 'bundled://ip-alow'}"), "P0127");
    assert_eq!(of("{url: 'bundled://'}"), "P0127");
    let pinned =
        format!("{{url: 'bundled://ip-allow', sha256: {}, verificationKey: k, type: NETWORK}}", "0".repeat(64));
    assert_eq!(of(&pinned), "P0120 P0120 P0120");
}

#[test]
fn what_http_3_cannot_be_served_by_is_told() {
    let warned = |annotations: &[(&str, &str)], servers: &str| -> Vec<String> {
        let mut object = object::<crate::resources::istio::Gateway>(&format!("{{servers: [{servers}]}}"));
        let annotations = annotations.iter().map(|(key, value)| (format!("portolan.dev/{key}"), (*value).to_owned()));
        Arc::make_mut(&mut object.meta).annotations = annotations.collect();
        let found = gateway(&object);
        found.into_iter().filter(|found| found.code == "P0348").map(|found| found.message).collect()
    };
    let on = [("http3", "true")];
    let https =
        |tls: &str| format!("{{port: {{number: 443, name: s, protocol: HTTPS}}, hosts: ['*'], tls: {{{tls}}}}}");
    let simple = https("mode: SIMPLE, credentialName: a");
    assert!(warned(&on, &simple).is_empty());
    assert_eq!(warned(&on, "{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*']}").len(), 1);
    let mutual = https("mode: MUTUAL, credentialName: a");
    assert!(warned(&on, &mutual)[0].ends_with("needs mode SIMPLE, and not MUTUAL"));
    assert!(warned(&[("http3", "false")], &mutual).is_empty());
    let old = https("mode: SIMPLE, credentialName: a, maxProtocolVersion: TLSV1_2");
    assert!(warned(&on, &old)[0].ends_with("needs TLS 1.3"));
    assert_eq!(warned(&[("http3", "true"), ("proxy-protocol", "required")], &simple).len(), 1);
}

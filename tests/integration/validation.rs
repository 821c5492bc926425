//! Bad input: what Istio's admission check refuses keeps its last good version, and nothing else stops serving.

use crate::support::config::ANY_GATEWAY;
use crate::support::gateway::{Gateway, Options};

/// An error: file name and host, code, kind, and what the spec is instead of the good one. `HOST` is the case's own.
type Case = (&'static str, &'static str, &'static str, &'static str);

const ROUTE: &str = "route: [{destination: {host: app.test}}]";

/// One for each error; those of rules are rules alone.
const CASES: &[Case] = &[
    ("two-actions", "P0108", "rule", "{redirect: {uri: /}, ROUTE}"),
    ("answer-and-route", "P0108", "rule", "{directResponse: {status: 200}, ROUTE}"),
    ("no-action", "P0108", "rule", "{name: nothing}"),
    ("no-weight", "P0109", "rule", "{route: [{destination: {host: a.test}}, {destination: {host: b.test}}]}"),
    ("negative-weight", "P0109", "rule", "{route: [{destination: {host: a.test}, weight: -1}]}"),
    ("empty-prefix", "P0107", "rule", "{match: [{method: {prefix: ''}}], ROUTE}"),
    ("empty-regex", "P0107", "rule", "{match: [{uri: {regex: ''}}], ROUTE}"),
    ("bad-regex", "P0106", "rule", "{match: [{uri: {regex: '/(a'}}], ROUTE}"),
    ("look-ahead", "P0106", "rule", "{match: [{uri: {regex: '/(?=a)'}}], ROUTE}"),
    ("long-regex", "P0106", "rule", "{match: [{uri: {regex: LONG}}], ROUTE}"),
    ("two-mirrors", "P0120", "rule", "{mirror: {host: a.test}, mirrors: [{destination: {host: b.test}}], ROUTE}"),
    ("mirror-percentage", "P0117", "rule", "{mirror: {host: a.test}, mirrorPercentage: {value: 100.5}, ROUTE}"),
    ("mirror-percent", "P0117", "rule", "{mirror: {host: a.test}, mirrorPercent: 101, ROUTE}"),
    ("no-mirror", "P0101", "rule", "{mirrors: [{percentage: {value: 5}}], ROUTE}"),
    ("empty-fault", "P0102", "rule", "{fault: {}, ROUTE}"),
    ("exponential-delay", "P0120", "rule", "{fault: {delay: {exponentialDelay: 1s, percentage: {value: 5}}}, ROUTE}"),
    ("two-aborts", "P0102", "rule", "{fault: {abort: {httpStatus: 500, grpcStatus: INTERNAL}}, ROUTE}"),
    ("abort-status", "P0117", "rule", "{fault: {abort: {httpStatus: 600, percentage: {value: 5}}}, ROUTE}"),
    ("abort-percentage", "P0117", "rule", "{fault: {abort: {httpStatus: 500, percentage: {value: -1}}}, ROUTE}"),
    ("tiny-percentage", "P0117", "rule", "{fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}, ROUTE}"),
    ("cors-method", "P0116", "rule", "{corsPolicy: {allowMethods: [FETCH]}, ROUTE}"),
    ("cors-header", "P0118", "rule", "{corsPolicy: {allowHeaders: ['x y']}, ROUTE}"),
    ("cors-age", "P0105", "rule", "{corsPolicy: {maxAge: 1500ms}, ROUTE}"),
    ("empty-rewrite", "P0110", "rule", "{rewrite: {}, ROUTE}"),
    ("double-rewrite", "P0110", "rule", "{rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}, ROUTE}"),
    ("two-authorities", "P0118", "rule", "{rewrite: {authority: a}, headers: {request: {set: {Host: b}}}, ROUTE}"),
    ("no-redirect", "P0111", "rule", "{redirect: {uri: /, redirectCode: 200}}"),
    ("redirect-and-rewrite", "P0120", "rule", "{redirect: {uri: /}, rewrite: {uri: /}}"),
    ("short-timeout", "P0105", "rule", "{timeout: '5', ROUTE}"),
    ("no-timeout", "P0105", "rule", "{timeout: 0s, ROUTE}"),
    ("address", "P0103", "rule", "{route: [{destination: {host: 127.0.0.1, port: {number: 80}}}]}"),
    ("part-of-a-millisecond", "P0105", "rule", "{timeout: 1.5ms, ROUTE}"),
    ("matched-header", "P0118", "rule", "{match: [{headers: {'a b': {exact: c}}}], ROUTE}"),
    ("gateway-of-a-match", "P0103", "rule", "{match: [{gateways: [a/b/c]}], ROUTE}"),
    ("retries-off", "P0120", "rule", "{retries: {attempts: 0, retryOn: 5xx}, ROUTE}"),
    ("covered-host", "P0113", "VirtualService", "{hosts: ['*.HOST', a.HOST], gateways: [any], http: [{ROUTE}]}"),
    ("delegate-with-gateways", "P0131", "VirtualService", "{gateways: [any], http: [{ROUTE}]}"),
    (
        "sni-outside",
        "P0129",
        "VirtualService",
        "{hosts: [HOST], gateways: [any], tls: [{match: [{sniHosts: [b.test]}], ROUTE}]}",
    ),
    ("no-tls", "P0123", "Gateway", "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [HOST]}]}"),
    (
        "no-certificate",
        "P0123",
        "Gateway",
        "{servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [HOST], tls: {mode: SIMPLE}}]}",
    ),
    (
        "double-port-name",
        "P0114",
        "Gateway",
        "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [HOST]}, \
          {port: {number: 81, name: a, protocol: HTTP}, hosts: [HOST]}]}",
    ),
    ("double-subset", "P0114", "DestinationRule", "{host: HOST, subsets: [{name: v1}, {name: v1}]}"),
    ("empty-pool", "P0115", "DestinationRule", "{host: HOST, trafficPolicy: {connectionPool: {}}}"),
    (
        "percentage",
        "P0117",
        "DestinationRule",
        "{host: HOST, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}",
    ),
    (
        "several-hosts",
        "P0130",
        "ServiceEntry",
        "{hosts: [HOST, b.test], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS}",
    ),
];

fn document(kind: &str, name: &str, spec: &str) -> String {
    let host = format!("{name}.test");
    let spec = spec.replace("ROUTE", ROUTE).replace("HOST", &host).replace("LONG", &"a".repeat(1025));
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn bad(&(name, _, kind, spec): &Case) -> String {
    match kind {
        "rule" => document("VirtualService", name, &format!("{{hosts: [HOST], gateways: [any], http: [{spec}]}}")),
        kind => document(kind, name, spec),
    }
}

/// Answers by itself with the case's name. Of an object that is no VirtualService one is made that needs it.
fn good(&(name, _, kind, _): &Case) -> String {
    let answering = |gateway: &str| {
        let answer = format!("{{directResponse: {{status: 200, body: {{string: {name}}}}}}}");
        document("VirtualService", name, &format!("{{hosts: [HOST], gateways: [{gateway}], http: [{answer}]}}"))
    };
    match kind {
        "Gateway" => {
            let servers = "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [HOST]}]}";
            format!("{}---\n{}", document("Gateway", name, servers), answering(name))
        }
        "DestinationRule" => format!("{}---\n{}", document(kind, name, "{host: HOST}"), answering("any")),
        "ServiceEntry" => {
            let spec = "{hosts: [HOST], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS}";
            format!("{}---\n{}", document(kind, name, spec), answering("any"))
        }
        _ => answering("any"),
    }
}

/// The bad object in the place of the good one, with the VirtualService that may stand behind it.
fn spoilt(case: &Case) -> String {
    let good = good(case);
    let rest = good.split_once("---\n").map(|(_, rest)| format!("---\n{rest}")).unwrap_or_default();
    bad(case) + &rest
}

/// Waits until the log tells the case's code at the case's file.
fn await_code(gateway: &Gateway, &(name, code, ..): &Case) {
    gateway.await_log(&format!("{name}.yaml:"));
    let log = gateway.log();
    let told = log.lines().any(|line| line.contains(&format!("{name}.yaml:4:")) && line.contains(code));
    assert!(told, "{name} wants {code}:\n{log}");
}

#[test]
fn what_admission_refuses_keeps_its_last_good_version() {
    let start = Options::new().file("gateway.yaml", ANY_GATEWAY);
    let gateway = CASES.iter().fold(start, |o, case| o.file(&format!("{}.yaml", case.0), good(case))).start();
    for case in CASES {
        assert_eq!(gateway.get(&format!("{}.test", case.0), "/").text(), case.0, "the good version of {}", case.0);
    }
    for case in CASES {
        gateway.replace(&format!("{}.yaml", case.0), spoilt(case));
    }
    for case in CASES {
        await_code(&gateway, case);
    }
    for case in CASES {
        assert_eq!(gateway.get(&format!("{}.test", case.0), "/").text(), case.0, "after the bad update of {}", case.0);
    }
    assert_eq!(gateway.admin("/ready").status, 200);
}

#[test]
fn what_admission_refuses_never_holds_up_a_good_object() {
    let good = document(
        "VirtualService",
        "good",
        "{hosts: [HOST], gateways: [any], http: [{directResponse: {status: 200, body: {string: good}}}]}",
    );
    let start = Options::new().file("gateway.yaml", ANY_GATEWAY).file("zz-good.yaml", good);
    let gateway = CASES.iter().fold(start, |o, case| o.file(&format!("{}.yaml", case.0), bad(case))).start();
    assert_eq!(gateway.get("good.test", "/").text(), "good");
    for case in CASES {
        await_code(&gateway, case);
        assert_eq!(gateway.get(&format!("{}.test", case.0), "/").status, 404, "{} was never good", case.0);
    }
}

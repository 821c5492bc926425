//! Which rule takes a request, and what the rule does to it: conditions, rewrites, redirects, direct answers, headers.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

fn gateway(rules: &str, app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

#[test]
fn conditions_choose_the_first_rule_that_fits() {
    let answer = |conditions: &str, body: &str| {
        format!("- match: [{{{conditions}}}]\n  directResponse: {{status: 200, body: {{string: {body}}}}}\n")
    };
    let rules = [
        answer("uri: {exact: /exact}", "exact"),
        answer("uri: {regex: '/re/[0-9]+'}", "regex"),
        answer("uri: {prefix: /API}, ignoreUriCase: true", "ignore-case"),
        answer("method: {exact: PUT}", "method"),
        answer("headers: {x-user: {exact: alpha}}", "header"),
        answer("headers: {x-present: {}}", "present"),
        answer("queryParams: {v: {exact: '2'}}", "query"),
        answer("authority: {prefix: beta.}", "authority"),
        answer("uri: {prefix: /without}, withoutHeaders: {x-user: {exact: beta}}", "without"),
        answer("scheme: {exact: https}", "scheme"),
        answer("port: 81", "port"),
        answer("uri: {prefix: /}", "rest"),
    ]
    .concat();
    let gateway = gateway(&rules, &Upstream::start("app"));
    let get = |target| Request::get("h", target);
    let cases = [
        (get("/exact"), "exact"),
        (get("/exact?x=1"), "exact"),
        (get("/exact/"), "rest"),
        (get("/re/12"), "regex"),
        (get("/re/12x"), "rest"),
        (get("/aPi/x"), "ignore-case"),
        (get("/apiary"), "ignore-case"),
        (Request::new("PUT", "h", "/"), "method"),
        (get("/").header("X-User", "alpha"), "header"),
        (get("/").header("x-user", "Alpha"), "rest"),
        (get("/").header("x-present", ""), "present"),
        (get("/?v=2"), "query"),
        (get("/?v=1&v=2"), "rest"),
        (Request::get("beta.example.com", "/"), "authority"),
        (get("/without"), "without"),
        (get("/without").header("x-user", "beta"), "rest"),
        (get("/").header("x-forwarded-proto", "https"), "rest"),
    ];
    for (request, wanted) in cases {
        assert_eq!(gateway.send(&request).text(), wanted, "{request:?}");
    }
}

#[test]
fn paths_are_normalised_before_they_are_matched_and_sent_on() {
    let rules = "\
- match: [{uri: {prefix: /secret}}]
  directResponse: {status: 403}
- route: [{destination: {host: app.test}}]
";
    let gateway = gateway(rules, &Upstream::start("app"));
    for target in ["/secret", "/a/../secret", "/a/%2e%2e/secret", "/%73ecret", "/a\\..\\secret"] {
        assert_eq!(gateway.get("h", target).status, 403, "{target}");
    }
    assert_eq!(gateway.get("h", "/a/./b/../c?q=/../x").seen_request_line(), "GET /a/c?q=/../x HTTP/1.1");
    assert_eq!(gateway.get("h", "/a//b%2Fc").seen_request_line(), "GET /a//b%2Fc HTTP/1.1");
}

#[test]
fn rewrites_are_string_surgery_and_keep_the_query() {
    let rules = "\
- match: [{uri: {prefix: /old}}]
  rewrite: {uri: /new}
  route: [{destination: {host: app.test}}]
- match: [{uri: {exact: /exact}}]
  rewrite: {uri: /whole, authority: other.example.com}
  route: [{destination: {host: app.test}}]
- match: [{uri: {prefix: /re}}]
  rewrite: {uriRegexRewrite: {match: '/re/([^/]+)/x', rewrite: '/r/\\1'}}
  route: [{destination: {host: app.test}}]
";
    let gateway = gateway(rules, &Upstream::start("app"));
    let older = gateway.get("h", "/older?q=1");
    assert_eq!(older.seen_request_line(), "GET /newer?q=1 HTTP/1.1");
    assert_eq!(older.seen("x-envoy-original-path").as_deref(), Some("/older?q=1"));
    let exact = gateway.get("h", "/exact");
    assert_eq!(exact.seen_request_line(), "GET /whole HTTP/1.1");
    assert_eq!(exact.seen("host").as_deref(), Some("other.example.com"));
    assert_eq!(gateway.get("h", "/re/abc/x/y").seen_request_line(), "GET /r/abc/y HTTP/1.1");
    let line = gateway.await_access("/older?q=1");
    assert!(line.contains("\"GET /older?q=1 HTTP/1.1\""), "the log shows the path before the rewrite: {line}");
}

#[test]
fn redirects_answer_with_a_location() {
    let rules = "\
- match: [{uri: {prefix: /plain}}]
  redirect: {uri: /there, authority: other.example.com}
- match: [{uri: {prefix: /code}}]
  redirect: {uri: /there, redirectCode: 307}
- match: [{uri: {prefix: /tls}}]
  redirect: {scheme: https}
- match: [{uri: {prefix: /port}}]
  redirect: {port: 8443, scheme: https}
- match: [{uri: {prefix: /listener}}]
  redirect: {derivePort: FROM_REQUEST_PORT, authority: o.example.com}
- match: [{uri: {prefix: /from}}]
  redirect: {prefixRewrite: /to}
- match: [{uri: {exact: /whole}}]
  redirect: {prefixRewrite: /to, redirectCode: 308}
";
    let gateway = gateway(rules, &Upstream::start("app"));
    let location = |target: &str| {
        let response = gateway.get("h:8080", target);
        (response.status, response.header("location").unwrap_or_default().to_owned())
    };
    assert_eq!(location("/plain?a=b"), (301, "http://other.example.com/there?a=b".to_owned()));
    assert_eq!(location("/code"), (307, "http://h:8080/there".to_owned()));
    assert_eq!(location("/tls/x"), (301, "https://h:8080/tls/x".to_owned()));
    assert_eq!(location("/port"), (301, "https://h:8443/port".to_owned()));
    assert_eq!(location("/listener"), (301, "http://o.example.com/listener".to_owned()));
    assert_eq!(location("/fromage?a"), (301, "http://h:8080/toage?a".to_owned()));
    assert_eq!(location("/whole?a"), (308, "http://h:8080/to?a".to_owned()));
    let line = gateway.await_access("/plain?a=b");
    assert!(line.contains(" 301 - direct_response - "), "{line}");
}

#[test]
fn header_operations_remove_then_set_then_add() {
    let rules = "\
- route:
  - destination: {host: app.test}
    headers:
      request: {set: {x-set: destination}, add: {x-add: more}, remove: [x-remove]}
      response: {add: {x-answer: yes-indeed}, remove: [x-upstream]}
  headers:
    request: {set: {x-set: route}}
";
    let gateway = gateway(rules, &Upstream::start("app"));
    let response =
        gateway.send(&Request::get("h", "/").header("x-remove", "1").header("x-add", "first").header("x-set", "0"));
    assert_eq!(response.seen("x-set").as_deref(), Some("destination"), "one destination: its set wins");
    assert_eq!(response.seen("x-remove"), None);
    assert!(response.text().contains("x-add: first\r\n") && response.text().contains("x-add: more\r\n"));
    assert_eq!((response.header("x-answer"), response.header("x-upstream")), (Some("yes-indeed"), None));
}

#[test]
fn a_star_within_a_label_serves_what_goes_before_it() {
    let service = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: ['{host}']\n  \
             gateways: [any]\n  http:\n  - directResponse: {{status: 200, body: {{string: {name}}}}}\n---\n"
        )
    };
    let text = [service("partial", "*shop.com"), service("whole", "*.shop.com"), service("dot", "name.test.")].concat();
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("hosts.yaml", text).start();
    for (host, wanted) in [("myshop.com", "partial"), ("a.shop.com", "whole"), ("name.test.", "dot")] {
        assert_eq!(gateway.get(host, "/").text(), wanted, "{host}");
    }
    for host in ["shop.com", "name.test"] {
        assert_eq!(gateway.get(host, "/").status, 404, "{host}");
    }
}

#[test]
fn exact_hosts_win_over_longer_and_shorter_wildcards() {
    let service = |name: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: ['{host}']\n  \
             gateways: [any]\n  http:\n  - match: [{{uri: {{prefix: /here}}}}]\n    directResponse: {{status: 200, body: {{string: {name}}}}}\n---\n"
        )
    };
    let text = [
        service("any-host", "*"),
        service("wide", "*.example.com"),
        service("narrow", "*.eu.example.com"),
        service("exact", "shop.eu.example.com"),
    ];
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("hosts.yaml", text.concat()).start();
    let cases = [
        ("shop.eu.example.com", "exact"),
        ("other.eu.example.com", "narrow"),
        ("a.b.example.com", "wide"),
        ("example.com", "any-host"),
    ];
    for (host, wanted) in cases {
        assert_eq!(gateway.get(host, "/here").text(), wanted, "{host}");
    }
    assert_eq!(gateway.get("shop.eu.example.com", "/else").status, 404, "no fall-back to a wider host");
}

//! Gateways and VirtualServices beyond one rule: merging over resources, delegates, who sees what, conditions and actions
//! where Istio's answer is not the obvious one.

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn object(kind: &str, meta: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {meta}\nspec: {spec}\n---\n")
}

/// A rule that answers with its name.
fn says(conditions: &str, name: &str) -> String {
    format!("{{match: [{{{conditions}}}], directResponse: {{status: 200, body: {{string: {name}}}}}}}")
}

fn virtual_service(meta: &str, more: &str, rules: &[String]) -> String {
    object(
        "VirtualService",
        meta,
        &format!("{{hosts: [shop.test], gateways: [default/any], {more} http: [{}]}}", rules.join(", ")),
    )
}

fn app(app: &Upstream) -> String {
    service_entry("app.test", &[("v1", app.address())])
}

#[test]
fn rules_of_several_resources_are_merged_by_age_and_catch_alls_go_last() {
    let text = [
        virtual_service(
            "{name: a-new, creationTimestamp: '2024-01-01T00:00:00Z'}",
            "",
            &[says("uri: {prefix: /x}", "new"), says("", "new-rest")],
        ),
        virtual_service(
            "{name: z-old, creationTimestamp: '2020-01-01T00:00:00Z'}",
            "",
            &[
                says("uri: {prefix: /old}", "old"),
                says("uri: {regex: '.*'}", "old-rest"),
                says("uri: {prefix: /never}", "never"),
            ],
        ),
        virtual_service(
            "{name: between, creationTimestamp: '2022-01-01T00:00:00Z'}",
            "",
            &[says("uri: {prefix: /x}, port: 80", "between")],
        ),
        virtual_service(
            "{name: elsewhere, creationTimestamp: '2010-01-01T00:00:00Z'}",
            "",
            &[
                says("uri: {prefix: /x}, port: 81", "port"),
                says("uri: {prefix: /x}, gateways: [other]", "gateway"),
                says("uri: {prefix: /x}, sourceNamespace: default", "namespace"),
                says("uri: {prefix: /x}, sourceLabels: {istio: egress}", "labels"),
            ],
        ),
    ];
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("all.yaml", text.concat()).start();
    for (target, wanted) in [("/old", "old"), ("/x", "between"), ("/never", "old-rest"), ("/", "old-rest")] {
        assert_eq!(gateway.get("shop.test", target).text(), wanted, "{target}");
    }
}

#[test]
fn delegates_serve_their_part_with_what_the_root_gives_them() {
    let upstream = Upstream::start("app");
    let root = "{hosts: [shop.test], gateways: [any], http: [
        {name: root, match: [{uri: {prefix: /api}}], delegate: {name: api, namespace: team}, headers: {request: {set: {x-from: root}}}},
        {match: [{uri: {prefix: /lost}}], delegate: {name: nobody}},
        {directResponse: {status: 418}}]}";
    let api = "{http: [
        {name: users, match: [{uri: {prefix: /api/users}}], rewrite: {uri: /u}, route: [{destination: {host: app.test}}]},
        {match: [{uri: {prefix: /elsewhere}}], route: [{destination: {host: app.test}}]}]}";
    let text =
        [object("VirtualService", "{name: root}", root), object("VirtualService", "{name: api, namespace: team}", api)];
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("all.yaml", text.concat())
        .file("app.yaml", app(&upstream))
        .start();
    let users = gateway.get("shop.test", "/api/users/7");
    assert_eq!(users.seen_request_line(), "GET /u/7 HTTP/1.1");
    assert_eq!(users.seen("x-from").as_deref(), Some("root"));
    for target in ["/api/other", "/elsewhere", "/lost"] {
        assert_eq!(gateway.get("shop.test", target).status, 418, "{target}");
    }
    let line = gateway.await_access("/api/users/7");
    assert!(line.trim_end().ends_with(" root-users"), "names are joined: {line}");
    let line = gateway.await_access("/elsewhere");
    assert!(line.trim_end().ends_with(" -"), "no name is no name: {line}");
}

#[test]
fn the_gateway_sees_what_is_exported_to_its_namespace() {
    let text = [
        virtual_service(
            "{name: a, namespace: shop, creationTimestamp: '2020-01-01T00:00:00Z'}",
            "",
            &[says("uri: {prefix: /x}", "public"), says("uri: {prefix: /public}", "public")],
        ),
        virtual_service(
            "{name: b, namespace: edge, creationTimestamp: '2024-01-01T00:00:00Z'}",
            "exportTo: [.],",
            &[says("uri: {prefix: /x}, sourceNamespace: edge", "own")],
        ),
        virtual_service("{name: c, namespace: shop}", "exportTo: [.],", &[says("uri: {prefix: /hidden}", "hidden")]),
    ];
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("all.yaml", text.concat())
        .argument("--namespace")
        .argument("edge")
        .start();
    assert_eq!(gateway.get("shop.test", "/x").text(), "own");
    assert_eq!(gateway.get("shop.test", "/public").text(), "public");
    assert_eq!(gateway.get("shop.test", "/hidden").status, 404);
}

#[test]
fn conditions_hold_as_istio_has_them() {
    let answer = |conditions: &str, name: &str| format!("- {}\n", says(conditions, name));
    let rules = [
        answer("uri: {exact: /h}, headers: {host: {exact: 'shop.test:8080'}}", "host"),
        answer("uri: {exact: /h}, headers: {':method': {exact: PUT}}", "pseudo"),
        answer("uri: {exact: /h}, authority: {exact: 'shop.test:81'}", "authority"),
        answer("uri: {exact: /e}, headers: {x: {exact: ''}}", "empty"),
        answer("uri: {exact: /e}, headers: {x: {regex: '*'}}", "present"),
        answer("uri: {exact: /l}, headers: {x: {exact: two}}", "line"),
        answer("uri: {exact: /l}, headers: {x: {exact: 'one,two'}}", "joined"),
        answer("uri: {exact: /w}, withoutHeaders: {x: {regex: '.*'}}", "never"),
        answer("uri: {exact: /w}, withoutHeaders: {x: {}}", "absent"),
        answer("uri: {exact: /w}, withoutHeaders: {x: {exact: jason}}", "not-jason"),
        answer("uri: {exact: /q}, queryParams: {a: {exact: ''}}", "empty"),
        answer("uri: {exact: /q}, queryParams: {a: {exact: 'x%20y'}}", "undecoded"),
        answer("uri: {exact: /q}, queryParams: {a: {}}", "present"),
    ]
    .concat();
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(&rules)).start();
    let get = |target| Request::get("shop.test", target);
    for (request, wanted) in [
        (Request::get("shop.test:8080", "/h"), "host"),
        (Request::new("PUT", "shop.test", "/h"), "pseudo"),
        (Request::get("shop.test:81", "/h"), "authority"),
        (get("/h"), ""),
        (get("/e").header("x", ""), "empty"),
        (get("/e").header("x", "1"), "present"),
        (get("/e"), ""),
        (get("/l").header("x", "one").header("x", "two"), "line"),
        (get("/l").header("x", "one,two"), "joined"),
        (get("/w"), "absent"),
        (get("/w").header("x", ""), "not-jason"),
        (get("/w").header("x", "jason"), ""),
        (get("/q?a"), "empty"),
        (get("/q?a="), "empty"),
        (get("/q?a=x%20y"), "undecoded"),
        (get("/q?a=1&a="), "present"),
        (get("/q?A="), ""),
    ] {
        let response = gateway.send(&request);
        assert_eq!(response.text(), wanted, "{request:?}");
        assert_eq!(response.status, if wanted.is_empty() { 404 } else { 200 }, "{request:?}");
    }
}

#[test]
fn rewrites_join_strings_wherever_the_match_ends() {
    let upstream = Upstream::start("app");
    let to = "route: [{destination: {host: app.test}}]";
    let rules = format!(
        "- {{match: [{{uri: {{prefix: /bare}}}}], rewrite: {{uri: /}}, {to}}}
- {{match: [{{uri: {{prefix: /join/}}}}], rewrite: {{uri: /joined}}, {to}}}
- {{match: [{{uri: {{prefix: /CASE}}, ignoreUriCase: true}}], rewrite: {{uri: /c}}, {to}}}
- {{match: [{{uri: {{regex: '/re/[0-9]+'}}}}], rewrite: {{uri: /whole}}, {to}}}
- {{match: [{{uri: {{prefix: /every}}}}], rewrite: {{uriRegexRewrite: {{match: 'e(.)', rewrite: '_\\1_'}}}}, {to}}}
- {{match: [{{method: {{exact: PUT}}}}], rewrite: {{uri: /put}}, {to}}}
- {{match: [{{uri: {{prefix: /host}}}}], rewrite: {{authority: other.test}}, {to}}}
- {{{to}}}
"
    );
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(&rules))
        .file("app.yaml", app(&upstream))
        .start();
    for (method, target, wanted) in [
        ("GET", "/bare/x?q", "//x?q"),
        ("GET", "/join/x", "/joinedx"),
        ("GET", "/caseX/Y", "/cX/Y"),
        ("GET", "/re/12?q", "/whole?q"),
        ("GET", "/every/ex?e1", "/_v__r_y/_x_?e1"),
        ("PUT", "/x", "/putx"),
    ] {
        let response = gateway.send(&Request::new(method, "shop.test", target));
        assert_eq!(response.seen_request_line(), format!("{method} {wanted} HTTP/1.1"));
        assert_eq!(response.seen("x-envoy-original-path").as_deref(), Some(target));
    }
    let host = gateway.get("shop.test:81", "/host");
    assert_eq!(host.seen("host").as_deref(), Some("other.test"));
    assert_eq!(host.seen("x-envoy-original-host").as_deref(), Some("shop.test:81"));
    assert_eq!(host.seen("x-envoy-original-path"), None);
    assert_eq!(gateway.get("shop.test", "/").seen("x-envoy-original-host"), None);
}

#[test]
fn with_several_destinations_the_route_has_the_last_word() {
    let upstream = Upstream::start("app");
    let rules = "\
- match: [{uri: {prefix: /plain}}]
  route:
  - destination: {host: app.test}
    weight: 1
    headers: {request: {set: {host: destination.test}}}
  - {destination: {host: app.test}, weight: 0}
- route:
  - destination: {host: app.test}
    weight: 1
    headers:
      request: {set: {x-set: destination, x-gone: destination, host: destination.test}, add: {x-add: destination}}
      response: {set: {x-answer: destination}}
  - {destination: {host: app.test}, weight: 0}
  headers:
    request: {set: {x-set: route, ':authority': route.test}, add: {x-add: route}, remove: [x-gone]}
    response: {set: {x-answer: route}}
";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", app(&upstream))
        .start();
    let response = gateway.get("shop.test", "/");
    assert_eq!(response.seen("x-set").as_deref(), Some("route"));
    assert_eq!(response.seen("x-gone"), None, "the route's remove undoes the destination's set");
    assert_eq!(response.seen("host").as_deref(), Some("route.test"));
    assert!(response.text().contains("x-add: destination\r\nx-add: route\r\n"), "{}", response.text());
    assert_eq!(response.header("x-answer"), Some("route"));
    let plain = gateway.get("shop.test", "/plain");
    assert_eq!(plain.seen("host").as_deref(), Some("destination.test"));
    assert_eq!(plain.seen("x-envoy-original-host"), None, "a destination's host is no rewrite of the route's");
}

#[test]
fn a_route_may_change_the_number_of_the_try_and_options_say_that_they_have_no_body() {
    let upstream = Upstream::start("app");
    let rules = "\
- {match: [{uri: {prefix: /set}}], headers: {request: {set: {x-envoy-attempt-count: '7'}}}, route: [{destination: {host: app.test}}]}
- {match: [{uri: {prefix: /gone}}], headers: {request: {remove: [x-envoy-attempt-count]}}, route: [{destination: {host: app.test}}]}
- {route: [{destination: {host: app.test}}]}
";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", app(&upstream))
        .start();
    let number = |path: &str| gateway.get("shop.test", path).seen("x-envoy-attempt-count");
    assert_eq!([number("/set"), number("/gone"), number("/")], [Some("7".to_owned()), None, Some("1".to_owned())]);
    let length = |method: &str| gateway.send(&Request::new(method, "shop.test", "/")).seen("content-length");
    for method in ["OPTIONS", "POST", "PROPFIND"] {
        assert_eq!(length(method).as_deref(), Some("0"), "{method}");
    }
    assert_eq!([length("GET"), length("DELETE")], [None, None]);
}

#[test]
fn direct_answers_have_a_body_and_take_header_operations() {
    let long = "x".repeat(1 << 20);
    let rules = format!(
        "- {{match: [{{uri: {{prefix: /bytes}}}}], directResponse: {{status: 200, body: {{bytes: eyJhIjoxfQ==}}}}, headers: {{response: {{set: {{content-type: application/json}}, add: {{x-more: '1'}}}}}}}}
- {{match: [{{uri: {{prefix: /long}}}}], directResponse: {{status: 503, body: {{string: {long}}}}}}}
- {{match: [{{uri: {{prefix: /made}}}}], directResponse: {{status: 201}}}}
- {{match: [{{uri: {{prefix: /typed}}}}], directResponse: {{status: 200, body: {{string: a}}}}, headers: {{response: {{add: {{content-type: a/b}}}}}}}}
- {{match: [{{uri: {{prefix: /untyped}}}}], directResponse: {{status: 200, body: {{string: a}}}}, headers: {{response: {{remove: [content-type]}}}}}}
- {{directResponse: {{status: 299}}}}
"
    );
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(&rules)).start();
    let bytes = gateway.get("shop.test", "/bytes");
    assert_eq!((bytes.status, bytes.text().as_str()), (200, "{\"a\":1}"));
    assert_eq!((bytes.header("content-type"), bytes.header("x-more")), (Some("application/json"), Some("1")));
    let long = gateway.get("shop.test", "/long");
    assert_eq!((long.status, long.text().len(), long.header("content-type")), (503, 1 << 20, Some("text/plain")));
    let made = gateway.get("shop.test:81", "/made?x");
    assert_eq!((made.status, made.header("location")), (201, Some("http://shop.test:81/made?x")), "as Envoy has it");
    for (path, wanted) in [("/typed", "a/b"), ("/untyped", "text/plain")] {
        assert_eq!(gateway.get("shop.test", path).header("content-type"), Some(wanted), "as Envoy has it");
    }
    let empty = gateway.get("shop.test", "/");
    assert_eq!((empty.status, empty.text().as_str(), empty.header("content-type")), (299, "", None));
}

#[test]
fn a_target_with_a_fragment_is_refused() {
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- directResponse: {status: 200}\n"));
    let gateway = gateway.start();
    for target in ["/a#b", "/a?q#b", "http://shop.test/a#b"] {
        assert_eq!(gateway.get("shop.test", target).status, 400, "{target}");
    }
    let mut connection = gateway.connect();
    let line = "GET /x#y HTTP/1.1";
    let post = Request::new("POST", "shop.test", "/").header("x", line).body(format!("{line}\r\n\r\n"));
    for _ in 0..3 {
        assert_eq!(connection.request(&post).unwrap().status, 200, "only the request's own line counts");
    }
}

/// A gateway with `/admin` closed and the rest open.
fn guarded(mesh: &str, arguments: &[&str], upstream: &Upstream) -> Gateway {
    let rules = "\
- match: [{uri: {prefix: /admin}}]
  directResponse: {status: 403}
- route: [{destination: {host: app.test}}]
";
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
    );
    let options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", app(upstream))
        .file("mesh.yaml", map);
    arguments.iter().fold(options, |options, argument| options.argument(*argument)).start()
}

#[test]
fn ambiguous_paths_are_refused_where_another_rule_is_for_the_other_reading() {
    let upstream = Upstream::start("app");
    let gateway = guarded("{}", &[], &upstream);
    for target in ["//admin", "/x/..%2Fadmin", "/x/%2e%2e;/admin", "/%2fadmin"] {
        let response = gateway.get("shop.test", target);
        assert_eq!((response.status, response.text().as_str()), (400, ""), "{target}");
    }
    let line = gateway.await_access("/x/..%2Fadmin");
    assert!(line.contains(" 400 - path_ambiguous "), "{line}");
    // A dot segment is one with parameters, too.
    assert_eq!(gateway.get("shop.test", "/x/..;v=1/admin").status, 403);
    assert_eq!(gateway.get("shop.test", "/x/..;/y/.;/z").seen_request_line(), "GET /y/z HTTP/1.1");
    for target in ["/a//b", "/a%2Fb", "/a;v=1?//admin"] {
        assert_eq!(gateway.get("shop.test", target).seen_request_line(), format!("GET {target} HTTP/1.1"));
    }
    assert_eq!(upstream.requests(), 4);
}

#[test]
fn the_mesh_says_how_paths_are_made_canonical() {
    let upstream = Upstream::start("app");
    let off = ["--allow-ambiguous-paths"];
    for (mode, [dots, slashes, encoded]) in [
        ("NONE", ["/x/../y", "/a//b", "/a%2Fb"]),
        ("BASE", ["/y", "/a//b", "/a%2Fb"]),
        ("MERGE_SLASHES", ["/y", "/a/b", "/a%2Fb"]),
        ("DECODE_AND_MERGE_SLASHES", ["/y", "/a/b", "/a/b"]),
    ] {
        let gateway = guarded(&format!("pathNormalization: {{normalization: {mode}}}"), &off, &upstream);
        for (target, wanted) in [("/x/../y", dots), ("/a//b", slashes), ("/a%2Fb", encoded)] {
            let line = gateway.get("shop.test", target).seen_request_line();
            assert_eq!(line, format!("GET {wanted} HTTP/1.1"), "{mode} {target}");
        }
        let doubled = gateway.get("shop.test", "//admin").status;
        assert_eq!(doubled, if mode.ends_with("SLASHES") { 403 } else { 200 }, "{mode}: the guard is off");
    }
}

#[test]
fn https_redirect_keeps_the_host_as_it_came_and_knows_no_other_host() {
    let gateway = object(
        "Gateway",
        "{name: any}",
        "{servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.test'], tls: {httpsRedirect: true}}]}",
    );
    let gateway = Options::new()
        .file("gateway.yaml", gateway)
        .file("all.yaml", virtual_service("{name: a}", "", &[says("", "a")]))
        .start();
    for (host, wanted) in [
        ("shop.test", "https://shop.test/x?y"),
        ("shop.test:8080", "https://shop.test:8080/x?y"),
        ("shop.test:80", "https://shop.test:80/x?y"),
        ("other.test", "https://other.test/x?y"),
    ] {
        let response = gateway.send(&Request::get(host, "/x?y").header("x-forwarded-proto", "https"));
        assert_eq!((response.status, response.header("location")), (301, Some(wanted)));
    }
    assert_eq!(gateway.get("elsewhere.example", "/").status, 404);
}

#[test]
fn a_bound_address_is_a_listener_of_its_own_with_its_own_hosts() {
    let other = Port::free();
    let servers = format!(
        "{{servers: [{{port: {{number: 80, name: a, protocol: HTTP}}, hosts: ['default/shop.test', './own.test']}}, \
         {{port: {{number: {}, name: b, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}]}}",
        other.number()
    );
    let of = |name: &str, namespace: &str, host: &str| {
        let spec = format!(
            "{{hosts: [{host}], gateways: [default/any], http: [{{directResponse: {{status: 200, body: {{string: {name}}}}}}}]}}"
        );
        object("VirtualService", &format!("{{name: {name}, namespace: {namespace}}}"), &spec)
    };
    let text =
        [of("shop", "default", "shop.test"), of("stranger", "other", "own.test"), of("bound", "other", "bound.test")];
    let gateway = Options::new()
        .file("gateway.yaml", object("Gateway", "{name: any}", &servers))
        .file("all.yaml", text.concat())
        .start();
    let at_bound = |host: &str| Connection::open(other.address()).unwrap().request(&Request::get(host, "/")).unwrap();
    assert_eq!(gateway.get("shop.test", "/").text(), "shop");
    assert_eq!(gateway.get("own.test", "/").status, 404, "only the Gateway's own namespace may serve it");
    assert_eq!(gateway.get("bound.test", "/").status, 404);
    assert_eq!(at_bound("bound.test").text(), "bound");
    assert_eq!(at_bound("own.test").text(), "stranger");
}

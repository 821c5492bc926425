//! Header operations of routes and destinations, and the words in their values, in real Envoy and here.

use serde_json::{Value, json};

use crate::pair::{Case, answer};
use crate::support::client::Request;
use crate::support::envoy::cluster;
use crate::support::upstream::Seen;

/// What values of headers are made with; those whose value differs from host to host are left to other tests.
const WORDS: &[&str] = &[
    "%REQ(x-a)%",
    "%REQ(X-A?:path)%",
    "%REQ(x-none)%",
    "[%REQ(x-none)%]",
    "%REQ(x-none?x-a)%",
    "%REQ(x-a):2%",
    "%REQ(x-dup)%",
    "%REQ(x-empty)%",
    "%REQ(:path)%",
    "%REQ(:method)% %REQ(:authority)% %REQ(:scheme)% %REQ(host)%",
    "%REQ(user-agent)%",
    "%REQ(x-envoy-original-path)%",
    "%PROTOCOL% 100%% %%REQ(x)%%",
    "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "%HOSTNAME%",
    "%UPSTREAM_CLUSTER% %ROUTE_NAME%",
    "%RESPONSE_CODE%",
    "%RESPONSE_FLAGS%",
    "%RESPONSE_CODE_DETAILS%",
    "%RESP(x-up)%",
    "%RESP(:status)%",
    "%BYTES_RECEIVED% %BYTES_SENT%",
    "%PATH%",
    "%PATH(NQ)%",
    "%PATH(NQ:ORIG)%",
    "%PATH(WQ:PATH)%",
    "%QUERY_PARAM(q)%",
    "%QUERY_PARAM(none)%",
    "%QUERY_PARAMS%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "%REQUESTED_SERVER_NAME%",
    "%DOWNSTREAM_TLS_VERSION%",
    "%CONNECTION_TERMINATION_DETAILS%",
    "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
];

/// One scope: what is set and added to both messages, and what is removed from requests.
#[derive(Clone, Copy, Default)]
struct Scope<'a> {
    set: &'a [(&'a str, &'a str)],
    add: &'a [(&'a str, &'a str)],
    remove: &'a [&'a str],
}

impl Scope<'_> {
    /// As Istio's resources have it.
    fn of_istio(&self) -> Value {
        let map =
            |pairs: &[(&str, &str)]| -> Value { pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect() };
        let both = json!({"set": map(self.set), "add": map(self.add), "remove": self.remove});
        json!({"request": both, "response": both})
    }

    /// As Istio writes it for Envoy.
    fn of_envoy(scopes: &[Self], mut into: Value) -> Value {
        let one = |(key, value): &(&str, &str), action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
        let mut added = Vec::new();
        for scope in scopes {
            added.extend(scope.set.iter().map(|pair| one(pair, "OVERWRITE_IF_EXISTS_OR_ADD")));
            added.extend(scope.add.iter().map(|pair| one(pair, "APPEND_IF_EXISTS_OR_ADD")));
        }
        let removed: Vec<_> = scopes.iter().flat_map(|scope| scope.remove).collect();
        for side in ["request", "response"] {
            into[format!("{side}_headers_to_add")] = json!(added);
            into[format!("{side}_headers_to_remove")] = json!(removed);
        }
        into
    }
}

fn app(_: &Seen) -> Vec<u8> {
    answer(200, &[("x-up", "one"), ("x-up", "two"), ("x-b", "app"), ("x-c", "app")], b"app")
}

fn request(path: &str) -> Request {
    let request = Request::get("h.test", path).header("x-a", "alpha").header("x-dup", "1").header("x-dup", "2");
    request.header("x-b", "client").header("x-c", "client").header("x-empty", "")
}

/// A rule under a prefix, with JSON, which is YAML.
fn rule(prefix: &str, mut rest: Value) -> String {
    rest["name"] = json!(&prefix[1..]);
    rest["match"] = json!([{"uri": {"prefix": prefix}}]);
    format!("- {rest}\n")
}

#[test]
fn values_of_headers_are_made_of_envoys_words() {
    let names: Vec<_> = (0..WORDS.len()).map(|at| format!("x-o{at:02}")).collect();
    let pairs: Vec<_> = names.iter().map(String::as_str).zip(WORDS.iter().copied()).collect();
    let scope = Scope { add: &pairs, ..Scope::default() };
    let to = json!({"cluster": cluster("app.test"), "timeout": "0s"});
    let kinds = [
        ("/plain", json!({"route": [{"destination": {"host": "app.test"}}]}), json!({"route": to})),
        (
            "/rewritten",
            json!({"route": [{"destination": {"host": "app.test"}}], "rewrite": {"uri": "/new", "authority": "new.test"}}),
            json!({"route": {"cluster": cluster("app.test"), "timeout": "0s", "prefix_rewrite": "/new", "host_rewrite_literal": "new.test"}}),
        ),
        (
            "/direct",
            json!({"directResponse": {"status": 200, "body": {"string": "hi"}}}),
            json!({"direct_response": {"status": 200, "body": {"inline_string": "hi"}}}),
        ),
        (
            "/away",
            json!({"redirect": {"authority": "other.test"}}),
            json!({"redirect": {"host_redirect": "other.test"}}),
        ),
    ];
    let mut rules = String::new();
    let mut routes = Vec::new();
    for (prefix, mut rest, action) in kinds {
        rest["headers"] = scope.of_istio();
        rules.push_str(&rule(prefix, rest));
        let mut route = Scope::of_envoy(&[scope], action);
        route["name"] = json!(&prefix[1..]);
        route["match"] = json!({"prefix": prefix});
        routes.push(route);
    }
    let requests = ["/plain?q=%41%20b&q=c", "/rewritten/x?q", "/direct", "/away?x=y"].map(request);
    Case::of_routes(&rules, json!(routes), app).same(&requests);
}

#[test]
fn scopes_of_routes_and_destinations_meet_as_in_envoy() {
    let route = Scope {
        set: &[("x-a", "route"), ("x-e", "")],
        add: &[("x-b", "added by the route"), ("x-d", "%REQ(x-a)%")],
        remove: &["x-c"],
    };
    let destination = Scope {
        set: &[("x-a", "destination"), ("x-b", "set by the destination"), ("x-c", "[%REQ(x-c)%]")],
        add: &[("x-b", "added by the destination"), ("x-f", "%REQ(x-a)%")],
        remove: &["x-dup"],
    };
    let entry = json!({"destination": {"host": "app.test"}, "headers": destination.of_istio(), "weight": 1});
    let nobody = json!({"destination": {"host": "app.test"}, "weight": 0});
    let one = rule("/one", json!({"route": [entry], "headers": route.of_istio()}));
    let several = rule("/several", json!({"route": [entry, nobody], "headers": route.of_istio()}));
    let single = json!({"match": {"prefix": "/one"}, "route": {"cluster": cluster("app.test"), "timeout": "0s"}});
    let weighted = Scope::of_envoy(&[destination], json!({"name": cluster("app.test"), "weight": 1}));
    let of_several = json!({
        "match": {"prefix": "/several"},
        "route": {"weighted_clusters": {"clusters": [weighted]}, "timeout": "0s"},
    });
    let routes = json!([Scope::of_envoy(&[route, destination], single), Scope::of_envoy(&[route], of_several)]);
    Case::of_routes(&(one + &several), routes, app).same(&[request("/one"), request("/several")]);
}

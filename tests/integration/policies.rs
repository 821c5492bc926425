//! RequestAuthentications and AuthorizationPolicies, in front of the routes of a gateway.

use crate::bundled::await_running;
use crate::support::await_true;
use crate::support::client::{Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// Signed with the secret `0123456789abcdef`, twice: issuer `https://issuer.test`, subject `ada`, `groups: [ops]`, no end.
const ADA: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYWRhIiwiZ3JvdXBzIjpbIm9wcyJdfQ.4tTP74-99EXLu0ISlN0mHdV6mJCkapsANny-_t9ZZAA";
/// The same, ended in 1970.
const LATE: &str = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci50ZXN0Iiwic3ViIjoiYWRhIiwiZXhwIjoxfQ.Dg0PX8cRP1vvx8y8E2yRyVYEY1Sk-KUB0ZHlih5lyWI";

const TOKENS: &str = "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: istio-system}
spec:
  jwtRules:
  - issuer: https://issuer.test
    jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}'
    outputClaimToHeaders: [{header: x-sub, claim: sub}]
";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: istio-system}}\nspec: {spec}\n"
    )
}

fn start(app: &Upstream, policies: &str) -> Gateway {
    let rules = "- match: [{uri: {prefix: /moved}}]\n  redirect: {uri: /new}\n- match: [{uri: {prefix: /told}}]\n  directResponse: \
                 {status: 200}\n- match: [{uri: {prefix: /app}}]\n  route: [{destination: {host: app.test}}]\n";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("policies.yaml", policies)
        .start();
    await_running(&gateway);
    gateway
}

fn answer(response: &Response) -> (u16, String) {
    (response.status, response.text())
}

fn denied() -> (u16, String) {
    (403, "RBAC: access denied".to_owned())
}

#[test]
fn policies_refuse_and_allow_in_istios_order_and_name_the_rule() {
    let app = Upstream::start("app");
    let deny = policy("no", "{action: DENY, rules: [{to: [{operation: {paths: [/app/secret*]}}]}]}");
    let gateway = start(&app, &deny);
    assert_eq!(gateway.get("h", "/app").status, 200);
    assert_eq!(answer(&gateway.get("h", "/app/secret?x")), denied());
    gateway.await_access("rbac_access_denied_matched_policy[ns[istio-system]-policy[no]-rule[0]]");
    let allow = policy("yes", "{rules: [{to: [{operation: {methods: [GET], hosts: [H]}}]}]}");
    gateway.replace("policies.yaml", [deny.as_str(), "---\n", &allow].concat());
    await_true("the policy that allows", || gateway.send(&Request::new("PUT", "h", "/app")).status == 403);
    gateway.await_access("rbac_access_denied_matched_policy[none]");
    assert_eq!((gateway.get("h", "/app").status, gateway.get("h", "/app/secret").status), (200, 403));
    assert_eq!(gateway.get("other", "/app").status, 403);
    gateway.replace("policies.yaml", policy("none", "{}"));
    await_true("a policy without rules", || gateway.get("h", "/app").status == 403);
}

#[test]
fn policies_that_only_tell_refuse_nothing_and_are_told_as_envoy_tells_them() {
    let app = Upstream::start("app");
    let tried = |name: &str, spec: &str| {
        policy(name, spec).replace("istio-system}", "istio-system, annotations: {istio.io/dry-run: 'true'}}")
    };
    let policies = [
        tried("no", "{action: DENY, rules: [{to: [{operation: {paths: [/app/secret*]}}]}]}"),
        tried("yes", "{rules: [{to: [{operation: {paths: [/app]}}]}]}"),
        policy("told", "{action: AUDIT, rules: [{to: [{operation: {paths: [/app]}}]}]}"),
    ];
    let words = "%DYNAMIC_METADATA(envoy.common:access_log_hint)% \
                 %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_engine_result)% \
                 %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_effective_policy_id)% \
                 %DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_allow_shadow_engine_result)%";
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("told.log");
    let mesh = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         accessLogFile: {}\n    accessLogFormat: \"%REQ(:path)% {words}\\n\"\n",
        log.display()
    );
    let gateway = Options::new()
        .without_access_log()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("policies.yaml", policies.join("---\n") + &mesh)
        .start();
    await_running(&gateway);
    assert_eq!((gateway.get("h", "/app").status, gateway.get("h", "/app/secret").status), (200, 200));
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    await_true("both lines", || {
        told().contains("/app true allowed - allowed\n")
            && told().contains("/app/secret false denied ns[istio-system]-policy[no]-rule[0] denied\n")
    });
    for name in ["deny_shadow_allowed", "deny_shadow_denied", "allow_shadow_allowed", "allow_shadow_denied"] {
        gateway.await_metric(&format!("rbac_istio_dry_run_{name}"), &[], 1.0);
    }
}

#[test]
fn what_the_gateway_answers_itself_is_judged_like_the_rest() {
    let app = Upstream::start("app");
    let gateway = start(&app, &policy("none", "{}"));
    for path in ["/app", "/moved", "/told", "/nowhere"] {
        assert_eq!(answer(&gateway.get("h", path)), denied(), "{path}");
    }
}

#[test]
fn tokens_are_checked_first_and_policies_know_them() {
    let app = Upstream::start("app");
    let asked = "{rules: [{from: [{source: {requestPrincipals: ['https://issuer.test/ada']}}], when: [{key: 'request.auth.claims[groups]', values: [ops]}]}]}";
    let gateway = start(&app, &[TOKENS, "---\n", &policy("known", asked)].concat());
    let with =
        |token: &str| gateway.send(&Request::get("h", "/app").header("authorization", format!("Bearer {token}")));
    let good = with(ADA);
    assert_eq!((good.status, good.seen("x-sub").as_deref(), good.seen("authorization")), (200, Some("ada"), None));
    assert_eq!(answer(&gateway.get("h", "/app")), denied(), "without a token nobody is known");
    assert_eq!(answer(&with(LATE)), (401, "Jwt is expired".to_owned()));
    gateway.await_access("jwt_authn_access_denied{Jwt_is_expired}");
    assert_eq!(answer(&with("a.b.c")).0, 401);
}

#[test]
fn routes_know_the_claims_of_a_token() {
    let app = Upstream::start("app");
    let gateway = start(&app, TOKENS);
    let rules = "- match: [{headers: {'@request.auth.claims.groups': {exact: ops}}, withoutHeaders: {'@request.auth.claims[realm][x]': \
                 {}}}]\n  directResponse: {status: 202}\n- match: [{headers: {'@request.auth.claims.groups': {exact: dev}}}]\n  \
                 directResponse: {status: 204}\n- route: [{destination: {host: app.test}}]\n";
    gateway.replace("routes.yaml", routes(rules));
    let bearer = format!("Bearer {ADA}");
    let with = || gateway.send(&Request::get("h", "/").header("authorization", &bearer)).status;
    await_true("the route for the claim", || with() == 202);
    assert_eq!(gateway.get("h", "/").status, 200);
}

#[test]
fn without_a_way_to_its_keys_an_issuer_s_tokens_are_refused_and_requests_without_pass() {
    let app = Upstream::start("app");
    let tokens = TOKENS.replace(
        "    jwks: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}]}'\n",
        "",
    );
    let gateway = start(&app, &tokens);
    let refused = gateway.send(&Request::get("h", "/app").header("authorization", format!("Bearer {ADA}")));
    assert_eq!(answer(&refused), (401, "Jwks doesn't have key to match kid or alg from Jwt".to_owned()));
    assert_eq!(gateway.get("h", "/app").status, 200);
    gateway.await_log("P0347");
}

/// Answers by `x-user`: `good` passes, others are refused.
fn decide(seen: &crate::support::upstream::Seen) -> Vec<u8> {
    match seen.headers.iter().any(|(name, value)| name == "x-user" && value == "good") {
        true => b"HTTP/1.1 200 OK\r\nx-checked: yes\r\ncontent-length: 0\r\n\r\n".to_vec(),
        false => b"HTTP/1.1 401 Unauthorized\r\nx-why: unknown\r\nx-hidden: 1\r\ncontent-length: 3\r\n\r\nwho".to_vec(),
    }
}

fn provider(fields: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    extensionProviders:\n    - name: asked\n      envoyExtAuthzHttp: {{service: authz.test, port: 80, {fields}}}\n"
    )
}

#[test]
fn a_provider_is_asked_about_what_a_custom_policy_fits_before_others_decide() {
    let (app, authz) = (Upstream::start("app"), Upstream::scripted("authz", Box::new(decide)));
    let custom = policy(
        "ask",
        "{action: CUSTOM, provider: {name: asked}, rules: [{to: [{operation: {paths: [/app/asked*]}}]}]}",
    );
    let deny = policy("no", "{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}");
    let fields = "pathPrefix: /check, timeout: 5s, statusOnError: '503', includeRequestHeadersInCheck: [x-user], includeAdditionalHeadersInCheck: {x-from: gateway}, headersToUpstreamOnAllow: [x-checked], headersToDownstreamOnDeny: [x-why]";
    let service = crate::support::config::service_entry("authz.test", &[("v1", authz.address())]);
    let gateway = start(&app, &[custom.as_str(), "---\n", &deny, &provider(fields), "---\n", &service].concat());
    assert_eq!(gateway.get("h", "/app/other").status, 200);
    assert_eq!(authz.requests(), 0, "other requests are not asked about");
    let ask =
        |method: &str, user: &str| gateway.send(&Request::new(method, "h", "/app/asked?x").header("x-user", user));
    let good = ask("GET", "good");
    assert_eq!((good.status, good.seen("x-checked").as_deref()), (200, Some("yes")));
    let bad = ask("GET", "bad");
    assert_eq!(answer(&bad), (401, "who".to_owned()));
    assert_eq!((bad.header("x-why"), bad.header("x-hidden")), (Some("unknown"), None));
    gateway.await_access("ext_authz_denied");
    let seen = authz.seen();
    assert_eq!(seen[0].line, "GET /check/app/asked?x");
    assert!(seen[0].headers.iter().any(|(name, value)| name == "x-from" && value == "gateway"));
    assert_eq!(answer(&ask("PUT", "bad")).0, 401, "the provider comes before those that refuse");
    assert_eq!(answer(&ask("PUT", "good")), denied());
}

#[test]
fn where_nobody_can_be_asked_nobody_passes() {
    let app = Upstream::start("app");
    let custom =
        policy("ask", "{action: CUSTOM, provider: {name: asked}, rules: [{to: [{operation: {paths: [/app/asked]}}]}]}");
    let gateway = start(&app, &custom);
    assert_eq!(answer(&gateway.get("h", "/app/asked")), denied());
    assert_eq!(gateway.get("h", "/app").status, 200);
    gateway.replace("policies.yaml", [custom.as_str(), &provider("")].concat());
    gateway.await_log("nothing defines `authz.test` with port 80");
    assert_eq!(answer(&gateway.get("h", "/app/asked")), denied());
}

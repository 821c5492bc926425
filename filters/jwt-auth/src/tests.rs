//! The filter as the host sees it, with keys of a real library and a host that checks signatures as Portolan's does.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod signer;

use portolan_sdk::testing::{TestAnswer, TestHost, TestStream};
use serde_json::json;
use signer::Signer;

use super::*;

const ISSUER: &str = "https://issuer.test";
const CLOCK: u64 = 1_000_000;

fn start(config: &serde_json::Value) -> TestHost<JwtAuth> {
    let host = TestHost::start(&config.to_string()).unwrap();
    host.set_time(Duration::from_secs(CLOCK));
    host.answer(VERIFY_FUNCTION, |argument| Ok(signer::verify(argument)));
    host
}

fn inline(signers: &[&Signer], more: serde_json::Value) -> serde_json::Value {
    let mut rule = json!({"issuer": ISSUER, "jwks": signer::set(signers)});
    let more = more.as_object().unwrap().clone();
    let (of_rule, of_all): (Vec<_>, Vec<_>) =
        more.into_iter().partition(|(key, _)| !matches!(key.as_str(), "required" | "exempt" | "claims" | "cacheSize"));
    rule.as_object_mut().unwrap().extend(of_rule);
    let mut config = json!({"rules": [rule]});
    config.as_object_mut().unwrap().extend(of_all);
    config
}

fn claims(more: serde_json::Value) -> serde_json::Value {
    let mut claims = json!({"iss": ISSUER, "sub": "ada", "exp": CLOCK + 100});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

fn send(stream: &mut TestStream<'_, JwtAuth>, path: &str, headers: &[(&str, &str)]) -> Action {
    let mut all = vec![(":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", path)];
    all.extend_from_slice(headers);
    stream.request_headers(&all)
}

/// Status and body of the refusal; none when the request goes on.
fn refusal(host: &TestHost<JwtAuth>, token: &str) -> Option<(u32, String)> {
    let mut stream = host.stream();
    let action = send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]);
    let reply = stream.reply();
    assert_eq!(action == Action::Pause, reply.is_some());
    reply.map(|reply| (reply.status, reply.body))
}

#[test]
fn tokens_of_each_algorithm_are_taken_and_those_of_other_keys_are_not() {
    for algorithm in
        ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512"]
    {
        let (ours, other) = (Signer::new(algorithm), Signer::new(algorithm));
        let host = start(&inline(&[&ours], json!({})));
        assert_eq!(refusal(&host, &ours.token(&claims(json!({})))), None, "{algorithm}");
        let forged = refusal(&host, &other.token(&claims(json!({}))));
        assert_eq!(forged, Some((401, "Jwt verification fails".to_owned())), "{algorithm}");
    }
}

#[test]
fn a_public_key_is_no_secret_and_an_unsigned_token_is_none() {
    let rsa = Signer::new("RS256");
    let host = start(&inline(&[&rsa], json!({})));
    let confused = signer::token_with_secret(&rsa.public_der(), "HS256", &claims(json!({})));
    assert_eq!(refusal(&host, &confused).unwrap().1, "Jwks doesn't have key to match kid or alg from Jwt");
    let unsigned = signer::unsigned(&claims(json!({})));
    assert_eq!(refusal(&host, &unsigned).unwrap().1, "Jwt header [alg] is not supported");
}

#[test]
fn a_refusal_has_envoys_form() {
    let signer = Signer::new("ES256");
    let host = start(&inline(&[&signer], json!({"audiences": ["shop"]})));
    let mut stream = host.stream();
    let expired = signer.token(&claims(json!({"exp": CLOCK - 61, "aud": "shop"})));
    send(&mut stream, "/a?b=c", &[("authorization", &format!("Bearer {expired}"))]);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_str()), (401, "Jwt is expired"));
    assert_eq!(reply.details, "jwt_authn_access_denied{Jwt_is_expired}");
    let challenge = r#"Bearer realm="http://shop/a?b=c", error="invalid_token""#;
    assert_eq!(reply.headers, [("www-authenticate".to_owned(), challenge.to_owned())]);
    let other = refusal(&host, &signer.token(&claims(json!({"aud": ["else"]}))));
    assert_eq!(other, Some((403, "Audiences in Jwt are not allowed".to_owned())));
    let foreign = refusal(&host, &signer.token(&claims(json!({"iss": "me"}))));
    assert_eq!(foreign, Some((401, "Jwt issuer is not configured".to_owned())));
}

#[test]
fn no_token_passes_unless_one_is_required() {
    let signer = Signer::new("HS256");
    for (required, action) in [(false, Action::Continue), (true, Action::Pause)] {
        let config = inline(&[&signer], json!({"required": required, "exempt": [{"paths": [{"prefix": "/open"}]}]}));
        let host = start(&config);
        let mut stream = host.stream();
        assert_eq!(send(&mut stream, "/", &[]), action);
        assert_eq!(stream.reply().map(|reply| reply.body), required.then(|| "Jwt is missing".to_owned()));
        assert_eq!(send(&mut host.stream(), "/open/a", &[]), Action::Continue);
        let preflight = [(":method", "OPTIONS"), ("origin", "o"), ("access-control-request-method", "PUT")];
        assert_eq!(host.stream().request_headers(&preflight), Action::Continue);
    }
}

#[test]
fn tokens_are_found_where_the_rule_looks_and_taken_away() {
    let signer = Signer::new("HS256");
    let more =
        json!({"fromHeaders": [{"name": "X-Token", "prefix": "t="}], "fromParams": ["tok"], "fromCookies": ["sid"]});
    let host = start(&inline(&[&signer], more));
    let token = signer.token(&claims(json!({})));
    let bad = "a.b.c";
    let mut stream = host.stream();
    assert_eq!(
        send(&mut stream, &format!("/p?x=1&tok={token}"), &[("x-token", &format!("t={token}"))]),
        Action::Continue
    );
    assert_eq!(
        (stream.request_header("x-token").len(), stream.request_header(":path")),
        (0, vec!["/p?x=1".to_owned()])
    );
    assert_eq!(send(&mut host.stream(), "/", &[("cookie", &format!("a=b; sid={bad}"))]), Action::Pause);
    assert_eq!(send(&mut host.stream(), "/", &[("authorization", "Bearer a.b.c")]), Action::Continue, "not looked at");
    let both = [("x-token", &*format!("t={token}")), ("cookie", &*format!("sid={bad}"))];
    assert_eq!(send(&mut host.stream(), "/", &both), Action::Pause, "every token must be good");
}

#[test]
fn places_are_read_as_envoy_reads_them() {
    let signer = Signer::new("HS256");
    let more = json!({"fromHeaders": [{"name": "authorization", "prefix": "Bearer "}], "fromParams": ["tok"],
        "fromCookies": ["sid"], "outputPayloadToHeader": "x-claims"});
    let host = start(&inline(&[&signer], more));
    let token = signer.token(&claims(json!({})));
    let seen = |path: &str, headers: &[(&str, &str)]| {
        let mut stream = host.stream();
        (send(&mut stream, path, headers), stream.request_header("x-claims").len())
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(seen(&format!("/?tok={}", token.replace('.', "%2E")), &[]), (Action::Continue, 1), "decoded");
    assert_eq!(seen("/", &[("cookie", &format!("sid=\"{token}\""))]), (Action::Continue, 1), "without its quotes");
    assert_eq!(seen("/", &[("authorization", &bearer.to_lowercase())]), (Action::Continue, 0), "another scheme");
    let twice = [("authorization", &*bearer), ("authorization", &*bearer)];
    assert_eq!(seen("/", &twice), (Action::Pause, 0), "two lines are one value");
    for (path, cookie) in [("/?tok=", ""), ("/?tok", ""), ("/", "sid=")] {
        assert_eq!(seen(path, &[("cookie", cookie)]), (Action::Pause, 0), "{path} {cookie}: nothing is no token");
    }
}

#[test]
fn claims_go_to_the_upstream_and_forged_ones_never() {
    let signer = Signer::new("ES384");
    let more = json!({
        "forwardOriginalToken": true,
        "outputPayloadToHeader": "x-payload",
        "outputClaimToHeaders": [{"header": "X-Sub", "claim": "sub"}, {"header": "x-team", "claim": "org.team"}],
    });
    let host = start(&inline(&[&signer], more));
    let token = signer.token(&claims(json!({"org": {"team": "red"}})));
    let mut stream = host.stream();
    let authorization = format!("Bearer {token}");
    let forged = [("authorization", authorization.as_str()), ("x-sub", "root"), ("x-payload", "e30")];
    assert_eq!(send(&mut stream, "/", &forged), Action::Continue);
    assert_eq!(
        (stream.request_header("x-sub"), stream.request_header("x-team")),
        (vec!["ada".to_owned()], vec!["red".to_owned()])
    );
    assert_eq!(stream.request_header("x-payload"), [token.split('.').nth(1).unwrap()]);
    assert_eq!(stream.request_header("authorization").len(), 1);
    assert_eq!(stream.property("jwt_auth.principal").unwrap(), b"https://issuer.test/ada");
    let mut stream = host.stream();
    assert_eq!(send(&mut stream, "/", &[("x-sub", "root"), ("x-team", "red")]), Action::Continue);
    assert_eq!((stream.request_header("x-sub").len(), stream.request_header("x-team").len()), (0, 0));
}

#[test]
fn requests_that_need_claims_get_in_with_them_only() {
    let signer = Signer::new("HS512");
    let more = json!({"claims": [{"match": {"paths": [{"prefix": "/admin"}]}, "require": [{"name": "groups", "values": ["ops"]}]}]});
    let host = start(&inline(&[&signer], more));
    let status = |path: &str, token: Option<&str>| {
        let mut stream = host.stream();
        let authorization = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        send(&mut stream, path, &headers);
        stream.reply().map(|reply| (reply.status, reply.body))
    };
    let denied = Some((403, "RBAC: access denied".to_owned()));
    let (dev, ops) =
        (signer.token(&claims(json!({"groups": ["dev"]}))), signer.token(&claims(json!({"groups": ["ops"]}))));
    assert_eq!((status("/admin", None), status("/admin", Some(&dev))), (denied.clone(), denied));
    assert_eq!((status("/admin", Some(&ops)), status("/", Some(&dev)), status("/", None)), (None, None, None));
}

#[test]
fn a_good_token_is_checked_once_and_forgotten_when_it_expires() {
    let signer = Signer::new("RS256");
    let host = start(&inline(&[&signer], json!({})));
    let token = signer.token(&claims(json!({})));
    for _ in 0..3 {
        assert_eq!(refusal(&host, &token), None);
    }
    assert_eq!(host.foreign_calls().len(), 1);
    host.set_time(Duration::from_secs(CLOCK + 161));
    assert_eq!(refusal(&host, &token).unwrap().1, "Jwt is expired");
}

fn remote() -> serde_json::Value {
    json!({"rules": [{"issuer": ISSUER, "jwksUri": "http://keys.test:8080/jwks"}]})
}

#[test]
fn keys_are_fetched_at_the_first_tick_and_rotated_when_an_unknown_one_is_named() {
    let (old, new) = (Signer::new("ES256").named("old"), Signer::new("ES256").named("new"));
    let host = start(&remote());
    host.tick();
    let call = &host.pending_calls()[0];
    assert_eq!((call.upstream.as_str(), call.path.as_str()), ("keys.test:8080", "/jwks"));
    host.answer_call(call, &TestAnswer::new(200).body(signer::set(&[&old]).to_string().as_bytes()));
    assert_eq!(refusal(&host, &old.token(&claims(json!({})))), None);
    assert_eq!(refusal(&host, &new.token(&claims(json!({})))).unwrap().0, 401, "asked ten seconds ago at most");
    host.set_time(Duration::from_secs(CLOCK + 10));
    let mut stream = host.stream();
    let token = new.token(&claims(json!({})));
    assert_eq!(send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]), Action::Pause);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).body(signer::set(&[&new]).to_string().as_bytes()));
    assert!(!stream.is_paused() && stream.reply().is_none());
    let of_old = refusal(&host, &old.token(&claims(json!({}))));
    assert_eq!(of_old.unwrap().0, 401, "its key is gone, and what was remembered with it");
}

#[test]
fn an_issuer_that_is_asked_says_where_its_keys_are() {
    let signer = Signer::new("ES256");
    let config = json!({"rules": [{"issuer": ISSUER, "discoveryUri": "https://issuer.test/.well-known/openid-configuration",
        "jwksCluster": "outbound|443||issuer.test"}]});
    let host = start(&config);
    let token = signer.token(&claims(json!({})));
    let asked = |upstream: &str, path: &str, answer: &TestAnswer| {
        let calls = host.pending_calls();
        assert_eq!((calls[0].upstream.as_str(), calls[0].path.as_str()), (upstream, path));
        host.answer_call(&calls[0], answer);
    };
    let configuration = TestAnswer::new(200).body(br#"{"jwks_uri": "https://keys.test:8443/jwks?v=1"}"#);
    let keys = TestAnswer::new(200).body(signer::set(&[&signer]).to_string().as_bytes());
    let mut stream = host.stream();
    assert_eq!(send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]), Action::Pause);
    asked("outbound|443||issuer.test", "/.well-known/openid-configuration", &configuration);
    assert!(stream.is_paused());
    asked("outbound|8443||keys.test", "/jwks?v=1", &keys);
    assert!(!stream.is_paused() && stream.reply().is_none());
    let host = start(&config);
    host.tick();
    let calls = host.pending_calls();
    host.answer_call(&calls[0], &configuration);
    host.answer_call(&host.pending_calls()[0], &keys);
    assert_eq!(refusal(&host, &token), None);
    let host = start(&config);
    let mut stream = host.stream();
    send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).body(b"{}"));
    assert_eq!(stream.reply().unwrap().body, "Jwks remote fetch is failed");
}

#[test]
fn a_request_before_the_keys_waits_and_keys_outlive_their_server() {
    let signer = Signer::new("ES256");
    let host = start(&remote());
    let token = signer.token(&claims(json!({"exp": CLOCK + 100_000})));
    let mut stream = host.stream();
    assert_eq!(send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]), Action::Pause);
    host.answer_call(&host.pending_calls()[0], &TestAnswer::unavailable());
    assert_eq!(stream.reply().unwrap().body, "Jwks remote fetch is failed");
    let mut stream = host.stream();
    send(&mut stream, "/", &[("authorization", &format!("Bearer {token}"))]);
    host.answer_call(
        &host.pending_calls()[0],
        &TestAnswer::new(200).body(signer::set(&[&signer]).to_string().as_bytes()),
    );
    assert!(!stream.is_paused());
    host.set_time(Duration::from_secs(CLOCK + 1_300));
    host.tick();
    host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).body(b"<html>"));
    assert_eq!(refusal(&host, &token), None, "the old keys stay");
}

#[test]
fn a_request_that_ends_while_it_waits_makes_room_for_others() {
    let host = start(&remote());
    let signer = Signer::new("ES256");
    let authorization = format!("Bearer {}", signer.token(&claims(json!({}))));
    for _ in 0..300 {
        let mut stream = host.stream();
        assert_eq!(send(&mut stream, "/", &[("authorization", &authorization)]), Action::Pause);
        assert!(stream.reply().is_none());
    }
}

#[test]
fn an_issuer_without_any_key_has_its_tokens_refused_and_an_empty_one_takes_any_token() {
    let signer = Signer::new("ES256");
    let host = start(&json!({"rules": [{"issuer": ISSUER, "jwks": {"keys": []}}]}));
    let reason = "Jwks doesn't have key to match kid or alg from Jwt";
    assert_eq!(refusal(&host, &signer.token(&claims(json!({})))), Some((401, reason.to_owned())));
    let host = start(&json!({"rules": [{"issuer": "", "jwksUri": "http://keys.test/jwks"}]}));
    host.tick();
    host.answer_call(
        &host.pending_calls()[0],
        &TestAnswer::new(200).body(signer::set(&[&signer]).to_string().as_bytes()),
    );
    assert_eq!(refusal(&host, &signer.token(&claims(json!({"iss": "https://any.test"})))), None);
}

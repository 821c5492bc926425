//! `jwt-auth` between real sockets, with keys that a server gives out.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{options, plugin, start};
use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::Gateway;
use crate::support::upstream::Upstream;

struct Signer {
    pair: EcdsaKeyPair,
    kid: &'static str,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid }
    }

    fn set(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = &self.pair.public_key().as_ref()[1..];
        let (x, y) = (encode(&point[..32]), encode(&point[32..]));
        format!(r#"{{"keys": [{{"kty": "EC", "crv": "P-256", "kid": "{}", "x": "{x}", "y": "{y}"}}]}}"#, self.kid)
    }

    /// `authorization` of a token that expires in so many seconds.
    fn bearer(&self, lives: i64) -> String {
        self.bearer_of("https://issuer.test", lives)
    }

    fn bearer_of(&self, issuer: &str, lives: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires = i64::try_from(now).unwrap() + lives;
        let header = format!(r#"{{"alg": "ES256", "kid": "{}"}}"#, self.kid);
        let payload = format!(r#"{{"iss": "{issuer}", "sub": "ada", "groups": ["ops"], "exp": {expires}}}"#);
        let signed = [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload)].join(".");
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A server that gives out what is in the cell; empty, it does not answer.
fn keys(set: &Arc<Mutex<String>>) -> Upstream {
    let set = set.clone();
    Upstream::scripted(
        "keys",
        Box::new(move |_| match set.lock().unwrap().clone() {
            set if set.is_empty() => Vec::new(),
            set => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{set}", set.len()).into_bytes(),
        }),
    )
}

fn config(keys: &Upstream) -> String {
    format!(
        "rules:\n- issuer: https://issuer.test\n  jwksUri: http://{}/jwks\n  outputClaimToHeaders: [{{header: x-sub, claim: sub}}]\n\
         claims:\n- match: {{paths: [{{prefix: /admin}}]}}\n  require: [{{name: groups, values: [root]}}]\n",
        keys.address()
    )
}

fn status(gateway: &Gateway, path: &str, authorization: &str) -> (u16, String) {
    let response = gateway.send(&Request::get("h", path).header("authorization", authorization));
    (response.status, response.text())
}

#[test]
fn tokens_of_fetched_keys_get_in_and_others_are_told_why_not() {
    let (app, signer) = (Upstream::start("app"), Signer::new("a"));
    let keys = keys(&Arc::new(Mutex::new(signer.set())));
    let gateway = start(&app, &plugin("jwt-auth", &config(&keys)));
    let request = Request::get("h", "/").header("authorization", signer.bearer(60)).header("x-sub", "root");
    let response = gateway.send(&request);
    assert_eq!(
        (response.status, response.seen("x-sub").as_deref(), response.seen("authorization")),
        (200, Some("ada"), None)
    );
    assert_eq!(status(&gateway, "/", &signer.bearer(-100)), (401, "Jwt is expired".to_owned()));
    assert_eq!(status(&gateway, "/", &Signer::new("a").bearer(60)), (401, "Jwt verification fails".to_owned()));
    assert_eq!(status(&gateway, "/admin", &signer.bearer(60)), (403, "RBAC: access denied".to_owned()));
    let refused = gateway.send(&Request::get("h", "/a?b").header("authorization", "Bearer a.b"));
    let challenge = r#"Bearer realm="http://h/a?b", error="invalid_token""#;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some(challenge)));
    assert_eq!(gateway.get("h", "/").status, 200, "no token passes, as in Istio");
    gateway.await_access("jwt_authn_access_denied{Jwt_is_expired}");
}

#[test]
fn keys_come_when_their_server_does_and_each_worker_keeps_them() {
    let (app, signer, set) = (Upstream::start("app"), Signer::new("a"), Arc::new(Mutex::new(String::new())));
    let keys = keys(&set);
    let config = config(&keys).replace("  jwksUri", "  timeoutMilliseconds: 200\n  jwksUri");
    let gateway = start(&app, &plugin("jwt-auth", &config));
    assert_eq!(status(&gateway, "/", &signer.bearer(60)), (401, "Jwks remote fetch is failed".to_owned()));
    gateway.await_log("the keys of `https://issuer.test` cannot be fetched");
    *set.lock().unwrap() = signer.set();
    await_some("the keys", || (status(&gateway, "/", &signer.bearer(60)).0 == 200).then_some(()));
    for _ in 0..20 {
        await_some("each worker's keys", || (status(&gateway, "/", &signer.bearer(60)).0 == 200).then_some(()));
    }
    *set.lock().unwrap() = String::new();
    assert_eq!(status(&gateway, "/", &signer.bearer(60)).0, 200, "they outlive their server");
}

#[test]
fn a_key_that_is_no_key_is_refused_with_its_line() {
    let app = Upstream::start("app");
    let config = "rules:\n- issuer: i\n  jwks: '{\"keys\": []}'\n";
    let gateway = options(&app, &plugin("jwt-auth", config)).start();
    gateway.await_log("rules[0]: jwks: Jwks doesn't have any valid public key");
    gateway.await_log("plugin.yaml:");
    assert_eq!(gateway.get("h", "/").status, 503, "it guards: closed until it runs");
}

#[test]
fn an_issuer_is_asked_where_its_keys_are_and_they_are_fetched_there() {
    let (app, signer) = (Upstream::start("app"), Signer::new("a"));
    let set = signer.set();
    let issuer = Upstream::scripted(
        "issuer",
        Box::new(move |seen| {
            let body = match seen.line.as_str() {
                "GET /.well-known/openid-configuration" => {
                    r#"{"issuer": "http://issuer.test", "jwks_uri": "http://issuer.test/keys"}"#
                }
                "GET /keys" => &set,
                _ => return b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            };
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }),
    );
    let tokens = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: tokens, namespace: \
                  istio-system}\nspec: {jwtRules: [{issuer: 'http://issuer.test'}]}\n";
    let gateway =
        options(&app, tokens).file("issuer.yaml", service_entry("issuer.test", &[("v1", issuer.address())])).start();
    super::await_running(&gateway);
    let good = signer.bearer_of("http://issuer.test", 60);
    gateway.await_answer_to(&Request::get("h", "/").header("authorization", &good), |response| response.status == 200);
    let forged = Signer::new("a").bearer_of("http://issuer.test", 60);
    assert_eq!(status(&gateway, "/", &forged), (401, "Jwt verification fails".to_owned()));
    let asked: Vec<_> = issuer.seen().into_iter().map(|seen| seen.line).collect();
    // Each worker asks on its own.
    assert_eq!(asked.first().map(String::as_str), Some("GET /.well-known/openid-configuration"));
    assert!(asked.iter().any(|line| line == "GET /keys"), "{asked:?}");
}

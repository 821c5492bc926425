//! Filters of the library that let requests in or not.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::bundled::{case, header, statuses};
use crate::pair::answer;
use crate::support::client::Request;
use crate::support::upstream::Seen;

#[test]
fn ip_allow_knows_clients_by_their_address() {
    for (config, expected) in [
        (r#"{"allow": ["10.0.0.0/8"]}"#, 403),
        (r#"{"allow": ["127.0.0.0/8", "::1"], "deny": ["127.0.0.2"]}"#, 200),
        (r#"{"deny": ["127.0.0.1"], "status": 418, "body": "go away"}"#, 418),
    ] {
        let Some(answers) = case("ip-allow", config).same(&[Request::get("h", "/")]) else { return };
        assert_eq!(answers.only().status, expected, "{config}");
    }
}

#[test]
fn jwt_auth_checks_tokens_with_keys_that_it_fetches() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = (encode(&point[..32]), encode(&point[32..]));
    let keys = format!(r#"{{"keys": [{{"kty": "EC", "crv": "P-256", "kid": "a", "x": "{x}", "y": "{y}"}}]}}"#);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let bearer = |issuer: &str, expires: u64| {
        let payload = format!(r#"{{"iss": "{issuer}", "sub": "ada", "groups": ["ops"], "exp": {expires}}}"#);
        let signed = [encode(br#"{"alg": "ES256", "kid": "a"}"#), encode(payload.as_bytes())].join(".");
        let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("Bearer {signed}.{}", encode(signature.as_ref()))
    };
    let good = bearer("https://issuer.test", now + 600);
    let case = case(
        "jwt-auth",
        r#"{"rules": [{"issuer": "https://issuer.test", "jwksUri": "http://keys.test/jwks", "jwksCluster": "outbound|80||keys.test",
                       "outputClaimToHeaders": [{"header": "x-sub", "claim": "sub"}]}],
            "claims": [{"match": {"paths": [{"prefix": "/admin"}]}, "require": [{"name": "groups", "values": ["root"]}]}]}"#,
    )
    .service("keys.test", move |_| answer(200, &[], keys.as_bytes()));
    let get = |path: &str, token: &str| Request::get("h", path).header("authorization", token);
    let Some(pair) = case.start() else { return };
    let requests = [
        get("/", &good),
        get("/", &bearer("https://issuer.test", now - 600)),
        get("/", &bearer("https://other.test", now + 600)),
        get("/", &format!("{}x", good.replace("Bearer ", "Bearer x"))),
        get("/", "Bearer nonsense"),
        get("/admin", &good),
        Request::get("h", "/").header("x-sub", "forged"),
        Request::get("h", &format!("/?a=b&access_token={}&c=d", good.trim_start_matches("Bearer "))),
    ];
    let responses: Vec<_> = requests.iter().map(|request| pair.send(request)).collect();
    let statuses: Vec<_> = responses.iter().map(|response| response.status).collect();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 403, 200, 200]);
    assert_eq!(responses[1].text(), "Jwt is expired");
    let upstream = pair.end_upstream();
    assert_eq!(upstream.iter().map(|seen| header(seen, "x-sub")).collect::<Vec<_>>(), [Some("ada"), None, Some("ada")]);
    assert_eq!(upstream[2].line, "GET /?a=b&c=d");
    assert!(upstream.iter().all(|seen| header(seen, "authorization").is_none()));
}

#[test]
fn ext_authz_asks_a_service() {
    let service = |seen: &Seen| match header(seen, "authorization") {
        Some("good") => answer(200, &[("x-user", "ada"), ("x-other", "1"), ("x-seen", "yes")], b""),
        Some("broken") => answer(503, &[], b"down"),
        Some("elsewhere") => answer(302, &[("location", "https://login.test/")], b""),
        _ => answer(401, &[("www-authenticate", "Basic")], b"who are you?"),
    };
    let case = case(
        "ext-authz",
        r#"{"http": {"cluster": "outbound|80||auth.test", "pathPrefix": "/check", "includeRequestHeadersInCheck": ["x-tenant"],
                     "headersToUpstreamOnAllow": ["x-user"], "headersToDownstreamOnAllow": ["x-seen"]},
            "exempt": [{"paths": [{"exact": "/healthz"}]}], "statusOnError": 503}"#,
    )
    .service("auth.test", service);
    let with = |token: &str| Request::get("h", "/a?b").header("authorization", token);
    let requests = [
        with("good").header("x-user", "eve").header("x-tenant", "t"),
        with("good").body("abc"),
        with("bad"),
        with("broken"),
        with("elsewhere"),
        Request::get("h", "/healthz"),
    ];
    let Some(answers) = case.same(&requests) else { return };
    assert_eq!(statuses(&answers), [200, 200, 401, 503, 302, 200]);
    assert_eq!(answers.responses[0].header("x-seen"), Some("yes"));
    assert_eq!(answers.responses[4].header("location"), Some("https://login.test/"));
    let asked = &answers.services[0];
    assert_eq!((asked.len(), asked[0].line.as_str(), header(&asked[0], "x-tenant")), (5, "GET /check/a?b", Some("t")));
    assert_eq!(header(&answers.upstream[0], "x-user"), Some("ada"));
}

#[test]
fn ext_authz_sends_the_service_the_body() {
    let case = case(
        "ext-authz",
        r#"{"http": {"cluster": "outbound|80||auth.test"}, "includeRequestBodyInCheck": {"maxRequestBytes": 8}}"#,
    )
    .stop_iteration()
    .service("auth.test", |seen| answer(if seen.body == b"good" { 200 } else { 403 }, &[], b"no"));
    let post = |body: &str| Request::new("POST", "h", "/").body(body);
    let Some(answers) = case.same(&[post("good"), post("bad"), post("too long")]) else { return };
    assert_eq!(statuses(&answers), [200, 403, 403]);
    assert_eq!(answers.upstream.len(), 1);
    assert_eq!(answers.upstream[0].body, b"good");
}

#[test]
fn basic_auth_knows_users_by_their_hashes() {
    // Passwords: `secret`, by SHA-1 and by bcrypt of cost 4.
    let config = r#"{"realm": "staging", "forwardUsernameHeader": "x-user", "exempt": [{"exact": "/health"}],
                     "users": "ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nbob:$2b$04$.H5LAmrfZeFlakAgdYMPo.Ogklby/g3WXFrw64oxgAvuI2XXVVtQO"}"#;
    let with = |name: &str, password: &str| {
        let value = STANDARD.encode(format!("{name}:{password}"));
        Request::get("h", "/").header("authorization", format!("Basic {value}"))
    };
    let requests = [
        with("ada", "secret"),
        with("bob", "secret"),
        with("bob", "secret"),
        with("ada", "wrong"),
        with("bob", "wrong"),
        with("eve", "secret"),
        Request::get("h", "/").header("x-user", "ada"),
        Request::get("h", "/health").header("x-user", "ada"),
    ];
    let Some(answers) = case("basic-auth", config).same(&requests) else { return };
    assert_eq!(statuses(&answers), [200, 200, 200, 401, 401, 401, 401, 200]);
    assert_eq!(answers.responses[3].header("www-authenticate"), Some("Basic realm=\"staging\", charset=\"UTF-8\""));
    let users: Vec<_> = answers.upstream.iter().map(|seen| header(seen, "x-user")).collect();
    assert_eq!(users, [Some("ada"), Some("bob"), Some("bob"), None]);
}

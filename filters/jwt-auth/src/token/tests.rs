//! Tokens that are well made, and those that are not.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

fn token(header: &str, payload: &str) -> String {
    [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode("signature")].join(".")
}

fn refused(header: &str, payload: &str) -> Refusal {
    Token::parse(&token(header, payload)).unwrap_err()
}

const HEADER: &str = r#"{"alg":"RS256","kid":"k"}"#;

#[test]
fn a_token_is_taken_apart() {
    let payload = r#"{"iss":"i","aud":["a","b"],"exp":20,"nbf":10.5,"deep":{"er":true},"x.y":1}"#;
    let text = token(HEADER, payload);
    let token = Token::parse(&text).unwrap();
    assert_eq!((token.algorithm, token.kid.as_deref()), (Algorithm::Rs(Hash::Sha256), Some("k")));
    assert_eq!((token.claims.issuer.as_str(), token.claims.audiences.len()), ("i", 2));
    assert_eq!((token.claims.expires, token.claims.not_before), (Some(20), Some(10)));
    assert_eq!(token.signature, b"signature");
    assert!(text.as_bytes().starts_with(token.signed) && text[token.signed.len()..].starts_with('.'));
    assert_eq!(token.claims.at("deep.er"), Some(&Value::Bool(true)));
    assert_eq!(token.claims.at("x.y"), Some(&Value::from(1)));
    assert_eq!((token.claims.at("deep.no"), token.claims.at("iss.x"), token.claims.at("")), (None, None, None));
}

#[test]
fn the_example_of_rfc_7519_is_read() {
    let text = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let token = Token::parse(text).unwrap();
    assert_eq!(token.algorithm, Algorithm::Hs(Hash::Sha256));
    assert_eq!((token.claims.issuer.as_str(), token.claims.expires), ("joe", Some(1_300_819_380)));
    assert_eq!(token.claims.at("http://example.com/is_root"), Some(&Value::Bool(true)));
}

#[test]
fn what_is_wrong_is_told() {
    for (text, refusal) in [
        ("", Refusal::BadFormat),
        ("a.b", Refusal::BadFormat),
        ("a.b.c.d", Refusal::BadFormat),
        ("!.b.c", Refusal::HeaderBase64),
        ("YQ==.b.c", Refusal::HeaderBase64),
        ("YQ.b.c", Refusal::HeaderJson),
    ] {
        assert_eq!(Token::parse(text).unwrap_err(), refusal, "{text}");
    }
    assert_eq!(Token::parse(&"a".repeat(MAX_TOKEN + 1)).unwrap_err(), Refusal::TooLong);
    let good = token(HEADER, "{}");
    assert_eq!(Token::parse(&format!("{good}=")).unwrap_err(), Refusal::SignatureBase64);
    let (header, rest) = good.split_once('.').unwrap();
    let signature = rest.rsplit_once('.').unwrap().1;
    assert_eq!(Token::parse(&format!("{header}.!.{signature}")).unwrap_err(), Refusal::PayloadBase64);
}

#[test]
fn headers_are_strict() {
    for (header, refusal) in [
        ("{}", Refusal::HeaderAlg),
        (r#"{"alg":7}"#, Refusal::HeaderAlg),
        (r#"{"alg":"none"}"#, Refusal::UnknownAlg),
        (r#"{"alg":"None"}"#, Refusal::UnknownAlg),
        (r#"{"alg":""}"#, Refusal::UnknownAlg),
        (r#"{"alg":"rs256"}"#, Refusal::UnknownAlg),
        (r#"{"alg":"PS255"}"#, Refusal::UnknownAlg),
        (r#"{"alg":"ES256K"}"#, Refusal::UnknownAlg),
        (r#"{"alg":"Ré256"}"#, Refusal::UnknownAlg),
        (r#"{"alg":"RS256","alg":"HS256"}"#, Refusal::HeaderJson),
        (r#"{"alg":"RS256","kid":7}"#, Refusal::HeaderKid),
        (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, Refusal::Critical),
    ] {
        assert_eq!(refused(header, "{}"), refusal, "{header}");
    }
}

#[test]
fn claims_have_their_types() {
    for payload in [
        r#"{"iss":7}"#,
        r#"{"sub":[]}"#,
        r#"{"jti":{}}"#,
        r#"{"exp":"1"}"#,
        r#"{"exp":-1}"#,
        r#"{"nbf":1e300}"#,
        r#"{"iat":true}"#,
        r#"{"aud":7}"#,
        r#"{"aud":["a",7]}"#,
    ] {
        assert!(matches!(refused(HEADER, payload), Refusal::Claim(_)), "{payload}");
    }
    assert_eq!(refused(HEADER, r#"{"exp":1,"exp":9999999999}"#), Refusal::PayloadJson);
    assert_eq!(refused(HEADER, "[]"), Refusal::PayloadJson);
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 3)) {
        let _ = Token::parse(&text);
        let _ = Token::parse(&parts.join("."));
    }

    #[test]
    fn no_json_breaks_the_parser(header in any::<Vec<u8>>(), payload in any::<Vec<u8>>()) {
        let text = [URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&payload), String::new()].join(".");
        let _ = Token::parse(&text);
        let text = [URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(payload), String::new()].join(".");
        let _ = Token::parse(&text);
    }
}

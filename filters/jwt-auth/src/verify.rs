//! [`question`]: whether a key has made a signature. RSA and ECDSA are the host's business (`verify_signature`, Envoy's foreign
//! function): native code takes 50 us where Wasm would take some ms.

use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};

use crate::der;
use crate::jwks::Material;
use crate::token::{Hash, Token};

/// Name of the host's function.
pub const VERIFY_FUNCTION: &str = "verify_signature";

/// What is to be done to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// It is known already.
    Answered(bool),
    /// The host is asked with this argument.
    Host(Vec<u8>),
}

/// Whether `key` has signed `token`. The key is one that [`Keys::fitting`](crate::jwks::Keys::fitting) gave for it.
pub fn question(key: &Material, token: &Token<'_>) -> Question {
    let (hash, scheme) = (token.algorithm.hash(), token.algorithm.scheme());
    match key {
        Material::Secret(secret) => Question::Answered(is_mac(hash, secret, token.signed, &token.signature)),
        Material::Rsa(der) | Material::Ed(der) => Question::Host(argument(scheme, der, &token.signature, token.signed)),
        Material::Ec(curve, der) => match der::ecdsa_signature(*curve, &token.signature) {
            Some(signature) => Question::Host(argument(scheme, der, &signature, token.signed)),
            None => Question::Answered(false),
        },
    }
}

/// In constant time.
fn is_mac(hash: Hash, secret: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    macro_rules! check {
        ($hash:ty) => {
            Hmac::<$hash>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok())
        };
    }
    match hash {
        Hash::Sha256 => check!(Sha256),
        Hash::Sha384 => check!(Sha384),
        Hash::Sha512 => check!(Sha512),
    }
}

/// `VerifySignatureArguments`: hash function, public key, signature, text; all of them length-delimited.
fn argument(scheme: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + signature.len() + text.len() + 32);
    for (number, value) in [(1_u8, scheme.as_bytes()), (2, key), (3, signature), (4, text)] {
        message.push(number << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(value);
    }
    message
}

/// `VerifySignatureResult`: field 1 is a boolean, and absent when it is false.
pub fn is_verified(answer: &[u8]) -> bool {
    answer.starts_with(&[8, 1])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::jwks::Keys;
    use crate::token::Algorithm;

    /// RFC 7515, A.1.
    const KEY: &str = r#"{"keys":[{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;
    const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                         eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                         dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn is_good(key: &str, token: &str) -> Question {
        let token = Token::parse(token).unwrap();
        let keys = Keys::read(key.as_bytes()).unwrap();
        let key = keys.fitting(None, token.algorithm).next().unwrap();
        question(&key.material, &token)
    }

    #[test]
    fn the_secret_of_rfc_7515_has_signed_its_example() {
        assert_eq!(is_good(KEY, TOKEN), Question::Answered(true));
        let forged = TOKEN.replace("eyJpc3MiOiJqb2UiLA0K", "eyJpc3MiOiJqb2YiLA0K");
        assert_eq!(is_good(KEY, &forged), Question::Answered(false));
        let unsigned = &TOKEN[..=TOKEN.rfind('.').unwrap()];
        assert_eq!(is_good(KEY, unsigned), Question::Answered(false));
    }

    #[test]
    fn the_host_gets_the_four_fields_in_order() {
        let bytes = argument(Hash::Sha384.name(), &[7; 200], b"sig", b"text");
        assert_eq!(bytes[..8], *b"\x0a\x06sha384");
        assert_eq!(bytes[8..11], [0x12, 0xc8, 1]);
        assert_eq!(bytes[211..], *b"\x1a\x03sig\x22\x04text");
        assert!(
            is_verified(&[8, 1]) && is_verified(&[8, 1, 18, 0]) && !is_verified(&[18, 1, b'x']) && !is_verified(b"")
        );
    }

    #[test]
    fn an_ecdsa_signature_of_the_wrong_size_is_no_question() {
        let key = Material::Ec(crate::der::Curve::P256, Vec::new());
        let text = [
            URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#),
            URL_SAFE_NO_PAD.encode("{}"),
            URL_SAFE_NO_PAD.encode([1; 63]),
        ];
        let text = text.join(".");
        let token = Token::parse(&text).unwrap();
        assert_eq!(token.algorithm, Algorithm::Es(Hash::Sha256));
        assert_eq!(question(&key, &token), Question::Answered(false));
    }
}

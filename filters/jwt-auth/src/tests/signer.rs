//! [`Signer`]: makes keys and tokens with aws-lc, and plays the host's `verify_signature` with it.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Secret(Vec<u8>),
}

pub(super) struct Signer {
    algorithm: &'static str,
    kid: Option<&'static str>,
    key: Key,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn new(algorithm: &'static str) -> Self {
        let key = match algorithm {
            "ES256" => Key::Ec(Box::new(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())),
            "ES384" => Key::Ec(Box::new(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())),
            "EdDSA" => Key::Ed(Box::new(Ed25519KeyPair::generate().unwrap())),
            rsa if rsa.starts_with("RS") || rsa.starts_with("PS") => {
                Key::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
            }
            _ => {
                let mut secret = vec![0; 64];
                rand::fill(&mut secret).unwrap();
                Key::Secret(secret)
            }
        };
        Self { algorithm, kid: None, key }
    }

    pub(super) fn named(self, kid: &'static str) -> Self {
        Self { kid: Some(kid), ..self }
    }

    /// The key as it is published.
    fn jwk(&self) -> Value {
        let mut jwk = match &self.key {
            Key::Rsa(pair) => {
                // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: two headers, a zero, the modulus; then 65537.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[der.len() - 3..])})
            }
            Key::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Key::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())}),
            Key::Secret(secret) => json!({"kty": "oct", "k": encode(secret)}),
        };
        if let Some(kid) = self.kid {
            jwk["kid"] = kid.into();
        }
        jwk
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm});
        if let Some(kid) = self.kid {
            header["kid"] = kid.into();
        }
        let signed = [encode(header.to_string()), encode(claims.to_string())].join(".");
        let random = SystemRandom::new();
        let signature = match &self.key {
            Key::Ec(pair) => pair.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Key::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA512,
                };
                pair.sign(padding, &random, signed.as_bytes(), &mut signature).unwrap();
                signature
            }
            Key::Ed(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Key::Secret(secret) => mac(secret, self.algorithm, &signed),
        };
        [signed, encode(signature)].join(".")
    }

    /// SubjectPublicKeyInfo, which an attacker knows as well.
    pub(super) fn public_der(&self) -> Vec<u8> {
        match &self.key {
            Key::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Key::Ed(pair) => pair.public_key().as_ref().to_vec(),
            Key::Secret(_) => Vec::new(),
        }
    }
}

fn mac(secret: &[u8], algorithm: &str, text: &str) -> Vec<u8> {
    let algorithm = match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), text.as_bytes()).as_ref().to_vec()
}

pub(super) fn set(signers: &[&Signer]) -> Value {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()})
}

pub(super) fn token_with_secret(secret: &[u8], algorithm: &str, claims: &Value) -> String {
    let signed = [encode(json!({"alg": algorithm}).to_string()), encode(claims.to_string())].join(".");
    let signature = mac(secret, algorithm, &signed);
    [signed, encode(signature)].join(".")
}

pub(super) fn unsigned(claims: &Value) -> String {
    [encode(r#"{"alg":"none"}"#), encode(claims.to_string()), String::new()].join(".")
}

/// What Portolan's and Envoy's `verify_signature` answers: `bool result = 1`.
pub(super) fn verify(argument: &[u8]) -> Vec<u8> {
    let [hash, key, given, text] = fields(argument);
    let is_ec = key.windows(7).any(|window| window == [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
    let algorithm: &dyn signature::VerificationAlgorithm = match (is_ec, &*hash) {
        (true, b"sha256") => &signature::ECDSA_P256_SHA256_ASN1,
        (true, _) => &signature::ECDSA_P384_SHA384_ASN1,
        (false, b"ed25519") => &signature::ED25519,
        (false, b"pss-sha256") => &signature::RSA_PSS_2048_8192_SHA256,
        (false, b"pss-sha384") => &signature::RSA_PSS_2048_8192_SHA384,
        (false, b"pss-sha512") => &signature::RSA_PSS_2048_8192_SHA512,
        (false, b"sha256") => &signature::RSA_PKCS1_2048_8192_SHA256,
        (false, b"sha384") => &signature::RSA_PKCS1_2048_8192_SHA384,
        (false, _) => &signature::RSA_PKCS1_2048_8192_SHA512,
    };
    let key = signature::ParsedPublicKey::new(algorithm, &key).expect("a public key in DER");
    if key.verify_sig(&text, &given).is_ok() { vec![8, 1] } else { Vec::new() }
}

fn fields(mut message: &[u8]) -> [Vec<u8>; 4] {
    std::array::from_fn(|at| {
        assert_eq!(usize::from(message[0]), (at + 1) << 3 | 2);
        let (mut length, mut shift, mut next) = (0, 0, 1);
        loop {
            let byte = message[next];
            length |= usize::from(byte & 0x7f) << shift;
            next += 1;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (value, rest) = message[next..].split_at(length);
        message = rest;
        value.to_vec()
    })
}

//! [`PublicKey`]: checks what cosign signs with a key: blobs, and images by their payload.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::cache::hex_digest;
use super::error::FetchError;

/// What stands before the point in the DER of an ECDSA key over P-256.
pub(super) const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The type that cosign gives its payload.
pub(super) const PAYLOAD_TYPE: &str = "cosign container image signature";

/// A public key of `cosign generate-key-pair`: ECDSA over P-256.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    point: Vec<u8>,
    fingerprint: String,
}

impl PublicKey {
    /// Of PEM text.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, FetchError> {
        let wrong = |reason: &str| FetchError::Signature(format!("`verificationKey` is of no use: {reason}"));
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.trim().as_bytes());
        let der = der.map_err(|error| wrong(&error.to_string()))?;
        let point = der.strip_prefix(&P256_PREFIX).filter(|point| point.len() == 65);
        let point = point.ok_or_else(|| wrong("only ECDSA over P-256 is known, which cosign makes"))?;
        Ok(Self { point: point.to_vec(), fingerprint: hex_digest(&der) })
    }

    /// SHA-256 of the key's DER in hex: who signed.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether `signature`, DER in base64, is this key's over `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature.trim()) else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(message, &signature).is_ok()
    }

    /// Whether cosign's payload with its signature is this key's word for an image.
    pub(crate) fn has_signed_image(&self, payload: &[u8], signature: &str, digest: &str) -> bool {
        self.has_signed(payload, signature) && speaks_of(payload, digest)
    }
}

/// Whether cosign's payload is about the image with this digest.
fn speaks_of(payload: &[u8], digest: &str) -> bool {
    let Ok(payload) = serde_json::from_slice::<Payload>(payload) else { return false };
    let named = payload.critical.image.digest.strip_prefix("sha256:");
    payload.critical.kind == PAYLOAD_TYPE && named.is_some_and(|named| named.eq_ignore_ascii_case(digest))
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    struct Signer(EcdsaKeyPair);

    impl Signer {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
        }

        fn pem(&self) -> String {
            let der = [&P256_PREFIX[..], self.0.public_key().as_ref()].concat();
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
        }

        fn sign(&self, message: &[u8]) -> String {
            STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
        }
    }

    fn payload(digest: &str, kind: &str) -> Vec<u8> {
        let text = format!(r#"{{"critical":{{"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}}}}"#);
        text.into_bytes()
    }

    #[test]
    fn only_the_owner_of_the_key_has_signed() {
        let (ours, other) = (Signer::new(), Signer::new());
        let key = PublicKey::from_pem(&ours.pem()).unwrap();
        assert!(key.has_signed(b"module", &ours.sign(b"module")));
        assert!(!key.has_signed(b"module", &other.sign(b"module")));
        assert!(!key.has_signed(b"modul", &ours.sign(b"module")));
        assert!(!key.has_signed(b"module", "not base64!") && !key.has_signed(b"module", ""));
        assert_eq!(key.fingerprint().len(), 64);
    }

    #[test]
    fn a_payload_is_for_one_image_and_of_cosigns_type() {
        let signer = Signer::new();
        let key = PublicKey::from_pem(&signer.pem()).unwrap();
        let digest = "ab".repeat(32);
        let of = |payload: Vec<u8>| key.has_signed_image(&payload, &signer.sign(&payload), &digest);
        assert!(of(payload(&format!("sha256:{digest}"), PAYLOAD_TYPE)));
        assert!(!of(payload(&format!("sha256:{}", "cd".repeat(32)), PAYLOAD_TYPE)), "another image");
        assert!(!of(payload(&format!("sha256:{digest}"), "something else")));
        assert!(!of(b"{}".to_vec()));
    }

    #[test]
    fn other_keys_are_refused_with_what_is_wanted() {
        let error = PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").unwrap_err();
        assert!(error.to_string().contains("P-256"), "{error}");
        assert!(PublicKey::from_pem("abc").is_err());
    }
}

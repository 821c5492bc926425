//! [`SigningKey`]: signs images as `cosign sign --key` does.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::error::FetchError;
use super::reference::Reference;
use super::signature::{P256_PREFIX, PAYLOAD_TYPE, PublicKey};

/// A private key, ECDSA over P-256. It is never printed.
pub(crate) struct SigningKey(EcdsaKeyPair);

impl SigningKey {
    /// Of PEM text: `PRIVATE KEY` (PKCS#8) or `EC PRIVATE KEY`.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, FetchError> {
        let wrong = |reason: &str| FetchError::Signature(format!("the key is of no use: {reason}"));
        // cosign seals its own with scrypt and XSalsa20, which nothing else here needs.
        if ["ENCRYPTED SIGSTORE", "ENCRYPTED COSIGN"].iter().any(|kind| pem.contains(kind)) {
            return Err(wrong(
                "it is sealed with a password in cosign's own form, which only cosign opens\n\
                 help: sign with `cosign sign --key`, or with a plain key: \
                 `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
            ));
        }
        let der = PrivateKeyDer::from_pem_slice(pem.trim().as_bytes()).map_err(|error| wrong(&error.to_string()))?;
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_der());
        pair.map(Self).map_err(|_| wrong("it is no private key of ECDSA over P-256"))
    }

    /// The public key in PEM, as `cosign.pub` has it.
    pub(crate) fn public_pem(&self) -> String {
        let text = STANDARD.encode([&P256_PREFIX[..], self.0.public_key().as_ref()].concat());
        let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    /// The public key.
    pub(crate) fn public(&self) -> Result<PublicKey, FetchError> {
        PublicKey::from_pem(&self.public_pem())
    }

    /// cosign's payload for an image, and its signature in base64.
    pub(super) fn sign_image(&self, reference: &Reference, digest: &str) -> Result<(Vec<u8>, String), FetchError> {
        let name = format!("{}/{}", reference.registry, reference.repository);
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": name },
                "image": { "docker-manifest-digest": format!("sha256:{digest}") },
                "type": PAYLOAD_TYPE,
            },
            "optional": null,
        });
        let payload = payload.to_string().into_bytes();
        let signature = self.0.sign(&SystemRandom::new(), &payload);
        let signature = signature.map_err(|_| FetchError::Signature("the image cannot be signed".to_owned()))?;
        Ok((payload, STANDARD.encode(signature)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn pem(kind: &str, der: &[u8]) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn what_a_key_signs_its_public_half_knows() {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let key = SigningKey::from_pem(&pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref())).unwrap();
        let reference = Reference::parse("oci://r.test/a/b:1").unwrap();
        let digest = "ab".repeat(32);
        let (payload, signature) = key.sign_image(&reference, &digest).unwrap();
        assert!(key.public().unwrap().has_signed_image(&payload, &signature, &digest));
        assert!(String::from_utf8(payload).unwrap().contains("\"docker-reference\":\"r.test/a/b\""));
    }

    #[test]
    fn keys_of_no_use_are_said_without_a_byte_of_them() {
        let refusal = |text: &str| SigningKey::from_pem(text).err().unwrap().to_string();
        assert!(refusal(&pem("ENCRYPTED SIGSTORE PRIVATE KEY", b"secret")).contains("openssl genpkey"));
        assert!(refusal(&pem("PRIVATE KEY", b"secret")).contains("ECDSA over P-256"));
        assert!(refusal("secret").starts_with("the key is of no use") && !refusal("secret").contains("secret"));
    }
}

//! `sign` and `verify_signature`: RSA (PKCS #1 v1.5) and ECDSA signatures, with Envoy's messages. RSASSA-PSS and Ed25519,
//! which Envoy's function does not know, are checked by names of our own in the place of the hash.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, RsaEncoding, RsaKeyPair, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::abi::{Status, protobuf};
use crate::guest::Answer;

/// Longest text that is signed or checked, in bytes.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// Longest key in bytes, in either form.
const MAX_KEY: usize = 64 * 1024;

/// The digests that Envoy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// What a key is for, from the object identifiers in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    Rsa,
    P256,
    P384,
    P521,
    P256K1,
    Ed25519,
    Other,
}

/// The key of a call: DER, whichever form it came in.
struct Key {
    der: Vec<u8>,
    /// The label of the PEM block that it came in.
    label: Option<String>,
}

/// `sign`. A key that cannot be read is BAD_ARGUMENT; a hash or a key that cannot sign is said in the result, as in
/// Envoy. (`string hash_function = 1; bytes private_key = 2; bytes text = 3; string private_key_pem = 4`; the result is
/// `bool result = 1; bytes signature = 2; string error = 3`.)
pub(super) fn sign(args: &[u8], value: &mut Vec<u8>) -> Answer {
    let [hash, der, text, pem, _] = arguments(args)?;
    let key = Key::read(der, pem)?;
    match sign_with(&key, hash, text)? {
        Ok(signature) => {
            protobuf::put_bool(1, true, value);
            protobuf::put_bytes(2, &signature, value);
        }
        Err(error) => protobuf::put_bytes(3, error.as_bytes(), value),
    }
    Ok(())
}

/// `verify_signature`, alike. (`string hash_function = 1; bytes public_key = 2; bytes signature = 3; bytes text = 4; string
/// public_key_pem = 5`; the result is `bool result = 1; string error = 2`.)
pub(super) fn verify_signature(args: &[u8], value: &mut Vec<u8>) -> Answer {
    let [hash, der, signature, text, pem] = arguments(args)?;
    let key = Key::read(der, pem)?;
    let kind = key.kind();
    if kind == KeyKind::Other {
        return Err(Status::BadArgument);
    }
    let algorithm = match (own_verifier(kind, hash), Hash::named(hash)) {
        (Some(own), _) => Ok(own),
        (None, None) => Err(unknown_hash(hash)),
        (None, Some(hash)) => verifier(kind, hash).ok_or_else(|| unsupported(hash, kind)),
    };
    let error = match algorithm {
        Err(error) => error,
        Ok(algorithm) => {
            let key = signature::ParsedPublicKey::new(algorithm, &key.der).map_err(|_| Status::BadArgument)?;
            match key.verify_sig(text, signature) {
                Ok(()) => String::new(),
                Err(_) => "Failed to verify digest. Error code: 0".to_owned(),
            }
        }
    };
    protobuf::put_bool(1, error.is_empty(), value);
    protobuf::put_bytes(2, error.as_bytes(), value);
    Ok(())
}

/// The first five fields; all are text or bytes.
fn arguments(args: &[u8]) -> Result<[&[u8]; 5], Status> {
    let mut fields = [&b""[..]; 5];
    let read = protobuf::read(args, |number, field| {
        let slot = usize::try_from(number).ok().and_then(|number| fields.get_mut(number - 1));
        if let (Some(slot), Some(bytes)) = (slot, field.bytes()) {
            *slot = bytes;
        }
    });
    if read && fields.iter().all(|field| field.len() <= MAX_TEXT) { Ok(fields) } else { Err(Status::BadArgument) }
}

fn sign_with(key: &Key, hash: &[u8], text: &[u8]) -> Result<Result<Vec<u8>, String>, Status> {
    let Some(hash) = Hash::named(hash) else { return Ok(Err(unknown_hash(hash))) };
    let kind = key.kind();
    if kind == KeyKind::Rsa {
        let pair =
            if key.is("RSA PRIVATE KEY") { RsaKeyPair::from_der(&key.der) } else { RsaKeyPair::from_pkcs8(&key.der) };
        let pair = pair.map_err(|_| Status::BadArgument)?;
        let Some(encoding) = rsa_encoding(hash) else { return Ok(Err(unsupported(hash, kind))) };
        let mut signature = vec![0; pair.public_modulus_len()];
        let signed = pair.sign(encoding, &SystemRandom::new(), text, &mut signature);
        return Ok(signed.map(|()| signature).map_err(|_| "Failed to create signature.".to_owned()));
    }
    if matches!(kind, KeyKind::Other | KeyKind::Ed25519) {
        return Err(Status::BadArgument);
    }
    let Some(algorithm) = signer(kind, hash) else { return Ok(Err(unsupported(hash, kind))) };
    let pair = EcdsaKeyPair::from_private_key_der(algorithm, &key.der).map_err(|_| Status::BadArgument)?;
    let signed = pair.sign(&SystemRandom::new(), text);
    Ok(signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| "Failed to create signature.".to_owned()))
}

fn unknown_hash(name: &[u8]) -> String {
    format!("{} is not supported.", String::from_utf8_lossy(name))
}

fn unsupported(hash: Hash, kind: KeyKind) -> String {
    format!("{hash:?} with a key of kind {kind:?} is not supported.").to_lowercase()
}

impl Hash {
    /// By Envoy's name, in any case.
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_slice() {
            b"sha1" => Self::Sha1,
            b"sha224" => Self::Sha224,
            b"sha256" => Self::Sha256,
            b"sha384" => Self::Sha384,
            b"sha512" => Self::Sha512,
            _ => return None,
        })
    }
}

impl Key {
    /// Exactly one of the two forms.
    fn read(der: &[u8], pem: &[u8]) -> Result<Self, Status> {
        if der.is_empty() == pem.is_empty() || der.len().max(pem.len()) > MAX_KEY {
            return Err(Status::BadArgument);
        }
        if !der.is_empty() {
            return Ok(Self { der: der.to_vec(), label: None });
        }
        from_pem(std::str::from_utf8(pem).map_err(|_| Status::BadArgument)?).ok_or(Status::BadArgument)
    }

    fn is(&self, label: &str) -> bool {
        self.label.as_deref() == Some(label)
    }

    /// Looks for the identifiers of keys and curves where keys have them: in the first bytes, and in the last ones for the
    /// older form of EC keys.
    fn kind(&self) -> KeyKind {
        let head = &self.der[..self.der.len().min(64)];
        let has = |identifier: &[u8]| {
            head.windows(identifier.len()).any(|window| window == identifier)
                || (self.is("EC PRIVATE KEY") && self.der.windows(identifier.len()).any(|window| window == identifier))
        };
        if self.is("RSA PRIVATE KEY") || has(b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01") {
            KeyKind::Rsa
        } else if has(b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07") {
            KeyKind::P256
        } else if has(b"\x06\x05\x2b\x81\x04\x00\x22") {
            KeyKind::P384
        } else if has(b"\x06\x05\x2b\x81\x04\x00\x23") {
            KeyKind::P521
        } else if has(b"\x06\x05\x2b\x81\x04\x00\x0a") {
            KeyKind::P256K1
        } else if has(b"\x06\x03\x2b\x65\x70") {
            KeyKind::Ed25519
        } else {
            KeyKind::Other
        }
    }
}

/// The first block of a PEM text.
fn from_pem(text: &str) -> Option<Key> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_ascii_whitespace().collect();
    Some(Key { der: STANDARD.decode(body).ok()?, label: Some(label.to_owned()) })
}

fn rsa_encoding(hash: Hash) -> Option<&'static dyn RsaEncoding> {
    Some(match hash {
        Hash::Sha256 => &signature::RSA_PKCS1_SHA256,
        Hash::Sha384 => &signature::RSA_PKCS1_SHA384,
        Hash::Sha512 => &signature::RSA_PKCS1_SHA512,
        Hash::Sha1 | Hash::Sha224 => return None,
    })
}

fn signer(kind: KeyKind, hash: Hash) -> Option<&'static EcdsaSigningAlgorithm> {
    Some(match (kind, hash) {
        (KeyKind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        (KeyKind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        (KeyKind::P521, Hash::Sha224) => &signature::ECDSA_P521_SHA224_ASN1_SIGNING,
        (KeyKind::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1_SIGNING,
        (KeyKind::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1_SIGNING,
        (KeyKind::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        (KeyKind::P256K1, Hash::Sha256) => &signature::ECDSA_P256K1_SHA256_ASN1_SIGNING,
        _ => return None,
    })
}

/// What Envoy's function does not know.
fn own_verifier(kind: KeyKind, name: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, name) {
        (KeyKind::Rsa, b"pss-sha256") => &signature::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Rsa, b"pss-sha384") => &signature::RSA_PSS_2048_8192_SHA384,
        (KeyKind::Rsa, b"pss-sha512") => &signature::RSA_PSS_2048_8192_SHA512,
        (KeyKind::Ed25519, b"ed25519") => &signature::ED25519,
        _ => return None,
    })
}

fn verifier(kind: KeyKind, hash: Hash) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, hash) {
        (KeyKind::Rsa, Hash::Sha1) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (KeyKind::Rsa, Hash::Sha256) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (KeyKind::Rsa, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa, Hash::Sha512) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (KeyKind::P256, Hash::Sha1) => &signature::ECDSA_P256_SHA1_ASN1,
        (KeyKind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, Hash::Sha1) => &signature::ECDSA_P521_SHA1_ASN1,
        (KeyKind::P521, Hash::Sha224) => &signature::ECDSA_P521_SHA224_ASN1,
        (KeyKind::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (KeyKind::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
        (KeyKind::P256K1, Hash::Sha256) => &signature::ECDSA_P256K1_SHA256_ASN1,
        _ => return None,
    })
}

//! DER, as far as keys and signatures need it: JOSE has plain numbers where `verify_signature` wants ASN.1.

use crate::token::Hash;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// Identifier and NULL of `rsaEncryption` (RFC 8017, A.1).
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// `id-ecPublicKey` (RFC 5480, 2.1.1).
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// `id-Ed25519` (RFC 8410, 3).
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// A curve of JOSE's (RFC 7518, 6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// For ES256.
    P256,
    /// For ES384.
    P384,
    /// For ES512.
    P521,
}

impl Curve {
    /// By its name in `crv`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    /// Bytes of a coordinate.
    pub fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// The one hash that JOSE uses with the curve (RFC 7518, 3.4).
    pub fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
        }
    }

    fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }
}

/// SubjectPublicKeyInfo of an RSA key, from big-endian modulus and exponent.
pub fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = wrap(SEQUENCE, &[integer(modulus), integer(exponent)].concat());
    wrap(SEQUENCE, &[wrap(SEQUENCE, RSA), bit_string(&key)].concat())
}

/// SubjectPublicKeyInfo of an EC key, from coordinates of the curve's size.
pub fn ec_key(curve: Curve, x: &[u8], y: &[u8]) -> Vec<u8> {
    let algorithm = wrap(SEQUENCE, &[EC, curve.identifier()].concat());
    wrap(SEQUENCE, &[algorithm, bit_string(&[&[4], x, y].concat())].concat())
}

/// SubjectPublicKeyInfo of an Ed25519 key (RFC 8410, 4).
pub fn ed_key(x: &[u8; 32]) -> Vec<u8> {
    wrap(SEQUENCE, &[wrap(SEQUENCE, ED25519), bit_string(x)].concat())
}

/// ECDSA-Sig-Value from JOSE's `r` and `s` one after the other; none when they are not of the curve's size.
pub fn ecdsa_signature(curve: Curve, raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 2 * curve.size() {
        return None;
    }
    let (r, s) = raw.split_at(curve.size());
    Some(wrap(SEQUENCE, &[integer(r), integer(s)].concat()))
}

/// A number that is not negative, in as few bytes as it takes.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    // The first bit is the sign.
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    wrap(INTEGER, &[sign, digits].concat())
}

/// Whole bytes: no unused bits.
fn bit_string(content: &[u8]) -> Vec<u8> {
    wrap(BIT_STRING, &[&[0], content].concat())
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    if content.len() < 0x80 {
        out.push(content.len() as u8);
    } else {
        let length = content.len().to_be_bytes();
        let start = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
        out.push(0x80 | (length.len() - start) as u8);
        out.extend_from_slice(&length[start..]);
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need_and_keep_their_sign() {
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[]), [2, 1, 0]);
    }

    #[test]
    fn long_contents_have_long_lengths() {
        assert_eq!(wrap(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(wrap(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(wrap(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn a_signature_has_the_size_of_its_curve() {
        let der = ecdsa_signature(Curve::P256, &[1; 64]);
        assert_eq!(der.map(|der| (der[0], der.len())), Some((SEQUENCE, 70)));
        assert_eq!(ecdsa_signature(Curve::P256, &[1; 63]), None);
        assert_eq!(ecdsa_signature(Curve::P521, &[0; 132]), Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0]));
    }
}

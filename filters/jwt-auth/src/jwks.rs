//! [`Keys`]: a JSON Web Key Set (RFC 7517), as far as signatures can be checked with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::der::{self, Curve};
use crate::token::Algorithm;

/// Largest set that is read, in bytes.
pub const MAX_SET: usize = 256 * 1024;

/// Most keys of a set; the rest is left out.
const MAX_KEYS: usize = 100;

/// Sizes of RSA keys in bits: below, RFC 7518, 3.3 forbids them; above, checking costs more than a request may.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The keys of one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    keys: Vec<Key>,
    /// Keys that are of no use here, and why.
    pub skipped: Vec<String>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    kid: Option<String>,
    /// The only algorithm that it is for, when the set says so.
    algorithm: Option<Algorithm>,
    /// What it is checked with.
    pub material: Material,
}

/// A key's bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// SubjectPublicKeyInfo of an RSA key.
    Rsa(Vec<u8>),
    /// The same of an EC key.
    Ec(Curve, Vec<u8>),
    /// The same of an Ed25519 key.
    Ed(Vec<u8>),
    /// A shared secret.
    Secret(Vec<u8>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "Rsa",
            Self::Ec(..) => "Ec",
            Self::Ed(_) => "Ed",
            Self::Secret(_) => "Secret",
        })
    }
}

impl Keys {
    /// Reads a set. Single keys that are of no use are skipped, as RFC 7517, 5 asks for; a set without any other is refused.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        if json.len() > MAX_SET {
            return Err(format!("Jwks is longer than {MAX_SET} bytes"));
        }
        let set: Value = serde_json::from_slice(json).map_err(|_| "Jwks is an invalid JSON".to_owned())?;
        let list = set.get("keys").ok_or("Jwks does not have [keys] field")?;
        let list = list.as_array().ok_or("[keys] in Jwks is not an array")?;
        let mut read = Self::default();
        for (place, key) in list.iter().take(MAX_KEYS).enumerate() {
            match key.as_object().ok_or("it is not an object".to_owned()).and_then(read_key) {
                Ok(key) => read.keys.push(key),
                Err(reason) => read.skipped.push(format!("keys[{place}]: {reason}")),
            }
        }
        if read.keys.is_empty() {
            let reason = read.skipped.first().map(|first| format!(" ({first})")).unwrap_or_default();
            return Err(format!("Jwks doesn't have any valid public key{reason}"));
        }
        Ok(read)
    }

    /// Those that a token may be signed with: of its `kid`, when it names one and the key does too, and of its family.
    pub fn fitting<'a>(&'a self, kid: Option<&'a str>, algorithm: Algorithm) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| key.fits(kid, algorithm))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    fn fits(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        if let (Some(wanted), Some(own)) = (kid, &self.kid)
            && wanted != own
        {
            return false;
        }
        let family = match (&self.material, algorithm) {
            (Material::Rsa(_), Algorithm::Rs(_) | Algorithm::Ps(_))
            | (Material::Secret(_), Algorithm::Hs(_))
            | (Material::Ed(_), Algorithm::EdDsa) => true,
            (Material::Ec(curve, _), Algorithm::Es(hash)) => curve.hash() == hash,
            _ => false,
        };
        let long_enough = match &self.material {
            // RFC 7518, 3.2: a secret is at least as long as the hash.
            Material::Secret(secret) => secret.len() >= algorithm.hash().size(),
            Material::Rsa(_) | Material::Ec(..) | Material::Ed(_) => true,
        };
        family && long_enough && self.algorithm.is_none_or(|own| own == algorithm)
    }
}

fn read_key(key: &Map<String, Value>) -> Result<Key, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return Err("[use] is not sig".to_owned());
    }
    let algorithm = match text("alg") {
        None => None,
        Some(name) => Some(Algorithm::named(name).ok_or_else(|| format!("[alg] {name} is not supported"))?),
    };
    let material = match text("kty") {
        Some("RSA") => rsa(key)?,
        Some("EC") => ec(key)?,
        Some("OKP") => ed(key)?,
        Some("oct") => secret(key)?,
        Some(other) => return Err(format!("[kty] {other} is not supported")),
        None => return Err("[kty] is missing".to_owned()),
    };
    Ok(Key { kid: text("kid").map(str::to_owned), algorithm, material })
}

fn rsa(key: &Map<String, Value>) -> Result<Material, String> {
    let (modulus, exponent) = (number(key, "n")?, number(key, "e")?);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("an RSA key of {bits} bits; wants {} to {}", RSA_BITS.start(), RSA_BITS.end()));
    }
    Ok(Material::Rsa(der::rsa_key(&modulus, &exponent)))
}

fn ec(key: &Map<String, Value>) -> Result<Material, String> {
    let name = key.get("crv").and_then(Value::as_str).unwrap_or_default();
    let curve = Curve::named(name).ok_or("[crv] is not supported for an EC key")?;
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != curve.size() || y.len() != curve.size() {
        return Err("[x] and [y] are not of the curve's size".to_owned());
    }
    Ok(Material::Ec(curve, der::ec_key(curve, &x, &y)))
}

fn ed(key: &Map<String, Value>) -> Result<Material, String> {
    if key.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err("[crv] is not supported for an OKP key".to_owned());
    }
    let x = <[u8; 32]>::try_from(bytes(key, "x")?).map_err(|_| "[x] is not of the curve's size")?;
    Ok(Material::Ed(der::ed_key(&x)))
}

fn secret(key: &Map<String, Value>) -> Result<Material, String> {
    let secret = bytes(key, "k")?;
    if secret.len() < 32 { Err("[k] is shorter than 32 bytes".to_owned()) } else { Ok(Material::Secret(secret)) }
}

/// A number without leading zeros, which some issuers write.
fn number(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let bytes = bytes(key, name)?;
    let start = bytes.iter().position(|byte| *byte != 0).ok_or_else(|| format!("[{name}] is 0"))?;
    Ok(bytes[start..].to_vec())
}

fn bytes(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = key.get(name).and_then(Value::as_str).ok_or_else(|| format!("[{name}] field is missing"))?;
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    decoded.map_err(|_| format!("[{name}] field is an invalid Base64"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::token::Hash;

    fn set(keys: &str) -> Result<Keys, String> {
        Keys::read(format!(r#"{{"keys": [{keys}]}}"#).as_bytes())
    }

    fn oct(length: usize, more: &str) -> String {
        format!(r#"{{"kty": "oct", "k": "{}"{more}}}"#, URL_SAFE_NO_PAD.encode(vec![7; length]))
    }

    #[test]
    fn a_token_gets_the_keys_of_its_name_and_family_only() {
        let rsa =
            format!(r#"{{"kty": "RSA", "n": "{}", "e": "AQAB", "kid": "r"}}"#, URL_SAFE_NO_PAD.encode([255; 256]));
        let keys = set(&[oct(64, ""), oct(64, r#", "kid": "b", "alg": "HS256""#), rsa].join(", ")).unwrap();
        let count = |kid, name| keys.fitting(kid, Algorithm::named(name).unwrap()).count();
        assert_eq!((count(None, "HS256"), count(Some("b"), "HS256"), count(Some("x"), "HS256")), (2, 2, 1));
        assert_eq!((count(None, "HS512"), count(Some("b"), "HS384")), (1, 1), "a key for HS256 is for nothing else");
        assert_eq!((count(Some("r"), "RS512"), count(Some("q"), "RS256"), count(None, "ES256")), (1, 0, 0));
        assert_eq!(count(Some("r"), "HS256"), 1, "the public key is no secret: only the secret without a name fits");
    }

    #[test]
    fn a_secret_is_as_long_as_the_hash() {
        let keys = set(&oct(40, "")).unwrap();
        assert_eq!(keys.fitting(None, Algorithm::Hs(Hash::Sha256)).count(), 1);
        assert_eq!(keys.fitting(None, Algorithm::Hs(Hash::Sha512)).count(), 0);
        assert!(set(&oct(31, "")).unwrap_err().contains("shorter than 32 bytes"));
    }

    #[test]
    fn keys_of_no_use_are_skipped_with_the_reason() {
        let keys = set(&[
            r#"{"kty": "OKP", "crv": "X25519", "x": "AQAB"}"#,
            r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB"}"#,
            "7",
        ]
        .join(", "));
        let reason = "keys[0]: [crv] is not supported for an OKP key";
        assert_eq!(keys.unwrap_err(), format!("Jwks doesn't have any valid public key ({reason})"));
        let keys =
            set(&[r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB"}"#, &oct(32, ""), &oct(32, r#", "use": "enc""#)]
                .join(", "));
        let skipped = keys.unwrap().skipped;
        assert_eq!(skipped, ["keys[0]: an RSA key of 17 bits; wants 2048 to 8192", "keys[2]: [use] is not sig"]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for (json, reason) in [
            ("", "Jwks is an invalid JSON"),
            ("{}", "Jwks does not have [keys] field"),
            (r#"{"keys": 7}"#, "[keys] in Jwks is not an array"),
            (r#"{"keys": []}"#, "Jwks doesn't have any valid public key"),
        ] {
            assert_eq!(Keys::read(json.as_bytes()).unwrap_err(), reason);
        }
        assert!(Keys::read(&vec![b' '; MAX_SET + 1]).unwrap_err().contains("longer than"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", set(&oct(32, "")).unwrap());
        assert!(text.contains("Secret") && !text.contains('7'), "{text}");
    }
}

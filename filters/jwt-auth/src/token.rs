//! [`Token`]: a JSON Web Token in compact form (RFC 7515, 7.1), taken apart and not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::object;
use crate::refusal::Refusal;

/// Longest token that is looked at, in bytes; the heads of requests are bounded as well.
pub const MAX_TOKEN: usize = 16 * 1024;

/// What a signature is made with. The family must be the key's: a token does not choose how it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-2 (RFC 7518, 3.2).
    Hs(Hash),
    /// RSASSA-PKCS1-v1_5 (3.3).
    Rs(Hash),
    /// RSASSA-PSS (3.5).
    Ps(Hash),
    /// ECDSA (3.4); the hash decides the curve.
    Es(Hash),
    /// Ed25519 (RFC 8037).
    EdDsa,
}

/// A hash of the SHA-2 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// 32 bytes.
    Sha256,
    /// 48 bytes.
    Sha384,
    /// 64 bytes.
    Sha512,
}

impl Algorithm {
    /// By its name in `alg`; none for `none`.
    pub fn named(name: &str) -> Option<Self> {
        if name == "EdDSA" {
            return Some(Self::EdDsa);
        }
        let (family, bits) = name.split_at_checked(2)?;
        let hash = match bits {
            "256" => Hash::Sha256,
            "384" => Hash::Sha384,
            "512" => Hash::Sha512,
            _ => return None,
        };
        match family {
            "HS" => Some(Self::Hs(hash)),
            "RS" => Some(Self::Rs(hash)),
            "PS" => Some(Self::Ps(hash)),
            "ES" => Some(Self::Es(hash)),
            _ => None,
        }
    }

    /// The hash.
    pub fn hash(self) -> Hash {
        match self {
            Self::Hs(hash) | Self::Rs(hash) | Self::Ps(hash) | Self::Es(hash) => hash,
            Self::EdDsa => Hash::Sha512,
        }
    }

    /// What `verify_signature` takes as its hash: Envoy's names, and for what Envoy's function does not know Portolan's own.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Hs(hash) | Self::Rs(hash) | Self::Es(hash) => hash.name(),
            Self::Ps(Hash::Sha256) => "pss-sha256",
            Self::Ps(Hash::Sha384) => "pss-sha384",
            Self::Ps(Hash::Sha512) => "pss-sha512",
            Self::EdDsa => "ed25519",
        }
    }
}

impl Hash {
    /// Envoy's name, which `verify_signature` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of the hash.
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A token's parts.
#[derive(Debug)]
pub struct Token<'a> {
    /// What is signed: the first two parts with their dot.
    pub signed: &'a [u8],
    /// The second part as it came.
    pub payload: &'a str,
    /// From the header.
    pub algorithm: Algorithm,
    /// From the header.
    pub kid: Option<String>,
    /// From the third part.
    pub signature: Vec<u8>,
    /// The claims.
    pub claims: Claims,
}

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// All members.
    pub all: Map<String, Value>,
    /// Who made the token.
    pub issuer: String,
    /// Who it is for.
    pub audiences: Vec<String>,
    /// Not valid from then on.
    pub expires: Option<u64>,
    /// Not valid before.
    pub not_before: Option<u64>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::BadFormat)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::BadFormat)?;
        if payload.contains('.') {
            return Err(Refusal::BadFormat);
        }
        let (algorithm, kid) = read_header(header)?;
        let json = decode(payload).ok_or(Refusal::PayloadBase64)?;
        let claims = Claims::read(object::read(&json).ok_or(Refusal::PayloadJson)?)?;
        let signature = decode(signature).ok_or(Refusal::SignatureBase64)?;
        Ok(Self { signed: signed.as_bytes(), payload, algorithm, kid, signature, claims })
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn read_header(part: &str) -> Result<(Algorithm, Option<String>), Refusal> {
    let json = decode(part).ok_or(Refusal::HeaderBase64)?;
    let header = object::read(&json).ok_or(Refusal::HeaderJson)?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::HeaderAlg)?;
    let algorithm = Algorithm::named(algorithm).ok_or(Refusal::UnknownAlg)?;
    if header.contains_key("crit") {
        return Err(Refusal::Critical);
    }
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(Refusal::HeaderKid),
    };
    Ok((algorithm, kid))
}

impl Claims {
    fn read(all: Map<String, Value>) -> Result<Self, Refusal> {
        let text = |name, wrong| match all.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Refusal::Claim(wrong)),
        };
        let issuer = text("iss", "Jwt payload [iss] field is not a string")?;
        text("sub", "Jwt payload [sub] field is not a string")?;
        text("jti", "Jwt payload [jti] field is not a string")?;
        time(&all, "iat", "Jwt payload [iat] field is not an integer")?;
        let expires = time(&all, "exp", "Jwt payload [exp] field is not an integer")?;
        let not_before = time(&all, "nbf", "Jwt payload [nbf] field is not an integer")?;
        let audiences = audiences(&all)?;
        Ok(Self { issuer, audiences, expires, not_before, all })
    }

    /// A claim by its path, names joined with `.` as in Istio's `outputClaimToHeaders`. A name with dots in it is looked for
    /// first.
    pub fn at(&self, path: &str) -> Option<&Value> {
        if let Some(value) = self.all.get(path) {
            return Some(value);
        }
        let mut names = path.split('.');
        let first = self.all.get(names.next()?)?;
        names.try_fold(first, |value, name| value.as_object()?.get(name))
    }
}

/// A NumericDate (RFC 7519, 2), whose fraction is dropped.
fn time(claims: &Map<String, Value>, name: &str, wrong: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| (0.0..=9_007_199_254_740_991.0).contains(number))?;
        Some(number as u64)
    });
    whole.map(Some).ok_or(Refusal::Claim(wrong))
}

/// One audience, or a list of them.
fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, Refusal> {
    let wrong = Refusal::Claim("Jwt payload [aud] field is not a string or string list");
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(audience)) => Ok(vec![audience.clone()]),
        Some(Value::Array(list)) => {
            list.iter().map(|audience| audience.as_str().map(str::to_owned).ok_or(wrong)).collect()
        }
        Some(_) => Err(wrong),
    }
}

#[cfg(test)]
mod tests;

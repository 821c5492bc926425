//! [`Refusal`]: why a request is refused, in Envoy's words (`jwt_authn`), which clients and dashboards know.

/// What is wrong with a token, or with having none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A token is required and there is none.
    Missing,
    /// `nbf` lies in the future.
    NotYetValid,
    /// `exp` lies in the past.
    Expired,
    /// No three parts.
    BadFormat,
    /// More than [`MAX_TOKEN`](crate::token::MAX_TOKEN) bytes; ours, Envoy has no such limit.
    TooLong,
    /// The first part is not base64url.
    HeaderBase64,
    /// The first part is not a JSON object, or names a member twice.
    HeaderJson,
    /// `alg` is missing or no string.
    HeaderAlg,
    /// `alg` is none of those that are known here.
    UnknownAlg,
    /// `kid` is no string.
    HeaderKid,
    /// `crit` asks for extensions; none is known here (RFC 7515, 4.1.11).
    Critical,
    /// The second part is not base64url.
    PayloadBase64,
    /// The second part is not a JSON object, or names a member twice.
    PayloadJson,
    /// A claim with a fixed type has another.
    Claim(&'static str),
    /// The third part is not base64url.
    SignatureBase64,
    /// No rule is for this issuer.
    UnknownIssuer,
    /// None of the audiences is wanted.
    Audience,
    /// The signature is not of the key.
    Signature,
    /// No key fits `kid` and `alg`.
    NoKey,
    /// The keys could not be fetched and there are no older ones.
    Fetch,
    /// A claim that the path asks for is missing (ours; Istio's AuthorizationPolicy answers alike).
    Forbidden,
}

impl Refusal {
    /// 403 for who is known and may not, 401 for who is not known.
    pub fn status(self) -> u32 {
        if matches!(self, Self::Audience | Self::Forbidden) { 403 } else { 401 }
    }

    /// The body of the answer.
    pub fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
            Self::TooLong => "Jwt is too long",
            Self::HeaderBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderJson => "Jwt header is an invalid JSON",
            Self::HeaderAlg => "Jwt header [alg] field is required and must be a string",
            Self::UnknownAlg => "Jwt header [alg] is not supported",
            Self::HeaderKid => "Jwt header [kid] field is not a string",
            Self::Critical => "Jwt header [crit] field is not supported",
            Self::PayloadBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadJson => "Jwt payload is an invalid JSON",
            Self::Claim(text) => text,
            Self::SignatureBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::Audience => "Audiences in Jwt are not allowed",
            Self::Signature => "Jwt verification fails",
            Self::NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Fetch => "Jwks remote fetch is failed",
            Self::Forbidden => "RBAC: access denied",
        }
    }

    /// The reason in the access log, as Envoy writes it.
    pub fn details(self) -> String {
        if self == Self::Forbidden {
            return "rbac_access_denied_matched_policy[none]".to_owned();
        }
        format!("jwt_authn_access_denied{{{}}}", self.text().replace(' ', "_"))
    }

    /// `WWW-Authenticate` (RFC 6750, 3): the realm is the address that was asked for.
    pub fn challenge(self, realm: &str) -> String {
        match self {
            Self::Missing => format!("Bearer realm=\"{realm}\""),
            Self::Forbidden => format!("Bearer realm=\"{realm}\", error=\"insufficient_scope\""),
            _ => format!("Bearer realm=\"{realm}\", error=\"invalid_token\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_envoys_words() {
        assert_eq!(Refusal::Expired.details(), "jwt_authn_access_denied{Jwt_is_expired}");
        assert_eq!(Refusal::Missing.challenge("http://a/b"), "Bearer realm=\"http://a/b\"");
        assert_eq!(Refusal::Expired.challenge("http://a/b"), "Bearer realm=\"http://a/b\", error=\"invalid_token\"");
        assert_eq!((Refusal::Audience.status(), Refusal::Signature.status()), (403, 401));
    }
}

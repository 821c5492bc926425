//! What becomes of a request whose tokens are good: claims that it needs, headers for the upstream, tokens taken away.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portolan_sdk::prelude::*;
use portolan_sdk::split_target;
use serde_json::Value;

use crate::JwtAuth;
use crate::cache::Verified;
use crate::refusal::Refusal;
use crate::rule::{Rule, header_value};
use crate::sources::{Found, Place};

/// Where later filters find who is asking: issuer and subject with a slash between, as Istio's `request.auth.principal`.
const PRINCIPAL: &str = "jwt_auth.principal";

/// Where later filters find the claims, as JSON.
const PAYLOAD: &str = "jwt_auth.payload";

impl JwtAuth {
    /// Lets the request on, unless it needs claims that it does not have.
    pub(crate) fn pass(
        &self,
        request: &Request<'_>,
        verified: Option<&Verified>,
        found: &[Found],
    ) -> Result<Action, HostError> {
        for rule in &self.policy.claims {
            if rule.when.holds(request)? && !verified.is_some_and(|verified| rule.holds(&verified.claims)) {
                return self.refuse(request, Refusal::Forbidden);
            }
        }
        self.allowed.increment(1)?;
        self.drop_forged(request)?;
        if let Some(verified) = verified {
            tell_upstream(request, &self.policy.rules[verified.rule], verified)?;
            tell_filters(request, verified)?;
            if self.policy.clear_route_cache {
                request.clear_route_cache()?;
            }
        }
        for found in found {
            if !found.rules.iter().any(|rule| self.policy.rules[*rule].forward) {
                take_away(request, &found.place)?;
            }
        }
        Ok(Action::Continue)
    }

    /// A header that tells the upstream of claims is this filter's alone.
    fn drop_forged(&self, request: &Request<'_>) -> Result<(), HostError> {
        for rule in &self.policy.rules {
            for name in rule.claim_headers.iter().map(|(name, _)| name).chain(&rule.payload_header) {
                if request.header(name)?.is_some() {
                    request.remove_header(name)?;
                }
            }
        }
        Ok(())
    }
}

fn tell_upstream(request: &Request<'_>, rule: &Rule, verified: &Verified) -> Result<(), HostError> {
    if let Some(name) = &rule.payload_header {
        request.set_header(name, verified.payload.as_bytes())?;
    }
    for (name, claim) in &rule.claim_headers {
        if let Some(value) = verified.claims.at(claim).and_then(header_value) {
            request.set_header(name, value.as_bytes())?;
        }
    }
    Ok(())
}

fn tell_filters(request: &Request<'_>, verified: &Verified) -> Result<(), HostError> {
    let subject = verified.claims.all.get("sub").and_then(Value::as_str).unwrap_or_default();
    request.set_property(PRINCIPAL, [&verified.claims.issuer, "/", subject].concat().as_bytes())?;
    let payload = URL_SAFE_NO_PAD.decode(&*verified.payload).unwrap_or_default();
    request.set_property(PAYLOAD, &payload)
}

/// A cookie stays: it is the client's session with more than one party.
fn take_away(request: &Request<'_>, place: &Place) -> Result<(), HostError> {
    match place {
        Place::Header(name) => request.remove_header(name),
        Place::Param(name) => request.set_header(":path", &without_param(request.target()?, name)),
        Place::Cookie(_) => Ok(()),
    }
}

fn without_param(target: &[u8], name: &str) -> Vec<u8> {
    let (path, query) = split_target(target);
    let is_other = |pair: &&[u8]| pair.split(|byte| *byte == b'=').next() != Some(name.as_bytes());
    let rest: Vec<_> = query.unwrap_or_default().split(|byte| *byte == b'&').filter(is_other).collect();
    let rest = rest.join(&b'&');
    if rest.is_empty() { path.to_vec() } else { [path, b"?", &rest].concat() }
}

#[cfg(test)]
mod tests {
    use super::without_param;

    #[test]
    fn a_parameter_goes_and_the_others_keep_their_bytes() {
        assert_eq!(without_param(b"/p?a=%2f&token=x&b", "token"), b"/p?a=%2f&b");
        assert_eq!(without_param(b"/p?token=x", "token"), b"/p");
        assert_eq!(without_param(b"/p", "token"), b"/p");
    }
}

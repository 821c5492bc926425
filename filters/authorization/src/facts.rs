//! [`Facts`]: what a policy may ask of a request.

use std::cell::OnceCell;
use std::net::IpAddr;

use portolan_filter_conditions::address;
use portolan_sdk::prelude::*;
use serde_json::{Map, Value};

/// The client's address, as trusted proxies in front of the gateway have told it.
pub(crate) const REMOTE: &str = "source\0address";

/// The address of whoever has opened the connection. Only this gateway tells it.
pub(crate) const DIRECT: &str = "portolan.direct_address";

/// Where `jwt-auth` leaves the claims of a token that it has found good, as JSON.
const PAYLOAD: &str = "jwt_auth.payload";

/// Claims whose text is a list of words, as Istio has Envoy take them.
const WORDS: [&str; 2] = ["scope", "permission"];

/// Names of a client certificate, in the order in which one is taken for the identity.
const IDENTITIES: [&str; 3] = [
    "connection\0uri_san_peer_certificate",
    "connection\0dns_san_peer_certificate",
    "connection\0subject_peer_certificate",
];

/// A request under judgement.
#[derive(Debug)]
pub struct Facts<'r, 'a> {
    pub(crate) request: &'r Request<'a>,
    claims: OnceCell<Map<String, Value>>,
}

impl<'r, 'a> Facts<'r, 'a> {
    /// Of this request.
    pub fn new(request: &'r Request<'a>) -> Self {
        Self { request, claims: OnceCell::new() }
    }

    /// An address of the connection, by its property.
    pub(crate) fn address(&self, property: &str) -> Result<Option<IpAddr>, HostError> {
        match self.request.property(property)? {
            None if property == DIRECT => self.address(REMOTE),
            value => Ok(value.and_then(address::read)),
        }
    }

    /// The port that the client has connected to.
    pub(crate) fn port(&self) -> Result<Option<u16>, HostError> {
        Ok(self.request.destination_address()?.map(|address| address.port()))
    }

    /// True when one of the client certificate's names fits. Without one nothing does, not even `*`.
    pub(crate) fn has_identity(&self, fits: impl Fn(&[u8]) -> bool) -> Result<bool, HostError> {
        if !self.request.is_mtls()? {
            return Ok(false);
        }
        for name in IDENTITIES {
            if self.request.property(name)?.is_some_and(|value| !value.is_empty() && fits(value)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True when a text at this path of the token's claims fits, or one of the texts in a list there.
    pub(crate) fn has_claim(&self, path: &[String], fits: impl Fn(&[u8]) -> bool) -> Result<bool, HostError> {
        let Some((first, rest)) = path.split_first() else { return Ok(false) };
        let claims = self.claims()?;
        let Some(value) = claims.get(first) else { return Ok(false) };
        let value = rest.iter().try_fold(value, |value, name| value.as_object()?.get(name));
        Ok(match value {
            Some(Value::String(text)) if rest.is_empty() && WORDS.contains(&first.as_str()) => {
                text.split(' ').any(|word| fits(word.as_bytes()))
            }
            Some(Value::String(text)) => fits(text.as_bytes()),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(|text| fits(text.as_bytes())),
            _ => false,
        })
    }

    fn claims(&self) -> Result<&Map<String, Value>, HostError> {
        if let Some(claims) = self.claims.get() {
            return Ok(claims);
        }
        let payload = self.request.property(PAYLOAD)?;
        let read = payload.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
        Ok(self.claims.get_or_init(|| read))
    }
}

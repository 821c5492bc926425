//! [`Test`]: one question to a request.

use portolan_filter_conditions::IpRanges;
use portolan_sdk::HostError;

use crate::facts::Facts;
use crate::text::Text;

/// One question to a request; of several values one must do.
#[derive(Debug)]
pub enum Test {
    /// A header, each line by itself; `None` asks whether it is there.
    Header(String, Vec<Option<Text>>),
    /// `:authority`, whose case does not matter.
    Host(Vec<Text>),
    /// The path without its query.
    Path(Vec<Text>),
    /// The port that the client has connected to.
    Port(Vec<u16>),
    /// An address of the connection, by its property.
    Address(&'static str, IpRanges),
    /// The server name of the TLS handshake.
    ServerName(Vec<Text>),
    /// The identity of the client certificate.
    Principal(Vec<Text>),
    /// Issuer and subject of the token.
    RequestPrincipal(Vec<(Text, Text)>),
    /// A claim of the token, by its path.
    Claim(Vec<String>, Vec<Text>),
}

impl Test {
    /// True when the request is so.
    pub(crate) fn holds(&self, facts: &Facts<'_, '_>) -> Result<bool, HostError> {
        let request = facts.request;
        match self {
            Self::Header(name, values) => is_header(facts, name, values),
            Self::Host(values) => Ok(any(values, &request.authority()?.to_ascii_lowercase())),
            Self::Path(values) => Ok(any(values, without_fragment(request.path()?))),
            Self::Port(ports) => Ok(facts.port()?.is_some_and(|port| ports.contains(&port))),
            Self::Address(property, ranges) => {
                Ok(facts.address(property)?.is_some_and(|address| ranges.contains(address)))
            }
            Self::ServerName(values) => Ok(any(values, request.server_name()?.unwrap_or_default().as_bytes())),
            Self::Principal(values) => facts.has_identity(|identity| any(values, identity)),
            Self::RequestPrincipal(values) => is_request_principal(facts, values),
            Self::Claim(path, values) => facts.has_claim(path, |text| any(values, text)),
        }
    }
}

fn any(values: &[Text], text: &[u8]) -> bool {
    values.iter().any(|value| value.holds(text))
}

fn without_fragment(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'#').next().unwrap_or_default()
}

fn is_header(facts: &Facts<'_, '_>, name: &str, values: &[Option<Text>]) -> Result<bool, HostError> {
    let fits = |line: &[u8]| values.iter().any(|value| value.as_ref().is_none_or(|value| value.holds(line)));
    if facts.request.header(name)?.is_none() {
        return Ok(false);
    }
    Ok(facts.request.headers()?.any(|(known, line)| known == name.as_bytes() && fits(line)))
}

fn is_request_principal(facts: &Facts<'_, '_>, values: &[(Text, Text)]) -> Result<bool, HostError> {
    for (issuer, subject) in values {
        if facts.has_claim(&["iss".to_owned()], |text| issuer.holds(text))?
            && facts.has_claim(&["sub".to_owned()], |text| subject.holds(text))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

//! [`Rule`]: one issuer: where its tokens are, what they must say, and what becomes of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portolan_filter_conditions::RequestMatch;
use serde_json::Value;

use crate::jwks::Keys;
use crate::refusal::Refusal;
use crate::token::Claims;

/// One issuer.
#[derive(Debug)]
pub struct Rule {
    /// What `iss` must be; empty takes any.
    pub issuer: String,
    /// What `aud` must have one of; any when empty.
    pub audiences: Vec<String>,
    /// Where the keys are.
    pub keys: KeySource,
    /// Headers that hold tokens.
    pub headers: Vec<HeaderSource>,
    /// Query parameters that hold tokens.
    pub params: Vec<String>,
    /// Cookies that hold tokens.
    pub cookies: Vec<String>,
    /// The upstream gets the token, too.
    pub forward: bool,
    /// Header with the claims for the upstream.
    pub payload_header: Option<String>,
    /// Headers with single claims, and which.
    pub claim_headers: Vec<(String, String)>,
    /// Seconds that clocks may differ by.
    pub skew: u64,
}

/// A header that holds tokens.
#[derive(Debug)]
pub struct HeaderSource {
    /// Lower case.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub enum KeySource {
    /// In the configuration.
    Inline(Keys),
    /// On a server.
    Remote(RemoteKeys),
}

impl KeySource {
    /// True when they are fetched.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }
}

/// Keys on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKeys {
    /// Who is asked.
    pub cluster: String,
    /// For the request.
    pub authority: String,
    /// For the request.
    pub path: String,
    /// Keys older than this are fetched again.
    pub refresh: Duration,
    /// Longest wait.
    pub timeout: Duration,
    /// The answer says where the keys are.
    pub discovers: bool,
}

impl RemoteKeys {
    /// From `jwksUri` and `jwksCluster`.
    pub fn new(uri: &str, cluster: Option<&str>) -> Result<Self, String> {
        let wants = || format!("`jwksUri` is `http://HOST[:PORT]/PATH`, not `{uri}`");
        let (scheme, rest) = uri.split_once("://").ok_or_else(wants)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '#' | '\\');
        if !matches!(scheme, "http" | "https") || authority.is_empty() || !rest.chars().all(plain) {
            return Err(wants());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let cluster = match (cluster, scheme) {
            (Some(cluster), _) => cluster.to_owned(),
            (None, "http") if authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                authority.to_owned()
            }
            (None, "http") => format!("{authority}:80"),
            (None, _) => {
                return Err("callouts reach `https` through a cluster only: name it in `jwksCluster`".to_owned());
            }
        };
        let (refresh, timeout) = (Duration::ZERO, Duration::ZERO);
        Ok(Self { cluster, authority: authority.to_owned(), path, refresh, timeout, discovers: false })
    }

    /// Where the keys are by the issuer's configuration (OpenID Connect Discovery 1.0, 4.2): at a service.
    pub fn discovered(&self, configuration: &[u8]) -> Result<Self, String> {
        let read: Option<Value> = serde_json::from_slice(configuration).ok();
        let uri = read.as_ref().and_then(|read| read.get("jwks_uri")?.as_str());
        let uri = uri.ok_or("its configuration has no `jwks_uri`")?;
        let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let usual = if scheme == "https" { 443 } else { 80 };
        let with_port = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let (host, port) = with_port.unwrap_or((authority, usual));
        let keys = Self::new(uri, Some(&format!("outbound|{port}||{host}")))?;
        Ok(Self { refresh: self.refresh, timeout: self.timeout, ..keys })
    }
}

impl Rule {
    /// Why a name of a header cannot be used.
    pub(crate) fn check_names(&self) -> Result<(), String> {
        let sources = self.headers.iter().map(|source| &source.name);
        let outputs = self.claim_headers.iter().map(|(name, _)| name).chain(&self.payload_header);
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match sources.chain(outputs).find(|name| name.is_empty() || !name.bytes().all(token)) {
            Some(name) => Err(format!("`{name}` is not a header name")),
            None => Ok(()),
        }
    }

    /// What can be said without a key: times and audience. `now` is in seconds since 1970.
    pub fn check(&self, claims: &Claims, now: u64) -> Result<(), Refusal> {
        if claims.not_before.is_some_and(|start| start > now.saturating_add(self.skew)) {
            return Err(Refusal::NotYetValid);
        }
        if claims.expires.is_some_and(|end| end.saturating_add(self.skew) < now) {
            return Err(Refusal::Expired);
        }
        let wanted = |audience: &String| self.audiences.iter().any(|own| same_audience(own, audience));
        if !self.audiences.is_empty() && !claims.audiences.iter().any(wanted) {
            return Err(Refusal::Audience);
        }
        Ok(())
    }
}

/// Envoy takes audiences as equal that differ in their scheme and a slash at the end only.
fn same_audience(one: &str, other: &str) -> bool {
    fn bare(audience: &str) -> &str {
        let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://"));
        rest.unwrap_or(audience).trim_end_matches('/')
    }
    bare(one) == bare(other)
}

/// Claims that some requests need.
#[derive(Debug)]
pub struct ClaimRule {
    /// Which.
    pub when: RequestMatch,
    /// Name, and what it must be or have one of.
    pub require: Vec<(String, Vec<String>)>,
}

impl ClaimRule {
    /// Whether a token has what is asked for.
    pub fn holds(&self, claims: &Claims) -> bool {
        self.require.iter().all(|(name, values)| match claims.at(name) {
            None | Some(Value::Null) => false,
            Some(_) if values.is_empty() => true,
            Some(value) => values.iter().any(|wanted| has(value, wanted)),
        })
    }
}

/// A list has each of its members, a text with blanks each of its words (`scope`, RFC 8693, 4.2).
fn has(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted || text.split(' ').any(|word| word == wanted),
        Value::Array(list) => {
            list.iter().any(|member| member.as_str() == Some(wanted) || scalar(member).as_deref() == Some(wanted))
        }
        other => scalar(other).as_deref() == Some(wanted),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A claim as the value of a header: texts, whole numbers and booleans as they are, other numbers with six digits after
/// the point, lists and objects as JSON in base64, as Istio's `outputClaimToHeaders` does it. None for a text that no header
/// can hold.
pub fn header_value(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => {
            text.bytes().all(|byte| byte >= b' ' && byte != 0x7f).then(|| text.trim_matches(' ').to_owned())
        }
        Value::Null => None,
        Value::Number(number) if number.as_u64().is_none() => number.as_f64().map(|number| {
            let digits = if number >= 0.0 && number.fract() == 0.0 { 0 } else { 6 };
            format!("{number:.digits$}")
        }),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(audiences: &[&str]) -> Rule {
        Rule {
            issuer: "i".to_owned(),
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            keys: KeySource::Inline(Keys::default()),
            headers: Vec::new(),
            params: Vec::new(),
            cookies: Vec::new(),
            forward: false,
            payload_header: None,
            claim_headers: Vec::new(),
            skew: 60,
        }
    }

    fn claims(audiences: &[&str], not_before: Option<u64>, expires: Option<u64>) -> Claims {
        let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        Claims { audiences, not_before, expires, ..Claims::default() }
    }

    #[test]
    fn times_hold_with_a_minute_to_spare() {
        let check = |not_before, expires| rule(&[]).check(&claims(&[], not_before, expires), 1_000);
        assert_eq!(check(None, None), Ok(()));
        assert_eq!((check(None, Some(940)), check(None, Some(939))), (Ok(()), Err(Refusal::Expired)));
        assert_eq!((check(Some(1_060), None), check(Some(1_061), None)), (Ok(()), Err(Refusal::NotYetValid)));
        assert_eq!(check(Some(u64::MAX), Some(u64::MAX)), Err(Refusal::NotYetValid));
    }

    #[test]
    fn one_audience_is_enough_and_its_scheme_does_not_matter() {
        let check = |own: &[&str], token: &[&str]| rule(own).check(&claims(token, None, None), 0);
        assert_eq!(check(&[], &["x"]), Ok(()));
        assert_eq!(check(&["a", "b"], &["x", "b"]), Ok(()));
        assert_eq!(check(&["https://a.test/"], &["a.test"]), Ok(()));
        assert_eq!(check(&["a"], &["A"]), Err(Refusal::Audience));
        assert_eq!(check(&["a"], &[]), Err(Refusal::Audience));
    }

    #[test]
    fn claims_are_held_against_lists_words_and_plain_values() {
        let all =
            json!({"groups": ["dev", 7], "scope": "read write", "admin": true, "none": null, "deep": {"er": "x"}});
        let claims = Claims { all: all.as_object().cloned().unwrap_or_default(), ..Claims::default() };
        let holds = |name: &str, values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ClaimRule { when: RequestMatch::default(), require: vec![(name.to_owned(), values)] }.holds(&claims)
        };
        for (name, value) in
            [("groups", "dev"), ("groups", "7"), ("scope", "write"), ("admin", "true"), ("deep.er", "x")]
        {
            assert!(holds(name, &["nothing", value]), "{name} {value}");
        }
        assert!(holds("groups", &[]) && !holds("none", &[]) && !holds("other", &[]));
        assert!(!holds("scope", &["rea"]) && !holds("groups", &["de"]) && !holds("admin", &["false"]));
    }

    #[test]
    fn a_header_gets_what_it_can_hold() {
        assert_eq!(header_value(&json!("a b")).as_deref(), Some("a b"));
        assert_eq!(header_value(&json!("a\r\nb")), None);
        assert_eq!(
            (header_value(&json!(7)).as_deref(), header_value(&json!(true)).as_deref()),
            (Some("7"), Some("true"))
        );
        let number = |claim| header_value(&claim);
        assert_eq!(
            (number(json!(1.5)).as_deref(), number(json!(-7)).as_deref()),
            (Some("1.500000"), Some("-7.000000"))
        );
        assert_eq!((number(json!(2.0)).as_deref(), number(json!(7)).as_deref()), (Some("2"), Some("7")));
        assert_eq!(header_value(&json!(["a"])).as_deref(), Some("WyJhIl0="));
        assert_eq!(header_value(&Value::Null), None);
    }
}

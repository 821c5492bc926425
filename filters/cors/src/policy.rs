//! [`Policy`]: what other sites' pages may do.

use portolan_filter_conditions::StringMatch;

/// Longest list of methods or headers that is repeated to a browser, in bytes.
const MAX_ASKED: usize = 4096;

/// What pages of which origins may do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// One must hold.
    pub origins: Vec<StringMatch>,
    /// `*` is among them.
    pub any_origin: bool,
    /// Methods.
    pub methods: Names,
    /// Headers of requests.
    pub headers: Names,
    /// Headers of responses, with commas; may be empty.
    pub expose: String,
    /// Seconds.
    pub max_age: Option<String>,
    /// Cookies and the like may be sent.
    pub credentials: bool,
    /// Public pages may ask on a private network.
    pub private_network: bool,
    /// Preflights of other origins do not go upstream.
    pub ignores_others: bool,
    /// Headers are those that Envoy sends: no `vary`, the upstream's own marks stay, and preflights of other origins that
    /// are answered here learn all but the origin.
    pub like_envoy: bool,
}

/// A list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// These, with commas; may be empty.
    Listed(String),
    /// Whichever the browser asks for. A literal `*` would not do where credentials are sent.
    Asked,
}

/// What a preflight asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preflight<'a> {
    /// `origin`.
    pub origin: &'a str,
    /// `access-control-request-method`.
    pub method: &'a str,
    /// `access-control-request-headers`.
    pub headers: &'a str,
    /// `access-control-request-private-network` is `true`.
    pub private_network: bool,
}

impl Policy {
    /// True when pages of this origin may do something.
    pub fn allows(&self, origin: &str) -> bool {
        self.any_origin || self.origins.iter().any(|condition| condition.holds(origin.as_bytes()))
    }

    /// The headers that answer a preflight, as Envoy has them.
    pub fn envoys_answer<'a>(&'a self, asked: &Preflight<'a>, allowed: bool) -> Vec<(&'static str, &'a str)> {
        let lists = [
            ("access-control-allow-methods", self.methods.envoys_answer(asked.method)),
            ("access-control-allow-headers", self.headers.envoys_answer(asked.headers)),
            ("access-control-max-age", self.max_age.as_deref()),
            ("access-control-allow-credentials", self.credentials.then_some("true")),
            ("access-control-allow-origin", allowed.then_some(asked.origin)),
            ("access-control-expose-headers", Some(self.expose.as_str()).filter(|names| allowed && !names.is_empty())),
        ];
        lists.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The headers that answer a preflight of an allowed origin.
    pub fn answer<'a>(&'a self, asked: &Preflight<'a>) -> Vec<(&'static str, &'a str)> {
        let mut headers = vec![("access-control-allow-origin", asked.origin)];
        let mut give = |name, value: &'a str| {
            if !value.is_empty() {
                headers.push((name, value));
            }
        };
        give("access-control-allow-methods", self.methods.answer(asked.method));
        give("access-control-allow-headers", self.headers.answer(asked.headers));
        give("access-control-max-age", self.max_age.as_deref().unwrap_or_default());
        give("access-control-allow-credentials", if self.credentials { "true" } else { "" });
        let private = self.private_network && asked.private_network;
        give("access-control-allow-private-network", if private { "true" } else { "" });
        give("vary", PREFLIGHT_VARIES);
        headers
    }
}

/// What the answer to a preflight depends on.
pub const PREFLIGHT_VARIES: &str = "origin, access-control-request-method, access-control-request-headers";

impl Names {
    /// None when nothing is said; what is asked for may be nothing, and is said all the same.
    fn envoys_answer<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        match self {
            Self::Listed(names) => Some(names.as_str()).filter(|names| !names.is_empty()),
            Self::Asked => Some(self.answer(asked)),
        }
    }

    fn answer<'a>(&'a self, asked: &'a str) -> &'a str {
        match self {
            Self::Listed(names) => names,
            Self::Asked if asked.len() <= MAX_ASKED && asked.bytes().all(is_of_list) => asked,
            Self::Asked => "",
        }
    }
}

/// Of tokens with commas and blanks between them.
fn is_of_list(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn policy() -> Policy {
        let condition = |json| serde_json::from_str(json).unwrap();
        Policy {
            origins: vec![
                condition(r#"{"exact": "https://a.test"}"#),
                condition(r#"{"regex": "https://[a-z]+\\.b\\.test"}"#),
            ],
            any_origin: false,
            methods: Names::Listed("GET,PUT".to_owned()),
            headers: Names::Asked,
            expose: String::new(),
            max_age: Some("60".to_owned()),
            credentials: true,
            private_network: true,
            ignores_others: false,
            like_envoy: false,
        }
    }

    #[test]
    fn an_origin_is_allowed_by_one_condition_that_fits_it_as_a_whole() {
        let policy = policy();
        assert!(policy.allows("https://a.test") && policy.allows("https://x.b.test"));
        for other in ["http://a.test", "https://a.test.evil.test", "https://x.b.test.evil.test", "null", "", "*"] {
            assert!(!policy.allows(other), "{other}");
        }
        assert!(Policy { any_origin: true, ..policy }.allows("null"));
    }

    #[test]
    fn a_preflight_is_answered_with_what_is_listed_and_what_it_asks_for() {
        let asked = Preflight { origin: "https://a.test", method: "PUT", headers: "x-a, x-b", private_network: true };
        let answer = policy().answer(&asked).into_iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>();
        assert_eq!(
            answer,
            [
                "access-control-allow-origin: https://a.test",
                "access-control-allow-methods: GET,PUT",
                "access-control-allow-headers: x-a, x-b",
                "access-control-max-age: 60",
                "access-control-allow-credentials: true",
                "access-control-allow-private-network: true",
                "vary: origin, access-control-request-method, access-control-request-headers",
            ]
        );
    }

    #[test]
    fn what_is_empty_or_no_list_of_names_is_not_said() {
        let policy = Policy { credentials: false, max_age: None, private_network: false, ..policy() };
        let long = "x".repeat(5000);
        for headers in ["", "x-a\r\nx-b: 1", "é", &long] {
            let asked = Preflight { origin: "https://a.test", headers, private_network: true, ..Preflight::default() };
            let names: Vec<_> = policy.answer(&asked).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["access-control-allow-origin", "access-control-allow-methods", "vary"]);
        }
    }
}

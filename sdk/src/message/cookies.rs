//! Cookies of requests, and [`SetCookie`] for responses.

use std::time::Duration;

use crate::pairs::Headers;
use crate::{HostError, Status};

/// The cookies of a request in their order, of all its `cookie` lines. Values are as the client sent them, quotes included.
#[derive(Clone, Debug)]
pub struct Cookies<'a> {
    headers: Headers<'a>,
    line: &'a [u8],
}

impl<'a> Cookies<'a> {
    /// Of these header lines.
    pub(super) fn of(headers: Headers<'a>) -> Self {
        Self { headers, line: b"" }
    }
}

impl<'a> Iterator for Cookies<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while self.line.is_empty() {
                let (_, line) = self.headers.find(|(name, _)| name.eq_ignore_ascii_case(b"cookie"))?;
                self.line = line;
            }
            let end = self.line.iter().position(|byte| *byte == b';').unwrap_or(self.line.len());
            let (pair, rest) = self.line.split_at(end);
            self.line = rest.get(1..).unwrap_or_default();
            let pair = pair.trim_ascii();
            if let Some(equals) = pair.iter().position(|byte| *byte == b'=') {
                return Some((pair[..equals].trim_ascii_end(), pair[equals + 1..].trim_ascii_start()));
            }
        }
    }
}

/// A cookie for a client: [`Response::set_cookie`](crate::Response::set_cookie). Out of the reach of scripts, over TLS
/// only, and not sent from other sites' pages unless said otherwise; it lasts for the browser's session.
///
/// ```
/// use std::time::Duration;
/// use portolan_sdk::SetCookie;
///
/// let cookie = SetCookie::new("seen", "yes").path("/").max_age(Duration::from_secs(3600)).allow_http();
/// assert_eq!(cookie.to_header().expect("it is well formed"), "seen=yes; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
/// assert!(SetCookie::new("a", "b; Domain=evil.test").to_header().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    domain: Option<&'a str>,
    max_age: Option<Duration>,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
}

/// Which requests from other sites' pages carry a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that follow a link.
    Lax,
    /// All; browsers want [`Secure`](SetCookie::allow_http) for it.
    None,
}

impl<'a> SetCookie<'a> {
    /// A cookie with this name and value.
    pub fn new(name: &'a str, value: &'a str) -> Self {
        Self {
            name,
            value,
            path: None,
            domain: None,
            max_age: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
        }
    }

    /// For this path and those below; by default for the request's folder.
    #[must_use]
    pub fn path(mut self, path: &'a str) -> Self {
        self.path = Some(path);
        self
    }

    /// For this domain and those below; by default for the request's host only.
    #[must_use]
    pub fn domain(mut self, domain: &'a str) -> Self {
        self.domain = Some(domain);
        self
    }

    /// For so long, whole seconds; 0 deletes it.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Without TLS too.
    #[must_use]
    pub fn allow_http(mut self) -> Self {
        self.secure = false;
        self
    }

    /// Scripts may read it.
    #[must_use]
    pub fn allow_scripts(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// From other sites' pages as said here.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// The value of the header `set-cookie`; an error when name, value, path or domain hold what a cookie must not.
    pub fn to_header(&self) -> Result<String, HostError> {
        let sound = is_token(self.name)
            && self.value.bytes().all(is_cookie_octet)
            && self.path.into_iter().chain(self.domain).all(|text| text.bytes().all(is_attribute_octet));
        if !sound {
            return Err(HostError { call: "set-cookie", status: Status::BadArgument });
        }
        let mut header = [self.name, "=", self.value].concat();
        let mut add = |parts: &[&str]| parts.iter().for_each(|part| header.push_str(part));
        self.path.into_iter().for_each(|path| add(&["; Path=", path]));
        self.domain.into_iter().for_each(|domain| add(&["; Domain=", domain]));
        self.max_age.into_iter().for_each(|age| add(&["; Max-Age=", &age.as_secs().to_string()]));
        add(&[if self.secure { "; Secure" } else { "" }, if self.http_only { "; HttpOnly" } else { "" }]);
        add(&["; SameSite=", self.same_site.as_str()]);
        Ok(header)
    }
}

impl SameSite {
    fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// RFC 6265, section 4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

fn is_attribute_octet(byte: u8) -> bool {
    (byte.is_ascii_graphic() || byte == b' ') && byte != b';'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pairs::encode;

    fn cookies(lines: &[(&str, Vec<u8>)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes = encode(lines);
        Cookies::of(Headers::new(&bytes)).map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn cookies_of_all_lines_come_in_order() {
        let lines =
            [("cookie", b"a=1; b=2;; c".to_vec()), ("x", b"a=9".to_vec()), ("Cookie", b" d = \"4\";a=5".to_vec())];
        let found = cookies(&lines);
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        assert_eq!(found, [(b"a".as_slice(), b"1".as_slice()), (b"b", b"2"), (b"d", b"\"4\""), (b"a", b"5")]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_cookies_or_none(lines: Vec<Vec<u8>>) {
            let lines: Vec<_> = lines.into_iter().map(|line| ("cookie", line)).collect();
            for (name, value) in cookies(&lines) {
                prop_assert!(!name.contains(&b'=') && !name.contains(&b';') && !value.contains(&b';'));
            }
        }

        #[test]
        fn no_value_adds_an_attribute_or_a_line(name: String, value: String, path: String, domain: String) {
            let cookie = SetCookie::new(&name, &value).path(&path).domain(&domain);
            if let Ok(header) = cookie.to_header() {
                prop_assert_eq!(header.split(';').count(), 6);
                prop_assert!(header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
            }
        }
    }
}

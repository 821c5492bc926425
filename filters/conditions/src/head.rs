//! [`Head`]: a request's head, wherever it is looked at.

use portolan_sdk::{HostError, Request, Response, split_target};

/// The head of a request, lent for `'a`.
pub trait Head<'a> {
    /// The first value of a header. Pseudo headers too: `:path` with its query, `:method`, `:authority`, `:scheme`.
    ///
    /// # Errors
    /// When the host does not tell.
    fn header(&self, name: &str) -> Result<Option<&'a [u8]>, HostError>;

    /// The value of a cookie, as it was sent; of several with this name the first.
    ///
    /// # Errors
    /// When the host does not tell.
    fn cookie(&self, name: &str) -> Result<Option<&'a [u8]>, HostError>;

    /// The path without its query.
    ///
    /// # Errors
    /// When the host does not tell.
    fn path(&self) -> Result<&'a [u8], HostError> {
        Ok(split_target(self.header(":path")?.unwrap_or_default()).0)
    }

    /// The first value of a parameter of the query, as it was sent: nothing is decoded. Without `=` it is empty.
    ///
    /// # Errors
    /// When the host does not tell.
    fn query(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        let query = split_target(self.header(":path")?.unwrap_or_default()).1.unwrap_or_default();
        Ok(query
            .split(|byte| *byte == b'&')
            .find_map(|pair| value_of(pair, name).or((pair == name.as_bytes()).then_some(b""))))
    }
}

impl<'a> Head<'a> for Request<'a> {
    fn header(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        Request::header(self, name)
    }

    fn cookie(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        // HTTP/2 clients send several lines.
        let mut lines = self.headers()?.filter(|(header, _)| *header == b"cookie");
        Ok(lines.find_map(|(_, line)| cookie_of(line, name)))
    }
}

/// The request's head while its response is handled: as the route and later filters have left it.
#[derive(Debug)]
pub struct LateHead<'r, 'a>(pub &'r Response<'a>);

impl<'a> Head<'a> for LateHead<'_, 'a> {
    fn header(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        self.0.property(&["request\0headers\0", name].concat())
    }

    fn cookie(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        Ok(self.header("cookie")?.and_then(|line| cookie_of(line, name)))
    }
}

/// A cookie's value in one line of `cookie`; quotes around it are no part of it.
fn cookie_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = line.split(|byte| *byte == b';').find_map(|pair| value_of(pair.trim_ascii(), name))?;
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

/// What follows `name=`.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    struct Fixed(&'static str);

    impl Head<'static> for Fixed {
        fn header(&self, name: &str) -> Result<Option<&'static [u8]>, HostError> {
            Ok((name == ":path").then_some(self.0.as_bytes()))
        }

        fn cookie(&self, _: &str) -> Result<Option<&'static [u8]>, HostError> {
            Ok(None)
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let line = b"aa=1; a=2;b=\"3\" ; a=4; c=x=y";
        assert_eq!(cookie_of(line, "a"), Some(b"2".as_slice()));
        assert_eq!(cookie_of(line, "b"), Some(b"3".as_slice()));
        assert_eq!(cookie_of(line, "c"), Some(b"x=y".as_slice()));
        assert_eq!(cookie_of(line, "d"), None);
        assert_eq!(cookie_of(b"a=\"", "a"), Some(b"\"".as_slice()));
    }

    #[test]
    fn a_parameter_is_found_by_its_whole_name() {
        let head = Fixed("/p?ab=1&a=%20&flag&a=3");
        assert_eq!(head.path().unwrap(), b"/p");
        assert_eq!(head.query("a").unwrap(), Some(b"%20".as_slice()));
        assert_eq!(head.query("flag").unwrap(), Some(b"".as_slice()));
        assert_eq!(head.query("b").unwrap(), None);
        assert_eq!(Fixed("/p").query("a").unwrap(), None);
    }
}

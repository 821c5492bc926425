//! Path, query and authority in their parts. All of it borrows; names and values are decoded where they need it.

use std::borrow::Cow;

use super::percent::{decode, text};

/// Path, and query when there is a `?`.
///
/// ```
/// use portolan_sdk::split_target;
///
/// assert_eq!(split_target(b"/a?b?c"), (b"/a".as_slice(), Some(b"b?c".as_slice())));
/// assert_eq!(split_target(b"/a"), (b"/a".as_slice(), None));
/// ```
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// Host, and port when there is one. An IPv6 address keeps its brackets.
///
/// ```
/// use portolan_sdk::split_authority;
///
/// assert_eq!(split_authority(b"a.test:8080"), (b"a.test".as_slice(), Some(8080)));
/// assert_eq!(split_authority(b"[::1]:80"), (b"[::1]".as_slice(), Some(80)));
/// assert_eq!(split_authority(b"[::1]"), (b"[::1]".as_slice(), None));
/// assert_eq!(split_authority(b"a.test:http"), (b"a.test:http".as_slice(), None));
/// ```
pub fn split_authority(authority: &[u8]) -> (&[u8], Option<u16>) {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else { return (authority, None) };
    match digits(&authority[colon + 1..]) {
        Some(port) => (&authority[..colon], Some(port)),
        None => (authority, None),
    }
}

/// Digits and nothing else: no sign, and not none at all.
fn digits(bytes: &[u8]) -> Option<u16> {
    let digit = |number: u16, byte: &u8| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u16::from(byte - b'0')),
        _ => None,
    };
    if bytes.is_empty() { None } else { bytes.iter().try_fold(0, digit) }
}

/// The segments of a path, as they are written: [`percent_decode`](crate::percent_decode) decodes one. Empty ones are left
/// out, so `//a//b/` has two.
///
/// ```
/// use portolan_sdk::Segments;
///
/// let segments: Vec<_> = Segments::of(b"/v1//users/a%2Fb/").collect();
/// assert_eq!(segments, [b"v1".as_slice(), b"users", b"a%2Fb"]);
/// ```
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    /// Of this path, which has no query.
    pub fn of(path: &'a [u8]) -> Self {
        Self { rest: path }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest.iter().position(|byte| *byte != b'/')?;
        let rest = &self.rest[start..];
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let (segment, rest) = rest.split_at(end);
        self.rest = rest;
        Some(segment)
    }
}

/// The parameters of a query in their order, names and values decoded: `%XX`, and `+` as a blank. A parameter without `=`
/// has an empty value. Nothing is collected: a query costs what is read of it.
///
/// ```
/// use portolan_sdk::Params;
///
/// let params = Params::of(b"q=a+b&tag=x&tag=y%26z&flag");
/// assert_eq!(params.first("q").as_deref(), Some(b"a b".as_slice()));
/// assert_eq!(params.first_str("flag").as_deref(), Some(""));
/// assert_eq!(params.all("tag").collect::<Vec<_>>(), [b"x".as_slice(), b"y&z"]);
/// assert_eq!(params.first("none"), None);
/// assert_eq!(params.count(), 4);
/// ```
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Of this query, without its `?`.
    pub fn of(query: &'a [u8]) -> Self {
        Self { rest: query }
    }

    /// The first value of this name.
    pub fn first(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.all(name).next()
    }

    /// The first value of this name as text; none also when it is not UTF-8.
    pub fn first_str(&self, name: &str) -> Option<Cow<'a, str>> {
        self.first(name).and_then(text)
    }

    /// All values of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
        self.clone().filter(move |(known, _)| &**known == name.as_bytes()).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (Cow<'a, [u8]>, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let end = self.rest.iter().position(|byte| *byte == b'&').unwrap_or(self.rest.len());
            let (pair, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            if !pair.is_empty() {
                let equals = pair.iter().position(|byte| *byte == b'=');
                let (name, value) = equals.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
                return Some((decode(name, true), decode(value, true)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_target_falls_into_its_parts(target: Vec<u8>) {
            let (path, query) = split_target(&target);
            let whole = query.map_or(path.to_vec(), |query| [path, b"?", query].concat());
            prop_assert_eq!(&whole, &target);
            for segment in Segments::of(path) {
                prop_assert!(!segment.is_empty() && !segment.contains(&b'/'));
            }
            let names = query.map(Params::of).into_iter().flatten().count();
            prop_assert!(names <= target.len());
        }

        #[test]
        fn any_authority_falls_into_its_parts(authority: Vec<u8>) {
            let (host, port) = split_authority(&authority);
            prop_assert_eq!(port.is_none(), host == authority);
        }

        #[test]
        fn parameters_come_back(pairs in prop::collection::vec(("[a-z]{1,4}", "[ -~]{0,8}"), 0..8)) {
            let escape = |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
            let query: Vec<_> = pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
            let query = query.join("&");
            let back: Vec<_> = Params::of(query.as_bytes())
                .map(|(name, value)| (text(name).unwrap_or_default().into_owned(), text(value).unwrap_or_default().into_owned()))
                .collect();
            prop_assert_eq!(back, pairs);
        }
    }
}

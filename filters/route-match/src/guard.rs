//! The guard against ambiguous paths: backends read `//`, `%2F`, `;` and the like in ways of their own, and what one of
//! them takes for another path must not pass by the rule that is for that path.

use portolan_model::RouteId;

use crate::head::Head;
use crate::matcher::Rules;

/// Encoded slashes and dots, once, twice, and as over-long UTF-8, in lower case.
const ENCODED: &[(&[u8], u8)] = &[
    (b"%2f", b'/'),
    (b"%5c", b'/'),
    (b"%2e", b'.'),
    (b"%252f", b'/'),
    (b"%255c", b'/'),
    (b"%252e", b'.'),
    (b"%c0%af", b'/'),
    (b"%c1%9c", b'/'),
    (b"%c0%ae", b'.'),
    (b"%e0%80%af", b'/'),
    (b"%e0%80%ae", b'.'),
];

/// True when a lenient reader of the path would find another route, or none, and the route that was found does not spell
/// the odd part itself: a rule for prefix `//` has meant it.
pub(crate) fn is_ambiguous(rules: Rules<'_>, head: &impl Head, route: RouteId) -> bool {
    let path = head.path();
    if !is_odd(path) || is_odd(rules.written_path(route)) {
        return false;
    }
    let lenient = read_leniently(path);
    lenient != path && rules.find(&Reread { head, path: &lenient }) != Some(route)
}

/// True when readers may differ.
fn is_odd(path: &[u8]) -> bool {
    let mut last = 0;
    for (place, byte) in path.iter().enumerate() {
        let odd = match byte {
            b';' | b'\\' => true,
            b'/' => last == b'/',
            b'%' => encoded(&path[place..]).is_some(),
            _ => false,
        };
        if odd {
            return true;
        }
        last = *byte;
    }
    false
}

/// What an encoded byte at the start of the text stands for, and its length.
fn encoded(text: &[u8]) -> Option<(u8, usize)> {
    let fits = |(code, _): &&(&[u8], u8)| text.len() >= code.len() && text[..code.len()].eq_ignore_ascii_case(code);
    ENCODED.iter().find(fits).map(|(code, byte)| (*byte, code.len()))
}

/// Slashes and dots decoded, parameters of segments dropped, slashes merged, dot segments removed.
fn read_leniently(path: &[u8]) -> Vec<u8> {
    let decoded = decode(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut parts = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        let name = part.split(|byte| *byte == b';').next().unwrap_or_default();
        match name {
            b"" | b"." if !last => {}
            b"." => segments.push(b""),
            b".." => {
                segments.pop();
                if last {
                    segments.push(b"");
                }
            }
            name => segments.push(name),
        }
    }
    let mut lenient = vec![b'/'];
    lenient.extend(segments.join(&b'/'));
    lenient
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.first() {
        let (byte, length) = match first {
            b'\\' => (b'/', 1),
            b'%' => encoded(rest).unwrap_or((b'%', 1)),
            byte => (*byte, 1),
        };
        decoded.push(byte);
        rest = &rest[length..];
    }
    decoded
}

/// A head with another path.
struct Reread<'a, H> {
    head: &'a H,
    path: &'a [u8],
}

impl<H: Head> Head for Reread<'_, H> {
    fn path(&self) -> &[u8] {
        self.path
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query()
    }

    fn authority(&self) -> &[u8] {
        self.head.authority()
    }

    fn method(&self) -> &[u8] {
        self.head.method()
    }

    fn scheme(&self) -> &[u8] {
        self.head.scheme()
    }

    fn any_value(&self, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.head.any_value(name, holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lenient_reader_sees_slashes_and_dots_everywhere() {
        for (path, lenient) in [
            ("/a//b", "/a/b"),
            ("/a%2Fb", "/a/b"),
            ("/a%5c..%2fb", "/b"),
            ("/x/..;/b", "/b"),
            ("/a;v=1/b;w", "/a/b"),
            ("/x/%252e%252e/b", "/b"),
            ("/x/%c0%ae%C0%AE/b", "/b"),
            ("/a%e0%80%afb", "/a/b"),
            ("/a/%2e%2e", "/"),
            ("//", "/"),
            ("/a/;", "/a/"),
        ] {
            assert!(is_odd(path.as_bytes()), "{path}");
            assert_eq!(read_leniently(path.as_bytes()), lenient.as_bytes(), "{path}");
        }
    }

    #[test]
    fn plain_paths_are_not_looked_at_twice() {
        for path in ["/", "/a/b.c/d-e", "/caf%C3%A9", "/a%20b", "/100%", "/a%2"] {
            assert!(!is_odd(path.as_bytes()), "{path}");
        }
    }
}

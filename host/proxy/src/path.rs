//! Path normalisation before matching, Istio's default mode BASE: dot segments (also percent-encoded), backslashes and
//! percent-encoded unreserved letters. `//` and `%2F` stay, the query is not touched.

use std::borrow::Cow;

/// The path is none: it does not begin with `/`, or climbs above it, or holds a NUL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

/// The normalised path. Borrowed, and hardly looked at, when there is nothing to do.
pub(crate) fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath);
    }
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    Ok(Cow::Owned(remove_dot_segments(&decoded)))
}

fn is_plain(path: &[u8]) -> bool {
    let mut last = 0;
    for byte in path {
        match byte {
            b'%' | b'\\' => return false,
            b'.' if last == b'/' => return false,
            _ => last = *byte,
        }
    }
    true
}

/// Decodes unreserved letters (RFC 3986 section 2.3) and turns backslashes around.
fn decode(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if let Some(after) = from.strip_prefix('\\') {
            out.push('/');
            rest = after;
            continue;
        }
        match from.get(1..3).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(0) => return Err(BadPath),
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            Some(_) => out.push_str(&from[..3]),
            None => {
                out.push('%');
                rest = &from[1..];
                continue;
            }
        }
        rest = &from[3..];
    }
    out.push_str(rest);
    Ok(out)
}

/// RFC 3986 section 5.2.4; climbing above the root stays at the root.
fn remove_dot_segments(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => out.push(""),
            "." => {}
            ".." => {
                out.pop();
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base_mode() {
        let cases = [
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a\\b", "/a/b"),
            ("/%61bc", "/abc"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a//b", "/a//b"),
            ("/a%zz", "/a%zz"),
            ("/.hidden", "/.hidden"),
        ];
        for (from, to) in cases {
            assert_eq!(normalize(from).unwrap(), to, "{from}");
        }
        assert_eq!(normalize("a"), Err(BadPath));
        assert_eq!(normalize("/a%00"), Err(BadPath));
    }

    proptest! {
        #[test]
        fn the_result_is_a_path_without_dot_segments(path in "/[a-z./%2eE\\\\]{0,24}") {
            if let Ok(path) = normalize(&path) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}

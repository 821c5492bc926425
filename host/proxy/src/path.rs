//! Path normalisation before matching, in Istio's modes. By default (BASE) dot segments (also percent-encoded),
//! backslashes and percent-encoded unreserved letters are made canonical, dot segments lose their parameters (`/..;x`), what no path has as it is (`"<>^`, braces, what is
//! not ASCII) is percent-encoded; `//` and `%2F` stay. The query is not touched.

use std::borrow::Cow;

use portolan_model::PathNormalization;

/// The path is none: it does not begin with `/`, or climbs above it, or holds a NUL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadPath;

/// The normalised path. Borrowed, and hardly looked at, when there is nothing to do.
pub(crate) fn normalize(path: &str, mode: PathNormalization) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath);
    }
    if mode == PathNormalization::None || is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(&without_parameters(path), mode == PathNormalization::DecodeAndMergeSlashes)?;
    let canonical = encode(remove_dot_segments(&decoded));
    Ok(Cow::Owned(if mode >= PathNormalization::MergeSlashes { merge_slashes(&canonical) } else { canonical }))
}

fn is_plain(path: &[u8]) -> bool {
    let mut last = 0;
    for byte in path {
        match byte {
            b'%' | b'\\' => return false,
            odd if is_odd(*odd) => return false,
            b'.' | b'/' if last == b'/' => return false,
            _ => last = *byte,
        }
    }
    true
}

/// `//` and longer runs become one slash.
fn merge_slashes(path: &str) -> String {
    let mut last = '\0';
    path.chars().filter(|c| !(std::mem::replace(&mut last, *c) == '/' && *c == '/')).collect()
}

/// Dot segments without what follows a `;` in them, as Envoy has them: some backends take `/..;x` for `/..`.
fn without_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains("/.;") && !path.contains("/..;") {
        return Cow::Borrowed(path);
    }
    let plain = |segment| match str::split_once(segment, ';') {
        Some((dots @ ("." | ".."), _)) => dots,
        _ => segment,
    };
    path.split('/').map(plain).collect::<Vec<_>>().join("/").into()
}

/// Decodes unreserved letters (RFC 3986 section 2.3), and slashes if asked to, and turns backslashes around.
fn decode(path: &str, slashes: bool) -> Result<String, BadPath> {
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
            Some(b'/' | b'\\') if slashes => out.push('/'),
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

/// True for what no path has as it is.
fn is_odd(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{'..=b'}' | 0x80..)
}

/// Encodes what a path has not as it is, as Envoy's normalisation does.
fn encode(path: String) -> String {
    if !path.bytes().any(is_odd) {
        return path;
    }
    let mut out = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if is_odd(byte) {
            out.push('%');
            out.extend([byte >> 4, byte & 15].map(|digit| char::from(b"0123456789ABCDEF"[usize::from(digit)])));
        } else {
            out.push(char::from(byte));
        }
    }
    out
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

    fn base(path: &str) -> Result<Cow<'_, str>, BadPath> {
        normalize(path, PathNormalization::Base)
    }

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
            ("/a/..;/b", "/b"),
            ("/a/.;x=1;y/..;z", "/"),
            ("/a/..x;/b", "/a/..x;/b"),
            ("/a;x/..", "/"),
            // Seen with Envoy 1.40: only as they are written.
            ("/a/%2e%2e;/b", "/a/..;/b"),
            ("/a\\..;\\b", "/a/..;/b"),
            ("/\"^`{|}~[]", "/%22%5E%60%7B%7C%7D~[]"),
            ("/\u{e9}", "/%C3%A9"),
        ];
        for (from, to) in cases {
            assert_eq!(base(from).unwrap(), to, "{from}");
        }
        assert_eq!(base("a"), Err(BadPath));
        assert_eq!(base("/a%00"), Err(BadPath));
    }

    #[test]
    fn each_mode_does_more_than_the_one_before() {
        let modes = [
            PathNormalization::None,
            PathNormalization::Base,
            PathNormalization::MergeSlashes,
            PathNormalization::DecodeAndMergeSlashes,
        ];
        for (from, to) in [
            ("/a/../b", ["/a/../b", "/b", "/b", "/b"]),
            ("/a//b", ["/a//b", "/a//b", "/a/b", "/a/b"]),
            ("///", ["///", "///", "/", "/"]),
            ("/a%2fb", ["/a%2fb", "/a%2fb", "/a%2fb", "/a/b"]),
            ("/a%5C..%2Fb", ["/a%5C..%2Fb", "/a%5C..%2Fb", "/a%5C..%2Fb", "/b"]),
            ("/%61", ["/%61", "/a", "/a", "/a"]),
        ] {
            assert_eq!(modes.map(|mode| normalize(from, mode).unwrap().into_owned()), to, "{from}");
        }
    }

    proptest! {
        #[test]
        fn the_result_is_a_path_without_dot_segments(path in "/[a-z./%2eE\\\\]{0,24}") {
            if let Ok(path) = base(&path) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}

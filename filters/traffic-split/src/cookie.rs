//! The cookie of a sticky split.

/// The value of the first cookie of this name in one `cookie` header line.
pub(crate) fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.split(|byte| *byte == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// The `set-cookie` value for a new user: a session cookie for the whole host, out of reach of scripts.
pub(crate) fn set(name: &str, id: &str) -> String {
    [name, "=", id, "; Path=/; HttpOnly; SameSite=Lax"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        for (line, expected) in [
            ("v=1", Some("1")),
            ("a=b; v=1; v=2", Some("1")),
            ("vv=0;v=\"1\"", Some("1")),
            ("v=", Some("")),
            ("xv=1", None),
            ("v", None),
            ("", None),
        ] {
            assert_eq!(value(line.as_bytes(), "v"), expected.map(str::as_bytes), "{line}");
        }
    }

    #[test]
    fn the_cookie_lasts_for_the_session_and_the_whole_host() {
        assert_eq!(set("v", "17"), "v=17; Path=/; HttpOnly; SameSite=Lax");
    }
}

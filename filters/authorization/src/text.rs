//! [`Text`]: a value of a policy as a condition on text, as Istio reads it: `*`, `*end`, `start*`, or the whole.

use portolan_filter_conditions::Pattern;

/// Prefix of identities in certificates.
const SPIFFE: &str = "spiffe://";

/// What `{*}` fits in a path, and with `/` what `{**}` does: the characters of RFC 3986's segments, as seen in Envoy 1.40.
const SEGMENT: &str = r"a-zA-Z0-9\-._~%!$\&'()*+,;:@=";

/// A condition on text.
#[derive(Clone, Debug)]
pub enum Text {
    /// Anything but nothing.
    Any,
    /// The whole.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// A regular expression for the whole.
    Regex(Pattern),
}

impl Text {
    /// As in most fields.
    pub fn new(value: &str) -> Self {
        match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
            ("*", ..) => Self::Any,
            (_, Some(end), _) => Self::Suffix(end.to_owned()),
            (_, _, Some(start)) => Self::Prefix(start.to_owned()),
            _ => Self::Exact(value.to_owned()),
        }
    }

    /// An identity, whose `spiffe://` is not written.
    pub fn principal(value: &str) -> Result<Self, String> {
        Ok(match Self::new(value) {
            Self::Exact(whole) => Self::Exact(format!("{SPIFFE}{whole}")),
            Self::Prefix(start) => Self::Prefix(format!("{SPIFFE}{start}")),
            Self::Suffix(end) => Self::Regex(Pattern::new(&format!("{SPIFFE}.*{}", quoted(&end)))?),
            other => other,
        })
    }

    /// An identity by its namespace, in which `*` stands for any text.
    pub fn namespace(value: &str) -> Result<Self, String> {
        let parts: Vec<String> = value.split('*').map(quoted).collect();
        Ok(Self::Regex(Pattern::new(&format!(".*/ns/{}/.*", parts.join(".*")))?))
    }

    /// An identity by its service account, in this namespace unless it names another.
    pub fn service_account(value: &str, namespace: &str) -> Result<Self, String> {
        let (namespace, name) = value.split_once('/').unwrap_or((namespace, value));
        let (namespace, name) = (quoted(namespace), quoted(name));
        Ok(Self::Regex(Pattern::new(&format!("{SPIFFE}.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?"))?))
    }

    /// A path, or a template of paths.
    pub fn path(value: &str) -> Result<Self, String> {
        if !value.contains("{*}") && !value.contains("{**}") {
            return Ok(Self::new(value));
        }
        let segments = value.split('/').map(|segment| match segment {
            "{*}" => format!("[{SEGMENT}]+"),
            "{**}" => format!("[{SEGMENT}/]*"),
            literal => quoted(literal),
        });
        Ok(Self::Regex(Pattern::new(&segments.collect::<Vec<_>>().join("/"))?))
    }

    /// The same, for text in lower case.
    pub fn lower_case(self) -> Self {
        match self {
            Self::Exact(text) => Self::Exact(text.to_ascii_lowercase()),
            Self::Prefix(text) => Self::Prefix(text.to_ascii_lowercase()),
            Self::Suffix(text) => Self::Suffix(text.to_ascii_lowercase()),
            other => other,
        }
    }

    /// True when it holds for this text.
    pub fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Any => !text.is_empty(),
            Self::Exact(whole) => text == whole.as_bytes(),
            Self::Prefix(start) => text.starts_with(start.as_bytes()),
            Self::Suffix(end) => text.ends_with(end.as_bytes()),
            Self::Regex(pattern) => pattern.fits(text),
        }
    }
}

/// Text as a regular expression for itself.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::Text;

    fn path(value: &str, path: &str) -> bool {
        Text::path(value).unwrap().holds(path.as_bytes())
    }

    #[test]
    fn a_star_stands_at_one_end_and_alone_for_anything() {
        let holds = |value, text: &str| Text::new(value).holds(text.as_bytes());
        assert!(holds("*", "x") && !holds("*", ""));
        assert!(holds("/a*", "/abc") && holds("/a*", "/a") && !holds("/a*", "/b"));
        assert!(holds("*.b", "a.b") && holds("*.b", ".b") && !holds("*.b", "b"));
        assert!(holds("a", "a") && !holds("a", "A") && !holds("a.b", "axb"));
        assert!(holds("*a*", "xa*"), "a star at the beginning makes the other one a letter");
    }

    #[test]
    fn templates_stand_for_segments() {
        assert!(path("/a/{*}", "/a/b") && !path("/a/{*}", "/a/b/c") && !path("/a/{*}", "/a/"));
        assert!(path("/a/{*}/c", "/a/b/c") && !path("/a/{*}/c", "/a/b/x/c"));
        assert!(path("/a/{**}", "/a/") && path("/a/{**}", "/a/b/c") && !path("/a/{**}", "/a"));
        assert!(path("/a/{**}/z.txt", "/a/b/c/z.txt") && !path("/a/{**}/z.txt", "/a/b/zxtxt"));
        assert!(path("/a/{*}", "/a/b*c=%22") && !path("/a/{*}", "/a/b[c"), "a bracket is no character of a path");
        assert!(path("/a/{**}/z.txt", "/a//z.txt") && !path("/a/{**}/z.txt", "/a/z.txt"));
    }

    #[test]
    fn identities_are_known_by_their_parts() {
        let ada = b"spiffe://cluster.local/ns/shop/sa/ada";
        let holds = |text: Result<Text, String>| text.unwrap().holds(ada);
        assert!(holds(Text::principal("cluster.local/ns/shop/sa/ada")) && !holds(Text::principal("ada")));
        assert!(holds(Text::principal("*/sa/ada")) && holds(Text::principal("cluster.local/*")));
        assert!(holds(Text::principal("*")) && !Text::principal("*").unwrap().holds(b""));
        assert!(holds(Text::namespace("shop")) && holds(Text::namespace("sh*")) && !holds(Text::namespace("sho")));
        assert!(holds(Text::service_account("ada", "shop")) && !holds(Text::service_account("ada", "other")));
        assert!(holds(Text::service_account("shop/ada", "other")) && !holds(Text::service_account("ad", "shop")));
    }
}

//! [`Template`]: a header's value in Envoy's format language, of which it serves a part.

use portolan_filter_conditions::HeaderName;
use portolan_sdk::schema::Node;
use portolan_sdk::{ConfigSchema, HostError};
use serde::{Deserialize, Deserializer, de};

/// Longest template in bytes.
const MAX_TEMPLATE: usize = 4096;

/// Text with commands: `%REQ(X-USER?X-OTHER):20%`. A command without a value is empty, as in Envoy's header formatter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The first of these that has a value, cut to a number of bytes.
    Value {
        sources: Vec<Source>,
        length: usize,
    },
}

/// Where a command's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A header of the request.
    Request(String),
    /// A header of the response.
    Response(String),
    /// A parameter of the query, not decoded.
    Query(String),
    /// A cookie of the request.
    Cookie(String),
    /// A property, its path joined with NUL.
    Property(String),
    /// A property that holds an address with a port, which is cut off.
    Address(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEMPLATE {
            return Err(format!("{} bytes are too many for a value: at most {MAX_TEMPLATE}", text.len()));
        }
        if text.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err("a value holds no line ends and no other control characters".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, command)) = rest.split_once('%') {
            push_text(&mut parts, literal);
            let (command, after) = command
                .split_once('%')
                .ok_or_else(|| format!("`%{command}` has no closing `%`; a literal percent sign is written `%%`"))?;
            match command {
                "" => push_text(&mut parts, "%"),
                command => parts.push(value(command)?),
            }
            rest = after;
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// True when it asks for the response, which a request does not have yet.
    pub fn needs_response(&self) -> bool {
        self.sources().any(|source| match source {
            Source::Response(_) => true,
            Source::Property(path) => path.starts_with("response\0"),
            _ => false,
        })
    }

    /// Where its values are.
    pub fn sources(&self) -> impl Iterator<Item = &Source> {
        self.parts.iter().flat_map(|part| match part {
            Part::Text(_) => &[][..],
            Part::Value { sources, .. } => sources,
        })
    }

    /// The value, with what `look_up` finds.
    ///
    /// # Errors
    /// Those of `look_up`.
    pub fn render<'a>(
        &self,
        look_up: impl Fn(&Source) -> Result<Option<&'a [u8]>, HostError>,
    ) -> Result<Vec<u8>, HostError> {
        let mut text = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.extend_from_slice(literal.as_bytes()),
                Part::Value { sources, length } => {
                    for source in sources {
                        if let Some(value) = look_up(source)? {
                            let value = if matches!(source, Source::Address(_)) { without_port(value) } else { value };
                            text.extend_from_slice(&value[..value.len().min(*length)]);
                            break;
                        }
                    }
                }
            }
        }
        Ok(text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl ConfigSchema for Template {
    const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// `NAME`, `NAME(ARGUMENT)`, `NAME(ARGUMENT):LENGTH`.
fn value(command: &str) -> Result<Part, String> {
    let malformed = || format!("`%{command}%` is malformed: it is written `%COMMAND(ARGUMENT):LENGTH%`");
    let (name, argument, length) = match command.split_once('(') {
        None => (command, None, ""),
        Some((name, rest)) => {
            let (argument, length) = rest.rsplit_once(')').ok_or_else(malformed)?;
            (name, Some(argument).filter(|argument| !argument.is_empty()), length)
        }
    };
    let length = match length.strip_prefix(':') {
        Some(digits) => digits.parse().map_err(|_| malformed())?,
        None if length.is_empty() => usize::MAX,
        None => return Err(malformed()),
    };
    let sources = match (name, argument) {
        ("REQ", Some(names)) => headers(names, Source::Request)?,
        ("RESP", Some(names)) => headers(names, Source::Response)?,
        ("QUERY_PARAM", Some(name)) => vec![Source::Query(name.to_owned())],
        ("COOKIE", Some(name)) => vec![Source::Cookie(name.to_owned())],
        ("PROPERTY", Some(path)) => vec![Source::Property(path.replace('.', "\0"))],
        ("REQ" | "RESP" | "QUERY_PARAM" | "COOKIE" | "PROPERTY", None) | (_, Some(_)) => {
            return Err(unknown(name, malformed()));
        }
        (name, None) => vec![plain(name).ok_or_else(|| unknown(name, String::new()))?],
    };
    Ok(Part::Value { sources, length })
}

/// One name, or two with `?` between them.
fn headers(names: &str, source: impl Fn(String) -> Source) -> Result<Vec<Source>, String> {
    let name = |name| Ok(source(HeaderName::new(name)?.as_str().to_owned()));
    names.splitn(2, '?').map(name).collect()
}

/// Commands without an argument.
fn plain(name: &str) -> Option<Source> {
    let property = |path: &str| Source::Property(path.to_owned());
    Some(match name {
        "PROTOCOL" => property("request\0protocol"),
        "ROUTE_NAME" => property("xds\0route_name"),
        "UPSTREAM_CLUSTER" => property("xds\0cluster_name"),
        "UPSTREAM_HOST" => property("upstream\0address"),
        "DOWNSTREAM_REMOTE_ADDRESS" => property("source\0address"),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Source::Address("source\0address".to_owned()),
        "DOWNSTREAM_LOCAL_ADDRESS" => property("destination\0address"),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Source::Address("destination\0address".to_owned()),
        _ => return None,
    })
}

const KNOWN: &str = "REQ(NAME), RESP(NAME), QUERY_PARAM(NAME), COOKIE(NAME), PROPERTY(PATH), PROTOCOL, ROUTE_NAME, \
                     UPSTREAM_CLUSTER, UPSTREAM_HOST, DOWNSTREAM_REMOTE_ADDRESS, DOWNSTREAM_LOCAL_ADDRESS, and the last \
                     two with _WITHOUT_PORT";

fn unknown(name: &str, malformed: String) -> String {
    let is_known = matches!(name, "REQ" | "RESP" | "QUERY_PARAM" | "COOKIE" | "PROPERTY") || plain(name).is_some();
    if is_known { malformed } else { format!("`%{name}%` is not known: there are {KNOWN}") }
}

/// `192.0.2.1` of `192.0.2.1:80`, `2001:db8::1` of `[2001:db8::1]:80`.
fn without_port(address: &[u8]) -> &[u8] {
    let end = address.iter().rposition(|byte| *byte == b':').unwrap_or(address.len());
    let host = &address[..end];
    host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn render(template: &str) -> String {
        let look_up = |source: &Source| {
            Ok(match source {
                Source::Request(name) if name == "x-a" => Some(b"alpha".as_slice()),
                Source::Response(name) if name == "x-b" => Some(b"beta".as_slice()),
                Source::Query(name) if name == "q" => Some(b"%20".as_slice()),
                Source::Cookie(name) if name == "c" => Some(b"crumb".as_slice()),
                Source::Property(path) if path == "a\0b" => Some(b"property".as_slice()),
                Source::Address(_) => Some(b"[2001:db8::1]:80".as_slice()),
                _ => None,
            })
        };
        String::from_utf8(Template::new(template).unwrap().render(look_up).unwrap()).unwrap()
    }

    #[test]
    fn commands_stand_for_values() {
        assert_eq!(render("plain"), "plain");
        assert_eq!(render("<%REQ(X-A)%|%RESP(x-b)%>"), "<alpha|beta>");
        assert_eq!(render("%QUERY_PARAM(q)% %COOKIE(c)% %PROPERTY(a.b)%"), "%20 crumb property");
        assert_eq!(render("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"), "2001:db8::1");
        assert_eq!(render("100%%"), "100%");
    }

    #[test]
    fn what_is_absent_has_a_second_name_or_is_empty() {
        assert_eq!(render("%REQ(x-none?X-A)%"), "alpha");
        assert_eq!(render("[%REQ(x-none)%%ROUTE_NAME%]"), "[]");
    }

    #[test]
    fn a_length_cuts() {
        assert_eq!(render("%REQ(x-a):3% %REQ(x-a):30% %COOKIE(c):0%"), "alp alpha ");
    }

    #[test]
    fn what_is_not_served_is_refused_with_what_is() {
        let refusal = |text: &str| Template::new(text).unwrap_err();
        assert!(refusal("%START_TIME%").contains("`%START_TIME%` is not known: there are REQ(NAME)"));
        assert!(refusal("%REQ%").contains("`%REQ%` is malformed"));
        assert!(refusal("%REQ(a):x%").contains("malformed") && refusal("%REQ(a)x%").contains("malformed"));
        assert!(refusal("%REQ(a b)%").contains("`a b` is no name of a header"));
        assert!(refusal("100%").contains("has no closing `%`"));
        assert!(refusal("a\r\nb").contains("no line ends"));
        assert!(refusal(&"x".repeat(5000)).contains("too many"));
    }

    #[test]
    fn what_needs_the_response_is_known() {
        for text in ["%RESP(a)%", "%PROPERTY(response.code)%", "%REQ(a)% %RESP(a?b)%"] {
            assert!(Template::new(text).unwrap().needs_response(), "{text}");
        }
        assert!(!Template::new("%REQ(a)% %PROPERTY(request.id)%").unwrap().needs_response());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[%A-Z()?:.0-9a-z ]{0,40}") {
            if let Ok(template) = Template::new(&text) {
                template.render(|_| Ok(Some(b"v".as_slice()))).unwrap();
            }
        }

        #[test]
        fn text_without_percent_signs_stays_as_it_is(text in "[ -$&-~]{0,40}") {
            prop_assert_eq!(render(&text), text);
        }
    }
}

//! Values of cases that can be written in several forms: a text alone, a list, or a map that says more.
//!
//! serde's `untagged` would lose the places of everything below, so each form is read as it comes.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::args::parse_duration;

/// A type that can be written in several forms.
pub(crate) trait Forms: Sized {
    /// Its form as a map; it denies unknown fields.
    type Map: DeserializeOwned;
    /// Its form as a list.
    type List: DeserializeOwned;
    /// What is told when it has none of the forms.
    const WHAT: &'static str;

    /// From a text, as numbers and booleans are too; none when it is not written so.
    fn of_text(_text: &str) -> Option<Self> {
        None
    }

    /// From a map; the reason when that does not fit.
    fn of_map(map: Self::Map) -> Result<Self, String>;

    /// From a list; none when it is not written so.
    fn of_list(_list: Self::List) -> Option<Self> {
        None
    }
}

/// For types without a list form.
#[derive(Debug, Deserialize)]
pub(crate) enum NoList {}

/// Makes types with several forms readable.
macro_rules! deserialize {
    ($($name:ty),*) => {
        $(impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::cases::forms::any_form(deserializer)
            }
        })*
    };
}
pub(crate) use deserialize;

/// Reads whatever form is there.
pub(crate) fn any_form<'de, T: Forms, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(AnyForm(PhantomData))
}

struct AnyForm<T>(PhantomData<T>);

impl<T: Forms> AnyForm<T> {
    fn text<E: Error>(text: &str) -> Result<T, E> {
        T::of_text(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &Self(PhantomData)))
    }
}

impl<'de, T: Forms> Visitor<'de> for AnyForm<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Self::text(text)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        Self::text(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        Self::text(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        Self::text(&value.to_string())
    }

    /// YAML's reader has made `1.50` a number already: as what it was written cannot be told.
    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Err(E::custom("a number with a point is to be put in quotes here"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let map = T::Map::deserialize(MapAccessDeserializer::new(map))?;
        T::of_map(map).map_err(A::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        let list = T::List::deserialize(SeqAccessDeserializer::new(list))?;
        T::of_list(list).ok_or_else(|| A::Error::invalid_type(serde::de::Unexpected::Seq, &Self(PhantomData)))
    }
}

/// Header lines in order: a map of names to a value or to a list of values, or a list of pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

/// One value or several.
#[derive(Debug)]
pub(crate) struct Lines(Vec<String>);

impl Forms for Lines {
    type Map = BTreeMap<String, String>;
    type List = Vec<String>;
    const WHAT: &'static str = "a value, or a list of values";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self(vec![text.to_owned()]))
    }

    fn of_map(_: Self::Map) -> Result<Self, String> {
        Err(format!("expected {}, found a map", Self::WHAT))
    }

    fn of_list(list: Vec<String>) -> Option<Self> {
        Some(Self(list))
    }
}

impl Forms for Headers {
    type Map = BTreeMap<String, Lines>;
    type List = Vec<(String, String)>;
    const WHAT: &'static str = "a map of names to values, or a list of pairs";

    fn of_map(map: Self::Map) -> Result<Self, String> {
        let lines = |(name, Lines(values)): (String, Lines)| values.into_iter().map(move |value| (name.clone(), value));
        Ok(Self(map.into_iter().flat_map(lines).collect()))
    }

    fn of_list(list: Self::List) -> Option<Self> {
        Some(Self(list))
    }
}

/// A body: a text alone, or `json` or `base64`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    /// As it is sent.
    pub(crate) bytes: Vec<u8>,
    /// Written as `json`: then it has that content type if no other is named.
    pub(crate) is_json: bool,
}

/// The map form of [`Content`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContentFields {
    text: Option<String>,
    json: Option<Value>,
    base64: Option<String>,
}

impl Forms for Content {
    type Map = ContentFields;
    type List = NoList;
    const WHAT: &'static str = "a text, or one of `text`, `json`, `base64`";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self { bytes: text.as_bytes().to_vec(), is_json: false })
    }

    fn of_map(map: ContentFields) -> Result<Self, String> {
        match map {
            ContentFields { text: Some(text), json: None, base64: None } => {
                Ok(Self { bytes: text.into_bytes(), is_json: false })
            }
            ContentFields { text: None, json: Some(json), base64: None } => {
                Ok(Self { bytes: json.to_string().into_bytes(), is_json: true })
            }
            ContentFields { text: None, json: None, base64: Some(text) } => {
                Ok(Self { bytes: from_base64(&text)?, is_json: false })
            }
            _ => Err(format!("expected {}", Self::WHAT)),
        }
    }
}

/// A condition on a text: the text itself, or a map with one of Istio's words for it.
#[derive(Clone, Debug)]
pub(crate) enum TextMatch {
    /// The whole text.
    Exact(String),
    /// How it begins.
    Prefix(String),
    /// What is in it.
    Contains(String),
    /// The whole text, in RE2's syntax.
    Regex(Regex),
    /// Several lines of a header, in this order.
    Lines(Vec<String>),
    /// Whether there is any.
    Present(bool),
}

/// The map form of [`TextMatch`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TextFields {
    exact: Option<String>,
    prefix: Option<String>,
    contains: Option<String>,
    regex: Option<String>,
    present: Option<bool>,
}

impl Forms for TextMatch {
    type Map = TextFields;
    type List = Vec<String>;
    const WHAT: &'static str = "a text, or one of `exact`, `prefix`, `contains`, `regex`, `present`";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self::Exact(text.to_owned()))
    }

    fn of_map(map: TextFields) -> Result<Self, String> {
        let TextFields { exact, prefix, contains, regex, present } = map;
        let regex = regex.as_deref().map(whole).transpose()?;
        let found = [
            exact.map(Self::Exact),
            prefix.map(Self::Prefix),
            contains.map(Self::Contains),
            regex.map(Self::Regex),
            present.map(Self::Present),
        ];
        only(found).ok_or_else(|| format!("expected {}", Self::WHAT))
    }

    fn of_list(list: Vec<String>) -> Option<Self> {
        Some(Self::Lines(list))
    }
}

/// A condition on a body.
#[derive(Clone, Debug)]
pub(crate) enum ContentMatch {
    /// As text.
    Text(TextMatch),
    /// As JSON, whatever its spaces and the order of its keys.
    Json(Value),
    /// Byte for byte.
    Bytes(Vec<u8>),
}

/// The map form of [`ContentMatch`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContentMatchFields {
    exact: Option<String>,
    prefix: Option<String>,
    contains: Option<String>,
    regex: Option<String>,
    json: Option<Value>,
    base64: Option<String>,
}

impl Forms for ContentMatch {
    type Map = ContentMatchFields;
    type List = NoList;
    const WHAT: &'static str = "a text, or one of `exact`, `prefix`, `contains`, `regex`, `json`, `base64`";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self::Text(TextMatch::Exact(text.to_owned())))
    }

    fn of_map(map: ContentMatchFields) -> Result<Self, String> {
        let ContentMatchFields { exact, prefix, contains, regex, json, base64 } = map;
        let regex = regex.as_deref().map(whole).transpose()?;
        let found = [
            exact.map(TextMatch::Exact).map(Self::Text),
            prefix.map(TextMatch::Prefix).map(Self::Text),
            contains.map(TextMatch::Contains).map(Self::Text),
            regex.map(TextMatch::Regex).map(Self::Text),
            json.map(Self::Json),
            base64.as_deref().map(from_base64).transpose()?.map(Self::Bytes),
        ];
        only(found).ok_or_else(|| format!("expected {}", Self::WHAT))
    }
}

deserialize!(Headers, Lines, Content, TextMatch, ContentMatch);

/// The only one that is there.
fn only<T, const N: usize>(found: [Option<T>; N]) -> Option<T> {
    let mut found = found.into_iter().flatten();
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// A regular expression for a whole text, as in Istio.
fn whole(pattern: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|_| format!("`{pattern}` is not a regular expression"))
}

fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    let text: String = text.split_whitespace().collect();
    BASE64.decode(text).map_err(|error| format!("not base64: {error}"))
}

/// `50ms`, `2s`.
pub(crate) fn delay<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).map_err(D::Error::custom)
}

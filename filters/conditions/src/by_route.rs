//! [`ByRoute`]: the configuration of a filter that a user puts into the chain, or the gateway itself by route.

use std::fmt;
use std::marker::PhantomData;

use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What the gateway writes begins with this key; no user's configuration has it.
const FIRST_KEY: &str = "schema";

/// A configuration of one of two kinds, told apart by the first key.
#[derive(Clone, Debug)]
pub enum ByRoute<W, R> {
    /// A user's, for all requests that the filter sees.
    Whole(W),
    /// The gateway's own.
    Routes(R),
}

/// Users are told of their own.
impl<W: ConfigSchema, R> ConfigSchema for ByRoute<W, R> {
    const SCHEMA: Node = W::SCHEMA;
}

impl<'de, W: Deserialize<'de>, R: Deserialize<'de>> Deserialize<'de> for ByRoute<W, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Kinds(PhantomData))
    }
}

struct Kinds<W, R>(PhantomData<(W, R)>);

impl<'de, W: Deserialize<'de>, R: Deserialize<'de>> Visitor<'de> for Kinds<W, R> {
    type Value = ByRoute<W, R>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let first = map.next_key::<String>()?;
        let is_own = first.as_deref() == Some(FIRST_KEY);
        let whole = MapAccessDeserializer::new(Begun { first, map });
        if is_own { R::deserialize(whole).map(ByRoute::Routes) } else { W::deserialize(whole).map(ByRoute::Whole) }
    }
}

/// A map whose first key has been taken out.
struct Begun<A> {
    first: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Whole {
        a: u8,
    }

    #[derive(Debug, Deserialize)]
    struct Routes {
        schema: u8,
        routes: Vec<u8>,
    }

    fn read(json: &str) -> Result<(u8, usize), String> {
        match serde_json::from_str::<ByRoute<Whole, Routes>>(json).map_err(|error| error.to_string())? {
            ByRoute::Whole(whole) => Ok((whole.a, 0)),
            ByRoute::Routes(routes) => Ok((routes.schema, routes.routes.len())),
        }
    }

    #[test]
    fn the_first_key_tells_whose_configuration_it_is() {
        assert_eq!(read(r#"{"a": 3}"#), Ok((3, 0)));
        assert_eq!(read(r#"{"schema": 1, "routes": [7, 8]}"#), Ok((1, 2)));
    }

    #[test]
    fn mistakes_are_told_as_of_the_kind_itself() {
        let refusal = |json| read(json).map(|_| String::new()).unwrap_or_else(|error| error);
        assert!(refusal("{}").contains("missing field `a`"));
        assert!(refusal(r#"{"b": 1}"#).contains("unknown field `b`, expected `a`"));
        assert!(refusal("[]").contains("expected an object"));
    }
}

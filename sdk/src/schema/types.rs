//! The forms of the standard library's types and of serde_json's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::IgnoredAny;

use super::{ConfigSchema, Node, Note};
use crate::NoConfig;

macro_rules! form {
    ($($kind:ty),+ => $node:expr) => {
        $(impl ConfigSchema for $kind {
            const SCHEMA: Node = $node;
        })+
    };
}

macro_rules! integers {
    ($($kind:ty: $least:expr),+ $(,)?) => {
        $(impl ConfigSchema for $kind {
            const SCHEMA: Node = Node::Integer { min: $least as i128, max: <$kind>::MAX as i128 };
        })+
    };
}

macro_rules! not_zero {
    ($($kind:ty),+) => {
        $(impl ConfigSchema for $kind {
            const SCHEMA: Node = Node::Integer { min: 1, max: <$kind>::MAX.get() as i128 };
        })+
    };
}

macro_rules! list {
    ($($kind:ident),+) => {
        $(impl<T: ConfigSchema> ConfigSchema for $kind<T> {
            const SCHEMA: Node = Node::Array { items: &T::SCHEMA, length: None };
        })+
    };
}

macro_rules! passed_on {
    ($($kind:ident),+) => {
        $(impl<T: ConfigSchema + ?Sized> ConfigSchema for $kind<T> {
            const SCHEMA: Node = T::SCHEMA;
            const OPTIONAL: bool = T::OPTIONAL;
        })+
    };
}

macro_rules! tuple {
    ($($item:ident)+) => {
        impl<$($item: ConfigSchema),+> ConfigSchema for ($($item,)+) {
            const SCHEMA: Node = Node::Tuple(&[$(&$item::SCHEMA),+]);
        }
    };
}

form! { NoConfig, IgnoredAny, serde_json::Value => Node::Any }
form! { () => Node::Null }
form! { bool => Node::Bool }
form! { str, String => Node::String }
form! { f32, f64 => Node::Number }
form! { char => with(&Node::String, &[
    Note { key: "minLength", json: "1" },
    Note { key: "maxLength", json: "1" },
]) }
form! { Ipv4Addr => with(&Node::String, &[Note { key: "format", json: "\"ipv4\"" }]) }
form! { Ipv6Addr => with(&Node::String, &[Note { key: "format", json: "\"ipv6\"" }]) }
form! { IpAddr, SocketAddr => Node::String }
form! { serde_json::Map<String, serde_json::Value> => Node::Map { keys: &Node::String, values: &Node::Any } }

integers! {
    u8: 0, u16: 0, u32: 0, u64: 0, usize: 0,
    i8: i8::MIN, i16: i16::MIN, i32: i32::MIN, i64: i64::MIN, isize: isize::MIN,
}

not_zero! { NonZeroU8, NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize }
list! { Vec, VecDeque, BTreeSet, Slice }

passed_on! { Box, Rc, Arc }

tuple! { A B }
tuple! { A B C }
tuple! { A B C D }

/// What `Box<[T]>` holds.
type Slice<T> = [T];

const fn with(node: &'static Node, notes: &'static [Note]) -> Node {
    Node::With { node, notes }
}

impl<T: ConfigSchema> ConfigSchema for Option<T> {
    const SCHEMA: Node = Node::Nullable(&T::SCHEMA);
    const OPTIONAL: bool = true;
}

impl<T: ConfigSchema, const N: usize> ConfigSchema for [T; N] {
    const SCHEMA: Node = Node::Array { items: &T::SCHEMA, length: Some(N) };
}

impl<T: ConfigSchema, S> ConfigSchema for HashSet<T, S> {
    const SCHEMA: Node = Node::Array { items: &T::SCHEMA, length: None };
}

impl<K: ConfigSchema, V: ConfigSchema> ConfigSchema for BTreeMap<K, V> {
    const SCHEMA: Node = Node::Map { keys: &K::SCHEMA, values: &V::SCHEMA };
}

impl<K: ConfigSchema, V: ConfigSchema, S> ConfigSchema for HashMap<K, V, S> {
    const SCHEMA: Node = Node::Map { keys: &K::SCHEMA, values: &V::SCHEMA };
}

impl<T: ConfigSchema + ToOwned + ?Sized> ConfigSchema for Cow<'_, T> {
    const SCHEMA: Node = T::SCHEMA;
}

//! [`ConfigSchema`]: the JSON Schema of a configuration, worked out at compile time and carried inside the module.
//!
//! A host that knows the schema can point at the wrong key before the filter starts, and an editor can complete the
//! keys. It costs nothing at run time: `schema` in [`filter!`](crate::filter) puts the text into the module's custom
//! section `portolan.schema`, beside the code.
//!
//! ```
//! use portolan_sdk::{ConfigSchema, schema_of};
//!
//! /// Limits of one client.
//! #[derive(serde::Deserialize, ConfigSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// Requests in a second.
//!     #[schema(minimum = 1, example = 100)]
//!     rate: u32,
//!     #[serde(default)]
//!     header: Option<String>,
//! }
//!
//! assert_eq!(
//!     schema_of!(Config),
//!     concat!(
//!         r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","description":"Limits of one client.","#,
//!         r#""type":"object","properties":{"#,
//!         r#""rate":{"description":"Requests in a second.","minimum":1,"examples":[100],"type":"integer","maximum":4294967295},"#,
//!         r#""header":{"type":["string","null"]}},"required":["rate"],"additionalProperties":false}"#
//!     )
//! );
//! ```
//!
//! The derive reads the attributes of serde that change what is accepted, so that both say the same. What it cannot
//! express does not compile. Where serde takes several forms of a thing, as an array for a struct, the schema has the
//! usual one.

mod members;
mod objects;
mod types;
mod variants;
mod writer;

pub use portolan_sdk_derive::ConfigSchema;

use self::members::Place;
use self::writer::Writer;

/// A type whose form in JSON is known when it is compiled. Derived, as [`serde::Deserialize`] is.
///
/// By hand it takes one line, for a type that reads itself from a form that another type has:
///
/// ```
/// use portolan_sdk::{ConfigSchema, schema::Node};
///
/// /// `10s`, read by hand.
/// struct Period(std::time::Duration);
///
/// impl ConfigSchema for Period {
///     const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
/// }
/// ```
///
/// What cannot be expressed does not compile, and says what to do. A field whose type has no schema:
///
/// ```compile_fail
/// #[derive(serde::Deserialize, portolan_sdk::ConfigSchema)]
/// struct Config {
///     period: std::time::Duration,
/// }
/// ```
///
/// A keyword that is not for the field's type:
///
/// ```compile_fail
/// #[derive(serde::Deserialize, portolan_sdk::ConfigSchema)]
/// struct Config {
///     #[schema(minimum = 1)]
///     name: String,
/// }
/// ```
///
/// Keys of a map that are not text:
///
/// ```compile_fail
/// portolan_sdk::schema_of!(std::collections::BTreeMap<u8, u8>);
/// ```
#[diagnostic::on_unimplemented(
    message = "the form of `{Self}` in JSON is not known",
    label = "has no schema",
    note = "derive `portolan_sdk::ConfigSchema` for it beside `serde::Deserialize`",
    note = "or name a type of the same form on the field, as in `#[schema(form = \"String\")]`"
)]
pub trait ConfigSchema {
    /// The form.
    const SCHEMA: Node;

    /// True when serde takes a missing field of this type for a value, as it does for `Option`.
    const OPTIONAL: bool = false;
}

/// A form in JSON. Made by the derive; by hand the one of a type with the same form will do.
#[derive(Clone, Copy, Debug)]
pub enum Node {
    /// Anything.
    Any,
    /// `null` alone.
    Null,
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
    /// A whole number.
    Integer {
        /// The least.
        min: i128,
        /// The greatest.
        max: i128,
    },
    /// Any number.
    Number,
    /// A list.
    Array {
        /// Of each element.
        items: &'static Node,
        /// How many, when that is fixed.
        length: Option<usize>,
    },
    /// A list with a form for each place.
    Tuple(&'static [&'static Node]),
    /// An object with any keys.
    Map {
        /// Text, or an enum of names.
        keys: &'static Node,
        /// Of each value.
        values: &'static Node,
    },
    /// An object with known keys.
    Object {
        /// In order.
        fields: &'static [Field],
        /// Others are refused.
        closed: bool,
    },
    /// One of several.
    OneOf {
        /// In order.
        variants: &'static [Variant],
        /// How one is told from another.
        tagging: Tagging,
        /// Other keys beside an adjacent tag are refused, and beside the tag of a variant that holds nothing.
        closed: bool,
    },
    /// This or `null`.
    Nullable(&'static Node),
    /// This, and more about it.
    With {
        /// What it is said of.
        node: &'static Node,
        /// What is said; of the same keyword the outermost counts.
        notes: &'static [Note],
    },
}

/// A key of an object.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, and others that mean the same.
    pub names: &'static [&'static str],
    /// Of its value.
    pub node: &'static Node,
    /// It may not be missing.
    pub required: bool,
    /// Not a key at all: the value's own keys stand here.
    pub flatten: bool,
}

/// One of several forms.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// Its name, and others that mean the same.
    pub names: &'static [&'static str],
    /// What it holds; none for a name alone.
    pub node: Option<&'static Node>,
    /// What it holds may be missing.
    pub optional: bool,
}

/// How one of several forms says which one it is, in serde's words.
#[derive(Clone, Copy, Debug)]
pub enum Tagging {
    /// `{"name": {..}}`, or `"name"` when it holds nothing.
    External,
    /// `{"tag": "name", ..}`.
    Internal(&'static str),
    /// `{"tag": "name", "content": {..}}`.
    Adjacent {
        /// Key of the name.
        tag: &'static str,
        /// Key of what it holds.
        content: &'static str,
    },
    /// Not at all: the first that fits.
    Untagged,
}

/// A keyword of JSON Schema with its value.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// As in `minLength`.
    pub key: &'static str,
    /// In JSON.
    pub json: &'static str,
}

/// Length of the JSON Schema of a form, in bytes.
#[doc(hidden)]
pub const fn length(node: &Node) -> usize {
    document::<0>(node).length
}

/// The JSON Schema of a form; `N` is its [`length`].
#[doc(hidden)]
pub const fn json<const N: usize>(node: &Node) -> [u8; N] {
    document::<N>(node).bytes
}

/// Ends the compilation when a keyword makes no sense for a form.
#[doc(hidden)]
pub const fn check(node: &Node, key: &str) {
    members::check(node, key);
}

const fn document<const N: usize>(node: &Node) -> Writer<N> {
    let mut out = Writer::new();
    out.open(b'{');
    out.key("$schema");
    out.string("https://json-schema.org/draft/2020-12/schema");
    members::members(&mut out, node, Place::VALUE);
    out.byte(b'}');
    out
}

/// The JSON Schema of a type with [`ConfigSchema`], as a constant `&'static str`.
#[macro_export]
macro_rules! schema_of {
    ($config:ty) => {{
        const NODE: $crate::schema::Node = <$config as $crate::ConfigSchema>::SCHEMA;
        const JSON: [u8; $crate::schema::length(&NODE)] = $crate::schema::json(&NODE);
        const TEXT: &str = match ::core::str::from_utf8(&JSON) {
            Ok(text) => text,
            Err(_) => "",
        };
        TEXT
    }};
}

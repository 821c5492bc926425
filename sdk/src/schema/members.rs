//! [`members`]: the keywords of one form.

use super::writer::{Writer, equal};
use super::{Node, Note, objects, variants};

/// What surrounds a form, and so changes what is written of it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// What was said of it from outside.
    pub(super) notes: Option<&'a Notes<'a>>,
    /// It may be null.
    pub(super) nullable: bool,
    /// Its keys stand among others, so that it cannot refuse any.
    pub(super) open: bool,
    /// It is told elsewhere that it is an object.
    pub(super) typeless: bool,
    /// A key that stands beside its own.
    pub(super) tag: Option<&'a str>,
}

impl Place<'_> {
    /// A value by itself.
    pub(super) const VALUE: Self = Self { notes: None, nullable: false, open: false, typeless: false, tag: None };
}

/// Notes around notes.
pub(super) struct Notes<'a> {
    own: &'a [Note],
    outer: Option<&'a Notes<'a>>,
}

/// A form as a value.
pub(super) const fn value<const N: usize>(out: &mut Writer<N>, node: &Node) {
    out.open(b'{');
    members(out, node, Place::VALUE);
    out.byte(b'}');
}

/// The keywords of a form, without the braces around them.
pub(super) const fn members<const N: usize>(out: &mut Writer<N>, node: &Node, place: Place<'_>) {
    match node {
        Node::With { node, notes } => {
            let notes = Notes { own: notes, outer: place.notes };
            return members(out, node, Place { notes: Some(&notes), ..place });
        }
        Node::Nullable(node) => return members(out, node, Place { nullable: true, ..place }),
        _ => write_notes(out, node, place.notes),
    }
    match node {
        Node::Null => types(out, "null", Place { nullable: false, ..place }),
        Node::Bool => types(out, "boolean", place),
        Node::String => types(out, "string", place),
        Node::Number => types(out, "number", place),
        Node::Integer { min, max } => {
            types(out, "integer", place);
            bound(out, "minimum", *min, place);
            bound(out, "maximum", *max, place);
        }
        Node::Array { items, length } => array(out, items, *length, place),
        Node::Tuple(items) => tuple(out, items, place),
        Node::Map { keys, values } => objects::map(out, keys, values, place),
        Node::Object { fields, closed } => objects::object(out, fields, *closed, place),
        Node::OneOf { variants, tagging, closed } => variants::one_of(out, variants, *tagging, *closed, place),
        Node::Any | Node::With { .. } | Node::Nullable(_) => {}
    }
}

/// `"type"`, with `null` where that will do as well.
pub(super) const fn types<const N: usize>(out: &mut Writer<N>, name: &str, place: Place<'_>) {
    if place.typeless {
        return;
    }
    out.key("type");
    if place.nullable {
        out.open(b'[');
        out.string(name);
        out.string("null");
        out.byte(b']');
    } else {
        out.string(name);
    }
}

/// A form without what is said of it.
pub(super) const fn bare(mut node: &Node) -> &Node {
    while let Node::With { node: inner, .. } | Node::Nullable(inner) = node {
        node = inner;
    }
    node
}

/// See [`super::check`].
pub(super) const fn check(node: &Node, key: &str) {
    let node = bare(node);
    let fits = if matches!(node, Node::Any) || is_one_of(key, &["description", "default", "examples", "deprecated"]) {
        true
    } else if is_one_of(key, &["minLength", "maxLength", "pattern", "format"]) {
        matches!(node, Node::String)
    } else if is_one_of(key, &["minItems", "maxItems", "uniqueItems"]) {
        matches!(node, Node::Array { .. })
    } else if is_one_of(key, &["minProperties", "maxProperties"]) {
        matches!(node, Node::Map { .. } | Node::Object { .. })
    } else {
        matches!(node, Node::Integer { .. } | Node::Number)
    };
    assert!(
        fits,
        "this keyword of `#[schema(..)]` is not for this type: `minimum` and its like are for numbers, `min_length`, \
         `pattern` and `format` for text, `min_items` for lists, `min_properties` for maps"
    );
}

const fn is_one_of(key: &str, known: &[&str]) -> bool {
    let mut at = 0;
    while at < known.len() {
        if equal(key, known[at]) {
            return true;
        }
        at += 1;
    }
    false
}

const fn write_notes<const N: usize>(out: &mut Writer<N>, node: &Node, mut notes: Option<&Notes<'_>>) {
    while let Some(Notes { own, outer }) = notes {
        let mut at = 0;
        while at < own.len() {
            check(node, own[at].key);
            if !says(*outer, own[at].key) {
                out.key(own[at].key);
                out.json(own[at].json);
            }
            at += 1;
        }
        notes = *outer;
    }
}

/// Whether a keyword is among these notes.
const fn says(mut notes: Option<&Notes<'_>>, key: &str) -> bool {
    while let Some(Notes { own, outer }) = notes {
        let mut at = 0;
        while at < own.len() {
            if equal(own[at].key, key) {
                return true;
            }
            at += 1;
        }
        notes = *outer;
    }
    false
}

/// The bound of a type, unless the author gave a narrower one.
const fn bound<const N: usize>(out: &mut Writer<N>, key: &str, number: i128, place: Place<'_>) {
    if !says(place.notes, key) {
        out.key(key);
        out.integer(number);
    }
}

const fn array<const N: usize>(out: &mut Writer<N>, items: &Node, length: Option<usize>, place: Place<'_>) {
    types(out, "array", place);
    out.key("items");
    value(out, items);
    if let Some(length) = length {
        out.key("minItems");
        out.integer(length as i128);
        out.key("maxItems");
        out.integer(length as i128);
    }
}

const fn tuple<const N: usize>(out: &mut Writer<N>, items: &[&Node], place: Place<'_>) {
    types(out, "array", place);
    out.key("prefixItems");
    out.open(b'[');
    let mut at = 0;
    while at < items.len() {
        value(out, items[at]);
        at += 1;
    }
    out.byte(b']');
    out.key("items");
    out.json("false");
    out.key("minItems");
    out.integer(items.len() as i128);
}

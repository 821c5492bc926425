//! [`one_of`]: enums, by serde's four ways of telling one variant from another.

use super::members::{Place, bare, members, types, value};
use super::objects::any_name;
use super::writer::Writer;
use super::{Node, Tagging, Variant};

pub(super) const fn one_of<const N: usize>(
    out: &mut Writer<N>,
    variants: &[Variant],
    tagging: Tagging,
    closed: bool,
    place: Place<'_>,
) {
    match tagging {
        Tagging::External => external(out, variants, place),
        Tagging::Internal(tag) => internal(out, variants, tag, closed, place),
        Tagging::Adjacent { tag, content } => adjacent(out, variants, (tag, content), closed, place),
        Tagging::Untagged => untagged(out, variants, place),
    }
}

/// As few alternatives as can be, so that what is wrong inside of one is told with its own place.
const fn external<const N: usize>(out: &mut Writer<N>, variants: &[Variant], place: Place<'_>) {
    let (names, objects) = (count(variants, false), count(variants, true));
    if objects == 0 {
        types(out, "string", place);
        return enumeration(out, variants, place.nullable);
    }
    if names == 0 {
        types(out, "object", place);
    } else {
        assert!(!place.open, "an enum with variants that hold nothing can only be flattened with a tag");
        out.json(if place.nullable { r#""type":["string","object","null"]"# } else { r#""type":["string","object"]"# });
        out.json(r#""if":{"type":"string"},"then":{"#);
        enumeration(out, variants, false);
        out.byte(b'}');
    }
    out.key("properties");
    out.open(b'{');
    let mut at = 0;
    while at < variants.len() {
        if let Some(node) = variants[at].node {
            let mut name = 0;
            while name < variants[at].names.len() {
                out.key(variants[at].names[name]);
                value(out, node);
                name += 1;
            }
        }
        at += 1;
    }
    out.byte(b'}');
    if place.open {
        any_variant(out, variants);
    } else {
        out.json(r#""additionalProperties":false,"minProperties":1,"maxProperties":1"#);
    }
}

/// Among other keys: one of the variants must be there.
const fn any_variant<const N: usize>(out: &mut Writer<N>, variants: &[Variant]) {
    out.key("anyOf");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        any_name(out, variants[at].names);
        at += 1;
    }
    out.byte(b']');
}

const fn internal<const N: usize>(
    out: &mut Writer<N>,
    variants: &[Variant],
    tag: &str,
    closed: bool,
    place: Place<'_>,
) {
    tagged(out, variants, tag, place);
    out.byte(b'}');
    out.key("allOf");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        let place = Place { open: place.open, typeless: true, tag: Some(tag), ..Place::VALUE };
        when(out, &variants[at], tag);
        match variants[at].node {
            None => members(out, &Node::Object { fields: &[], closed }, place),
            Some(node) => {
                assert!(
                    matches!(bare(node), Node::Object { .. } | Node::Map { .. } | Node::Any),
                    "what stands beside a tag must be a struct or a map: add `content` to the enum's attribute of serde"
                );
                members(out, node, place);
            }
        }
        out.byte(b'}');
        out.byte(b'}');
        at += 1;
    }
    out.byte(b']');
}

const fn adjacent<const N: usize>(
    out: &mut Writer<N>,
    variants: &[Variant],
    (tag, content): (&str, &str),
    closed: bool,
    place: Place<'_>,
) {
    tagged(out, variants, tag, place);
    out.key(content);
    out.json("{}");
    out.byte(b'}');
    if closed && !place.open {
        out.json(r#""additionalProperties":false"#);
    }
    out.key("allOf");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        when(out, &variants[at], tag);
        out.key("properties");
        out.open(b'{');
        out.key(content);
        match variants[at].node {
            Some(node) => value(out, node),
            None => value(out, &Node::Null),
        }
        out.byte(b'}');
        if variants[at].node.is_some() && !variants[at].optional {
            out.key("required");
            out.open(b'[');
            out.string(content);
            out.byte(b']');
        }
        out.byte(b'}');
        out.byte(b'}');
        at += 1;
    }
    out.byte(b']');
}

const fn untagged<const N: usize>(out: &mut Writer<N>, variants: &[Variant], place: Place<'_>) {
    out.key("anyOf");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        out.open(b'{');
        match variants[at].node {
            Some(node) => members(out, node, Place { open: place.open, ..Place::VALUE }),
            None => members(out, &Node::Null, Place::VALUE),
        }
        out.byte(b'}');
        at += 1;
    }
    if place.nullable {
        value(out, &Node::Null);
    }
    out.byte(b']');
}

/// An object with a tag; its properties are left open.
const fn tagged<const N: usize>(out: &mut Writer<N>, variants: &[Variant], tag: &str, place: Place<'_>) {
    types(out, "object", place);
    out.key("required");
    out.open(b'[');
    out.string(tag);
    out.byte(b']');
    out.key("properties");
    out.open(b'{');
    out.key(tag);
    out.open(b'{');
    let names = Place::VALUE;
    types(out, "string", names);
    out.key("enum");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        list(out, variants[at].names);
        at += 1;
    }
    out.byte(b']');
    out.byte(b'}');
}

/// The condition that the tag names a variant, and the start of what holds then.
const fn when<const N: usize>(out: &mut Writer<N>, variant: &Variant, tag: &str) {
    out.json(r#"{"if":{"required":["#);
    out.string(tag);
    out.byte(b']');
    out.key("properties");
    out.open(b'{');
    out.key(tag);
    out.json(r#"{"enum":["#);
    list(out, variant.names);
    out.byte(b']');
    out.byte(b'}');
    out.byte(b'}');
    out.byte(b'}');
    out.key("then");
    out.open(b'{');
}

/// The names of the variants that hold nothing.
const fn enumeration<const N: usize>(out: &mut Writer<N>, variants: &[Variant], nullable: bool) {
    out.key("enum");
    out.open(b'[');
    let mut at = 0;
    while at < variants.len() {
        if variants[at].node.is_none() {
            list(out, variants[at].names);
        }
        at += 1;
    }
    if nullable {
        out.json("null");
    }
    out.byte(b']');
}

const fn list<const N: usize>(out: &mut Writer<N>, names: &[&str]) {
    let mut at = 0;
    while at < names.len() {
        out.string(names[at]);
        at += 1;
    }
}

const fn count(variants: &[Variant], holding: bool) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < variants.len() {
        if variants[at].node.is_some() == holding {
            count += 1;
        }
        at += 1;
    }
    count
}

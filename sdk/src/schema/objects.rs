//! Objects: maps, and structs with the fields of others among their own.

use super::members::{Place, bare, members, types, value};
use super::writer::Writer;
use super::{Field, Node};

pub(super) const fn map<const N: usize>(out: &mut Writer<N>, keys: &Node, values: &Node, place: Place<'_>) {
    types(out, "object", place);
    let is_enum = matches!(bare(keys), Node::OneOf { .. });
    assert!(is_enum || matches!(bare(keys), Node::String), "keys of a map are text: `String`, or an enum of names");
    if is_enum {
        out.key("propertyNames");
        value(out, keys);
    }
    if let Some(tag) = place.tag {
        out.key("properties");
        out.open(b'{');
        anything(out, tag);
        out.byte(b'}');
    }
    out.key("additionalProperties");
    value(out, values);
}

pub(super) const fn object<const N: usize>(out: &mut Writer<N>, fields: &[Field], closed: bool, place: Place<'_>) {
    types(out, "object", place);
    out.key("properties");
    out.open(b'{');
    if let Some(tag) = place.tag {
        anything(out, tag);
    }
    properties(out, fields);
    out.byte(b'}');
    if has_required(fields) {
        out.key("required");
        out.open(b'[');
        required(out, fields);
        out.byte(b']');
    }
    if has_aliases(fields) {
        out.key("dependentSchemas");
        out.open(b'{');
        one_name_at_most(out, fields);
        out.byte(b'}');
    }
    if has_more(fields) {
        out.key("allOf");
        out.open(b'[');
        more(out, fields, closed);
        out.byte(b']');
    }
    others(out, fields, closed, place);
}

/// A key with any value.
const fn anything<const N: usize>(out: &mut Writer<N>, name: &str) {
    out.key(name);
    out.json("{}");
}

/// The keys, and those of flattened structs, as if they were one's own.
const fn properties<const N: usize>(out: &mut Writer<N>, fields: &[Field]) {
    let mut at = 0;
    while at < fields.len() {
        let Field { names, node, flatten, .. } = &fields[at];
        let mut name = 0;
        while name < names.len() && !*flatten {
            out.key(names[name]);
            value(out, node);
            name += 1;
        }
        if *flatten {
            let node = bare(node);
            let fits = matches!(node, Node::Object { .. } | Node::Map { .. } | Node::Any | Node::OneOf { .. });
            assert!(fits, "only structs, maps and enums can be flattened");
            if let Node::Object { fields, .. } = node {
                properties(out, fields);
            }
        }
        at += 1;
    }
}

/// The fields of a flattened struct that must be there.
const fn flattened(field: &Field) -> Option<&'static [Field]> {
    match (field.flatten, bare(field.node)) {
        (true, Node::Object { fields, .. }) => Some(*fields),
        _ => None,
    }
}

/// Whether a flattened struct may be missing as a whole.
const fn is_nullable(mut node: &Node) -> bool {
    while let Node::With { node: inner, .. } = node {
        node = inner;
    }
    matches!(node, Node::Nullable(_))
}

const fn has_required(fields: &[Field]) -> bool {
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        let has = match flattened(field) {
            Some(fields) => !is_nullable(field.node) && has_required(fields),
            None => !field.flatten && field.required && field.names.len() == 1,
        };
        if has {
            return true;
        }
        at += 1;
    }
    false
}

const fn required<const N: usize>(out: &mut Writer<N>, fields: &[Field]) {
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        match flattened(field) {
            Some(fields) if !is_nullable(field.node) => required(out, fields),
            None if !field.flatten && field.required && field.names.len() == 1 => out.string(field.names[0]),
            _ => {}
        }
        at += 1;
    }
}

const fn has_aliases(fields: &[Field]) -> bool {
    let mut at = 0;
    while at < fields.len() {
        let has = match flattened(&fields[at]) {
            Some(fields) => has_aliases(fields),
            None => fields[at].names.len() > 1,
        };
        if has {
            return true;
        }
        at += 1;
    }
    false
}

/// serde refuses a field that is there under two of its names.
const fn one_name_at_most<const N: usize>(out: &mut Writer<N>, fields: &[Field]) {
    let mut at = 0;
    while at < fields.len() {
        if let Some(fields) = flattened(&fields[at]) {
            one_name_at_most(out, fields);
        }
        let names = fields[at].names;
        let mut first = 0;
        while first + 1 < names.len() {
            out.key(names[first]);
            out.json(r#"{"properties":{"#);
            let mut second = first + 1;
            while second < names.len() {
                out.key(names[second]);
                out.json("false");
                second += 1;
            }
            out.byte(b'}');
            out.byte(b'}');
            first += 1;
        }
        at += 1;
    }
}

const fn is_flattened_enum(field: &Field) -> bool {
    field.flatten && matches!(bare(field.node), Node::OneOf { .. })
}

const fn has_more(fields: &[Field]) -> bool {
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        let has = match flattened(field) {
            Some(fields) => !is_nullable(field.node) && has_more(fields),
            None => is_flattened_enum(field) || (!field.flatten && field.required && field.names.len() > 1),
        };
        if has {
            return true;
        }
        at += 1;
    }
    false
}

/// What no keyword of its own says: a field under one of its names, and enums among the fields.
const fn more<const N: usize>(out: &mut Writer<N>, fields: &[Field], closed: bool) {
    let mut at = 0;
    while at < fields.len() {
        let field = &fields[at];
        match flattened(field) {
            Some(fields) if !is_nullable(field.node) => more(out, fields, closed),
            None if is_flattened_enum(field) => {
                assert!(!closed, "a flattened enum and `deny_unknown_fields` exclude each other");
                assert!(!is_nullable(field.node), "a flattened enum cannot be optional: give it a variant for nothing");
                out.open(b'{');
                members(out, field.node, Place { open: true, typeless: true, ..Place::VALUE });
                out.byte(b'}');
            }
            None if !field.flatten && field.required && field.names.len() > 1 => any_name(out, field.names),
            _ => {}
        }
        at += 1;
    }
}

/// One of these keys must be there.
pub(super) const fn any_name<const N: usize>(out: &mut Writer<N>, names: &[&str]) {
    out.open(b'{');
    out.key("anyOf");
    out.open(b'[');
    let mut at = 0;
    while at < names.len() {
        out.json(r#"{"required":["#);
        out.string(names[at]);
        out.byte(b']');
        out.byte(b'}');
        at += 1;
    }
    out.byte(b']');
    out.byte(b'}');
}

/// What other keys may hold.
const fn others<const N: usize>(out: &mut Writer<N>, fields: &[Field], closed: bool, place: Place<'_>) {
    let mut at = 0;
    while at < fields.len() {
        match bare(fields[at].node) {
            Node::Map { values, .. } if fields[at].flatten => {
                assert!(!closed, "a flattened map and `deny_unknown_fields` exclude each other");
                out.key("additionalProperties");
                return value(out, values);
            }
            Node::Any if fields[at].flatten => return,
            _ => {}
        }
        at += 1;
    }
    if closed && !place.open {
        out.key("additionalProperties");
        out.json("false");
    }
}

//! What the derive refuses, and that it says what to do.

use syn::{DeriveInput, parse_quote};

use crate::case::Case;
use crate::expand;

fn refusal(input: DeriveInput) -> String {
    expand(&input).err().map(|error| error.to_string()).unwrap_or_default()
}

/// Of a type in Rust's text.
fn refused(text: &str) -> String {
    syn::parse_str(text).map(refusal).unwrap_or_else(|error| format!("not Rust: {error}"))
}

#[test]
fn what_has_no_form_is_refused_with_what_to_do() {
    for (text, wanted) in [
        (r#"struct A { #[serde(deserialize_with = "f")] a: u8 }"#, "#[schema(form = \"String\")]"),
        (r#"struct A { #[serde(with = "f")] a: u8 }"#, "#[schema(form = \"String\")]"),
        ("struct A { children: Vec<A> }", "a type that holds itself"),
        ("enum A { B(Box<Self>) }", "a type that holds itself"),
        ("struct A { #[serde(wherever)] a: u8 }", "`wherever` of serde"),
        ("enum A { B, #[serde(other)] C }", "`other` of serde"),
        ("enum A { B, #[serde(untagged)] C(u8) }", "`untagged` of serde"),
        (r#"#[serde(remote = "X")] struct A {}"#, "`remote` of serde"),
        ("struct A { #[schema(minimun = 1)] a: u8 }", "known are form, minimum"),
        ("struct A { #[schema(minimum = 1u8)] a: u8 }", "as JSON has it"),
        ("struct A(u8, #[serde(default)] u8);", "give the fields names"),
        ("union A { a: u8 }", "no unions"),
    ] {
        assert!(refused(text).contains(wanted), "{text}: {}", refused(text));
    }
}

#[test]
fn what_does_not_change_the_form_is_passed_over() {
    let input: DeriveInput = parse_quote! {
        #[serde(rename = "X", expecting = "a config", bound(deserialize = "T: X"), into = "Y")]
        struct A<T> {
            #[serde(skip_serializing_if = "Option::is_none", serialize_with = "f", rename(serialize = "z"))]
            a: T,
        }
    };
    assert_eq!(refusal(input), "");
}

#[test]
fn names_are_spelt_as_serde_spells_them() {
    for (case, field, variant) in [
        (Case::Lower, "max_size", "maxsize"),
        (Case::Upper, "MAX_SIZE", "MAXSIZE"),
        (Case::Pascal, "MaxSize", "MaxSize"),
        (Case::Camel, "maxSize", "maxSize"),
        (Case::Snake, "max_size", "max_size"),
        (Case::ScreamingSnake, "MAX_SIZE", "MAX_SIZE"),
        (Case::Kebab, "max-size", "max-size"),
        (Case::ScreamingKebab, "MAX-SIZE", "MAX-SIZE"),
    ] {
        assert_eq!((case.of_field("max_size").as_str(), case.of_variant("MaxSize").as_str()), (field, variant));
    }
}

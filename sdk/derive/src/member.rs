//! [`Member`]: what the attributes of a field or variant say.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Type};

use crate::attributes::{self, each};
use crate::case::Case;
use crate::json;

/// Keywords of `#[schema(..)]` that take a value, with their names in JSON Schema.
const KEYWORDS: &[(&str, &str)] = &[
    ("minimum", "minimum"),
    ("maximum", "maximum"),
    ("exclusive_minimum", "exclusiveMinimum"),
    ("exclusive_maximum", "exclusiveMaximum"),
    ("multiple_of", "multipleOf"),
    ("min_length", "minLength"),
    ("max_length", "maxLength"),
    ("pattern", "pattern"),
    ("format", "format"),
    ("min_items", "minItems"),
    ("max_items", "maxItems"),
    ("unique_items", "uniqueItems"),
    ("min_properties", "minProperties"),
    ("max_properties", "maxProperties"),
    ("default", "default"),
    ("example", "examples"),
    ("deprecated", "deprecated"),
];

/// What the attributes of a field or of a variant say.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) notes: Vec<Note>,
    rename: Option<String>,
    aliases: Vec<String>,
    pub(crate) rename_all: Option<Case>,
    pub(crate) default: bool,
    pub(crate) skip: bool,
    pub(crate) flatten: bool,
    /// A function of the author's reads it.
    custom: Option<Span>,
    form: Option<Type>,
}

/// A keyword with its value in JSON.
pub(crate) struct Note {
    key: &'static str,
    json: String,
    span: Span,
}

impl Member {
    pub(crate) fn new(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut member = Self { notes: described(&attributes::docs(attributes)), ..Self::default() };
        each(attributes, "serde", |key, meta| member.read_serde(key, meta))?;
        each(attributes, "schema", |key, meta| member.read_schema(key, meta))?;
        match member.custom {
            Some(span) if member.form.is_none() && !member.skip => Err(Error::new(
                span,
                "how this function reads JSON is not known\n\
                 help: name a type of the same form: `#[schema(form = \"String\")]`",
            )),
            _ => Ok(member),
        }
    }

    fn read_serde(&mut self, key: &str, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        match key {
            "rename" => self.rename = attributes::read_texts(meta)?.pop().or(self.rename.take()),
            "alias" => self.aliases.push(attributes::text(meta)?),
            "rename_all" => self.rename_all = Case::read(meta)?,
            "skip" | "skip_deserializing" => self.skip = true,
            "flatten" => self.flatten = true,
            "default" => {
                self.default = true;
                attributes::skip(meta)?;
            }
            "with" | "deserialize_with" => {
                self.custom = Some(meta.path.span());
                attributes::skip(meta)?;
            }
            "skip_serializing" | "skip_serializing_if" | "serialize_with" | "borrow" | "bound" => {
                attributes::skip(meta)?;
            }
            _ => return Err(attributes::unknown(meta, key)),
        }
        Ok(())
    }

    fn read_schema(&mut self, key: &str, meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
        if key == "form" {
            self.form = Some(attributes::named_type(meta)?);
            return Ok(());
        }
        let Some((_, keyword)) = KEYWORDS.iter().find(|(name, _)| *name == key) else {
            let known: Vec<_> = KEYWORDS.iter().map(|(name, _)| *name).collect();
            return Err(
                meta.error(format!("no keyword of `#[schema(..)]`\nhelp: known are form, {}", known.join(", ")))
            );
        };
        let is_flag = matches!(key, "deprecated" | "unique_items") && !meta.input.peek(syn::Token![=]);
        let json = if is_flag { "true".to_owned() } else { json::value(meta.value()?)? };
        let before = self.notes.iter_mut().find(|note| note.key == *keyword && *keyword == "examples");
        match before {
            Some(note) => note.json = format!("{},{json}]", note.json.trim_end_matches(']')),
            None if *keyword == "examples" => self.note(keyword, format!("[{json}]"), meta),
            None => self.note(keyword, json, meta),
        }
        Ok(())
    }

    fn note(&mut self, key: &'static str, json: String, meta: &ParseNestedMeta<'_>) {
        self.notes.push(Note { key, json, span: meta.path.span() });
    }

    /// The name in JSON, then others.
    pub(crate) fn names(&self, name: &str, spelt: impl Fn(&str) -> String) -> Vec<String> {
        let name = self.rename.clone().unwrap_or_else(|| spelt(name.trim_start_matches("r#")));
        let mut names = vec![name];
        for alias in &self.aliases {
            if !names.contains(alias) {
                names.push(alias.clone());
            }
        }
        names
    }

    /// The schema of a field of this type, without its notes.
    pub(crate) fn bare_node(&self, kind: &Type) -> TokenStream {
        let kind = self.form.as_ref().unwrap_or(kind);
        quote_spanned!(kind.span()=> <#kind as ::portolan_sdk::ConfigSchema>::SCHEMA)
    }

    /// The schema of a field of this type.
    pub(crate) fn node(&self, kind: &Type) -> TokenStream {
        noted(self.bare_node(kind), &self.notes)
    }

    /// Whether serde does without a field of this type, as a constant.
    pub(crate) fn optional(&self, kind: &Type) -> TokenStream {
        match (self.default, self.custom) {
            (true, _) => quote!(true),
            (false, Some(_)) => quote!(false),
            (false, None) => quote_spanned!(kind.span()=> <#kind as ::portolan_sdk::ConfigSchema>::OPTIONAL),
        }
    }

    /// A constant for each keyword that does not compile where it makes no sense for this type.
    pub(crate) fn checks(&self, kind: &Type) -> TokenStream {
        let node = self.bare_node(kind);
        let check = |Note { key, span, .. }: &Note| quote_spanned!(*span=> const _: () = ::portolan_sdk::schema::check(&#node, #key););
        self.notes.iter().filter(|note| note.key != "description").map(check).collect()
    }
}

/// A doc comment as a note; none for an empty one.
pub(crate) fn described(text: &str) -> Vec<Note> {
    let note = || Note { key: "description", json: json::quoted(text), span: Span::call_site() };
    if text.is_empty() { Vec::new() } else { vec![note()] }
}

/// A node with notes around it.
pub(crate) fn noted(node: TokenStream, notes: &[Note]) -> TokenStream {
    if notes.is_empty() {
        return node;
    }
    let notes =
        notes.iter().map(|Note { key, json, .. }| quote!(::portolan_sdk::schema::Note { key: #key, json: #json }));
    quote!(::portolan_sdk::schema::Node::With { node: &#node, notes: &[#(#notes),*] })
}

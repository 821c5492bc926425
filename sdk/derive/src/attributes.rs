//! Attributes as they are written: `name`, `name = "value"`, `name(..)`.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, Lit, LitStr, Meta, Type, token};

/// Hands each entry of the attributes `#[name(..)]` to `take`.
pub(crate) fn each(
    attributes: &[Attribute],
    name: &str,
    mut take: impl FnMut(&str, &ParseNestedMeta<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        attribute.parse_nested_meta(|meta| {
            let key = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            take(&key, &meta)
        })?;
    }
    Ok(())
}

/// `= "text"`.
pub(crate) fn text(meta: &ParseNestedMeta<'_>) -> Result<String, Error> {
    Ok(meta.value()?.parse::<LitStr>()?.value())
}

/// `= "Type"`.
pub(crate) fn named_type(meta: &ParseNestedMeta<'_>) -> Result<Type, Error> {
    meta.value()?.parse::<LitStr>()?.parse()
}

/// `= "text"`, or of `(serialize = "a", deserialize = "b")` what concerns reading.
pub(crate) fn read_texts(meta: &ParseNestedMeta<'_>) -> Result<Vec<String>, Error> {
    if !meta.input.peek(token::Paren) {
        return Ok(vec![text(meta)?]);
    }
    let mut found = Vec::new();
    meta.parse_nested_meta(|inner| {
        let value = text(&inner)?;
        if inner.path.is_ident("deserialize") {
            found.push(value);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Passes over the value of an attribute that does not change what is read.
pub(crate) fn skip(meta: &ParseNestedMeta<'_>) -> Result<(), Error> {
    if meta.input.peek(token::Paren) {
        return meta.parse_nested_meta(|inner| skip(&inner));
    }
    if meta.input.peek(syn::Token![=]) {
        meta.value()?.parse::<Lit>()?;
    }
    Ok(())
}

/// The text of the doc comments: lines of a paragraph run on, an empty line parts two.
pub(crate) fn docs(attributes: &[Attribute]) -> String {
    let mut text = String::new();
    let mut starts = true;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("doc")) {
        let Meta::NameValue(meta) = &attribute.meta else { continue };
        let Expr::Lit(literal) = &meta.value else { continue };
        let Lit::Str(line) = &literal.lit else { continue };
        let line = line.value();
        let line = line.trim();
        if line.is_empty() {
            starts = true;
            continue;
        }
        if !text.is_empty() {
            text.push_str(if starts { "\n\n" } else { " " });
        }
        text.push_str(line);
        starts = false;
    }
    text
}

/// What to do about an attribute that no schema can follow.
pub(crate) fn unknown(meta: &ParseNestedMeta<'_>, key: &str) -> Error {
    meta.error(format!(
        "`ConfigSchema` does not know what `{key}` of serde means for the form\n\
         help: leave it out, or write the schema by hand: `impl ConfigSchema for ..`"
    ))
}

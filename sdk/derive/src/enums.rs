//! The forms of enums.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{DataEnum, Error, Fields, Ident, Variant};

use crate::container::Container;
use crate::member::{Member, noted};
use crate::structs::{Form, Place};

/// Of a whole enum.
pub(crate) fn form(data: &DataEnum, container: &Container, name: &Ident) -> Result<Form, Error> {
    let (mut variants, mut checks) = (Vec::new(), TokenStream::new());
    for variant in &data.variants {
        let member = Member::new(&variant.attrs)?;
        if member.skip {
            continue;
        }
        let held = held(variant, &member, container, name)?;
        checks.extend(held.as_ref().map(|held| held.checks.clone()));
        variants.push(entry(variant, &member, container, held));
    }
    if variants.is_empty() {
        return Err(Error::new_spanned(name, "nothing can be read into an enum without variants"));
    }
    let tagging = tagging(container, name)?;
    let closed = container.deny_unknown_fields;
    let node = quote! {
        ::portolan_sdk::schema::Node::OneOf { variants: &[#(#variants),*], tagging: #tagging, closed: #closed }
    };
    Ok(Form { node, optional: quote!(false), checks })
}

/// What a variant holds; none for a name alone.
fn held(variant: &Variant, member: &Member, container: &Container, name: &Ident) -> Result<Option<Form>, Error> {
    if matches!(variant.fields, Fields::Unit) {
        return Ok(None);
    }
    let place = Place {
        case: member.rename_all.or(container.rename_all_fields),
        closed: container.deny_unknown_fields,
        default: false,
        // serde takes a missing `content` as it takes a missing field.
        transparent: variant.fields.len() == 1 && matches!(variant.fields, Fields::Unnamed(_)),
        owner: name,
    };
    place.form(&variant.fields).map(Some)
}

fn entry(variant: &Variant, member: &Member, container: &Container, held: Option<Form>) -> TokenStream {
    let spelt = |name: &str| container.rename_all.map_or(name.to_owned(), |case| case.of_variant(name));
    let names = member.names(&variant.ident.to_string(), spelt);
    let (node, optional) = match held {
        Some(Form { node, optional, .. }) => {
            let node = noted(node, &member.notes);
            (quote!(::core::option::Option::Some(&#node)), optional)
        }
        None => (quote!(::core::option::Option::None), quote!(true)),
    };
    quote! {
        ::portolan_sdk::schema::Variant { names: &[#(#names),*], node: #node, optional: #optional }
    }
}

fn tagging(container: &Container, name: &Ident) -> Result<TokenStream, Error> {
    let tagging = match (container.untagged, &container.tag, &container.content) {
        (true, None, None) => quote!(Untagged),
        (false, None, None) => quote!(External),
        (false, Some(tag), None) => quote!(Internal(#tag)),
        (false, Some(tag), Some(content)) => quote!(Adjacent { tag: #tag, content: #content }),
        _ => return Err(Error::new_spanned(name, "`untagged`, `tag` and `content` do not go together like this")),
    };
    Ok(quote!(::portolan_sdk::schema::Tagging::#tagging))
}

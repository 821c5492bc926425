//! `#[derive(ConfigSchema)]` of `portolan-sdk`: from a configuration's type, and serde's attributes on it, to its form in
//! JSON. What cannot be expressed is a compile error that says what to do instead.

mod attributes;
mod case;
mod container;
mod enums;
mod json;
mod member;
mod structs;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Generics, parse_macro_input, parse_quote};

use crate::container::Container;

/// The JSON Schema of a configuration, as a constant: see `portolan_sdk::schema`.
///
/// Attributes of serde are honoured. `#[schema(..)]` on a field adds what only a schema can say: `minimum`, `maximum`,
/// `exclusive_minimum`, `exclusive_maximum`, `multiple_of`, `min_length`, `max_length`, `pattern`, `format`,
/// `min_items`, `max_items`, `unique_items`, `min_properties`, `max_properties`, `default`, `example` and `deprecated`,
/// each `= VALUE` in JSON; and `form = "TYPE"` names the type whose form the field has, where it reads itself by hand.
#[proc_macro_derive(ConfigSchema, attributes(schema, serde))]
pub fn config_schema(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let container = Container::new(&input.attrs)?;
    let form = match (&container.form, &input.data) {
        (Some(form), _) => structs::Form {
            node: quote!(<#form as ::portolan_sdk::ConfigSchema>::SCHEMA),
            optional: quote!(false),
            checks: TokenStream::new(),
        },
        (None, Data::Struct(data)) => structs::form(&data.fields, &container, &input.ident)?,
        (None, Data::Enum(data)) => enums::form(data, &container, &input.ident)?,
        (None, Data::Union(data)) => return Err(Error::new_spanned(data.union_token, "serde knows no unions")),
    };
    let structs::Form { node, optional, checks } = form;
    let node = member::noted(node, &member::described(&container.description));
    let name = &input.ident;
    let generics = bounded(input.generics.clone());
    let (for_impl, for_type, bounds) = generics.split_for_impl();
    // A check names no type parameter only where there are none.
    let checks = if input.generics.params.is_empty() { checks } else { TokenStream::new() };
    Ok(quote! {
        #[automatically_derived]
        impl #for_impl ::portolan_sdk::ConfigSchema for #name #for_type #bounds {
            const SCHEMA: ::portolan_sdk::schema::Node = #node;
            const OPTIONAL: bool = #optional;
        }
        #checks
    })
}

/// The type's parameters, each with a schema of its own.
fn bounded(mut generics: Generics) -> Generics {
    for parameter in generics.type_params_mut() {
        parameter.bounds.push(parse_quote!(::portolan_sdk::ConfigSchema));
    }
    generics
}

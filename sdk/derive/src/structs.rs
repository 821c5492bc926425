//! The forms of structs, and of what variants hold.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, Field, Fields, Ident, Type};

use crate::case::Case;
use crate::container::Container;
use crate::member::Member;

/// A form, as constant expressions.
pub(crate) struct Form {
    /// A `Node`.
    pub(crate) node: TokenStream,
    /// Whether serde does without it.
    pub(crate) optional: TokenStream,
    /// Items that compile only where keywords fit their types.
    pub(crate) checks: TokenStream,
}

/// Of a whole struct.
pub(crate) fn form(fields: &Fields, container: &Container, name: &Ident) -> Result<Form, Error> {
    if container.tag.is_some() {
        return Err(Error::new_spanned(name, "a tag on a struct says nothing when it is read\nhelp: leave `tag` out"));
    }
    let place = Place {
        case: container.rename_all,
        closed: container.deny_unknown_fields,
        default: container.default,
        transparent: container.transparent,
        owner: name,
    };
    place.form(fields)
}

/// What surrounds fields and counts for all of them.
pub(crate) struct Place<'a> {
    pub(crate) case: Option<Case>,
    /// Unknown keys are refused.
    pub(crate) closed: bool,
    /// Nothing must be there.
    pub(crate) default: bool,
    /// The one field stands for the whole.
    pub(crate) transparent: bool,
    /// The type that is being derived.
    pub(crate) owner: &'a Ident,
}

impl Place<'_> {
    /// Of some fields.
    pub(crate) fn form(&self, fields: &Fields) -> Result<Form, Error> {
        for field in fields {
            self.refuse_recursion(&field.ty)?;
        }
        match fields {
            Fields::Unit => Ok(Form {
                node: quote!(::portolan_sdk::schema::Node::Null),
                optional: quote!(false),
                checks: TokenStream::new(),
            }),
            fields if self.transparent => self.transparent(fields),
            Fields::Named(named) => self.object(named.named.iter()),
            Fields::Unnamed(unnamed) if unnamed.unnamed.len() == 1 => self.newtype(&unnamed.unnamed[0], false),
            Fields::Unnamed(unnamed) => self.tuple(unnamed.unnamed.iter()),
        }
    }

    /// A type that holds itself has no end as a constant; rustc would only say that there is a cycle.
    fn refuse_recursion(&self, kind: &Type) -> Result<(), Error> {
        if !names(kind.to_token_stream(), self.owner) {
            return Ok(());
        }
        let message = "a type that holds itself has no schema\n\
                       help: `#[schema(form = \"serde_json::Value\")]` on a type around it says that anything goes";
        Err(Error::new_spanned(kind, message))
    }

    fn transparent(&self, fields: &Fields) -> Result<Form, Error> {
        for field in fields {
            let member = Member::new(&field.attrs)?;
            if !(member.skip || member.default && fields.len() > 1) {
                return self.newtype(field, true);
            }
        }
        Err(Error::new_spanned(fields, "`transparent` wants one field that is read"))
    }

    fn newtype(&self, field: &Field, passes_on: bool) -> Result<Form, Error> {
        let member = Member::new(&field.attrs)?;
        if member.skip {
            return Err(Error::new_spanned(
                field,
                "a skipped field in a tuple has no form\nhelp: give the fields names",
            ));
        }
        Ok(Form {
            node: member.node(&field.ty),
            optional: if passes_on { member.optional(&field.ty) } else { quote!(false) },
            checks: member.checks(&field.ty),
        })
    }

    fn tuple<'f>(&self, fields: impl Iterator<Item = &'f Field>) -> Result<Form, Error> {
        let (mut nodes, mut checks) = (Vec::new(), TokenStream::new());
        for field in fields {
            let member = Member::new(&field.attrs)?;
            if member.skip || member.default {
                let message = "fields of a tuple are read by their place, and all of them\nhelp: give the fields names";
                return Err(Error::new_spanned(field, message));
            }
            nodes.push(member.node(&field.ty));
            checks.extend(member.checks(&field.ty));
        }
        Ok(Form { node: quote!(::portolan_sdk::schema::Node::Tuple(&[#(&#nodes),*])), optional: quote!(false), checks })
    }

    fn object<'f>(&self, fields: impl Iterator<Item = &'f Field>) -> Result<Form, Error> {
        let (mut entries, mut checks) = (Vec::new(), TokenStream::new());
        for field in fields {
            let member = Member::new(&field.attrs)?;
            if member.skip {
                continue;
            }
            let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
            let names = member.names(&name, |name| self.case.map_or(name.to_owned(), |case| case.of_field(name)));
            let (node, optional) = (member.node(&field.ty), member.optional(&field.ty));
            let optional = if self.default { quote!(true) } else { optional };
            let flatten = member.flatten;
            checks.extend(member.checks(&field.ty));
            entries.push(quote! {
                ::portolan_sdk::schema::Field {
                    names: &[#(#names),*],
                    node: &#node,
                    required: !#optional,
                    flatten: #flatten,
                }
            });
        }
        let closed = self.closed;
        let node = quote!(::portolan_sdk::schema::Node::Object { fields: &[#(#entries),*], closed: #closed });
        Ok(Form { node, optional: quote!(false), checks })
    }
}

/// Whether a type is written with this name, or with `Self`, anywhere.
fn names(tokens: TokenStream, name: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Ident(found) => found == *name || found == "Self",
        proc_macro2::TokenTree::Group(group) => names(group.stream(), name),
        _ => false,
    })
}

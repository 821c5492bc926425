//! [`Container`]: what the attributes of a struct or enum say.

use syn::{Attribute, Error, Type};

use crate::attributes::{self, each};
use crate::case::Case;

/// What the attributes of a type say.
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) description: String,
    pub(crate) rename_all: Option<Case>,
    pub(crate) rename_all_fields: Option<Case>,
    pub(crate) deny_unknown_fields: bool,
    pub(crate) default: bool,
    pub(crate) transparent: bool,
    pub(crate) untagged: bool,
    pub(crate) tag: Option<String>,
    pub(crate) content: Option<String>,
    /// It is read as another type.
    pub(crate) form: Option<Type>,
}

impl Container {
    pub(crate) fn new(attributes: &[Attribute]) -> Result<Self, Error> {
        let mut container = Self { description: attributes::docs(attributes), ..Self::default() };
        each(attributes, "serde", |key, meta| {
            match key {
                "rename_all" => container.rename_all = Case::read(meta)?,
                "rename_all_fields" => container.rename_all_fields = Case::read(meta)?,
                "deny_unknown_fields" => container.deny_unknown_fields = true,
                "transparent" => container.transparent = true,
                "untagged" => container.untagged = true,
                "tag" => container.tag = Some(attributes::text(meta)?),
                "content" => container.content = Some(attributes::text(meta)?),
                "from" | "try_from" => container.form = Some(attributes::named_type(meta)?),
                "default" => {
                    container.default = true;
                    attributes::skip(meta)?;
                }
                "rename" | "into" | "bound" | "crate" | "expecting" => attributes::skip(meta)?,
                _ => return Err(attributes::unknown(meta, key)),
            }
            Ok(())
        })?;
        each(attributes, "schema", |key, meta| match key {
            "form" => {
                container.form = Some(attributes::named_type(meta)?);
                Ok(())
            }
            _ => Err(meta.error("a type's own `#[schema(..)]` knows `form` only\nhelp: put keywords on the fields")),
        })?;
        Ok(container)
    }
}

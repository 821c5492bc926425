//! [`Node`]: a format as JSON. A text that is one command keeps the kind of its value; others are texts.

use serde_json::Value as Json;

use super::{Form, FormatError, Step, Template};
use crate::StreamInfo;

/// A part of a JSON format.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// Keys as JSON texts.
    Object(Vec<(Box<str>, Node)>),
    Array(Vec<Node>),
    /// Numbers, truth and null are copied.
    Constant(Box<str>),
    Text(Template),
}

impl Node {
    pub(super) fn compile(text: &str) -> Result<Self, FormatError> {
        let value: Json = serde_json::from_str(text).map_err(|error| FormatError::Json(error.to_string()))?;
        if !value.is_object() {
            return Err(FormatError::Json("it must be a map of names to format strings".to_owned()));
        }
        Self::of(value)
    }

    fn of(value: Json) -> Result<Self, FormatError> {
        Ok(match value {
            Json::Object(map) => {
                let entry = |(key, value): (String, Json)| Ok((quoted(&key).into(), Self::of(value)?));
                Self::Object(map.into_iter().map(entry).collect::<Result<_, _>>()?)
            }
            Json::Array(items) => Self::Array(items.into_iter().map(Self::of).collect::<Result<_, _>>()?),
            Json::String(text) => Self::Text(Template::compile(&text)?),
            constant => Self::Constant(constant.to_string().into()),
        })
    }

    pub(super) fn wants_headers(&self) -> bool {
        match self {
            Self::Object(entries) => entries.iter().any(|(_, node)| node.wants_headers()),
            Self::Array(items) => items.iter().any(Self::wants_headers),
            Self::Constant(_) => false,
            Self::Text(template) => template.wants_headers(),
        }
    }

    pub(super) fn write(&self, info: &StreamInfo, omit_empty: bool, out: &mut Vec<u8>) {
        match self {
            Self::Object(entries) => {
                out.push(b'{');
                let begin = out.len();
                for (key, node) in entries {
                    let before = out.len();
                    if before > begin {
                        out.push(b',');
                    }
                    out.extend_from_slice(key.as_bytes());
                    out.push(b':');
                    let value = out.len();
                    node.write(info, omit_empty, out);
                    if omit_empty && out[value..] == *b"null" {
                        out.truncate(before);
                    }
                }
                out.push(b'}');
            }
            Self::Array(items) => {
                out.push(b'[');
                for (i, node) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    node.write(info, omit_empty, out);
                }
                out.push(b']');
            }
            Self::Constant(text) => out.extend_from_slice(text.as_bytes()),
            Self::Text(template) => write_text(template, info, omit_empty, out),
        }
    }
}

fn write_text(template: &Template, info: &StreamInfo, omit_empty: bool, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    if let [Step::Value(value)] = template.steps.as_slice() {
        if !value.write(info, Form::Raw, &mut text) {
            out.extend_from_slice(b"null");
        } else if value.field.is_number() {
            out.extend_from_slice(&text);
        } else {
            out.extend_from_slice(quoted(&String::from_utf8_lossy(&text)).as_bytes());
        }
        return;
    }
    let mut whole = String::new();
    for step in &template.steps {
        match step {
            Step::Literal(literal) => whole.push_str(literal),
            Step::Value(value) => {
                text.clear();
                if value.write(info, Form::Raw, &mut text) {
                    whole.push_str(&String::from_utf8_lossy(&text));
                } else if !omit_empty {
                    whole.push('-');
                }
            }
        }
    }
    out.extend_from_slice(quoted(&whole).as_bytes());
}

/// As JSON. Bytes that are no UTF-8 have been replaced.
fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

//! [`check`]: a plugin's configuration against the JSON Schema of its module, before the module is started with it.
//!
//! The schema is the file that the object names, else the one beside the module (`NAME.schema.json` beside `NAME.wasm`), else
//! the module's custom section `portolan.schema`. Nothing that a schema refers to is fetched.

use std::path::{Path, PathBuf};

use boon::{Compiler, ErrorKind, InstanceToken, Schemas, UrlLoader, ValidationError};
use portolan_model::{Plugin, PluginCode};
use serde_json::Value;

/// Findings that are told; a long list helps nobody.
const MAX_FINDINGS: usize = 10;

/// Name of the schema while it is compiled.
const SCHEMA: &str = "schema.json";

/// A place in the configuration that does not fulfil the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path below `pluginConfig`, as in `.http[0].name`; empty for the configuration as a whole.
    pub(crate) path: String,
    /// What is wrong there.
    pub(crate) message: String,
}

/// Why a schema cannot be used. The filter's own check decides then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("cannot read the schema {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("{place} is not JSON: {error}")]
    Json { place: String, error: serde_json::Error },
    #[error("{place} is not a JSON Schema: {message}")]
    Invalid { place: String, message: String },
}

/// The file that holds a plugin's schema; none when it can only be in the module.
pub(crate) fn file_of(plugin: &Plugin) -> Option<PathBuf> {
    let beside = || match &plugin.code {
        PluginCode::File(module) => Some(module.with_extension("schema.json")).filter(|path| path.exists()),
        _ => None,
    };
    plugin.schema.clone().or_else(beside)
}

/// What is wrong with a configuration; nothing without a schema. An empty configuration is not held against one.
pub(crate) fn check(file: Option<&Path>, section: Option<&[u8]>, config: &[u8]) -> Result<Vec<Finding>, SchemaError> {
    let (place, text) = match (file, section) {
        (Some(file), _) => {
            let text = std::fs::read(file).map_err(|error| SchemaError::Read(file.to_owned(), error))?;
            (format!("the schema {}", file.display()), text)
        }
        (None, Some(section)) => ("the module's schema".to_owned(), section.to_vec()),
        (None, None) => return Ok(Vec::new()),
    };
    let schema = serde_json::from_slice(&text).map_err(|error| SchemaError::Json { place: place.clone(), error })?;
    let Ok(config) = serde_json::from_slice::<Value>(if config.is_empty() { b"{}" } else { config }) else {
        return Ok(Vec::new());
    };
    let invalid = |error: boon::CompileError| SchemaError::Invalid { place: place.clone(), message: one_line(&error) };
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.use_loader(Box::new(Nothing));
    compiler.add_resource(SCHEMA, schema).map_err(invalid)?;
    let index = compiler.compile(SCHEMA, &mut schemas).map_err(invalid)?;
    let mut findings = Vec::new();
    if let Err(error) = schemas.validate(&config, index) {
        collect(&error, &mut findings);
    }
    Ok(findings)
}

/// The innermost errors: those around them only say that something inside is wrong. Of alternatives it is told that none
/// fits, since it is not known which one was meant.
fn collect(error: &ValidationError<'_, '_>, findings: &mut Vec<Finding>) {
    let alternatives = matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(_));
    if !error.causes.is_empty() && !alternatives {
        for cause in &error.causes {
            collect(cause, findings);
        }
        return;
    }
    let path: String = error.instance_location.tokens.iter().map(step).collect();
    let unknown = match &error.kind {
        ErrorKind::AdditionalProperties { got } => got.as_slice(),
        _ => &[],
    };
    let found = if unknown.is_empty() {
        vec![Finding { path, message: error.kind.to_string() }]
    } else {
        let finding = |name| Finding { path: format!("{path}.{name}"), message: format!("unknown field `{name}`") };
        unknown.iter().map(finding).collect()
    };
    findings.extend(found.into_iter().take(MAX_FINDINGS - findings.len().min(MAX_FINDINGS)));
}

fn step(token: &InstanceToken<'_>) -> String {
    match token {
        InstanceToken::Prop(name) => format!(".{name}"),
        InstanceToken::Item(index) => format!("[{index}]"),
    }
}

fn one_line(error: &boon::CompileError) -> String {
    error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Loads nothing.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err(format!("`{url}` is another document, and none is fetched").into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const TEXT: &str = r##"{"type": "object", "required": ["realm"], "additionalProperties": false,
        "properties": {"realm": {"type": "string"}, "users": {"type": "array", "items": {"$ref": "#/$defs/user"}},
            "mode": {"anyOf": [{"const": "a"}, {"type": "number"}]}},
        "$defs": {"user": {"type": "object", "properties": {"age": {"minimum": 1}}}}}"##;

    fn findings(config: &str) -> Vec<(String, String)> {
        let found = check(None, Some(TEXT.as_bytes()), config.as_bytes()).unwrap();
        found.into_iter().map(|finding| (finding.path, finding.message)).collect()
    }

    #[test]
    fn each_wrong_place_is_told_with_its_path() {
        assert_eq!(findings(r#"{"realm": "x", "users": [{"age": 4}], "mode": 3}"#), []);
        let found = findings(r#"{"realm": 7, "users": [{}, {"age": 0}], "mode": "b", "relm": 1}"#);
        let paths: Vec<_> = found.iter().map(|(path, _)| &**path).collect();
        for path in [".realm", ".users[1].age", ".mode", ".relm"] {
            assert!(paths.contains(&path), "{path}: {found:?}");
        }
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn no_configuration_is_an_empty_one() {
        let found = findings("");
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("realm"), "{found:?}");
    }

    #[test]
    fn schemas_that_are_wrong_or_fetch_are_told() {
        for text in ["{", r#"{"type": 7}"#, r#"{"$ref": "https://example.com/x"}"#, r#"{"$ref": "file:///etc/passwd"}"#]
        {
            assert!(check(None, Some(text.as_bytes()), b"{}").is_err(), "{text}");
        }
    }

    #[test]
    fn no_schema_no_findings() {
        assert_eq!(check(None, None, b"{}").unwrap(), []);
    }

    #[test]
    fn a_long_list_ends() {
        let config: String = (0..50).map(|n| format!(r#""x{n}": 1,"#)).collect();
        assert_eq!(findings(&format!(r#"{{{config} "realm": "x"}}"#)).len(), MAX_FINDINGS);
    }
}

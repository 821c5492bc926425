//! [`Report`]: what is known of a module, for people and for programs.

use std::fmt::Write;

use portolan_wasm::{AbiVersion, Anatomy, Limits, envoy_lacks};
use serde_json::{Value, json};

use crate::modules::hex_digest;

/// Text of one line ends here and goes on below.
const WIDTH: usize = 100;

/// What is known of a module.
pub(super) struct Report {
    /// As the user named it.
    pub(super) subject: String,
    /// Of the module, in hex.
    pub(super) sha256: String,
    /// Digest of the image that it came in, in hex.
    pub(super) image: Option<String>,
    pub(super) bytes: usize,
    /// None when the host refuses the module.
    pub(super) abi: Option<AbiVersion>,
    /// Imports that the host does not serve.
    pub(super) unserved: Vec<String>,
    /// Memory of an instance in bytes, or why none starts; none when the host refuses the module.
    pub(super) started: Option<Result<usize, String>>,
    pub(super) anatomy: Anatomy,
}

impl Report {
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let anatomy = &self.anatomy;
        line(&mut text, "module", &self.subject);
        line(&mut text, "sha256", &self.sha256);
        if let Some(image) = &self.image {
            line(&mut text, "image", &format!("sha256:{image}"));
        }
        let inside =
            format!("{} code in {} functions, {} data", anatomy.code_bytes, anatomy.functions, anatomy.data_bytes);
        line(&mut text, "bytes", &format!("{} ({inside})", self.bytes));
        line(&mut text, "abi", &self.abi_text());
        self.imports(&mut text);
        line(&mut text, "callbacks", &or_none(&anatomy.callbacks));
        line(&mut text, "exports", &or_none(&anatomy.exports));
        for memory in &anatomy.memories {
            line(&mut text, "memory", &limits(*memory, "bytes"));
        }
        match &self.started {
            Some(Ok(bytes)) => line(&mut text, "instance", &format!("{bytes} bytes of memory when started")),
            Some(Err(reason)) => line(&mut text, "instance", &format!("does not start here: {reason}")),
            None => {}
        }
        for table in &anatomy.tables {
            line(&mut text, "table", &limits(*table, "entries"));
        }
        let sections: Vec<_> = anatomy.sections.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
        line(&mut text, "sections", &or_none(&sections));
        let producers = anatomy.producers.iter().map(|(_, name, version)| format!("{name} {version}"));
        line(&mut text, "made by", &or_none(&producers.map(|made| made.trim().to_owned()).collect::<Vec<_>>()));
        let schema =
            anatomy.schema.as_deref().map(|schema| format!("sha256:{}; --schema prints it", hex_digest(schema)));
        line(&mut text, "schema", schema.as_deref().unwrap_or("none"));
        text
    }

    pub(super) fn to_json(&self) -> Value {
        let anatomy = &self.anatomy;
        let import = |import: &portolan_wasm::Import| {
            json!({
                "name": import.name,
                "signature": import.signature,
                "served": self.is_served(&import.name),
                "envoy": !self.envoy_lacks(&import.name),
            })
        };
        let limits = |limits: &Limits| json!({ "initial": limits.initial, "maximum": limits.maximum });
        json!({
            "module": self.subject,
            "sha256": self.sha256,
            "image": self.image.as_ref().map(|image| format!("sha256:{image}")),
            "bytes": self.bytes,
            "codeBytes": anatomy.code_bytes,
            "dataBytes": anatomy.data_bytes,
            "functions": anatomy.functions,
            "abi": self.abi.map(|abi| abi.to_string()),
            "abiMarkers": anatomy.abi_markers,
            "imports": anatomy.imports.iter().map(import).collect::<Vec<_>>(),
            "callbacks": anatomy.callbacks,
            "exports": anatomy.exports,
            "memories": anatomy.memories.iter().map(limits).collect::<Vec<_>>(),
            "tables": anatomy.tables.iter().map(limits).collect::<Vec<_>>(),
            "instanceMemory": self.started.as_ref().and_then(|started| started.as_ref().ok()),
            "startError": self.started.as_ref().and_then(|started| started.as_ref().err()),
            "sections": anatomy.sections.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
            "producers": anatomy.producers.iter().map(|(kind, name, version)| json!({ "kind": kind, "name": name, "version": version })).collect::<Vec<_>>(),
            "schema": anatomy.schema.as_deref().and_then(|schema| serde_json::from_slice::<Value>(schema).ok()),
        })
    }

    fn abi_text(&self) -> String {
        match self.abi {
            Some(AbiVersion::V0_2_100) => "0.2.100 (Higress's: Envoy refuses it)".to_owned(),
            Some(abi) => abi.to_string(),
            None => or_none(&self.anatomy.abi_markers),
        }
    }

    fn imports(&self, text: &mut String) {
        let imports = &self.anatomy.imports;
        let unserved = imports.iter().filter(|import| !self.is_served(&import.name)).count();
        let total = match (imports.len(), unserved) {
            (0, _) => "none".to_owned(),
            (count, 0) => format!("{count}, all served"),
            (count, unserved) => format!("{count}, of which {unserved} not served"),
        };
        line(text, "imports", &total);
        let width = imports.iter().map(|import| import.name.len()).max().unwrap_or_default();
        for import in imports {
            let remark = match (self.is_served(&import.name), self.envoy_lacks(&import.name)) {
                (false, _) => "  not served",
                (true, true) => "  not in Envoy 1.40",
                (true, false) => "",
            };
            let _ = writeln!(text, "  {:width$}  {}{remark}", import.name, import.signature);
        }
    }

    fn is_served(&self, import: &str) -> bool {
        !self.unserved.iter().any(|name| name == import)
    }

    fn envoy_lacks(&self, import: &str) -> bool {
        !self.is_served(import) || self.abi.is_some_and(|abi| envoy_lacks(abi, import))
    }
}

/// `label:   words`, with words that do not fit below.
fn line(text: &mut String, label: &str, words: &str) {
    let label = format!("{label}:");
    let mut row = format!("{label:<11}");
    let mut is_first = true;
    for word in words.split(' ') {
        if !is_first && row.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{row}");
            row = " ".repeat(11) + word;
        } else {
            row.push_str(if is_first { "" } else { " " });
            row.push_str(word);
        }
        is_first = false;
    }
    let _ = writeln!(text, "{row}");
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn limits(limits: Limits, unit: &str) -> String {
    match limits.maximum {
        Some(maximum) => format!("{} {unit} at first, at most {maximum}", limits.initial),
        None => format!("{} {unit} at first, then up to the host's limit", limits.initial),
    }
}

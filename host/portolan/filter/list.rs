//! `portolan filter list`: the filters that come with the binary and wait for a WasmPlugin.

use std::fmt::Write;
use std::process::ExitCode;

use portolan_model::LIBRARY;
use portolan_model::library::SCHEME;
use serde_json::json;

use crate::args::ListOutput;
use crate::output;

/// Name and purpose of each; as JSON also its URL and its size in bytes.
pub(super) fn list(form: ListOutput) -> anyhow::Result<ExitCode> {
    let text = match form {
        ListOutput::Text => text(),
        ListOutput::Json => serde_json::to_string_pretty(&json())? + "\n",
    };
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn text() -> String {
    let width = LIBRARY.iter().map(|filter| filter.name.len()).max().unwrap_or_default();
    LIBRARY.iter().fold(String::new(), |mut text, filter| {
        let _ = writeln!(text, "{:width$}  {}", filter.name, filter.about);
        text
    })
}

fn json() -> serde_json::Value {
    let entry = |filter: &portolan_model::LibraryFilter| {
        let bytes = portolan_filters::bundled(filter.name).map(<[u8]>::len);
        json!({ "name": filter.name, "about": filter.about, "url": format!("{SCHEME}{}", filter.name), "bytes": bytes })
    };
    LIBRARY.iter().map(entry).collect()
}

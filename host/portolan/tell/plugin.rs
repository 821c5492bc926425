//! A plugin in words.

use portolan_model::{Plugin, PluginCode};
use serde::Serialize;

use super::Told;

/// All that it is configured with, but for its name. A configuration is told by its size only: it may hold credentials.
pub(crate) fn plugin(plugin: &Plugin) -> Vec<Told> {
    let place = (plugin.origin.line() > 0).then(|| plugin.origin.place());
    let code = match &plugin.code {
        PluginCode::Bundled(name) => format!("bundled://{name}"),
        PluginCode::File(path) => path.display().to_string(),
        PluginCode::Remote(module) => module.url.clone(),
    };
    let sha256 = plugin.sha256.as_deref().unwrap_or("any");
    let matches = plugin.matches.as_ref().map_or_else(|| "all traffic".to_owned(), word);
    let told = [
        ("url", code),
        ("sha256", sha256.to_owned()),
        ("type", word(&plugin.kind)),
        ("phase", word(&plugin.phase)),
        ("priority", plugin.priority.to_string()),
        ("failStrategy", word(&plugin.fail_policy)),
        ("match", matches),
    ];
    told.into_iter().map(|(kind, text)| Told::new(kind, text, place.clone())).collect()
}

/// Words of enums are their serialised form, which is Istio's spelling.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}

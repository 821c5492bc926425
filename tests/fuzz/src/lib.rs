//! What the fuzzer does with its bytes; `tests/fuzz_smoke.rs` does the same without the fuzzer.

pub mod http1;
pub mod matcher;

use portolan_config::{Sources, TranslateOptions, read_str, render_json, render_text, translate};

/// Bytes that a filter could hand to the gateway, through all that reads such.
pub fn guest(data: &[u8]) {
    portolan_wasm::untrusted::decode(data);
}

/// The first bytes of a connection, through what reads a header of the PROXY protocol.
pub fn proxy_header(data: &[u8]) {
    portolan_proxy::untrusted::proxy_header(data);
}

/// Reads, translates and reports any text. Nothing panics, places lie inside the text, and reading twice says the same.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (resources, diagnostics) = read_str("fuzz.yaml", text);
    let translation = translate(&resources, &TranslateOptions::default());
    let sources = Sources::from_texts([("fuzz.yaml", text)]);
    let all: Vec<_> = diagnostics.iter().chain(&translation.diagnostics).cloned().collect();
    let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX).saturating_add(1);
    for diagnostic in &all {
        assert!(diagnostic.place.line <= lines, "{diagnostic:?} lies outside of {lines} lines");
        assert!(!diagnostic.message.is_empty() && diagnostic.place.length >= 1, "{diagnostic:?}");
    }
    render_text(&all, &sources, false);
    render_json(&all, &sources);
    let (_, again) = read_str("fuzz.yaml", text);
    assert_eq!(diagnostics, again);
}

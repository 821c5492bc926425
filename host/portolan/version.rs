//! `portolan version`: what this binary is and what is built into it.

use std::fmt::Write;

/// The answer, one fact a line.
pub(crate) fn text() -> String {
    let mut text = format!("portolan {}\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "  target   {}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let _ = writeln!(text, "  wasm     proxy-wasm 0.2.1");
    for (name, bytes) in portolan_filters::BUNDLED {
        let _ = writeln!(text, "  filter   {name} ({} KiB, built in)", bytes.len().div_ceil(1024));
    }
    text
}

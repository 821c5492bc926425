//! `portolan filter inspect`: what a module says of itself.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use portolan_wasm::{Engine, EngineOptions, ModuleStore};

use crate::output;

/// What a module says of itself. It is compiled and looked over, not started.
pub(super) fn inspect(file: &Path) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let store = ModuleStore::new(Engine::new(&EngineOptions::default())?);
    let module = store.load(&bytes).with_context(|| format!("{} is no filter for this host", file.display()))?;
    let mut text = format!("sha256:   {}\nbytes:    {}\nabi:      {}\n", module.digest(), bytes.len(), module.abi());
    let imports = module.imports();
    let _ = writeln!(text, "imports:  {}", imports.len());
    for import in &imports {
        let _ = writeln!(text, "  {import}");
    }
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

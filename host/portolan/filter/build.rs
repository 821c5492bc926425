//! `portolan filter build`: the toolchain's result, looked over as the gateway would.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use portolan_wasm::{Engine, EngineOptions, ModuleStore};

use super::project::{Built, Output, Profile, Project};
use crate::output;

/// Builds the project of a folder and says in one line what came of it.
pub(super) fn build(folder: &Path, profile: Profile) -> anyhow::Result<ExitCode> {
    let project = Project::open(folder)?;
    let built = project.build(profile, Output::Inherited)?;
    let line = summary(&built)?;
    output::answer(&format!("{line}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// `built 0.7 s  stamp.wasm 212 kB  imports ok (14 of 14)  ABI 0.2.1`, or why the host would refuse the module.
fn summary(built: &Built) -> anyhow::Result<String> {
    let file = shown(&built.module);
    let bytes = std::fs::read(&built.module).with_context(|| format!("cannot read {file}"))?;
    let store = ModuleStore::new(Engine::new(&EngineOptions::default())?);
    let module = match store.load(&bytes) {
        Ok(module) => module,
        Err(error) => bail!("{file} is built, and no filter for this host: {error}"),
    };
    let imports = module.imports().len();
    Ok(format!(
        "built {:.1} s  {file} {}  imports ok ({imports} of {imports})  ABI {}",
        built.took.as_secs_f64(),
        size(built.bytes),
        module.abi(),
    ))
}

/// From the current folder, where that is shorter.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// In kB of 1000 bytes.
fn size(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

//! Where compiled filters are kept, and `portolan compile`, by which `run` has them compiled beside itself.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portolan_wasm::{CompilerProcess, Engine, EngineOptions, ModuleStore};

/// With the folder of all that is kept. A gateway compiles by another process of this program, and does not keep the
/// compiler's memory; whoever only looks at files ends soon, and compiles by itself.
pub(crate) fn engine_options(cache_dir: Option<PathBuf>, serving: bool) -> EngineOptions {
    let compiler = cache_dir.as_deref().filter(|_| serving).and_then(compiler);
    // Beside what was fetched: the engine tidies its folder, and takes what it does not know for waste.
    EngineOptions { cache_dir: cache_dir.map(|folder| folder.join("compiled")), compiler }
}

fn compiler(cache_dir: &Path) -> Option<CompilerProcess> {
    // The program that runs, even when its file was replaced meanwhile.
    let program =
        if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe().ok()? };
    let command = vec![program.into(), "compile".into(), "--cache-dir".into(), cache_dir.into()];
    Some(CompilerProcess { command, known: cache_dir.join("known") })
}

/// The module on standard input: compiled, and left in the folder.
pub(crate) fn compile(cache_dir: &Path) -> anyhow::Result<()> {
    let mut module = Vec::new();
    io::stdin().lock().read_to_end(&mut module)?;
    let engine = Engine::new(&engine_options(Some(cache_dir.to_owned()), false))?;
    ModuleStore::new(engine).load(&module)?;
    Ok(())
}

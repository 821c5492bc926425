//! [`CompilerProcess`]: compiles modules in a process of its own, whose memory is the system's again when it ends.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Files in [`CompilerProcess::known`] before all are forgotten, and with them only what was compiled where.
const MOST_KNOWN: usize = 1000;

/// Compiles what the disk cache has not, before the module is taken from there. Compiling leaves some 30 MiB behind in the
/// process that does it: pages of the allocator between blocks that live on, and the compiler's own code.
#[derive(Clone, Debug)]
pub struct CompilerProcess {
    /// The program and its arguments. It reads a module from its standard input, leaves the code in the disk cache of this
    /// engine, and ends with 0. Whatever else it does costs time only: the module is then compiled here.
    pub command: Vec<OsString>,
    /// Where an empty file is kept for each module that was compiled before. Not in the cache's own folder: the engine
    /// tidies it.
    pub known: PathBuf,
}

impl CompilerProcess {
    /// Waits for the other process, unless the module was compiled before.
    pub(crate) fn compile(&self, engine: &wasmtime::Engine, digest: &str, bytes: &[u8]) {
        let known = self.known.join(name(engine, digest));
        if known.exists() {
            return;
        }
        if let Err(error) = self.run(bytes).and_then(|()| self.remember(&known)) {
            tracing::debug!(%error, module = digest, "not compiled by a process of its own");
        }
    }

    fn run(&self, bytes: &[u8]) -> io::Result<()> {
        let [program, arguments @ ..] = self.command.as_slice() else { return Ok(()) };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(bytes));
        let status = child.wait()?;
        written?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }

    fn remember(&self, known: &PathBuf) -> io::Result<()> {
        if fs::read_dir(&self.known).is_ok_and(|folder| folder.count() >= MOST_KNOWN) {
            fs::remove_dir_all(&self.known)?;
        }
        fs::create_dir_all(&self.known)?;
        File::create(known).map(drop)
    }
}

/// The module as this engine compiles it.
fn name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}", hasher.finish())
}

//! [`Project::build`]: runs the toolchain and finds the module.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::toolchain::{self, FOREIGN_SETTINGS, Step};
use super::{Language, Project};
use crate::output::color;

/// What a build is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The author's loop: built soon, compiled soon by the host.
    Dev,
    /// Traffic: small and fast.
    Release,
}

impl Profile {
    /// As `{profile}` in `filter.yaml`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Release => "release",
        }
    }

    pub(super) fn fill_in(self, path: &Path) -> PathBuf {
        path.to_str().map_or_else(|| path.to_owned(), |path| path.replace("{profile}", self.name()).into())
    }
}

/// Where the toolchain's words go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// To our standard error, as they come.
    Inherited,
    /// Into [`BuildError::output`]; what a build that succeeds says is dropped.
    #[allow(dead_code, reason = "`filter dev` prints it")]
    Captured,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Built {
    /// The file.
    pub(crate) module: PathBuf,
    /// Its size.
    pub(crate) bytes: u64,
    /// Of the toolchain, all in all.
    pub(crate) took: Duration,
}

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A program or a part of a toolchain is not there.
    #[error("{what} is not installed\nhelp: {help}")]
    Missing {
        /// In backticks where it is a program.
        what: String,
        /// How to get it.
        help: String,
    },
    /// It is there and cannot be run.
    #[error("cannot run `{program}`: {error}")]
    Run {
        /// The program.
        program: String,
        /// The system's reason.
        error: io::Error,
    },
    /// The toolchain says no.
    #[error("`{program}` failed: the build of `{name}` ends here")]
    Failed {
        /// The program.
        program: String,
        /// The filter.
        name: String,
        /// Its words, as it wrote them; empty when they were not captured.
        output: String,
    },
    /// The toolchain is content, and yet there is nothing.
    #[error("the build made no module: {reason}")]
    NoModule {
        /// Where it was looked for.
        reason: String,
    },
}

#[allow(dead_code, reason = "`filter dev` prints it")]
impl BuildError {
    /// What the toolchain said, as it wrote it; empty when it was not captured or not asked.
    pub(crate) fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            Self::Missing { .. } | Self::Run { .. } | Self::NoModule { .. } => "",
        }
    }
}

impl Project {
    /// Runs the toolchain in the project's folder.
    pub(crate) fn build(&self, profile: Profile, output: Output) -> Result<Built, BuildError> {
        let start = Instant::now();
        let by_cargo = self.language == Language::Rust && self.manifest.build.is_none();
        if !by_cargo && let Some(parent) = self.module(profile).parent() {
            // Where the toolchain cannot write, it says so itself.
            let _ = fs::create_dir_all(parent);
        }
        let mut answer = Vec::new();
        for step in toolchain::steps(self, profile) {
            answer = self.run(&step, output, by_cargo)?;
        }
        let module = match by_cargo && self.manifest.module.is_none() {
            true => self.module_of_cargo(&answer)?,
            false => self.module(profile),
        };
        match fs::metadata(&module) {
            Ok(file) => Ok(Built { module, bytes: file.len(), took: start.elapsed() }),
            Err(error) => Err(BuildError::NoModule { reason: format!("{}: {error}", module.display()) }),
        }
    }

    /// Standard output of one program, when it is an answer to us.
    fn run(&self, step: &Step, output: Output, by_cargo: bool) -> Result<Vec<u8>, BuildError> {
        let program = step.program.display().to_string();
        let mut command = Command::new(&step.program);
        command.args(&step.arguments).envs(step.environment.iter().cloned()).current_dir(&self.folder);
        command.stdin(Stdio::null());
        for name in FOREIGN_SETTINGS {
            command.env_remove(name);
        }
        match output {
            Output::Inherited if by_cargo => command.stdout(Stdio::piped()).stderr(Stdio::inherit()),
            Output::Inherited => command.stdout(io::stderr()).stderr(Stdio::inherit()),
            Output::Captured => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        };
        if output == Output::Captured && by_cargo && color() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        let ended = command.spawn().and_then(std::process::Child::wait_with_output);
        let ended = ended.map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(&step.program),
            _ => BuildError::Run { program: program.clone(), error },
        })?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let mut said = String::from_utf8_lossy(&ended.stderr).into_owned();
        if !by_cargo {
            said.insert_str(0, &String::from_utf8_lossy(&ended.stdout));
        }
        let missing = self.manifest.build.is_none().then(|| toolchain::missing_after(self.language)).flatten();
        Err(match missing {
            Some((what, help)) => BuildError::Missing { what: what.to_owned(), help: help.to_owned() },
            None => BuildError::Failed { program, name: self.name.clone(), output: said },
        })
    }

    /// The module that cargo names for this package, wherever its target folder is.
    fn module_of_cargo(&self, messages: &[u8]) -> Result<PathBuf, BuildError> {
        let manifest = self.folder.join("Cargo.toml");
        let find = |line: &[u8]| {
            let message: Value = serde_json::from_slice(line).ok()?;
            let is_ours = message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
            let files = message["filenames"].as_array().filter(|_| is_ours)?;
            files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
        };
        messages.split(|byte| *byte == b'\n').find_map(find).ok_or_else(|| BuildError::NoModule {
            reason: format!(
                "{} has no `[lib]` with `crate-type = [\"cdylib\"]`",
                self.shown.join("Cargo.toml").display()
            ),
        })
    }
}

fn missing(program: &Path) -> BuildError {
    let help = toolchain::help(program).unwrap_or("`build` of filter.yaml names it");
    BuildError::Missing { what: format!("`{}`", program.display()), help: help.to_owned() }
}

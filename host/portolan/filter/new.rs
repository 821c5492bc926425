//! `portolan filter new`: a project that builds, from the templates beside this file.

mod name;
mod template;

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use self::name::Name;
use super::project::Language;
use crate::{UsageError, output};

/// Writes the project and says what comes next. A folder that holds something already is left alone.
pub(super) fn new(name: &str, language: Language, folder: Option<&PathBuf>) -> anyhow::Result<ExitCode> {
    let name = Name::parse(name).map_err(UsageError)?;
    let folder = folder.cloned().unwrap_or_else(|| PathBuf::from(name.as_written()));
    match fs::read_dir(&folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("`{}` is not empty, and new overwrites nothing\nhelp: name another folder", folder.display()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot use `{}`", folder.display()));
        }
        Ok(false) | Err(_) => {}
    }
    for (path, text) in template::files(language, &name) {
        write_new(&folder.join(&path), &text).with_context(|| format!("cannot write `{path}`"))?;
    }
    output::answer(&told(language, &folder))?;
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create_new(path)?.write_all(text.as_bytes())
}

fn told(language: Language, folder: &Path) -> String {
    let mut text = String::new();
    for (path, about) in template::about(language) {
        let _ = writeln!(text, "created  {:<36} {about}", folder.join(path).display());
    }
    for (number, (command, about)) in template::NEXT.iter().enumerate() {
        let label = if number == 0 { "next" } else { "" };
        let command = command.replace("{folder}", &folder.display().to_string());
        let _ = writeln!(text, "{}", format!("{label:<8} {command:<36} {about}").trim_end());
    }
    text
}

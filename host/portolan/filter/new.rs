//! `portolan filter new`: a project that builds, from the templates beside this file.

mod name;
mod template;

use std::fs;
use std::io::{ErrorKind, Write};
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
    let shown = folder.display().to_string();
    let created = template::about(language).iter().map(|(path, about)| ("created", format!("{shown}/{path}"), *about));
    let next = template::NEXT.iter().map(|(command, about)| ("", command.replace("{folder}", &shown), *about));
    let mut lines: Vec<(&str, String, &str)> = created.chain(next).collect();
    if let Some(first) = lines.iter_mut().find(|(label, ..)| label.is_empty()) {
        first.0 = "next";
    }
    let width = lines.iter().map(|(_, what, _)| what.chars().count()).max().unwrap_or_default();
    let line = |(label, what, about)| format!("{label:<8} {what:<width$}  {about}").trim_end().to_owned() + "\n";
    lines.into_iter().map(line).collect()
}

//! `portolan init`: a small working set of files.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::args::InitArgs;
use crate::{output, starter};

/// Writes the files and says what they are. An existing file is left alone and nothing is written then.
pub(crate) fn init(args: &InitArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.folder;
    let starters = starter::split(SocketAddr::from(([0, 0, 0, 0], 8080)), 9001, 9002);
    for starter in &starters {
        let path = folder.join(starter.name);
        if path.symlink_metadata().is_ok() {
            bail!("`{}` exists, and init overwrites nothing\nhelp: name another folder", path.display());
        }
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    let mut text = String::new();
    for starter in &starters {
        match starter::write_new(folder, starter) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("`{}` was made meanwhile", starter.name),
            Err(error) => return Err(error).with_context(|| format!("cannot write `{}`", starter.name)),
        }
        let _ = writeln!(text, "created  {:<16} {}", starter.name, starter.about);
    }
    let _ = writeln!(text, "next     portolan run --config {}", folder.display());
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

//! `portolan filter pull`: a module from a registry or a web server into a file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::login;
use super::subject::{Subject, fetch, name_of, read_key};
use crate::args::PullArgs;
use crate::modules::{hex_digest, write_whole};
use crate::{UsageError, output};

/// Writes the file whole or not at all, and says what it is.
pub(super) fn pull(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let Subject::Remote(url) = Subject::parse(&args.reference)? else {
        return Err(UsageError(format!("`{}` is here already", args.reference)).into());
    };
    let secret = login::secret(&args.login, &url)?;
    let key = args.wanted.key.as_deref().map(read_key).transpose()?;
    let got = fetch(&args.registry, &url, secret.as_ref(), args.wanted.sha256.clone(), key)?;
    let to_stdout = args.file.as_deref() == Some(Path::new("-"));
    let mut told = String::new();
    if to_stdout {
        std::io::stdout().lock().write_all(&got.bytes)?;
    } else {
        let path = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", name_of(&url))));
        let is_other = || std::fs::read(&path).is_ok_and(|known| known != got.bytes);
        if args.file.is_none() && is_other() {
            bail!("`{}` is there with other contents\nhelp: name the file with -o", path.display());
        }
        write_whole(&path, &got.bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
        told.push_str(&format!("pulled  {} ({} bytes)\n", path.display(), got.bytes.len()));
    }
    let image = got.version.filter(|_| url.starts_with("oci://"));
    let lines = [("image", image), ("module", Some(hex_digest(&got.bytes))), ("signer", got.signer)];
    for (label, digest) in lines.into_iter().filter_map(|(label, digest)| Some((label, digest?))) {
        told.push_str(&format!("{label:<7} sha256:{digest}\n"));
    }
    if to_stdout {
        output::remark(&told)
    } else {
        output::answer(&told)?
    }
    Ok(ExitCode::SUCCESS)
}

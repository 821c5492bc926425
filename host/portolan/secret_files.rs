//! Certificates and keys in files that a Gateway names, read into the model as Secrets are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use portolan_config::{Diagnostic, Place};
use portolan_model::{Model, Origin};

/// Code of a credential that cannot be used.
pub(crate) const CREDENTIAL: &str = "P0231";

/// A larger file is refused: a chain of certificates has some kilobytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads the files that the model names, relative to the folder of the configuration. One that cannot be read leaves its
/// credential empty, so that what served before serves on.
pub(crate) fn fill(model: &mut Model, folder: &Path) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for secret in model.secrets.iter_mut().filter(|secret| !secret.files.is_empty()) {
        let read = secret.files.iter().map(|(entry, path)| match bytes(&folder.join(path)) {
            Ok(bytes) => Ok((entry.clone(), bytes)),
            Err(error) => Err(format!("cannot read `{path}`: {error}")),
        });
        match read.collect::<Result<Vec<_>, _>>() {
            Ok(entries) => secret.entries = entries,
            Err(error) => {
                let text = format!("{error}: TLS handshakes for these hosts fail");
                found.push(Diagnostic::error(CREDENTIAL, place(&secret.origin), text));
            }
        }
    }
    found
}

/// The files that the model names, to be watched.
pub(crate) fn paths(model: &Model, folder: &Path) -> Vec<PathBuf> {
    model.secrets.iter().flat_map(|secret| &secret.files).map(|(_, path)| folder.join(path)).collect()
}

/// The folder of the configuration: the first path of `--config`, or where that file is.
pub(crate) fn folder(paths: &[PathBuf]) -> PathBuf {
    let first = paths.first().map(PathBuf::as_path).filter(|path| path.as_os_str() != "-");
    match first {
        Some(path) if path.is_dir() => path.to_owned(),
        Some(path) => path.parent().map(Path::to_owned).unwrap_or_default(),
        None => PathBuf::new(),
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}

pub(crate) fn place(origin: &Origin) -> Place {
    Place { file: origin.file(), line: origin.line().max(1), column: origin.column().max(1), length: 1 }
}

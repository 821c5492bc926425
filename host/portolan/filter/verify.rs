//! `portolan filter verify`: whether the gateway would take a module with this digest and key.

use std::process::ExitCode;

use anyhow::anyhow;

use super::login;
use super::subject::{Subject, fetch, read_key};
use crate::args::VerifyArgs;
use crate::modules::{checked_file, hex_digest};
use crate::{UsageError, output};

/// Says what was checked; an error is the reason to refuse the module.
pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let (key, sha256) = (args.wanted.key.as_deref().map(read_key).transpose()?, args.wanted.sha256.clone());
    if key.is_none() && sha256.is_none() {
        return Err(UsageError("nothing to check against: give --key, --sha256 or both".to_owned()).into());
    }
    let (image, module, signer) = match Subject::parse(&args.subject)? {
        Subject::Remote(url) => {
            let secret = login::secret(&args.login, &url)?;
            let got = fetch(&args.registry, &url, secret.as_ref(), sha256.clone(), key)?;
            (got.version.filter(|_| url.starts_with("oci://")), hex_digest(&got.bytes), got.signer)
        }
        Subject::File(path) => {
            let checked = checked_file(&path, sha256.as_deref(), key.as_deref()).map_err(|reason| anyhow!(reason))?;
            (None, checked.1, checked.2)
        }
        Subject::Project(_) => {
            return Err(UsageError(format!("`{}` is a folder: name its module", args.subject)).into());
        }
    };
    let mut text = format!("verified  {}\n", args.subject);
    let lines = [("image", image), ("module", Some(module)), ("signer", signer)];
    for (label, digest) in lines.into_iter().filter_map(|(label, digest)| Some((label, digest?))) {
        text.push_str(&format!("{label:<9} sha256:{digest}\n"));
    }
    output::answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

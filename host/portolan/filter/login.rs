//! Credentials for a registry: from the command line, the environment or Docker's configuration. They are never printed.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use portolan_model::PullSecret;
use serde_json::{Value, json};

use crate::UsageError;
use crate::args::LoginArgs;
use crate::modules::{Credentials, FetchError, Reference};

/// Longer is no password.
const MAX_PASSWORD: u64 = 64 * 1024;

const USER: &str = "PORTOLAN_REGISTRY_USER";
const PASSWORD: &str = "PORTOLAN_REGISTRY_PASSWORD";

/// What is known for a registry, in the form of a pull secret: so the rest is as in the gateway.
pub(super) fn secret(args: &LoginArgs, url: &str) -> anyhow::Result<Option<PullSecret>> {
    let Some(reference) = Reference::parse(url).filter(|_| url.starts_with("oci://")) else { return Ok(None) };
    let pair = match &args.username {
        Some(user) => Some((user.clone(), password_of_stdin()?)),
        None => std::env::var(USER).ok().zip(std::env::var(PASSWORD).ok()),
    };
    if let Some((username, password)) = pair {
        let entry = json!({ "auths": { reference.registry: { "username": username, "password": password } } });
        return Ok(Some(PullSecret { name: "the command line".to_owned(), docker_config: entry.to_string() }));
    }
    let Some(path) = file(args) else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(docker_config) => Ok(Some(PullSecret { name: path.display().to_string(), docker_config })),
        Err(_) if args.docker_config.is_none() => Ok(None),
        Err(error) => Err(UsageError(format!("cannot read `{}`: {error}", path.display())).into()),
    }
}

/// Those in a secret for a registry.
pub(super) fn credentials(secret: Option<&PullSecret>, reference: &Reference) -> Option<Credentials> {
    Credentials::of(&secret?.docker_config, &reference.registry)
}

/// What went wrong, and what to do when it was for want of credentials.
pub(super) fn explained(error: FetchError, secret: Option<&PullSecret>) -> anyhow::Error {
    if !matches!(error, FetchError::Status { status: 401 | 403, .. }) {
        return error.into();
    }
    let has_helper = |config: &Value| config.get("credsStore").is_some() || config.get("credHelpers").is_some();
    let config = secret.and_then(|secret| serde_json::from_str(&secret.docker_config).ok());
    let help = if config.as_ref().is_some_and(has_helper) {
        "Docker's configuration leaves them to a helper program, which is not asked"
    } else {
        "`docker login` or `podman login --authfile` keeps them where they are found"
    };
    anyhow::anyhow!("{error}\nhelp: set {USER} and {PASSWORD}; {help}")
}

fn password_of_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut text);
    read.context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn file(args: &LoginArgs) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let usual = || folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
    args.docker_config.clone().or_else(|| Some(usual()?.join("config.json")))
}

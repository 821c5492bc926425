//! `portolan filter push`: a module into a registry, and the WasmPlugin that runs it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use portolan_wasm::{Engine, EngineOptions, ModuleStore};
use serde_json::json;

use super::login;
use super::project::Project;
use super::subject::{Subject, read_key};
use crate::args::{ListOutput, PushArgs};
use crate::modules::{self, Package, Pushed, Reference, SigningKey, hex_digest};
use crate::{UsageError, output};

/// Most bytes of a module: what the gateway would fetch.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Sends what the registry does not have; the answer is a WasmPlugin, the rest goes to standard error.
pub(super) fn push(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let reference = reference(&args.reference)?;
    let subject = Subject::parse(&args.subject)?;
    let key = args.sign.as_deref().map(read_key).transpose()?.map(|pem| SigningKey::from_pem(&pem)).transpose()?;
    let url = url(&reference);
    let secret = login::secret(&args.login, &url)?;
    let (path, module) = subject.local()?;
    if module.len() > MAX_BYTES {
        bail!("{} has more than {} MiB, which no gateway fetches", path.display(), MAX_BYTES >> 20);
    }
    let store = ModuleStore::new(Engine::new(&EngineOptions::default())?);
    let looked_over = store.load(&module).with_context(|| format!("{} is no filter for this host", path.display()))?;
    let abi = looked_over.abi().to_string();
    let annotations = annotations(args, &subject, &reference, &abi, looked_over.schema());
    let package = Package::new(&module, args.layout, &abi, &annotations)?;
    let credentials = login::credentials(secret.as_ref(), &reference);
    let pushed = modules::push(&args.registry.client(), &reference, credentials, &package, key.as_ref());
    let pushed = pushed.map_err(|error| login::explained(error, secret.as_ref()))?;
    let signer = key.as_ref().map(SigningKey::public).transpose()?;
    let answer = match args.output {
        ListOutput::Text => {
            output::remark(&told(&url, &pushed, &module, &abi));
            plugin(&subject, &url, &pushed, key.as_ref())
        }
        ListOutput::Json => {
            let answer = json!({
                "url": url,
                "digest": format!("sha256:{}", pushed.digest),
                "module": format!("sha256:{}", hex_digest(&module)),
                "bytes": module.len(),
                "abi": abi,
                "signer": signer.map(|key| format!("sha256:{}", key.fingerprint())),
                "changed": pushed.before.as_ref() != Some(&pushed.digest) || pushed.signed == Some(true),
                "annotations": annotations,
            });
            serde_json::to_string_pretty(&answer)? + "\n"
        }
    };
    output::answer(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn reference(text: &str) -> anyhow::Result<Reference> {
    let wrong = |why: &str| UsageError(format!("`{text}` {why}\nhelp: as in oci://HOST/NAME:TAG"));
    let reference = Reference::parse(text).ok_or_else(|| wrong("is no address of an image"))?;
    match reference.digest {
        Some(_) => Err(wrong("names a digest, which an image gets by being pushed").into()),
        None => Ok(reference),
    }
}

fn url(reference: &Reference) -> String {
    format!("oci://{}/{}:{}", reference.registry, reference.repository, reference.version())
}

/// Of the image. No time is among them, so that the same module stays the same image.
fn annotations(
    args: &PushArgs,
    subject: &Subject,
    reference: &Reference,
    abi: &str,
    schema: Option<&[u8]>,
) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        ("org.opencontainers.image.title".to_owned(), subject.name()),
        ("org.opencontainers.image.version".to_owned(), reference.version()),
        ("dev.portolan.filter.abi".to_owned(), abi.to_owned()),
    ]);
    let source = args.source.clone().map(|source| ("org.opencontainers.image.source".to_owned(), source));
    let schema =
        schema.map(|schema| ("dev.portolan.filter.schema".to_owned(), format!("sha256:{}", hex_digest(schema))));
    annotations.extend(source.into_iter().chain(schema).chain(args.annotations.clone()));
    annotations
}

fn told(url: &str, pushed: &Pushed, module: &[u8], abi: &str) -> String {
    let mut text = match &pushed.before {
        Some(before) if *before == pushed.digest => format!("as before  {url}\n"),
        _ => format!("pushed     {url} ({} blobs sent, {} were there)\n", pushed.sent, pushed.kept),
    };
    let _ = writeln!(text, "image      sha256:{}", pushed.digest);
    if let Some(before) = pushed.before.as_ref().filter(|before| **before != pushed.digest) {
        let _ = writeln!(text, "before     sha256:{before}");
    }
    let _ = writeln!(text, "module     sha256:{} ({} bytes, proxy-wasm {abi})", hex_digest(module), module.len());
    match pushed.signed {
        Some(true) => text.push_str("signed     as cosign does\n"),
        Some(false) => text.push_str("signed     before by this key\n"),
        None => {}
    }
    text
}

/// What to put into the configuration.
fn plugin(subject: &Subject, url: &str, pushed: &Pushed, key: Option<&SigningKey>) -> String {
    let mut text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {}\nspec:\n  url: {url}\n  \
         sha256: {}\n",
        subject.name(),
        pushed.digest
    );
    if let Some(key) = key {
        text.push_str("  verificationKey: |\n");
        for line in key.public_pem().lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    if let Subject::Project(project) = subject {
        text.push_str(&settings(project));
    }
    text
}

/// What `filter.yaml` says of the plugin.
fn settings(project: &Project) -> String {
    let word =
        |value: serde_json::Result<serde_json::Value>| value.ok().and_then(|value| value.as_str().map(str::to_owned));
    let lines = [
        ("phase", project.phase().and_then(|phase| word(serde_json::to_value(phase)))),
        ("failStrategy", project.fail_strategy().and_then(|strategy| word(serde_json::to_value(strategy)))),
        ("pluginName", project.plugin_name().map(|name| json!(name).to_string())),
        ("pluginConfig", Some(project.config_json()).filter(|config| !config.is_empty())),
    ];
    let lines = lines.into_iter().filter_map(|(key, value)| Some(format!("  {key}: {}\n", value?)));
    lines.collect()
}

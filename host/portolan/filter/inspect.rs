//! `portolan filter inspect`: what a module says of itself, and whether this host serves it.

mod report;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use portolan_wasm::{
    Anatomy, CompileError, Engine, EngineOptions, ModuleStore, PluginModule, PluginVm, Shared, VmSettings,
};
use serde_json::Value;

use self::report::Report;
use super::login;
use super::subject::{Subject, fetch};
use crate::args::{InspectArgs, ListOutput};
use crate::modules::hex_digest;
use crate::output;

/// Tells all, also of a module that the host refuses: that ends with the reason and exit code 1.
pub(super) fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let subject = Subject::parse(&args.subject)?;
    let (bytes, image) = match &subject {
        Subject::Remote(url) => {
            let secret = login::secret(&args.login, url)?;
            let got = fetch(&args.registry, url, secret.as_ref(), None, None)?;
            (got.bytes, got.version.filter(|_| url.starts_with("oci://")))
        }
        subject => (subject.local()?.1, None),
    };
    let no_filter = || format!("{} is no filter for this host", args.subject);
    let anatomy = Anatomy::read(&bytes).with_context(no_filter)?;
    if args.schema {
        return schema(&anatomy, &args.subject);
    }
    let loaded = ModuleStore::new(Engine::new(&EngineOptions::default())?).load(&bytes);
    let config = match (&args.plugin_config, &subject) {
        (Some(config), _) => config.clone(),
        (None, Subject::Project(project)) => project.config_json(),
        (None, Subject::File(_) | Subject::Remote(_)) => String::new(),
    };
    let report = Report {
        subject: args.subject.clone(),
        sha256: hex_digest(&bytes),
        image,
        bytes: bytes.len(),
        abi: loaded.as_ref().ok().map(|module| module.abi()),
        unserved: loaded.as_ref().err().map(unserved).unwrap_or_default(),
        started: loaded.as_ref().ok().map(|module| start(module, &config)),
        anatomy,
    };
    output::answer(&match args.output {
        ListOutput::Text => report.to_text(),
        ListOutput::Json => serde_json::to_string_pretty(&report.to_json())? + "\n",
    })?;
    loaded.with_context(no_filter)?;
    Ok(ExitCode::SUCCESS)
}

/// Imports that keep the host from running a module.
fn unserved(error: &CompileError) -> Vec<String> {
    match error {
        CompileError::UnknownImports { names } => names.clone(),
        CompileError::WrongType { name, .. } => vec![name.clone()],
        _ => Vec::new(),
    }
}

/// Memory of an instance in bytes, or why there is none.
fn start(module: &Arc<PluginModule>, config: &str) -> Result<usize, String> {
    let settings = VmSettings { configuration: config.as_bytes().to_vec(), ..VmSettings::default() };
    let vm = PluginVm::<()>::start(module, &Arc::new(settings), &Shared::new());
    vm.map(|vm| vm.memory_bytes()).map_err(|error| error.to_string())
}

fn schema(anatomy: &Anatomy, subject: &str) -> anyhow::Result<ExitCode> {
    let schema = anatomy.schema.as_deref().ok_or_else(|| anyhow!("{subject} carries no schema"))?;
    let schema: Value =
        serde_json::from_slice(schema).with_context(|| format!("the schema of {subject} is not JSON"))?;
    output::answer(&(serde_json::to_string_pretty(&schema)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

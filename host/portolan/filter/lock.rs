//! `portolan filter lock`: portolan.lock beside the configuration.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use portolan_model::{Plugin, PluginCode};
use portolan_proxy::{Attached, PluginGeneration, Snapshot};
use portolan_telemetry::Metrics;

use crate::UsageError;
use crate::args::ConfigArgs;
use crate::change::number;
use crate::check::FETCH_TIME;
use crate::load::{self, Loader, Purpose};
use crate::modules::{Lock, Locked};
use crate::output;

/// Loads and starts all filters, and writes down what they are. Nothing is written when one does not start.
pub(super) fn lock(config: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let path = config.config.first().and_then(|path| Lock::path(path));
    let path = path.ok_or_else(|| UsageError("standard input has no folder for portolan.lock".to_owned()))?;
    let mut loader = Loader::new(config)?.without_lock();
    let read = loader.read(true);
    loader.modules().wait(FETCH_TIME);
    let mut builder = load::builder(config, loader.modules().source(), Metrics::new(), Purpose::default())?;
    let (snapshot, problems) = builder.build(read.model.clone());
    for problem in &problems {
        output::remark(&format!("{}\n", loader.diagnose(problem).message));
    }
    if !problems.is_empty() {
        bail!("{} in the way: nothing is locked", number(problems.len(), "problem"));
    }
    let mut filters = BTreeMap::new();
    // Bundled filters come with the binary, whose version is not the lock's business.
    let of_users = read.model.plugins.iter().filter(|plugin| !matches!(plugin.code, PluginCode::Bundled(_)));
    for plugin in of_users {
        if let Some(generation) = generation(&snapshot, plugin) {
            filters.insert(plugin.name.clone(), locked(&loader, plugin, generation)?);
        }
    }
    let old = Lock::read(&path).and_then(Result::ok).map(|old| old.filters).unwrap_or_default();
    output::answer(&changes(&old, &filters))?;
    std::fs::write(&path, Lock::new(filters).to_text()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn generation<'a>(snapshot: &'a Snapshot, plugin: &Plugin) -> Option<&'a PluginGeneration> {
    snapshot.plugins().iter().find_map(|attached| match attached {
        Attached::Ready(generation) if *generation.name == *plugin.name => Some(&**generation),
        _ => None,
    })
}

fn locked(loader: &Loader, plugin: &Plugin, generation: &PluginGeneration) -> anyhow::Result<Locked> {
    let sourced = loader.modules().sourced(plugin)?;
    let is_image = matches!(&plugin.code, PluginCode::Remote(module) if module.url.starts_with("oci://"));
    Ok(Locked {
        from: match &plugin.code {
            PluginCode::File(path) => path.file_name().unwrap_or_default().display().to_string(),
            PluginCode::Remote(module) => module.url.clone(),
            PluginCode::Bundled(name) => name.clone(),
        },
        bytes: sourced.bytes.len() as u64,
        sha256: sourced.sha256,
        image: sourced.version.filter(|_| is_image),
        signer: sourced.signer,
        abi: generation.abi().to_string(),
        memory_bytes: generation.start_memory(),
        start_ms: generation.start_time().as_millis().try_into().unwrap_or(u64::MAX),
        imports: generation.imports(),
    })
}

/// One line for each filter: new, as before, other than before, gone.
fn changes(old: &BTreeMap<String, Locked>, new: &BTreeMap<String, Locked>) -> String {
    let mut text = String::new();
    for (name, locked) in new {
        let what = match old.get(name) {
            None => "new",
            Some(old) if old.sha256 == locked.sha256 && old.signer == locked.signer => "as before",
            Some(_) => "changed",
        };
        let _ = writeln!(text, "{name}: {what}, {} ({} bytes, proxy-wasm {})", locked.sha256, locked.bytes, locked.abi);
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        let _ = writeln!(text, "{name}: gone");
    }
    text
}

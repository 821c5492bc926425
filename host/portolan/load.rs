//! [`Loader`]: the way from `--config` to a model, the same for `run`, `check` and `explain`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use portolan_config::resources::istio::{TrafficExtension, WasmPlugin};
use portolan_config::translate::concurrency;
use portolan_config::{Diagnostic, Place, ResourceSet, Severity, Sources, TranslateOptions, Translator, translate};
use portolan_model::{Model, Origin};
use portolan_proxy::{BuildProblem, Builder, BuilderOptions, Cause, Challenges, ModuleSource, StreamTracer};
use portolan_telemetry::{Metrics, Reporter};
use portolan_wasm::{Engine, Shared};

use crate::UsageError;
use crate::acme::Acme;
use crate::args::ConfigArgs;
use crate::change::number;
use crate::compile;
use crate::dev_tls::DevTls;
use crate::modules::{Fingerprint, Lock, Modules};
use crate::secret_files::{self, CREDENTIAL};
use crate::{output, view};

/// Code of a part that the files ask for and that cannot be built: a filter, a listener, the access log.
const NOT_BUILT: &str = "P0501";
/// Code of a module that is on its way.
pub(crate) const PENDING: &str = "P0502";
/// Code of a module that is not the one that was locked.
const DRIFT: &str = "P0503";
/// Code of a configuration that a filter, or its schema, refuses.
const WRONG_CONFIG: &str = "P0504";
/// Code of a certificate that ends soon.
const EXPIRY: &str = "P0235";
/// Code of a number of threads that does not count any more.
const OTHER_CONCURRENCY: &str = "P0352";
/// Code of an unknown field.
const UNKNOWN_FIELD: &str = "P0007";

/// Reads again and again, and keeps what was last good of each object.
#[derive(Debug)]
pub(crate) struct Loader {
    paths: Vec<PathBuf>,
    translator: Translator,
    lenient: bool,
    modules: Modules,
    resources: ResourceSet,
    /// The files as they were at the last reading, without their texts.
    sources: Sources,
    /// The model of the last reading.
    last: Option<Arc<Model>>,
    dev_tls: Option<DevTls>,
    acme: Option<Arc<Acme>>,
    /// What the configuration said of worker threads at the start, where that counted.
    concurrency: Option<Option<u32>>,
}

/// One reading of everything.
#[derive(Debug)]
pub(crate) struct Read {
    /// The files.
    pub(crate) sources: Sources,
    /// What is to be said about them.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What they mean.
    pub(crate) model: Arc<Model>,
    /// What they meant before, and whether that is the same.
    pub(crate) last: Option<(Arc<Model>, bool)>,
    /// The state of the filters' files.
    pub(crate) modules: Fingerprint,
}

impl Read {
    /// Whether `model` means the same. With thousands of hosts a comparison takes its time.
    pub(crate) fn means(&self, model: &Arc<Model>) -> bool {
        match &self.last {
            Some((last, is_same)) if Arc::ptr_eq(last, model) => *is_same,
            _ => Arc::ptr_eq(model, &self.model) || **model == *self.model,
        }
    }
}

impl Loader {
    /// Nothing is read yet. Paths that do not exist and unknown filters are wrong usage.
    pub(crate) fn new(config: &ConfigArgs) -> anyhow::Result<Self> {
        check_paths(config)?;
        let options = translate_options(config);
        let client = config.registry.client();
        let folder = cache_dir(config).map(|folder| folder.join("fetched"));
        let modules = Modules::new(&config.filters, client, folder).map_err(UsageError)?;
        let modules = modules.locked_by(config.config.first().and_then(|path| Lock::path(path)));
        let paths = config.config.clone();
        let (resources, sources, last) = (ResourceSet::default(), Sources::default(), None);
        Ok(Self {
            paths,
            translator: Translator::new(options),
            lenient: false,
            modules,
            resources,
            sources,
            last,
            dev_tls: None,
            acme: None,
            concurrency: None,
        })
    }

    /// Unknown fields become warnings: a newer Istio field must not look like an outage in a gateway that serves.
    pub(crate) fn lenient(self) -> Self {
        Self { lenient: true, ..self }
    }

    /// Serves HTTPS with certificates that are made here.
    pub(crate) fn with_dev_tls(self, dev_tls: Option<DevTls>) -> Self {
        Self { dev_tls, ..self }
    }

    /// Takes certificates that an authority signs.
    pub(crate) fn with_acme(self, acme: Option<Arc<Acme>>) -> Self {
        Self { acme, ..self }
    }

    /// What the configuration says of worker threads, before anything is made of it: they are made once. What it says later
    /// is told.
    pub(crate) fn concurrency(&mut self) -> Option<u32> {
        if self.paths.iter().any(|path| path.as_os_str() == "-") {
            // Standard input is read once.
            return None;
        }
        let sources = Sources::read(&self.paths);
        let texts = sources.files().iter().filter_map(|file| Some((&*file.name, file.content.as_deref().ok()?)));
        let mut resources = ResourceSet::default();
        // Few files ask for it, and only those are looked into.
        resources.update(&Sources::from_texts(texts.filter(|(_, text)| text.contains("concurrency"))));
        self.sources = sources;
        let written = concurrency(&resources).map(|(number, _)| number);
        *self.concurrency.insert(written)
    }

    /// It has changed: the process has the threads that it has.
    fn other_concurrency(&self) -> Option<Diagnostic> {
        let (at_start, now) = (self.concurrency?, concurrency(&self.resources));
        if now.as_ref().map(|(number, _)| *number) == at_start {
            return None;
        }
        let place = now.map_or_else(|| self.argument_place(""), |(_, place)| place);
        let text = "`concurrency` counts when the gateway starts: it keeps the worker threads that it has";
        Some(Diagnostic::warning(OTHER_CONCURRENCY, place, text).with_help("start it anew"))
    }

    pub(crate) fn dev_tls(&self) -> Option<&DevTls> {
        self.dev_tls.as_ref()
    }

    /// Takes modules as they are: for writing the lock.
    pub(crate) fn without_lock(self) -> Self {
        Self { modules: self.modules.locked_by(None), ..self }
    }

    /// The paths of `--config`.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Files beside the configuration that this model names.
    pub(crate) fn named_files(&self, model: &Model) -> Vec<PathBuf> {
        secret_files::paths(model, &secret_files::folder(&self.paths))
    }

    /// What is in force, kept and rejected.
    pub(crate) fn resources(&self) -> &ResourceSet {
        &self.resources
    }

    /// Replaced filters by name.
    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Reads all files and translates them, and has fetched what they want. `forced` asks anew for modules that failed
    /// or are to be asked for always, as a change of the configuration does.
    pub(crate) fn read(&mut self, forced: bool) -> Read {
        let sources = Sources::read_again(&self.paths, &self.sources);
        let mut diagnostics = self.resources.update(&sources);
        self.sources = sources.without_texts();
        if self.lenient {
            for diagnostic in diagnostics.iter_mut().filter(|diagnostic| diagnostic.code == UNKNOWN_FIELD) {
                diagnostic.severity = diagnostic.severity.min(Severity::Warning);
            }
        }
        let mut translation = self.translator.translate(&self.resources);
        diagnostics.extend(translation.diagnostics);
        diagnostics.extend(self.other_concurrency());
        diagnostics.extend(secret_files::fill(&mut translation.model, &secret_files::folder(&self.paths)));
        if let Some(acme) = &self.acme {
            diagnostics.extend(acme.fill(&mut translation.model));
        }
        if let Some(dev_tls) = &mut self.dev_tls {
            dev_tls.apply(&mut translation.model, &mut diagnostics);
        }
        let model = Arc::new(translation.model);
        let last = self.last.replace(model.clone()).map(|last| {
            let is_same = *last == *model;
            (last, is_same)
        });
        self.modules.want(&model, forced || matches!(last, Some((_, false))));
        let modules = self.modules.fingerprint(&model);
        Read { sources, diagnostics, model, last, modules }
    }

    /// A part that could not be built, at the line that asks for it or at the file of the command line.
    pub(crate) fn diagnose(&self, problem: &BuildProblem) -> Diagnostic {
        let place = match &problem.origin {
            Some(origin) => self.plugin_place(origin, problem).unwrap_or_else(|| place_of(origin)),
            None => self.argument_place(&problem.subject),
        };
        let text = format!("{}: {}", problem.subject, problem.message);
        match problem.cause {
            Cause::Broken if problem.config.is_some() => Diagnostic::error(WRONG_CONFIG, place, text),
            Cause::Broken => Diagnostic::error(NOT_BUILT, place, text),
            Cause::Pending => Diagnostic::warning(PENDING, place, text),
            Cause::Credential => Diagnostic::error(CREDENTIAL, place, text),
            Cause::Expiry => Diagnostic::warning(EXPIRY, place, text),
            Cause::Drift => {
                Diagnostic::error(DRIFT, place, text).with_help("run `portolan filter lock`, and read what it changes")
            }
        }
    }

    /// A filter fails for what its `url` names, or for a place in its configuration.
    fn plugin_place(&self, origin: &Origin, problem: &BuildProblem) -> Option<Place> {
        let (namespace, name) = origin.name().split_once('/')?;
        let (places, prefix) = match origin.kind() {
            "WasmPlugin" => (&self.resources.get::<WasmPlugin>(namespace, name)?.places, "spec"),
            "TrafficExtension" => (&self.resources.get::<TrafficExtension>(namespace, name)?.places, "spec.wasm"),
            _ => return None,
        };
        Some(match problem.config.as_deref() {
            // As a whole, and for a key: the key is the place. Values are told where they stand.
            Some("") => places.of_key(&format!("{prefix}.pluginConfig")),
            Some(path) if problem.message.starts_with("unknown field") => {
                places.of_key(&format!("{prefix}.pluginConfig{path}"))
            }
            Some(path) => places.of(&format!("{prefix}.pluginConfig{path}")),
            None => places.of(&format!("{prefix}.url")),
        })
    }

    /// `subject` is `filter NAME`, or something that no file names.
    fn argument_place(&self, subject: &str) -> Place {
        let overrides = self.modules.overrides();
        let replaced = overrides.iter().find(|(name, _)| subject.strip_prefix("filter ") == Some(name));
        let file = replaced.map_or("command line", |(_, file)| file);
        Place { file: file.into(), line: 1, column: 1, length: 1 }
    }
}

fn check_paths(config: &ConfigArgs) -> Result<(), UsageError> {
    match config.config.iter().find(|path| path.as_os_str() != "-" && !path.exists()) {
        Some(path) => Err(UsageError(format!("`{}` does not exist", path.display()))),
        None => Ok(()),
    }
}

fn translate_options(config: &ConfigArgs) -> TranslateOptions {
    let host_env = config.wasm_env.iter().map(|name| (name.clone(), std::env::var(name).ok())).collect();
    let mut options = TranslateOptions {
        port_map: config.port_map.clone(),
        allow_ambiguous_paths: config.allow_ambiguous_paths,
        host_env,
        locality: config.locality.clone(),
        cluster_id: config.cluster_id.clone(),
        trusted_proxies: config.num_trusted_proxies,
        underscores: config.headers_with_underscores.into(),
        ..TranslateOptions::default()
    };
    if !config.namespace.is_empty() {
        options.namespace.clone_from(&config.namespace);
    }
    if !config.labels.is_empty() {
        options.labels = config.labels.iter().cloned().collect();
    }
    options
}

/// What files mean, and nothing more: no module is fetched. Mistakes are counted on standard error.
pub(crate) fn model(config: &ConfigArgs) -> anyhow::Result<Arc<Model>> {
    check_paths(config)?;
    let mut resources = ResourceSet::default();
    let mut diagnostics = resources.update(&Sources::read(&config.config));
    let mut translation = translate(&resources, &translate_options(config));
    diagnostics.extend(translation.diagnostics);
    diagnostics.extend(secret_files::fill(&mut translation.model, &secret_files::folder(&config.config)));
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if errors > 0 {
        let names: Vec<_> = config.config.iter().map(|path| path.display().to_string()).collect();
        let (names, errors) = (names.join(", "), number(errors, "error"));
        output::remark(&format!("{errors} in {names}; see `portolan check`\n"));
    }
    Ok(Arc::new(translation.model))
}

/// What a builder is made for.
#[derive(Clone, Default)]
pub(crate) struct Purpose {
    /// Number of workers; with 0 nothing is bound, and `route-match` tells what it tries.
    pub(crate) workers: usize,
    /// `--access-log`.
    pub(crate) access_log: Option<PathBuf>,
    /// What an authority is shown of hosts.
    pub(crate) challenges: Arc<Challenges>,
    /// Where users' filters and streams are told, for `filter dev` and `filter test`.
    pub(crate) trace: Option<StreamTracer>,
}

/// What makes snapshots: the engine for filters with its cache of compiled modules.
pub(crate) fn builder(
    config: &ConfigArgs,
    source: Arc<dyn ModuleSource>,
    metrics: Arc<Metrics>,
    purpose: Purpose,
) -> anyhow::Result<Builder> {
    let serving = purpose.workers > 0;
    let engine = Engine::new(&compile::engine_options(cache_dir(config), serving))?;
    let shared = Shared::new();
    let filters = shared.clone();
    metrics.set_plugin_values(move || filters.metrics().into_iter().map(view::plugin_value).collect());
    let options = BuilderOptions {
        engine,
        shared,
        metrics,
        workers: purpose.workers.max(1),
        source,
        embedded: portolan_filters::bundled,
        overrides: config.filters.clone(),
        reporter: serving.then(|| reporter(config)),
        access_log: purpose.access_log.map(|path| path.display().to_string()),
        dns_server: config.dns_server,
        challenges: purpose.challenges,
        bind: serving,
        explain: !serving,
        strict: config.strict_wasm,
        trace: purpose.trace,
    };
    Builder::new(options).context("cannot start what builds snapshots")
}

/// Who Istio's metrics are reported by, as its own gateways tell it by their labels.
fn reporter(config: &ConfigArgs) -> Reporter {
    let options = translate_options(config);
    let label = |name: &str| options.labels.get(name).cloned();
    let app = options.app().unwrap_or_default();
    let service = ["service.istio.io/canonical-name", "app.kubernetes.io/name"].into_iter().find_map(label);
    let version = label("version").or_else(|| label("app.kubernetes.io/version"));
    let revision = label("service.istio.io/canonical-revision").or_else(|| version.clone());
    Reporter {
        workload: app.clone(),
        namespace: options.namespace,
        service: service.unwrap_or_else(|| app.clone()),
        app,
        version: version.unwrap_or_default(),
        revision: revision.unwrap_or_else(|| "latest".to_owned()),
        // As Istio's charts call the first cluster.
        cluster: options.cluster_id.unwrap_or_else(|| "Kubernetes".to_owned()),
    }
}

/// Where fetched and compiled modules are kept.
fn cache_dir(config: &ConfigArgs) -> Option<PathBuf> {
    config.cache_dir.clone().or_else(default_cache_dir)
}

/// The user's own cache folder: nobody else may write there, for it holds code that is run as it is.
fn default_cache_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    base.is_absolute().then(|| base.join("portolan"))
}

fn place_of(origin: &Origin) -> Place {
    Place { file: origin.file(), line: origin.line().max(1), column: origin.column().max(1), length: 1 }
}

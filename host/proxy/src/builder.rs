//! [`Builder`]: makes a snapshot of a model: modules loaded, VMs started, sockets bound, cluster states found again.
//! Whatever fails costs itself only: the old version serves on.

mod decisions;
mod health;
mod listeners;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_model::filter::{CircuitBreakerConfig, CorsConfig, FaultConfig};
use portolan_model::{EVERY_REQUEST, FailPolicy, Model, PluginKind};
use portolan_telemetry::{Metrics, Reporter};
use portolan_wasm::{CompileError, Engine, ModuleStore, PluginModule, Shared, StartError};

use crate::build_problem::{BuildProblem, plugin_problems};
use crate::callout::MADE_UP;
use crate::challenges::Challenges;
use crate::cluster::ClusterState;
use crate::cluster_entry::{balancing, entry, sockets, transport};
use crate::compiler::Compiler;
use crate::config_schema::{self, Finding, SchemaError};
use crate::dns::Resolution;
use crate::generation::{GenerationParts, PluginGeneration, Role};
use crate::generations::Generations;
use crate::handover::{self, HostVersions};
use crate::health::HealthChecks;
use crate::log_entry::Logs;
use crate::module_source::{self, Cause, LoadError, ModuleSource};
use crate::rollout::Rollout;
use crate::snapshot::{Attached, ClusterEntry, Snapshot, SnapshotParts};
use crate::sockets::{SocketRegistry, Sockets};
use crate::spans::SpanPlan;
use crate::standard_metrics::StandardPlan;
use crate::stream_trace::StreamTracer;
use crate::udp::UdpListeners;
use crate::unbound::Unbound;
use crate::upstream::Certificates;
use crate::wanted::{Code, Wanted, Watch};
use crate::worker_sockets::ClientSockets;

/// The library's filters that the gateway itself puts into the chain.
pub(crate) const FAULT: &str = "fault";
pub(crate) const CORS: &str = "cors";

/// What a builder works with.
pub struct BuilderOptions {
    /// Compiles modules.
    pub engine: Engine,
    /// What filters share over VMs and workers.
    pub shared: Arc<Shared>,
    /// Where handles come from.
    pub metrics: Arc<Metrics>,
    /// Number of workers: each gets a VM of every plugin and a socket of every listener.
    pub workers: usize,
    /// The module of a filter in the binary, by name.
    pub embedded: fn(&str) -> Option<&'static [u8]>,
    /// Where users' modules come from.
    pub source: Arc<dyn ModuleSource>,
    /// Files that take the place of embedded filters, by name (`--filter`).
    pub overrides: Vec<(String, PathBuf)>,
    /// Who Istio's standard metrics are reported by; none where they are not kept.
    pub reporter: Option<Reporter>,
    /// Access log path that beats the model's (`--access-log`).
    pub access_log: Option<String>,
    /// Who resolves names (`--dns-server`); none for what the system says.
    pub dns_server: Option<std::net::SocketAddr>,
    /// What an authority is shown of hosts.
    pub challenges: Arc<Challenges>,
    /// Bind listeners; false for `explain`, which serves nobody.
    pub bind: bool,
    /// Ask `route-match` to tell what it tried.
    pub explain: bool,
    /// Report users' filters' calls that are not honoured (`--strict-wasm`).
    pub strict: bool,
    /// Where each callback of users' filters is told, and the end of each stream; none but for whoever writes filters.
    pub trace: Option<StreamTracer>,
}

/// Builds one snapshot after the other.
pub struct Builder {
    options: BuilderOptions,
    modules: Arc<ModuleStore>,
    compiler: Compiler,
    sockets: SocketRegistry,
    unbound: Unbound<Sockets>,
    udp: UdpListeners,
    resolution: Resolution,
    /// Made with the first cluster that wants any.
    health: Option<Arc<HealthChecks>>,
    last: Option<Arc<Snapshot>>,
    generations: Arc<Generations>,
    logs: Logs,
    certificates: Certificates,
}

#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, std::io::Error),
    #[error("no such filter comes with this binary: {0}")]
    Unknown(String),
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("its configuration cannot be written: {0}")]
    Configuration(#[from] serde_json::Error),
    #[error("its configuration does not fulfil the module's schema")]
    Schema(Vec<Finding>),
    #[error("{0}")]
    UnusableSchema(#[from] SchemaError),
}

impl PluginError {
    /// What is to be said: one problem, or one for each place of the configuration that is wrong.
    fn told(&self, problem: BuildProblem) -> Vec<BuildProblem> {
        match self {
            Self::Schema(findings) => {
                let told = |Finding { path, message }: &Finding| BuildProblem {
                    message: message.clone(),
                    config: Some(path.clone()),
                    ..problem.clone()
                };
                findings.iter().map(told).collect()
            }
            // The filter has read its configuration and says no.
            Self::Start(StartError::Refused { .. }) => vec![BuildProblem { config: Some(String::new()), ..problem }],
            _ => vec![problem],
        }
    }
}

impl PluginError {
    fn cause(&self) -> Cause {
        match self {
            Self::Load(LoadError::Source(error)) => error.cause,
            _ => Cause::Broken,
        }
    }
}

impl Builder {
    /// A builder whose first snapshot starts from nothing.
    ///
    /// # Errors
    /// When the system gives no thread for name resolution.
    pub fn new(options: BuilderOptions) -> std::io::Result<Self> {
        let modules = Arc::new(ModuleStore::new(options.engine.clone()));
        Ok(Self {
            compiler: Compiler::new(modules.clone(), options.bind, options.source.clone()),
            modules,
            sockets: SocketRegistry::default(),
            unbound: Unbound::default(),
            udp: UdpListeners::default(),
            health: None,
            resolution: Resolution::start(options.dns_server)?,
            last: None,
            generations: Arc::default(),
            logs: Logs::default(),
            certificates: Certificates::default(),
            options,
        })
    }

    /// Takes the sockets of another process, which the first snapshot uses for their addresses; those that it has no listener
    /// for are let go.
    pub fn inherit(&mut self, sockets: ClientSockets) {
        self.sockets.inherit(sockets.tcp);
        self.udp.inherit(sockets.udp);
    }

    /// The process is about to end: changes are taken in as ever, but for new listeners.
    pub fn end(&mut self) {
        self.sockets.end();
        self.udp.end();
    }

    /// A snapshot of this model, and what could not be built. May block for compiling, starting and resolving: call it
    /// off the workers.
    pub fn build(&mut self, model: Arc<Model>) -> (Arc<Snapshot>, Vec<BuildProblem>) {
        let mut problems = Vec::new();
        // Filters may make callouts as soon as they start, to the clusters of the model that they start for.
        self.options.shared.set_upstreams(model.clusters.iter().map(|cluster| cluster.name.as_str().into()));
        let http_plugins = match (self.plugins(&model, &mut problems), &self.last) {
            (Some(plugins), _) => plugins,
            // A decision filter with an older model's numbers would send requests to wrong places.
            (None, Some(last)) => return (last.clone(), problems),
            (None, None) => Vec::new(),
        };
        let mut http_plugins = http_plugins;
        let rollouts = self.rollouts(&model, &mut http_plugins);
        let network_plugins = self.user_plugins(&model, PluginKind::Network, &mut problems);
        let listeners = self.listeners(&model, &mut problems);
        let workers = self.options.bind.then_some(self.options.workers);
        let udp_listeners = self.udp.build(&model, workers, &self.options.metrics, &mut problems);
        let active = i64::try_from(listeners.len() + udp_listeners.len()).unwrap_or(i64::MAX);
        self.options.metrics.server.total_listeners_active.set(active);
        let instead = self.options.access_log.as_deref();
        let access_logs = self.logs.open(&model, instead, &self.options.metrics, &mut problems);
        let clusters: Vec<_> = self.clusters(&model, &mut problems);
        let metrics = self.options.metrics.clone();
        let standard = self.options.reporter.as_ref();
        let standard =
            standard.and_then(|reporter| StandardPlan::new(&model.metrics, &model.clusters, reporter, &metrics));
        let tracing = self.tracing(&model);
        let generation = self.last.as_ref().map_or(1, |last| last.generation + 1);
        let snapshot = Arc::new(Snapshot::new(SnapshotParts {
            generation,
            routes: handover::routes(&model, self.last.as_deref()),
            host_versions: self.host_versions(&model),
            model,
            listeners,
            udp_listeners,
            clusters,
            http_plugins,
            network_plugins,
            rollouts,
            plugin_problems: plugin_problems(&problems),
            generations: self.generations.clone(),
            access_logs,
            standard,
            tracing,
            trace: self.options.trace.as_ref().map(|trace| trace.sink.clone()),
            metrics,
            names: self.resolution.names(),
            challenges: self.options.challenges.clone(),
        }));
        self.last = Some(snapshot.clone());
        (snapshot, problems)
    }

    /// Nothing is traced where nobody is served.
    fn tracing(&self, model: &Model) -> Option<Arc<SpanPlan>> {
        let wanted = model.tracing.as_deref().filter(|_| self.options.bind)?;
        let namespace = self.options.reporter.as_ref().map_or("default", |reporter| reporter.namespace.as_str());
        Some(SpanPlan::new(wanted, self.last.as_ref().and_then(|last| last.tracing.as_ref()), namespace))
    }

    fn host_versions(&self, model: &Model) -> HostVersions {
        handover::host_versions(model, self.last.as_ref().map(|last| (&*last.model, &last.host_versions)))
    }

    /// None when a decision filter cannot be started for this model but runs for the last one.
    fn plugins(&self, model: &Model, problems: &mut Vec<BuildProblem>) -> Option<Vec<Attached>> {
        let mut plugins = self.decisions(model, problems)?;
        let breakers = CircuitBreakerConfig::of(model);
        // Before the users', whose modules may keep every core busy.
        let breaker = self.attach_bundled("circuit-breaker", Role::CircuitBreaker, &breakers, problems)?;
        let policies = self.route_policies(model, problems)?;
        plugins.extend(self.user_plugins(model, PluginKind::Http, problems));
        plugins.extend(policies);
        plugins.push(breaker);
        Some(plugins)
    }

    /// The filters for faults and CORS, where some route has such a policy. Where a decision is only to be explained nobody
    /// is held, and answered by a fault only where everybody is.
    fn route_policies(&self, model: &Model, problems: &mut Vec<BuildProblem>) -> Option<Vec<Attached>> {
        let (mut faults, cors) = (FaultConfig::of(model), CorsConfig::of(model));
        if self.options.explain {
            faults.routes.iter_mut().for_each(|(_, fault)| fault.delay = None);
            faults.routes.retain(|(_, fault)| fault.abort.is_some_and(|(_, share)| share >= EVERY_REQUEST));
        }
        let mut plugins = Vec::new();
        if !faults.routes.is_empty() {
            plugins.push(self.attach_bundled(FAULT, Role::Fault, &faults, problems)?);
        }
        if !cors.routes.is_empty() {
            plugins.push(self.attach_bundled(CORS, Role::Cors, &cors, problems)?);
        }
        Some(plugins)
    }

    fn user_plugins(&self, model: &Model, kind: PluginKind, problems: &mut Vec<BuildProblem>) -> Vec<Attached> {
        let tracer = self.options.trace.as_ref().and_then(StreamTracer::tracer);
        let watch = Watch { strict: self.options.strict, tracer };
        let users = || model.plugins.iter().filter(|plugin| plugin.kind == kind);
        let loaded = module_source::load_all(users(), &*self.options.source, &self.compiler);
        let wanted = users().filter_map(|plugin| Some(Wanted::user(plugin, loaded.get(&plugin.name)?, &watch)));
        wanted.filter_map(|wanted| self.attach(wanted, problems)).collect()
    }

    fn attach_bundled(
        &self,
        name: &'static str,
        role: Role,
        config: &impl serde::Serialize,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Attached> {
        match serde_json::to_string(config) {
            Ok(config) => self.attach(Wanted::bundled(name, role, config), problems),
            Err(error) => {
                problems.push(BuildProblem {
                    subject: format!("filter {name}"),
                    origin: None,
                    message: PluginError::from(error).to_string(),
                    kept_old: false,
                    cause: Cause::Broken,
                    config: None,
                });
                Some(Attached::Failed { name: name.into(), fail_policy: FailPolicy::FailClose })
            }
        }
    }

    /// Where a plugin has a canary and a version that served before, that one serves on and the new one is tried beside it.
    fn rollouts(&self, model: &Model, plugins: &mut [Attached]) -> Vec<Option<Arc<Rollout>>> {
        let rollout = |attached: &mut Attached| {
            let Attached::Ready(new) = attached else { return None };
            let canary = model.plugins.iter().find(|plugin| *plugin.name == *new.name)?.canary.clone()?;
            let stable = self.last_served(&new.name, new.role).filter(|stable| !Arc::ptr_eq(stable, new))?;
            let known = self.last.as_ref().and_then(|last| last.rollout(&new.name));
            let known = known.filter(|known| Arc::ptr_eq(&known.next, new) && known.canary == canary);
            let rollout = known.cloned().unwrap_or_else(|| Arc::new(Rollout::new(new.clone(), canary)));
            *attached = Attached::Ready(stable.clone());
            Some(rollout)
        };
        plugins.iter_mut().map(rollout).collect()
    }

    /// The version of a plugin that serves now.
    fn last_served(&self, name: &str, role: Role) -> Option<&Arc<PluginGeneration>> {
        self.last.iter().flat_map(|last| last.plugins()).find_map(|plugin| match plugin {
            Attached::Ready(generation) if *generation.name == *name && generation.role == role => Some(generation),
            _ => None,
        })
    }

    fn attach(&self, wanted: Wanted<'_>, problems: &mut Vec<BuildProblem>) -> Option<Attached> {
        let last = self.last_served(wanted.name, wanted.role);
        let error = match self.generation(&wanted, last) {
            Ok(generation) => {
                if let (Code::Loaded(Ok(loaded)), Some(origin)) = (wanted.code, wanted.origin) {
                    problems.extend(loaded.problem(wanted.name, origin));
                }
                return Some(Attached::Ready(generation));
            }
            Err(error) => error,
        };
        let fallback = match last {
            Some(last) => self.with_old_code(&wanted, last),
            None => self.embedded_instead(&wanted),
        };
        problems.extend(error.told(BuildProblem {
            subject: format!("filter {}", wanted.name),
            origin: wanted.origin.cloned(),
            message: error.to_string(),
            kept_old: fallback.is_some() || last.is_some(),
            cause: error.cause(),
            config: None,
        }));
        match fallback {
            Some(generation) => Some(Attached::Ready(generation)),
            None if last.is_some() => None,
            None => Some(Attached::Failed { name: wanted.name.into(), fail_policy: wanted.fail_policy }),
        }
    }

    fn generation(
        &self,
        wanted: &Wanted<'_>,
        last: Option<&Arc<PluginGeneration>>,
    ) -> Result<Arc<PluginGeneration>, PluginError> {
        let module = match wanted.code {
            Code::Bundled(name) => self.bundled(name)?,
            Code::Loaded(Ok(loaded)) => loaded.module.clone(),
            Code::Loaded(Err(error)) => return Err(error.clone().into()),
        };
        self.started(wanted, module, last)
    }

    fn started(
        &self,
        wanted: &Wanted<'_>,
        module: Arc<PluginModule>,
        last: Option<&Arc<PluginGeneration>>,
    ) -> Result<Arc<PluginGeneration>, PluginError> {
        let tried = self.last.as_ref().and_then(|last| last.rollout(wanted.name)).map(|rollout| &rollout.next);
        let mut alive = last.into_iter().chain(tried);
        if let Some(same) = alive.find(|known| known.is_same(&module, &wanted.settings, wanted.fail_policy)) {
            return Ok(same.clone());
        }
        if wanted.role == Role::User {
            let findings =
                config_schema::check(wanted.schema.as_deref(), module.schema(), &wanted.settings.configuration)?;
            if !findings.is_empty() {
                return Err(PluginError::Schema(findings));
            }
        }
        let parts = GenerationParts {
            name: wanted.name.into(),
            role: wanted.role,
            origin: wanted.origin.cloned(),
            fail_policy: wanted.fail_policy,
            metrics: self.options.metrics.filter(wanted.name),
            settings: Arc::new(wanted.settings.clone()),
            module,
            shared: self.options.shared.clone(),
            patient: self.options.explain,
        };
        let generation = PluginGeneration::start(parts, self.options.workers)?;
        self.generations.add(&generation);
        Ok(generation)
    }

    /// The old module serves on. A user's filter as it is; a decision filter only with the new model's configuration.
    fn with_old_code(&self, wanted: &Wanted<'_>, last: &Arc<PluginGeneration>) -> Option<Arc<PluginGeneration>> {
        if wanted.role == Role::User {
            return Some(last.clone());
        }
        self.started(wanted, last.module().clone(), Some(last)).ok()
    }

    /// At the first start nothing older is there: the filter in the binary serves in place of the file.
    fn embedded_instead(&self, wanted: &Wanted<'_>) -> Option<Arc<PluginGeneration>> {
        let Code::Bundled(name) = wanted.code else { return None };
        let module = self.modules.load((self.options.embedded)(name)?).ok()?;
        self.started(wanted, module, None).ok()
    }

    fn bundled(&self, name: &str) -> Result<Arc<PluginModule>, PluginError> {
        if let Some((_, path)) = self.options.overrides.iter().find(|(known, _)| known == name) {
            let bytes = std::fs::read(path).map_err(|error| PluginError::Read(path.clone(), error))?;
            return Ok(self.modules.load(&bytes)?);
        }
        let bytes = (self.options.embedded)(name).ok_or_else(|| PluginError::Unknown(name.to_owned()))?;
        Ok(self.modules.load(bytes)?)
    }

    fn clusters(&mut self, model: &Model, problems: &mut Vec<BuildProblem>) -> Vec<ClusterEntry> {
        let last = self.last.clone();
        let known = last.iter().flat_map(|last| last.clusters()).map(|cluster| (&*cluster.state.name, cluster));
        let known: HashMap<&str, &ClusterEntry> = known.collect();
        let (mut named, mut unchecked) = (Vec::new(), Vec::new());
        let mut entries = Vec::with_capacity(model.clusters.len());
        for cluster in &model.clusters {
            let known = known.get(cluster.name.as_str());
            let state = known.map(|known| known.state.clone()).unwrap_or_else(|| {
                Arc::new(ClusterState::new(cluster.name.as_str().into(), self.options.metrics.cluster(&cluster.name)))
            });
            let last = known.map(|known| &known.transport);
            let (transport, problem) = transport(cluster, &mut self.certificates, last);
            problems.extend(problem);
            state.set_balancing(balancing(cluster));
            let checks = self.wanted_checks(cluster, &transport, problems);
            if checks.is_some() && known.is_none() {
                unchecked.push(state.clone());
            }
            state.set_checks(checks);
            match sockets(cluster) {
                Some(endpoints) => {
                    state.set_endpoints(&endpoints);
                    state.set_names(Vec::new());
                }
                None => named.push((state.clone(), crate::cluster_entry::named(cluster))),
            }
            entries.push(entry(cluster, state, transport));
        }
        self.certificates.forget_files();
        self.resolution.follow(named);
        self.await_checks(model, &unchecked);
        let names: std::collections::HashSet<&str> = model.clusters.iter().map(|c| c.name.as_str()).collect();
        self.options.metrics.retain_clusters(|name| name == MADE_UP || names.contains(name));
        entries
    }
}

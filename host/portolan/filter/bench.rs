//! `portolan filter bench`: what a filter costs, callback by callback, in the VM that would serve.

mod figures;
mod request;
mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use portolan_proxy::{
    Attached, Bench, BenchRequest, Cause, Samples, Snapshot, StreamTrace, StreamTracer, clock_overhead,
};
use portolan_telemetry::{Metrics, StreamInfo};
use portolan_wasm::{CallbackTrace, Engine, EngineOptions, ModuleStore, TraceLimits, TraceSink};

use self::figures::Figures;
use super::case::{self, Case, Cases};
use super::project::Profile;
use super::stage::{self, COMPILE_TIME, Named, PAUSE};
use super::target::Target;
use crate::args::{BenchArgs, ConfigArgs, ExplainOutput};
use crate::load::{self, Loader, Purpose};
use crate::{UsageError, output};

/// Share of the time that is spent before anything is noted.
const WARM_UP: f64 = 0.1;

/// Requests of the run that counts host calls.
const COUNTED: usize = 16;

/// Measures, prints, and fails when the budget is not kept.
pub(super) fn bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let target = Target::open(&args.target, Profile::Release, args.plugin_config.as_ref())?;
    let case = chosen_case(&target, args.case.as_deref())?;
    let prepared = request::Prepared::new(case.as_ref())?;
    let request = prepared.request();
    let compile = compile_time(&target.module)?;
    let world = World::new(&target, case.as_ref())?;
    let (snapshot, plugin) = world.snapshot(None)?;
    let (start_time, start_memory) = started(&snapshot, &plugin)?;
    let bench = Bench::new(&snapshot, &plugin)?;
    let samples = run(&bench, &request, args.duration)?;
    let figures = Figures {
        module: target.module.clone(),
        module_bytes: std::fs::metadata(&target.module)?.len(),
        case: case.map(|case| case.name),
        request: prepared.title(),
        compile,
        start: start_time,
        memory_at_start: start_memory,
        memory_after: bench.memory_bytes() as u64,
        host_calls: host_calls(&world, &request)?,
        budget: args.budget,
        samples,
        overhead: clock_overhead(),
    };
    let report = figures.report()?;
    output::answer(&match args.output {
        ExplainOutput::Text => text::render(&report),
        ExplainOutput::Json => serde_json::to_string_pretty(&report)? + "\n",
    })?;
    Ok(if report.is_over_budget() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The case of this name; without one no case, that is, a plain request.
fn chosen_case(target: &Target, name: Option<&str>) -> anyhow::Result<Option<Case>> {
    let Some(name) = name else { return Ok(None) };
    let Cases { cases, diagnostics, .. } = case::read(&target.folder);
    let found = cases.into_iter().find(|case| case.value.name == name);
    if found.is_none() && !diagnostics.is_empty() {
        return Err(UsageError(format!("no case `{name}` that can be read; see `portolan filter test`")).into());
    }
    match found {
        Some(case) => Ok(Some(case.value)),
        None => Err(UsageError(format!("no case `{name}` in {}", target.folder.display())).into()),
    }
}

/// Without any cache, as on the first start of a gateway.
fn compile_time(module: &Path) -> anyhow::Result<Duration> {
    let bytes = std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let store = ModuleStore::new(Engine::new(&EngineOptions::default())?);
    let begun = Instant::now();
    store.load(&bytes).with_context(|| format!("{} is no filter for this host", module.display()))?;
    Ok(begun.elapsed())
}

fn started(snapshot: &Snapshot, plugin: &str) -> anyhow::Result<(Duration, u64)> {
    let found = snapshot.plugins().iter().find_map(|attached| match attached {
        Attached::Ready(generation) if *generation.name == *plugin => Some(generation),
        _ => None,
    });
    let generation = found.context("the filter has not started")?;
    Ok((generation.start_time(), generation.start_memory()))
}

fn run(bench: &Bench, request: &BenchRequest<'_>, duration: Duration) -> anyhow::Result<Samples> {
    let until = |duration: Duration| {
        let end = Instant::now() + duration;
        move || Instant::now() < end
    };
    bench.run(request, &mut Samples::default(), until(duration.mul_f64(WARM_UP)))?;
    let mut samples = Samples::new(clock_overhead());
    bench.run(request, &mut samples, until(duration))?;
    if samples.requests.is_empty() {
        bail!("no request came through in {duration:?}");
    }
    Ok(samples)
}

/// What a builder needs, in files that go when this does.
struct World {
    config: ConfigArgs,
    _folder: tempfile::TempDir,
}

impl World {
    /// The stage's, but that nobody listens and nobody answers.
    fn new(target: &Target, case: Option<&Case>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the resources")?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let subject = target.subject(case.and_then(|case| case.config.as_ref()));
        let services: Vec<_> =
            case.iter().flat_map(|case| case.services.keys()).filter_map(|name| Named::parse(name)).collect();
        let written = stage::write_gateway(folder.path(), nowhere, nowhere)
            .and_then(|()| stage::write_services(folder.path(), services.iter().map(|named| (named, nowhere))))
            .and_then(|()| stage::write_subject_of(folder.path(), &subject, &target.module));
        written.context("cannot write the resources")?;
        let config = ConfigArgs { config: vec![folder.path().to_owned()], ..ConfigArgs::default() };
        Ok(Self { config, _folder: folder })
    }

    /// The snapshot, and the plugin's name in it.
    fn snapshot(&self, trace: Option<StreamTracer>) -> anyhow::Result<(Arc<Snapshot>, String)> {
        let mut loader = Loader::new(&self.config)?;
        let read = loader.read(true);
        if let Some(error) = read.diagnostics.first() {
            bail!("{}", error.message);
        }
        let purpose = Purpose { trace, ..Purpose::default() };
        let mut builder = load::builder(&self.config, loader.modules().source(), Metrics::new(), purpose)?;
        let begun = Instant::now();
        let (mut snapshot, mut problems) = builder.build(read.model.clone());
        while problems.iter().any(|problem| problem.cause == Cause::Pending) && begun.elapsed() < COMPILE_TIME {
            std::thread::sleep(PAUSE);
            (snapshot, problems) = builder.build(read.model.clone());
        }
        if let Some(problem) = problems.first() {
            bail!("{}", problem.message);
        }
        let plugin = read.model.plugins.first().context("the filter is not in the chain")?;
        Ok((snapshot, plugin.name.clone()))
    }
}

/// Host calls by callback, from a few requests with the trace on.
fn host_calls(world: &World, request: &BenchRequest<'_>) -> anyhow::Result<Vec<(String, f64)>> {
    let counter = Arc::new(Counter::default());
    let callbacks = Some(TraceLimits { calls: 0, ..TraceLimits::default() });
    let (snapshot, plugin) = world.snapshot(Some(StreamTracer { sink: counter.clone(), callbacks }))?;
    let bench = Bench::new(&snapshot, &plugin)?;
    counter.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let mut left = COUNTED;
    bench.run(request, &mut Samples::default(), || {
        left = left.saturating_sub(1);
        left > 0
    })?;
    let counted = counter.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(counted.iter().map(|(name, calls)| (name.clone(), *calls as f64 / (COUNTED - 1) as f64)).collect())
}

/// Counts host calls.
#[derive(Default)]
struct Counter(Mutex<std::collections::BTreeMap<String, usize>>);

impl TraceSink for Counter {
    fn callback(&self, trace: CallbackTrace) {
        let name = match trace.name() {
            // The end of a stream is one step.
            "on_log" | "on_delete" => "on_done",
            name => name,
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(name.to_owned()).or_default() += trace.calls.len() + trace.left_out;
    }
}

impl StreamTrace for Counter {
    fn began(&self, _: u64, _: &http::request::Parts) {}

    fn ended(&self, _: u64, _: &StreamInfo) {}
}

//! [`Stage`]: a whole gateway in this process around one filter: the production code on real sockets, with a backend and
//! services that answer as they are told.

mod client;
mod configuration;
mod message;
mod outgoing;
mod recorder;
mod service;
mod te;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use portolan_admin::{Readiness, State};
use portolan_config::{Diagnostic, Severity};
use portolan_proxy::{Attached, EdgeLimits, PluginGeneration, SnapshotCell, StreamTracer, Workers};
use portolan_telemetry::metrics::PluginValue;
use portolan_telemetry::{LogControl, Metrics};
use portolan_wasm::{CallbackTrace, TraceLimits, Value};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::client::Connection;
pub(crate) use self::configuration::{Named, Subject, write_gateway, write_services, write_subject_of};
pub(crate) use self::message::{Request, Response, Script, Seen};
use self::recorder::Recorder;
pub(crate) use self::recorder::{Event, Head, Record};
pub(crate) use self::service::Service;
use crate::args::ConfigArgs;
use crate::control::{Control, ControlHandle, Turn};
use crate::load::{self, Loader, Purpose};
use crate::run;

/// One worker: requests come in the order in which they are sent, and what one filter instance keeps all of them see.
const WORKERS: usize = 1;

/// How long a worker may take to serve with what was built.
const ADOPTION_LIMIT: Duration = Duration::from_secs(5);

/// How long a module may take to compile.
pub(super) const COMPILE_TIME: Duration = Duration::from_secs(120);

/// Time between two looks whether it has.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// How long a request of [`Stage::send`] may take: longer than a filter may hold it.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// How long the gateway may take to end a stream whose response has come.
const END_LIMIT: Duration = Duration::from_secs(5);

/// What a stage is started with.
pub(crate) struct StageOptions {
    /// The filter.
    pub(crate) subject: Subject,
    /// Its module.
    pub(crate) module: Vec<u8>,
    /// Where requests come in; a free loopback port by default. Means nothing with `config`.
    pub(crate) listen: Option<SocketAddr>,
    /// The user's own configuration, beside which the filter is put; none: everything goes to the stage's backend.
    pub(crate) config: Option<ConfigArgs>,
    /// What callouts can reach.
    pub(crate) services: Vec<(Named, Script)>,
    /// How much of each callback is kept; none: filters run as without a trace.
    pub(crate) callbacks: Option<TraceLimits>,
    /// Where the admin server listens, and the log that it controls.
    pub(crate) admin: Option<(SocketAddr, LogControl)>,
}

/// The running gateway. Needs the runtime that it was started on.
pub(crate) struct Stage {
    folder: TempDir,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    /// Plugin of the filter, as traces and diagnostics name it.
    plugin: String,
    backend: Service,
    services: Vec<(Named, Service)>,
    recorder: Arc<Recorder>,
    events: mpsc::Receiver<Event>,
    cell: SnapshotCell,
    control: ControlHandle,
    metrics: Arc<Metrics>,
    workers: Workers,
}

/// What a change came to.
#[derive(Debug)]
pub(crate) struct Change {
    /// Why the filter was refused; the one before serves on, if there was one. None: it is live.
    pub(crate) refusal: Option<String>,
    /// What else is to be said of the configuration.
    pub(crate) findings: Vec<Diagnostic>,
    /// From the question to the answer of the control loop: reading, compiling, starting.
    #[allow(dead_code, reason = "callers tell the time with the worker's part, and this one belongs to the answer")]
    pub(crate) took: Duration,
    /// Requests that began with what served before and had not ended yet.
    pub(crate) in_flight: u64,
}

/// A request that went through.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The gateway's account, with the filters' callbacks.
    pub(crate) record: Record,
    /// What the backend saw; none when nothing arrived, or the user's own configuration sent it elsewhere.
    pub(crate) upstream: Option<Seen>,
    /// What the client got; none when the connection was closed without a response.
    pub(crate) response: Option<Response>,
    /// What each service saw meanwhile.
    pub(crate) callouts: Vec<(Named, Vec<Seen>)>,
}

impl Stage {
    /// Starts the gateway. A filter that is refused is told in the [`Change`]: the gateway runs, and requests get what
    /// `failStrategy` says.
    pub(crate) async fn start(options: StageOptions) -> anyhow::Result<(Self, Change)> {
        let folder = tempfile::Builder::new().prefix("portolan-stage-").tempdir().context("cannot make a folder")?;
        let backend = Service::start(Script::Echo).await.context("cannot start the backend")?;
        let mut services = Vec::new();
        for (named, script) in options.services {
            services.push((named, Service::start(script).await.context("cannot start a service")?));
        }
        let path = folder.path();
        let listen = options.listen.map_or_else(free_address, Ok)?;
        let written = || {
            configuration::write_module(path, &options.module)?;
            configuration::write_services(path, services.iter().map(|(named, service)| (named, service.address())))?;
            if options.config.is_none() {
                configuration::write_gateway(path, listen, backend.address())?;
            }
            configuration::write_subject(path, &options.subject)
        };
        written().with_context(|| format!("cannot write to {}", path.display()))?;
        let config = beside(options.config.as_ref(), path);
        let (recorder, events) = Recorder::new();
        let recorder = Arc::new(recorder);
        let tracer = StreamTracer { sink: recorder.clone(), callbacks: options.callbacks };
        let gateway = Gateway::start(&config, tracer, options.admin).await?;
        let plugin = format!("default.{}", options.subject.name);
        let change = Change::of(gateway.first, &plugin, 0);
        let own = options.config.is_none().then_some(listen);
        let address = own.or_else(|| gateway.cell.load().model.listeners.first().map(|listener| listener.address));
        let stage = Self {
            address: address.ok_or_else(|| anyhow!("the configuration has no listener"))?,
            folder,
            admin: gateway.admin,
            plugin,
            backend,
            services,
            recorder,
            events,
            cell: gateway.cell,
            control: gateway.control,
            metrics: gateway.metrics,
            workers: gateway.workers,
        };
        let change = stage.settle(change).await?;
        Ok((stage, change))
    }

    /// Where requests come in: the first listener of the user's configuration.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin server listens.
    pub(crate) fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The filter's name in traces: `default.NAME`.
    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    /// What all requests are sent to that the filter lets through.
    pub(crate) fn backend(&self) -> &Service {
        &self.backend
    }

    /// Puts another module, or another configuration of the same, in place of the one that runs, and waits until it serves or
    /// is refused.
    pub(crate) async fn swap(&self, module: Option<&[u8]>, subject: Option<&Subject>) -> anyhow::Result<Change> {
        let path = self.folder.path();
        let written = || {
            module.map_or(Ok(()), |module| configuration::write_module(path, module))?;
            subject.map_or(Ok(()), |subject| configuration::write_subject(path, subject))
        };
        written().with_context(|| format!("cannot write to {}", path.display()))?;
        self.settle(self.look().await?).await
    }

    /// Waits for a module that takes long to compile: that goes on beside the gateway, which serves what it served before,
    /// and 503 when there was nothing.
    async fn settle(&self, mut change: Change) -> anyhow::Result<Change> {
        let begun = Instant::now();
        while change.is_pending() && begun.elapsed() < COMPILE_TIME {
            tokio::time::sleep(PAUSE).await;
            change = self.look().await?;
        }
        Ok(change)
    }

    /// Waits until what the files say now serves or is refused.
    pub(crate) async fn look(&self) -> anyhow::Result<Change> {
        let before = self.in_flight();
        let turn = self.control.look().await.ok_or_else(|| anyhow!("a fault of the gateway stopped this reload"))?;
        if timeout(ADOPTION_LIMIT, turn.snapshot.adopted_by(WORKERS)).await.is_err() {
            bail!("the worker does not take over what was built: a filter keeps it busy");
        }
        let in_flight = before.min(self.in_flight());
        Ok(Change::of(turn, &self.plugin, in_flight))
    }

    /// The version of the filter that serves now; none when there is none yet.
    pub(crate) fn served(&self) -> Option<Arc<PluginGeneration>> {
        self.cell.load().plugins().iter().find_map(|attached| match attached {
            Attached::Ready(generation) if *generation.name == *self.plugin => Some(generation.clone()),
            _ => None,
        })
    }

    /// Sends a request through the gateway. One at a time: what services see meanwhile is taken for its callouts.
    pub(crate) async fn send(&self, request: &Request) -> anyhow::Result<Exchange> {
        for (_, service) in &self.services {
            service.take_seen();
        }
        let connection = Connection::open(self.address).await?;
        let record = self.recorder.expect(connection.local);
        let response = connection.send(request, SEND_LIMIT).await?;
        let record = timeout(END_LIMIT, record).await.ok().and_then(Result::ok);
        let mut exchange = self.exchange(record.ok_or_else(|| anyhow!("the gateway does not end the request"))?);
        exchange.response = response;
        let seen = |(named, service): &(Named, Service)| (named.clone(), service.take_seen());
        exchange.callouts = self.services.iter().map(seen).collect();
        Ok(exchange)
    }

    /// What ended or ran since the last call, but for requests of [`Stage::send`]. Waits for it. None: the gateway has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The same without waiting.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Events that were lost since the last call, for there were too many.
    pub(crate) fn take_lost(&self) -> u64 {
        self.recorder.take_lost()
    }

    /// A stream that has ended, with what the backend saw of it.
    pub(crate) fn exchange(&self, record: Record) -> Exchange {
        let id = record.info.request_id.as_ref().map(|id| id.as_bytes());
        let upstream = self.backend.take(id, record.info.upstream_local);
        Exchange { record, upstream, response: None, callouts: Vec::new() }
    }

    /// Metrics that filters have defined themselves, as they stand.
    pub(crate) fn filter_metrics(&self) -> Vec<PluginValue> {
        self.metrics.plugin_values()
    }

    /// Ends without losing a request, within the limit.
    pub(crate) async fn stop(self, limit: Duration) {
        let workers = self.workers;
        // A drain that fails has nothing left to save.
        let _ = tokio::task::spawn_blocking(move || workers.drain(limit)).await;
    }

    /// Requests in flight now.
    fn in_flight(&self) -> u64 {
        let active = |name: &str| self.metrics.http(name).downstream_rq_active.value();
        let listeners = &self.cell.load().model.listeners;
        let names: std::collections::BTreeSet<_> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        names.into_iter().map(|name| u64::try_from(active(name)).unwrap_or(0)).sum()
    }
}

impl Change {
    /// True while the module is still compiled: requests get what `failStrategy` says.
    fn is_pending(&self) -> bool {
        self.refusal.is_none() && self.findings.iter().any(|finding| finding.code == load::PENDING)
    }

    fn of(turn: Turn, plugin: &str, in_flight: u64) -> Self {
        let subject = format!("filter {plugin}: ");
        let (mut refusals, mut findings) = (Vec::new(), turn.findings);
        for (problem, _) in turn.problems {
            match problem.message.strip_prefix(&subject) {
                Some(message) if problem.severity == Severity::Error => refusals.push(message.to_owned()),
                _ => findings.push(problem),
            }
        }
        let refusal = (!refusals.is_empty()).then(|| refusals.join("\n"));
        Self { refusal, findings, took: turn.took, in_flight }
    }
}

impl Exchange {
    /// What the filters have logged or written, each as `LEVEL: TEXT`.
    pub(crate) fn log(&self) -> impl Iterator<Item = String> + '_ {
        log_lines(&self.record.callbacks)
    }
}

/// What filters have logged or written in these callbacks, each as `LEVEL: TEXT`.
pub(crate) fn log_lines<'a>(callbacks: impl IntoIterator<Item = &'a CallbackTrace>) -> impl Iterator<Item = String> {
    let calls = callbacks.into_iter().flat_map(|callback| &callback.calls);
    calls.filter(|call| call.word == "log" || call.word == "write").map(|call| {
        let text = |at: usize| match call.arguments.get(at).map(|argument| &argument.value) {
            Some(Value::Text { text, .. }) => text.clone(),
            other => other.map(ToString::to_string).unwrap_or_default(),
        };
        format!("{}: {}", text(0), text(1))
    })
}

/// The parts of a gateway, started as `portolan run` does.
struct Gateway {
    cell: SnapshotCell,
    control: ControlHandle,
    metrics: Arc<Metrics>,
    workers: Workers,
    admin: Option<SocketAddr>,
    first: Turn,
}

impl Gateway {
    async fn start(
        config: &ConfigArgs,
        tracer: StreamTracer,
        admin: Option<(SocketAddr, LogControl)>,
    ) -> anyhow::Result<Self> {
        let loader = Loader::new(config)?.lenient();
        let readiness = Readiness::default();
        let metrics = Metrics::new();
        let purpose = Purpose { workers: WORKERS, trace: Some(tracer), ..Purpose::default() };
        let builder = load::builder(config, loader.modules().source(), metrics.clone(), purpose)?;
        let mut control = Control::new(loader, builder, metrics.clone());
        let start = Instant::now();
        let snapshot = control.first();
        let first = control.came_to(snapshot.clone(), start.elapsed());
        run::check_listeners(&snapshot, &control.listener_errors().load())?;
        let cell = SnapshotCell::new(snapshot);
        let mut address = None;
        if let Some((wanted, log)) = admin {
            let listener = run::bind(wanted, "--admin-address").await?;
            address = Some(listener.local_addr()?);
            let state = run::admin_state((&cell, config), &control, metrics.clone(), readiness.clone(), log);
            tokio::spawn(portolan_admin::serve(listener, state, std::future::pending()));
        }
        let workers = Workers::start(WORKERS, &cell, EdgeLimits::default())?;
        let control = control.spawn(cell.clone())?;
        readiness.set(State::Live);
        Ok(Self { cell, control, metrics, workers, admin: address, first })
    }
}

/// The stage's folder, after what the user has.
fn beside(config: Option<&ConfigArgs>, folder: &Path) -> ConfigArgs {
    let mut config = config.cloned().unwrap_or_default();
    config.config.push(folder.to_owned());
    config
}

/// An address that nobody listened on a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests;

//! `portolan run`: starts the control loop, the workers and the admin port, and waits for signals.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use portolan_admin::{AdminState, Readiness, State};
use portolan_model::Listener;
use portolan_proxy::{Snapshot, SnapshotCell, Workers};
use portolan_telemetry::{LogControl, Metrics};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};

use crate::UsageError;
use crate::args::{ConfigArgs, RunArgs, ServeArgs};
use crate::control::{Control, ControlHandle};
use crate::dev_tls::DevTls;
use crate::explain::Live;
use crate::filters;
use crate::load::{self, Loader, Purpose};
use crate::signals::{Signal, Signals};
use crate::state::StateFolder;
use crate::view;

/// Serves until a signal ends it.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let service = Service { config: &args.config, serve: &args.serve, drain_time: args.drain_time };
    runtime()?.block_on(service.serve(|| Ok(())))
}

/// The runtime of everything that is no worker: admin port, signals, the demo's backends.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("cannot start the main runtime")
}

/// One gateway in this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service<'a> {
    config: &'a ConfigArgs,
    serve: &'a ServeArgs,
    drain_time: Duration,
}

/// What lives as long as the gateway serves.
struct Running {
    readiness: Readiness,
    control: ControlHandle,
    workers: Workers,
}

impl<'a> Service<'a> {
    /// A gateway for one person at a terminal: Ctrl-C ends it without draining.
    pub(crate) fn interactive(config: &'a ConfigArgs, serve: &'a ServeArgs) -> Self {
        Self { config, serve, drain_time: Duration::ZERO }
    }

    /// Starts everything, calls `announce` when requests are served, and comes back when a signal has ended it.
    pub(crate) async fn serve(self, announce: impl FnOnce() -> io::Result<()>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let running = self.start().await?;
        announce()?;
        let signal = loop {
            match signals.next().await {
                Signal::Hangup => running.control.reload(),
                signal => break signal,
            }
        };
        self.end(running, signal, &mut signals).await
    }

    async fn start(&self) -> anyhow::Result<Running> {
        let log = LogControl::install(&self.serve.log_level).map_err(|error| UsageError(error.to_string()))?;
        let loader = Loader::new(self.config)?.lenient().with_dev_tls(self.dev_tls()?);
        // A port that is taken is said before any work is done.
        let admin = bind(self.serve.admin_address, "--admin-address").await?;
        let status = match self.serve.status_port {
            Some(port) => Some(bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), "--status-port").await?),
            None => None,
        };
        let readiness = Readiness::default();
        readiness.set(State::Initializing);
        let metrics = Metrics::new();
        let workers = self.workers();
        let purpose = Purpose { workers, access_log: self.serve.access_log.clone(), trace: None };
        let builder = load::builder(self.config, loader.modules().source(), metrics.clone(), purpose)?;
        let mut control = Control::new(loader, builder, metrics.clone());
        let first = control.first();
        let cell = SnapshotCell::new(first.clone());
        let errors = control.listener_errors().load_full();
        check_listeners(&first, &errors)?;
        let state = admin_state((&cell, self.config), &control, metrics.clone(), readiness.clone(), log);
        let admin_address = admin.local_addr()?;
        tokio::spawn(portolan_admin::serve(admin, state, std::future::pending()));
        if let Some(status) = status {
            tokio::spawn(portolan_admin::serve_status(status, readiness.clone(), std::future::pending()));
        }
        metrics.server.concurrency.set(i64::try_from(workers).unwrap_or(i64::MAX));
        let workers = Workers::start(workers, &cell, self.serve.limits.edge_limits())?;
        let control = control.spawn(cell)?;
        say_listeners(&first, &errors);
        tracing::info!("admin    http://{admin_address}/");
        readiness.set(State::Live);
        tracing::info!("ready");
        Ok(Running { readiness, control, workers })
    }

    /// Ends without losing a request, within the drain time. A second signal ends at once.
    ///
    /// After SIGTERM the first half still accepts and tells clients to close, for load balancers need a while to
    /// notice; the second half ends what is in flight. Ctrl-C has no load balancer to wait for.
    async fn end(&self, running: Running, signal: Signal, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        running.readiness.set(State::Draining);
        running.workers.announce_drain();
        let notice = if signal == Signal::Terminate { self.drain_time / 2 } else { Duration::ZERO };
        let rest = self.drain_time - notice;
        if !self.drain_time.is_zero() {
            tracing::info!("drain    at most {:?}; a second signal ends at once", self.drain_time);
        }
        let workers = running.workers;
        let ended = async move {
            tokio::time::sleep(notice).await;
            tokio::task::spawn_blocking(move || workers.drain(rest)).await
        };
        tokio::select! {
            complete = ended => match complete {
                Ok(true) => tracing::info!("ended    every request was finished"),
                Ok(false) | Err(_) => tracing::warn!("ended    the drain time was over before every request was finished"),
            },
            code = second(signals) => std::process::exit(code),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What `--dev-tls` asks for. Without any place for its authority that is gone with this process.
    fn dev_tls(&self) -> anyhow::Result<Option<DevTls>> {
        if !self.serve.dev_tls {
            return Ok(None);
        }
        let state = self.state()?;
        DevTls::new(state.as_ref(), &self.config.port_map).map(Some)
    }

    fn state(&self) -> anyhow::Result<Option<StateFolder>> {
        let path = self.serve.state_dir.clone().or_else(StateFolder::default_path);
        let open =
            |path: PathBuf| StateFolder::open(&path).with_context(|| format!("cannot make `{}`", path.display()));
        path.map(open).transpose()
    }

    fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.serve.workers.map_or_else(cores, usize::from)
    }
}

/// The exit code that shells expect of a process that a signal ended.
async fn second(signals: &mut Signals) -> i32 {
    loop {
        match signals.next().await {
            Signal::Interrupt => return 130,
            Signal::Terminate => return 143,
            Signal::Hangup => {}
        }
    }
}

pub(crate) fn admin_state(
    (cell, config): (&SnapshotCell, &ConfigArgs),
    control: &Control,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    log: LogControl,
) -> AdminState {
    let (clusters, listeners, errors) = (cell.clone(), cell.clone(), control.listener_errors());
    let (filters, traffic) = (cell.clone(), cell.clone());
    let live = Live::new(cell.clone(), config);
    AdminState {
        metrics,
        readiness,
        config_dump: control.config_dump(),
        clusters: Arc::new(move || view::clusters(&clusters)),
        listeners: Arc::new(move || view::listeners(&listeners, &errors.load())),
        filters: Arc::new(move || filters::filters(&filters)),
        explain: Arc::new(move |query| live.explain(query)),
        traffic: Arc::new(move || view::traffic(&traffic)),
        log,
    }
}

/// A gateway that can listen nowhere at its start is of no use, and a supervisor should know.
pub(crate) fn check_listeners(first: &Snapshot, errors: &view::ListenerErrors) -> anyhow::Result<()> {
    let listeners = &first.model.listeners;
    let Some(error) = errors.values().next() else { return Ok(()) };
    if errors.len() == listeners.len() {
        bail!("{error}");
    }
    Ok(())
}

pub(crate) async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let refused = || format!("cannot listen on {address} (`{flag}`)");
    TcpListener::bind(address).await.with_context(refused)
}

fn say_listeners(snapshot: &Snapshot, errors: &view::ListenerErrors) {
    let bound = |listener: &&Listener| !errors.contains_key(&listener.address);
    for listener in snapshot.model.listeners.iter().filter(bound) {
        let origins: Vec<_> = listener.origins.iter().map(ToString::to_string).collect();
        let protocol = match (listener.filter_chains.is_empty(), listener.tcp.is_some()) {
            (false, _) => "TLS ",
            (true, true) => "TCP ",
            (true, false) => "HTTP",
        };
        tracing::info!("listen   {}  {protocol}  {}", listener.address, origins.join(", "));
    }
    if snapshot.model.listeners.is_empty() {
        tracing::warn!("listen   nowhere: no Gateway fits this gateway's labels");
    }
}

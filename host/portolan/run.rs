//! `portolan run`: starts the control loop, the workers and the admin port, and waits for signals.

mod ports;
mod until_end;

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use portolan_admin::{AdminState, Readiness, State};
use portolan_model::{Listener, Model};
use portolan_proxy::{Challenges, HandedOver, Snapshot, SnapshotCell, Workers};
use portolan_telemetry::{LogControl, Metrics};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use self::ports::{Ports, serve_ports};
use self::until_end::{DrainTimes, End, Ending, second};
use crate::UsageError;
use crate::acme::{Acme, AcmeOptions};
use crate::args::{ConfigArgs, RunArgs, ServeArgs};
use crate::control::{Control, ControlHandle};
use crate::dev_tls::DevTls;
use crate::explain::Live;
use crate::filters;
use crate::load::{self, Loader, Purpose};
use crate::signals::Signals;
use crate::state::StateFolder;
use crate::takeover::{Offer, Predecessor};
use crate::view::{self, Dumped};

/// As many as `--workers` takes.
const MAX_WORKERS: usize = 1024;

/// How long the end may take at most, where nobody says it.
const DRAIN_TIME: Duration = Duration::from_secs(45);

/// Signals that have come while something took its time are known within this time.
const SIGNAL_TIME: Duration = Duration::from_millis(10);

/// Serves until a signal ends it, or another process takes over.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let service = Service {
        config: &args.config,
        serve: &args.serve,
        drain_time: args.drain_time,
        minimum_drain_time: args.minimum_drain_time,
        takeover: args.takeover.as_deref(),
    };
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
    /// None where the configuration says it.
    drain_time: Option<Duration>,
    minimum_drain_time: Duration,
    takeover: Option<&'a Path>,
}

/// What lives as long as the gateway serves.
struct Running {
    readiness: Readiness,
    control: ControlHandle,
    workers: Workers,
    cell: SnapshotCell,
    metrics: Arc<Metrics>,
    ports: Ports,
}

impl<'a> Service<'a> {
    /// A gateway for one person at a terminal: Ctrl-C ends it without draining.
    pub(crate) fn interactive(config: &'a ConfigArgs, serve: &'a ServeArgs) -> Self {
        Self { config, serve, drain_time: Some(Duration::ZERO), minimum_drain_time: Duration::ZERO, takeover: None }
    }

    /// Starts everything, calls `announce` when requests are served, and comes back when it has ended.
    pub(crate) async fn serve(self, announce: impl FnOnce() -> io::Result<()>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let Some((running, mut offer)) = self.start(&mut signals).await? else { return Ok(ExitCode::SUCCESS) };
        announce()?;
        let times = || self.drain_times(&running.cell.load().model);
        let ending = running.until_end(&mut signals, offer.as_mut(), times).await;
        if let Some(offer) = &offer {
            offer.withdraw();
        }
        drop(offer);
        self.end(running, ending, &mut signals).await
    }

    /// None when a signal has come before another process was replaced: that one serves on.
    async fn start(&self, signals: &mut Signals) -> anyhow::Result<Option<(Running, Option<Offer>)>> {
        let log = LogControl::install(&self.serve.log_level).map_err(|error| UsageError(error.to_string()))?;
        let challenges = Arc::<Challenges>::default();
        let acme = self.acme(challenges.clone())?;
        let mut loader = Loader::new(self.config)?.lenient().with_dev_tls(self.dev_tls()?).with_acme(acme.clone());
        let mut predecessor = match self.takeover {
            Some(path) => tokio::select! {
                predecessor = Predecessor::at(path) => predecessor?,
                () = signals.end() => return Ok(None),
            },
            None => None,
        };
        // A port that is taken is said before any work is done.
        let ports = self.ports(predecessor.as_mut()).await?;
        let readiness = Readiness::default();
        readiness.set(State::Initializing);
        let metrics = Metrics::new();
        let workers = self.workers(&mut loader);
        let purpose = Purpose { workers, access_log: self.serve.access_log.clone(), challenges, trace: None };
        let builder = load::builder(self.config, loader.modules().source(), metrics.clone(), purpose)?;
        let mut control = Control::new(loader, builder, metrics.clone());
        if let Some(predecessor) = &mut predecessor {
            control.inherit(predecessor.take_rest());
        }
        let first = control.first();
        if predecessor.is_some() && control.has_errors() {
            bail!("nothing is taken over with errors in the configuration; the running process serves on");
        }
        if predecessor.is_some() && timeout(SIGNAL_TIME, signals.end()).await.is_ok() {
            tracing::info!("ended    by a signal, before anything was taken over; the running process serves on");
            return Ok(None);
        }
        let cell = SnapshotCell::new(first.clone());
        let errors = control.listener_errors().load_full();
        check_listeners(&first, &errors)?;
        let state = admin_state((&cell, self.config), &control, metrics.clone(), readiness.clone(), log);
        let admin_address = ports[0].local_addr()?;
        metrics.server.concurrency.set(i64::try_from(workers).unwrap_or(i64::MAX));
        // Before the other one goes: a third process finds either of them.
        let offer = self.takeover.map(Offer::new).transpose()?;
        let mut workers = Workers::start(workers, &cell, self.serve.limits.edge_limits())?;
        if let Some(predecessor) = predecessor {
            workers = self.replace(predecessor, workers, &first.model).await?;
        }
        let ports = serve_ports(ports, state, &readiness)?;
        let control = control.spawn(cell.clone())?;
        if let Some(acme) = acme {
            tokio::spawn(acme.run(control.clone()));
        }
        say_listeners(&first, &errors);
        tracing::info!("admin    http://{admin_address}/");
        readiness.set(State::Live);
        tracing::info!("ready");
        Ok(Some((Running { readiness, control, workers, cell, metrics, ports }, offer)))
    }

    /// Serves alone from here on. Otherwise the other process does, and these workers end what they have begun.
    async fn replace(&self, predecessor: Predecessor, workers: Workers, model: &Model) -> anyhow::Result<Workers> {
        let Err(error) = predecessor.replace().await else { return Ok(workers) };
        tracing::error!("takeover {error:#}; what has begun here comes to its end");
        // They are its sockets.
        workers.hand_over(HandedOver::All);
        let limit = self.drain_time(model);
        let _ = tokio::task::spawn_blocking(move || workers.drain(limit)).await;
        Err(error)
    }

    /// The admin port, and the status port if there is to be one: of the process before this one, or bound now.
    async fn ports(&self, mut predecessor: Option<&mut Predecessor>) -> anyhow::Result<Vec<TcpListener>> {
        let status = self.serve.status_port.map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
        let wanted = std::iter::once((self.serve.admin_address, "--admin-address"));
        let mut ports = Vec::new();
        for (address, flag) in wanted.chain(status.map(|address| (address, "--status-port"))) {
            let taken = predecessor.as_mut().and_then(|predecessor| predecessor.take(address));
            ports.push(match taken {
                Some(socket) => TcpListener::from_std(socket)?,
                None => bind(address, flag).await?,
            });
        }
        Ok(ports)
    }

    /// Ends without losing a request, within the drain time. A second signal ends at once.
    async fn end(&self, running: Running, ending: Ending, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        let DrainTimes { whole, notice } = self.drain_times(&running.cell.load().model);
        let notice = match ending.how {
            End::Signal => Duration::ZERO,
            End::Replaced(_) | End::Left(_) => notice,
            End::AtOnce(code) => std::process::exit(code),
        };
        if !ending.announced {
            running.announce_end(whole);
        }
        let ports = match ending.how {
            End::Replaced(what) | End::Left(what) => {
                running.workers.hand_over(what);
                match ending.how {
                    End::Left(_) => tracing::warn!("replaced another process has the sockets, and does not serve yet"),
                    _ => tracing::info!("replaced another process serves"),
                }
                Some(running.ports.close())
            }
            End::Signal | End::AtOnce(_) => None,
        };
        let (workers, since) = (running.workers, ending.since);
        let ended = async move {
            tokio::time::sleep(notice.saturating_sub(since.elapsed())).await;
            let rest = whole.saturating_sub(since.elapsed());
            let drained = tokio::task::spawn_blocking(move || workers.drain(rest)).await;
            if let Some(ports) = ports {
                ports.await;
            }
            drained
        };
        tokio::select! {
            complete = ended => match complete {
                Ok(true) => tracing::info!("ended    every request was finished"),
                Ok(false) if whole.is_zero() => tracing::info!("ended    at once"),
                Ok(false) | Err(_) => tracing::warn!("ended    the drain time was over before every request was finished"),
            },
            code = second(signals, ending.signalled) => std::process::exit(code),
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

    /// Who is asked for certificates; nobody where a local authority signs all of them.
    fn acme(&self, challenges: Arc<Challenges>) -> anyhow::Result<Option<Arc<Acme>>> {
        if self.serve.dev_tls {
            return Ok(None);
        }
        let (directory, ca) = (self.serve.acme_directory.clone(), self.serve.acme_ca.clone());
        let path = self.serve.state_dir.clone().or_else(StateFolder::default_path);
        Ok(Some(Arc::new(Acme::new(AcmeOptions { directory, ca, state: path }, challenges))))
    }

    fn state(&self) -> anyhow::Result<Option<StateFolder>> {
        let path = self.serve.state_dir.clone().or_else(StateFolder::default_path);
        let open =
            |path: PathBuf| StateFolder::open(&path).with_context(|| format!("cannot make `{}`", path.display()));
        path.map(open).transpose()
    }

    /// How long the end may take at most.
    fn drain_time(&self, model: &Model) -> Duration {
        let written = || model.drain_time_ms.map(Duration::from_millis);
        self.drain_time.or_else(written).unwrap_or(DRAIN_TIME)
    }

    fn drain_times(&self, model: &Model) -> DrainTimes {
        let whole = self.drain_time(model);
        DrainTimes { whole, notice: self.minimum_drain_time.min(whole / 2) }
    }

    /// By the command line, else by the configuration, else one for each core.
    fn workers(&self, loader: &mut Loader) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let written = || loader.concurrency().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let asked = self.serve.workers.map(usize::from).or_else(written);
        asked.map_or_else(cores, |workers| workers.min(MAX_WORKERS))
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
    let (live, dump) = (Live::new(cell.clone(), config), control.config_dump());
    AdminState {
        metrics,
        readiness,
        config_dump: Arc::new(move || dump.load().as_deref().map(Dumped::to_value).unwrap_or_default()),
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
    let udp: BTreeSet<_> = snapshot.udp_addresses().collect();
    for listener in snapshot.model.udp_listeners.iter().filter(|listener| udp.contains(&listener.address)) {
        let origins: Vec<_> = listener.origins.iter().map(ToString::to_string).collect();
        tracing::info!("listen   {}  UDP   {}", listener.address, origins.join(", "));
    }
    if snapshot.model.listeners.is_empty() && udp.is_empty() {
        tracing::warn!("listen   nowhere: no Gateway fits this gateway's labels");
    }
}

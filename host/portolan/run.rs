//! `portolan run`: starts the control loop, the workers and the admin port, and waits for signals.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use portolan_admin::{AdminState, Readiness, State};
use portolan_model::{Listener, Model};
use portolan_proxy::{Challenges, Snapshot, SnapshotCell, Workers};
use portolan_telemetry::{LogControl, Metrics};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::watch;

use crate::UsageError;
use crate::acme::{Acme, AcmeOptions};
use crate::args::{ConfigArgs, RunArgs, ServeArgs};
use crate::control::{Control, ControlHandle};
use crate::dev_tls::DevTls;
use crate::explain::Live;
use crate::filters;
use crate::load::{self, Loader, Purpose};
use crate::signals::{Signal, Signals};
use crate::state::StateFolder;
use crate::takeover::{Offer, Predecessor, Successor};
use crate::view::{self, Dumped};

/// As many as `--workers` takes.
const MAX_WORKERS: usize = 1024;

/// How long the end may take at most, where nobody says it.
const DRAIN_TIME: Duration = Duration::from_secs(45);

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

/// The sockets beside the listeners': the admin port and the status port.
struct Ports {
    /// Further handles, for a process that takes over.
    handles: Vec<std::net::TcpListener>,
    /// Its end closes them here.
    open: watch::Sender<()>,
}

/// Why the gateway ends.
enum End {
    Signal(Signal),
    /// Another process has its sockets.
    Replaced(Successor),
}

impl<'a> Service<'a> {
    /// A gateway for one person at a terminal: Ctrl-C ends it without draining.
    pub(crate) fn interactive(config: &'a ConfigArgs, serve: &'a ServeArgs) -> Self {
        Self { config, serve, drain_time: Some(Duration::ZERO), minimum_drain_time: Duration::ZERO, takeover: None }
    }

    /// Starts everything, calls `announce` when requests are served, and comes back when it has ended.
    pub(crate) async fn serve(self, announce: impl FnOnce() -> io::Result<()>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let (running, mut offer) = self.start().await?;
        announce()?;
        let end = running.until_end(&mut signals, offer.as_mut()).await;
        if let (Some(offer), End::Signal(_)) = (&offer, &end) {
            offer.withdraw();
        }
        drop(offer);
        self.end(running, end, &mut signals).await
    }

    async fn start(&self) -> anyhow::Result<(Running, Option<Offer>)> {
        let log = LogControl::install(&self.serve.log_level).map_err(|error| UsageError(error.to_string()))?;
        let challenges = Arc::<Challenges>::default();
        let acme = self.acme(challenges.clone())?;
        let mut loader = Loader::new(self.config)?.lenient().with_dev_tls(self.dev_tls()?).with_acme(acme.clone());
        let mut predecessor = match self.takeover {
            Some(path) => Predecessor::at(path).await?,
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
        let cell = SnapshotCell::new(first.clone());
        let errors = control.listener_errors().load_full();
        check_listeners(&first, &errors)?;
        let state = admin_state((&cell, self.config), &control, metrics.clone(), readiness.clone(), log);
        let admin_address = ports[0].local_addr()?;
        let ports = serve_ports(ports, state, &readiness)?;
        metrics.server.concurrency.set(i64::try_from(workers).unwrap_or(i64::MAX));
        let workers = Workers::start(workers, &cell, self.serve.limits.edge_limits())?;
        // Before the other one goes: a third process finds either of them.
        let offer = self.takeover.map(Offer::new).transpose()?;
        if let Some(predecessor) = predecessor
            && let Err(error) = predecessor.replace().await
        {
            workers.hand_over();
            let limit = self.drain_time(&first.model);
            let _ = tokio::task::spawn_blocking(move || workers.drain(limit)).await;
            return Err(error);
        }
        let control = control.spawn(cell.clone())?;
        if let Some(acme) = acme {
            tokio::spawn(acme.run(control.clone()));
        }
        say_listeners(&first, &errors);
        tracing::info!("admin    http://{admin_address}/");
        readiness.set(State::Live);
        tracing::info!("ready");
        Ok((Running { readiness, control, workers, cell, metrics, ports }, offer))
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
    ///
    /// After SIGTERM clients are still taken in for a while, and told to close: load balancers need it to notice. Ctrl-C
    /// has no load balancer to wait for. When another process has the sockets nobody is taken in any more.
    async fn end(&self, running: Running, end: End, signals: &mut Signals) -> anyhow::Result<ExitCode> {
        running.readiness.set(State::Draining);
        running.control.end();
        let model = running.cell.load().model.clone();
        let (listeners, drain_time) = (model.listeners.len(), self.drain_time(&model));
        running.metrics.server.total_listeners_draining.set(i64::try_from(listeners).unwrap_or(i64::MAX));
        let notice = match end {
            End::Signal(Signal::Interrupt | Signal::Hangup) => Duration::ZERO,
            End::Signal(Signal::Terminate) | End::Replaced(_) => self.minimum_drain_time.min(drain_time / 2),
        };
        if let End::Replaced(successor) = end {
            running.workers.hand_over();
            running.ports.close();
            successor.go().await;
            tracing::info!("replaced another process serves");
        } else {
            running.workers.announce_drain();
        }
        let rest = drain_time - notice;
        if !drain_time.is_zero() {
            tracing::info!("drain    at most {drain_time:?}; a second signal ends at once");
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

    /// By the command line, else by the configuration, else one for each core.
    fn workers(&self, loader: &mut Loader) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let written = || loader.concurrency().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let asked = self.serve.workers.map(usize::from).or_else(written);
        asked.map_or_else(cores, |workers| workers.min(MAX_WORKERS))
    }
}

impl Running {
    /// Serves until a signal, or until another process has taken over.
    async fn until_end(&self, signals: &mut Signals, offer: Option<&mut Offer>) -> End {
        let mut replaced = pin!(self.until_replaced(offer));
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Hangup => self.control.reload(),
                    signal => return End::Signal(signal),
                },
                successor = &mut replaced => return End::Replaced(successor),
            }
        }
    }

    async fn until_replaced(&self, offer: Option<&mut Offer>) -> Successor {
        let Some(offer) = offer else { return std::future::pending().await };
        loop {
            let successor = offer.asked().await;
            tracing::info!("takeover another process asks for the sockets");
            // What is handed on must be what is served when the other one begins.
            self.control.hold().await;
            match self.hand_on(&successor).await {
                Ok(()) => return successor,
                Err(error) => tracing::error!("takeover this process serves on: {error:#}"),
            }
            if let Err(error) = offer.place_again() {
                tracing::error!("takeover this process cannot be found any more: {error:#}");
            }
            self.control.release();
        }
    }

    async fn hand_on(&self, successor: &Successor) -> anyhow::Result<()> {
        let mut sockets = self.cell.load().handles().context("no handles on the sockets")?;
        for socket in &self.ports.handles {
            sockets.push(socket.try_clone().context("no handles on the sockets")?);
        }
        successor.serves(&sockets).await
    }
}

impl Ports {
    /// Another process answers there.
    fn close(self) {
        drop(self.open);
    }
}

/// Serves the admin port and the status port, in this order, until they are closed.
fn serve_ports(ports: Vec<TcpListener>, state: AdminState, readiness: &Readiness) -> anyhow::Result<Ports> {
    let open = watch::Sender::new(());
    let mut handles = Vec::new();
    for (at, port) in ports.into_iter().enumerate() {
        let port = port.into_std()?;
        handles.push(port.try_clone()?);
        let port = TcpListener::from_std(port)?;
        let mut closed = open.subscribe();
        let shutdown = async move { while closed.changed().await.is_ok() {} };
        if at == 0 {
            tokio::spawn(portolan_admin::serve(port, state.clone(), shutdown));
        } else {
            tokio::spawn(portolan_admin::serve_status(port, readiness.clone(), shutdown));
        }
    }
    Ok(Ports { handles, open })
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

//! The real binary as a child process: its configuration folder, its ports, its logs.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::client::{self, Connection, Request, Response};
use super::ports::Port;
use super::{await_some, await_true};

/// How many workers a gateway has.
const WORKERS: u64 = 2;

/// What a gateway is started with.
#[derive(Default)]
pub(crate) struct Options {
    files: Vec<(String, String)>,
    arguments: Vec<String>,
    no_port_map: bool,
    no_access_log: bool,
    no_workers: bool,
    as_it_stands: Option<(PathBuf, u16)>,
}

impl Options {
    /// Nothing: add files.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A configuration of the repository as it stands, whose Gateway has this port.
    pub(crate) fn of(config: PathBuf, port: u16) -> Self {
        Self { as_it_stands: Some((config, port)), ..Self::default() }
    }

    /// Adds a file of the configuration folder.
    pub(crate) fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    /// Adds an argument of `portolan run`.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Leaves `--port-map` out: port 80 is mapped by a Service, or bound as it is.
    pub(crate) fn without_port_map(mut self) -> Self {
        self.no_port_map = true;
        self
    }

    /// Leaves `--access-log` out: the configuration alone decides.
    pub(crate) fn without_access_log(mut self) -> Self {
        self.no_access_log = true;
        self
    }

    /// Leaves `--workers` out.
    pub(crate) fn without_workers(mut self) -> Self {
        self.no_workers = true;
        self
    }

    /// Starts it; comes back when `/ready` says 200.
    pub(crate) fn start(self) -> Gateway {
        let gateway = self.spawn();
        gateway.await_ready();
        gateway
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(self) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder for the gateway");
        let config = folder.path().join("config");
        fs::create_dir(&config).expect("the configuration folder");
        for (name, text) in &self.files {
            fs::write(config.join(name), text).expect("a configuration file");
        }
        let (http, admin) = (Port::free(), Port::free());
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("modules");
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        let (config, port) = self.as_it_stands.unwrap_or((config, 80));
        command.arg("run").arg("--config").arg(config);
        if !self.no_port_map {
            command.args(["--port-map", &format!("{port}={}", http.number())]);
        }
        if !self.arguments.iter().any(|argument| argument == "--cache-dir") {
            command.arg("--cache-dir").arg(cache);
        }
        if !self.no_access_log {
            command.arg("--access-log").arg(folder.path().join("access.log"));
        }
        if !self.no_workers {
            command.args(["--workers", &WORKERS.to_string()]);
        }
        command.args(["--admin-address", &admin.address().to_string()]).args(&self.arguments);
        let arguments = command.get_args().map(OsString::from).collect::<Vec<_>>();
        let child = start(&arguments, folder.path());
        Gateway { child, arguments, folder, http, admin }
    }
}

fn start(arguments: &[OsString], folder: &Path) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("the log file");
    Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle of the log"))
        .stderr(log)
        .spawn()
        .expect("the gateway's process")
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    arguments: Vec<OsString>,
    folder: TempDir,
    http: Port,
    admin: Port,
}

impl Gateway {
    /// Where it takes requests: port 80 of its Gateway resources.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Its admin address.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The folder given as `--config`.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A folder beside the configuration, gone with the gateway.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a configuration file as an editor without much care does: open, truncate, write.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.config().join(name), text).expect("a configuration file");
    }

    /// Replaces a configuration file in one step.
    pub(crate) fn replace(&self, name: &str, text: impl AsRef<[u8]>) {
        let other = self.folder.path().join("new");
        fs::write(&other, text).expect("the new file");
        fs::rename(other, self.config().join(name)).expect("a rename over the old one");
    }

    /// `GET target` on a new connection.
    pub(crate) fn get(&self, host: &str, target: &str) -> Response {
        self.send(&Request::get(host, target))
    }

    /// Sends a request on a new connection.
    pub(crate) fn send(&self, request: &Request) -> Response {
        client::send(self.address(), request).unwrap_or_else(|error| panic!("{request:?}: {error}\n{}", self.log()))
    }

    /// A connection to the gateway.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address()).expect("a connection to the gateway")
    }

    /// `GET path` of the admin server.
    pub(crate) fn admin(&self, path: &str) -> Response {
        client::send(self.admin_address(), &Request::get("localhost", path)).expect("an answer of the admin server")
    }

    /// The sum of all series of a metric whose labels hold every part; 0 when there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/stats/prometheus").text();
        let is_series = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        };
        text.lines().filter(is_series).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the series add up to `value`: what is counted once a connection has ended may be counted after its
    /// client has seen the end.
    pub(crate) fn await_metric(&self, name: &str, labels: &[&str], value: f64) {
        await_true(&format!("{name} {labels:?} to be {value}"), || self.metric(name, labels) == value);
    }

    /// Everything it printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its access log so far.
    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    /// Waits until its log holds this.
    pub(crate) fn await_log(&self, part: &str) {
        await_some(&format!("{part:?} in the log:\n{}", self.log()), || self.log().contains(part).then_some(()));
    }

    /// Waits for the access-log line that holds this.
    pub(crate) fn await_access(&self, part: &str) -> String {
        let path = self.folder.path().join("access.log");
        let find = || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // A line without its end is still being written.
            let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            lines.find(|line| line.contains(part)).map(str::to_owned)
        };
        await_some(&format!("an access-log line with {part:?}"), find)
    }

    /// Waits until a request is answered as wanted.
    pub(crate) fn await_answer(&self, host: &str, target: &str, fits: impl Fn(&Response) -> bool) -> Response {
        self.await_answer_to(&Request::get(host, target), fits)
    }

    /// Waits until this request is answered as wanted.
    pub(crate) fn await_answer_to(&self, request: &Request, fits: impl Fn(&Response) -> bool) -> Response {
        let ask = || Some(self.send(request)).filter(&fits);
        await_some(&format!("the wanted answer to {request:?}"), ask)
    }

    /// Waits until `/ready` says 200.
    pub(crate) fn await_ready(&self) {
        let ready =
            || client::send(self.admin_address(), &Request::get("localhost", "/ready")).is_ok_and(|r| r.status == 200);
        await_true("the gateway to be ready", || {
            assert!(Path::new(&format!("/proc/{}/status", self.child.id())).exists());
            ready()
        });
    }

    /// Waits until all filters run, on every worker: a gateway is ready before a large module is compiled, which a debug
    /// build takes its time for, and workers take the compiled one over one by one.
    pub(crate) fn await_filters(&self) {
        let start = Instant::now();
        loop {
            let body = self.admin("/filters?format=json").body;
            let filters: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            let serves = |version: &&serde_json::Value| version["serves"] == true;
            let is_running = |filter: &serde_json::Value| {
                let vms = filter["versions"].as_array().and_then(|all| all.iter().find(serves)?["vms"].as_u64());
                filter["state"] == "running" && vms >= Some(WORKERS)
            };
            if filters["filters"].as_array().is_some_and(|filters| filters.iter().all(is_running)) {
                return;
            }
            let refused = self.log().contains("error[") || start.elapsed() > Duration::from_secs(150);
            assert!(!refused, "not all filters run: {filters}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal by name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(status.success(), "kill -s {name} {id}");
    }

    /// Starts the same command a second time, beside this process.
    pub(crate) fn start_again(&self) -> Child {
        start(&self.arguments, self.folder.path())
    }

    /// The same, but for the value of one argument.
    pub(crate) fn start_again_with(&self, argument: &str, value: &str) -> Child {
        let mut arguments = self.arguments.clone();
        let at = arguments.iter().position(|known| known == argument).expect("an argument to change");
        arguments[at + 1] = value.into();
        start(&arguments, self.folder.path())
    }

    /// Makes another process the one that is asked, signalled and killed; the answer is the one before.
    pub(crate) fn become_process(&mut self, child: Child) -> Child {
        std::mem::replace(&mut self.child, child)
    }

    /// Waits for its end.
    pub(crate) fn await_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        await_some("the gateway's end", || child.try_wait().expect("its status"))
    }

    /// True while it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// How many descriptors it has open.
    pub(crate) fn open_descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("its descriptors").count()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kilobytes = line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number");
        kilobytes * 1024
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let access = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
            let last: Vec<_> = access.lines().rev().take(5).collect();
            println!("--- log of the gateway\n{}--- its last access-log lines\n{}", self.log(), last.join("\n"));
        }
    }
}

//! [`Changes`]: harmless objects in the gateway's folder, changed again and again.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

use super::secure::{Secure, free_address};
use crate::args::VerifyReloadArgs;
use crate::ask::Admin;

/// How often the gateway is asked whether it serves a change.
const LOOK: Duration = Duration::from_millis(5);

/// The service, and the host of the listeners.
pub(super) const HOST: &str = "verify-reload.portolan.invalid";

/// Where a change shows.
#[derive(Clone, Copy)]
enum Seen<'a> {
    /// On the admin port.
    Service(u32),
    Filter(u32),
    /// At the listener itself.
    Certificate(&'a [u8]),
    /// A client gets in, or does not.
    Listener(SocketAddr, bool),
}

/// A service that no route names, a filter that adds a response header, and two listeners on free ports: one whose
/// certificate changes, and one that comes and goes.
pub(super) struct Changes<'a> {
    service: PathBuf,
    filter: PathBuf,
    secure_gateway: PathBuf,
    secret: PathBuf,
    listener: PathBuf,
    secure: Option<Rc<Secure>>,
    admin: &'a Admin,
    timeout: Duration,
}

impl<'a> Changes<'a> {
    /// Puts those in place that stay.
    pub(super) async fn begin(args: &VerifyReloadArgs, admin: &'a Admin) -> anyhow::Result<Self> {
        let file = |name: &str| args.config.join(format!("portolan-verify-reload-{name}.yaml"));
        let changes = Self {
            service: file("service"),
            filter: file("filter"),
            secure_gateway: file("tls"),
            secret: file("secret"),
            listener: file("listener"),
            secure: (args.certificate_changes > 0).then(Secure::new).transpose()?.map(Rc::new),
            admin,
            timeout: args.timeout,
        };
        changes.served(&changes.filter, Some(&filter(0)), Seen::Filter(0)).await?;
        if let Some(secure) = &changes.secure {
            let (certificate, secret) = secure.issue()?;
            write(&changes.secret, &secret)?;
            let gateway = secure.gateway();
            let served = changes.served(&changes.secure_gateway, Some(&gateway), Seen::Certificate(&certificate)).await;
            served.context(
                "`--certificate-changes 0` leaves it out where this machine does not reach the gateway's ports",
            )?;
        }
        Ok(changes)
    }

    /// Who asks at the listener whose certificate changes.
    pub(super) fn secure(&self) -> Option<&Rc<Secure>> {
        self.secure.as_ref()
    }

    /// One after the other, each awaited, the rarer ones spread over the others; the answer is how long each took to be
    /// served, sorted.
    pub(super) async fn run(&self, args: &VerifyReloadArgs) -> anyhow::Result<Vec<Duration>> {
        let counts = [args.reloads, args.filter_swaps, args.certificate_changes, args.listener_changes];
        let rounds = counts.into_iter().max().unwrap_or(0);
        let mut took = Vec::new();
        for round in 1..=rounds {
            let due = |count: u32| {
                let by = |round: u32| u64::from(round) * u64::from(count) / u64::from(rounds);
                by(round) > by(round - 1)
            };
            if due(args.reloads) {
                took.push(self.served(&self.service, Some(&service(round)), Seen::Service(round)).await?);
            }
            if due(args.filter_swaps) {
                took.push(self.served(&self.filter, Some(&filter(round)), Seen::Filter(round)).await?);
            }
            if let Some(secure) = self.secure.as_ref().filter(|_| due(args.certificate_changes)) {
                let (certificate, secret) = secure.issue()?;
                took.push(self.served(&self.secret, Some(&secret), Seen::Certificate(&certificate)).await?);
            }
            if due(args.listener_changes) {
                let address = free_address()?;
                let gateway = gateway("listener", address, "name: http, protocol: HTTP", "");
                took.push(self.served(&self.listener, Some(&gateway), Seen::Listener(address, true)).await?);
                took.push(self.served(&self.listener, None, Seen::Listener(address, false)).await?);
            }
        }
        took.sort_unstable();
        Ok(took)
    }

    /// Replaces a file in one step, or removes it, and waits until the gateway serves that. Asked is for what it serves and not
    /// for a number of its own: another process may have taken its place.
    async fn served(&self, path: &Path, text: Option<&str>, change: Seen<'_>) -> anyhow::Result<Duration> {
        match text {
            Some(text) => write(path, text)?,
            None => fs::remove_file(path).with_context(|| format!("cannot remove `{}`", path.display()))?,
        }
        let start = Instant::now();
        while !self.shows(change).await? {
            if start.elapsed() > self.timeout {
                let path = path.display();
                bail!("a change of `{path}` is not served after {:?}: does the gateway watch it?", self.timeout);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(start.elapsed())
    }

    async fn shows(&self, change: Seen<'_>) -> anyhow::Result<bool> {
        let page = async |path| self.admin.text(path).await.context("the gateway's admin port");
        Ok(match change {
            Seen::Service(number) => {
                let port = format!(":{}::", port(number));
                page("/clusters").await?.lines().any(|line| line.contains(HOST) && line.contains(&port))
            }
            Seen::Filter(number) => page("/config_dump").await?.contains(&mark(number)),
            Seen::Certificate(certificate) => match &self.secure {
                Some(secure) => secure.shows(certificate).await?,
                None => true,
            },
            Seen::Listener(address, there) => TcpStream::connect(address).await.is_ok() == there,
        })
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        for file in [&self.service, &self.filter, &self.secure_gateway, &self.secret, &self.listener] {
            // What is not there needs no removal.
            let _ = fs::remove_file(file);
        }
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let hidden = path.with_extension("tmp");
    let written = fs::write(&hidden, text).and_then(|()| fs::rename(&hidden, path));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

fn service(number: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: portolan-verify-reload, namespace: istio-system}}
spec:
  hosts: [{HOST}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
        port(number)
    )
}

/// A Gateway of one server at an address of this machine; `port` is what its port says besides the number.
pub(super) fn gateway(name: &str, address: SocketAddr, port: &str, more: &str) -> String {
    let (ip, number) = (address.ip(), address.port());
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: portolan-verify-reload-{name}, namespace: istio-system}}
spec:
  servers:
  - {{bind: {ip}, port: {{number: {number}, {port}}}, hosts: ['{HOST}']{more}}}
"
    )
}

fn filter(number: u32) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: portolan-verify-reload, namespace: istio-system}}
spec:
  url: bundled://header-edit
  pluginConfig:
    response: [{{set: {{x-portolan-verify-reload: '{}'}}}}]
",
        mark(number)
    )
}

fn port(number: u32) -> u32 {
    1024 + number % 60_000
}

/// Found in no other place.
fn mark(number: u32) -> String {
    format!("verify-reload-change-{number}.")
}

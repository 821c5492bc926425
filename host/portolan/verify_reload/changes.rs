//! [`Changes`]: harmless objects in the gateway's folder, changed again and again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::ask::Admin;

/// How often the gateway is asked whether it serves a change.
const LOOK: Duration = Duration::from_millis(5);

/// The service.
const HOST: &str = "verify-reload.portolan.invalid";

/// Where a change shows on the admin port.
#[derive(Clone, Copy)]
enum Seen {
    Service(u32),
    Filter(u32),
}

/// A service that no route names, and a filter that adds a response header.
pub(super) struct Changes<'a> {
    service: PathBuf,
    filter: PathBuf,
    admin: &'a Admin,
    timeout: Duration,
}

impl<'a> Changes<'a> {
    /// Puts both in place.
    pub(super) async fn begin(folder: &Path, admin: &'a Admin, timeout: Duration) -> anyhow::Result<Self> {
        let file = |name: &str| folder.join(format!("portolan-verify-reload-{name}.yaml"));
        let changes = Self { service: file("service"), filter: file("filter"), admin, timeout };
        changes.served(&changes.filter, &filter(0), Seen::Filter(0)).await?;
        Ok(changes)
    }

    /// One after the other, each awaited; the answer is how long each took to be served, sorted.
    pub(super) async fn run(&self, reloads: u32, swaps: u32) -> anyhow::Result<Vec<Duration>> {
        let mut took = Vec::new();
        let every = reloads.checked_div(swaps).unwrap_or(0).max(1);
        let mut swapped = 0;
        for number in 1..=reloads.max(swaps) {
            if number <= reloads {
                took.push(self.served(&self.service, &service(number), Seen::Service(number)).await?);
            }
            if swapped < swaps && number % every == 0 {
                swapped += 1;
                took.push(self.served(&self.filter, &filter(swapped), Seen::Filter(swapped)).await?);
            }
        }
        took.sort_unstable();
        Ok(took)
    }

    /// Replaces a file in one step and waits until the gateway serves it. Asked is for what it serves and not for a number
    /// of its own: another process may have taken its place.
    async fn served(&self, path: &Path, text: &str, change: Seen) -> anyhow::Result<Duration> {
        let hidden = path.with_extension("tmp");
        let written = fs::write(&hidden, text).and_then(|()| fs::rename(&hidden, path));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
        let start = Instant::now();
        while !change.is_in(&self.admin.text(change.page()).await.context("the gateway's admin port")?) {
            if start.elapsed() > self.timeout {
                let path = path.display();
                bail!("a change of `{path}` is not served after {:?}: does the gateway watch it?", self.timeout);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(start.elapsed())
    }
}

impl Seen {
    fn page(self) -> &'static str {
        match self {
            Self::Service(_) => "/clusters",
            Self::Filter(_) => "/config_dump",
        }
    }

    fn is_in(self, page: &str) -> bool {
        match self {
            Self::Service(number) => {
                let port = format!(":{}::", port(number));
                page.lines().any(|line| line.contains(HOST) && line.contains(&port))
            }
            Self::Filter(number) => page.contains(&mark(number)),
        }
    }
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        // What is not there needs no removal.
        let _ = fs::remove_file(&self.service);
        let _ = fs::remove_file(&self.filter);
    }
}

fn service(number: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: portolan-verify-reload, namespace: istio-system}}
spec:
  hosts: [verify-reload.portolan.invalid]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
        port(number)
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

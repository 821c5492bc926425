//! `portolan demo`: two embedded backends and a folder of YAML that routes to them, served by the same control loop
//! as `run`.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::Context;

use crate::args::{ConfigArgs, DemoArgs};
use crate::backend::Backend;
use crate::run::{self, Service};
use crate::{output, starter};

/// Serves until it is stopped.
pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    run::runtime()?.block_on(serve(args))
}

async fn serve(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let v1 = Backend::start("app v1").await.context("cannot start the demo's backends")?;
    let v2 = Backend::start("app v2").await.context("cannot start the demo's backends")?;
    let folder = tempfile::Builder::new().prefix("portolan-demo-").tempdir().context("cannot make a folder")?;
    for starter in starter::split(args.listen, v1.address().port(), v2.address().port()) {
        starter::write_new(folder.path(), &starter).with_context(|| format!("cannot write `{}`", starter.name))?;
    }
    let config = ConfigArgs { config: vec![folder.path().to_owned()], ..ConfigArgs::default() };
    let service = Service::interactive(&config, &args.serve);
    let banner = banner(args, &folder.path().display().to_string(), [&v1, &v2]);
    service.serve(move || output::answer(&banner)).await
}

/// What runs and what to try next.
fn banner(args: &DemoArgs, folder: &str, [v1, v2]: [&Backend; 2]) -> String {
    let mut listen = args.listen;
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let mut text = format!("Portolan {} demo (everything lives in this process)\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |label: &str, text_of: String| writeln!(text, "  {label:<9} {text_of}");
    let _ = line("backends", format!("app v1  {}      app v2  {}", v1.address(), v2.address()));
    let _ =
        line("gateway", format!("http://{listen}            admin   http://{}/config_dump", args.serve.admin_address));
    let _ = line("split", "v1 80 %, v2 20 %             breaker  max 100 requests, 5 failures in a row".to_owned());
    let _ = line("edit", format!("{folder}/routes.yaml     and save: it is served at once"));
    let _ = line("", String::new());
    let _ = line("try", format!("curl http://{listen}/hello"));
    let _ = line("try", format!("for i in $(seq 20); do curl -s http://{listen}/; done | sort | uniq -c"));
    let _ = line("try", format!("portolan explain --config {folder} --url http://{listen}/hello"));
    let _ = line("try", format!("curl -i http://{listen}/status/503     6 times: the breaker ejects what fails"));
    let _ = line("keep", "portolan init mygw        write these same resources as files".to_owned());
    let _ = line("stop", "Ctrl-C".to_owned());
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>() + "\n"
}

//! `portolan filter dev`: the author's loop. Builds, serves, watches the sources, and puts each new version in place of the one
//! that runs, while every request is told with what the filter asked of the host.

mod command;
mod loop_state;
mod save;
mod screen;
mod target;
mod terminal;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use portolan_config::Watcher;
use portolan_telemetry::LogControl;
use portolan_wasm::TraceLimits;
use tokio::sync::mpsc;

use self::loop_state::Loop;
use self::screen::Screen;
use self::target::Target;
use self::terminal::Keys;
use super::stage::{Named, Script, Stage, StageOptions};
use crate::UsageError;
use crate::args::{ConfigArgs, DevArgs, TraceMode};
use crate::output;
use crate::run;
use crate::signals::Signals;

/// What finishes after `q`.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// The target of what filters log: the trace tells it.
const FILTER_LOG: &str = "portolan::filter";

/// Serves until it is told to stop.
pub(super) fn dev(args: &DevArgs) -> anyhow::Result<ExitCode> {
    run::runtime()?.block_on(serve(args))
}

async fn serve(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let log = install_log(args)?;
    let services = services(args)?;
    let target = Target::open(&args.path, args.plugin_config.as_ref())?;
    let screen = Screen::new(args.trace, args.quiet, output::color());
    // Before the first build: what is edited meanwhile is built again.
    let (changes, mut changed) = mpsc::unbounded_channel();
    let sources = watch_sources(args, changes.clone())?;
    let config = watch_config(args, changes)?;
    let first = target.build();
    if let Err(error) = &first {
        screen.not_built(&[], error, false);
    }
    let built = first.ok();
    let options = StageOptions {
        subject: target.subject()?,
        module: built.as_ref().map(|built| built.bytes.clone()).unwrap_or_default(),
        listen: Some(args.listen),
        config: user_config(args),
        services,
        callbacks: (args.trace != TraceMode::Off).then(TraceLimits::default),
        admin: Some((args.admin_address, log)),
    };
    let start = Instant::now();
    let (stage, change) = Stage::start(options).await?;
    let mut running = Loop::new(args, target, stage, screen, built);
    running.begin(&change, start.elapsed());
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let mut keys = Keys::start();
    while running.turn(&mut signals, &mut changed, &mut keys).await? {}
    drop((sources, config, keys));
    running.stop(DRAIN_LIMIT).await;
    Ok(ExitCode::SUCCESS)
}

/// What the trace tells is not told twice.
fn install_log(args: &DevArgs) -> anyhow::Result<LogControl> {
    let own = "warn,portolan::report=off";
    let level = &args.filter_log_level;
    let log = match args.trace {
        TraceMode::Off => LogControl::install(&format!("{own},{FILTER_LOG}={level}")),
        TraceMode::All | TraceMode::Errors => {
            let directives = format!("{own},portolan_proxy::generation=off,{FILTER_LOG}={level}");
            LogControl::install_without(&directives, FILTER_LOG)
        }
    };
    log.map_err(|error| UsageError(error.to_string()).into())
}

fn services(args: &DevArgs) -> anyhow::Result<Vec<(Named, Script)>> {
    let service = |text: &String| {
        let named = Named::parse(text);
        let named =
            named.ok_or_else(|| UsageError(format!("`{text}` is no service; wants HOST, HOST:PORT or a cluster")))?;
        Ok((named, Script::Echo))
    };
    args.services.iter().map(service).collect()
}

fn user_config(args: &DevArgs) -> Option<ConfigArgs> {
    (!args.config.is_empty()).then(|| ConfigArgs {
        config: args.config.clone(),
        port_map: args.port_map.clone(),
        labels: args.labels.clone(),
        ..ConfigArgs::default()
    })
}

/// What the watchers tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Sources,
    Config,
}

fn watch_sources(args: &DevArgs, changes: mpsc::UnboundedSender<Changed>) -> anyhow::Result<Watcher> {
    let (path, config) = (args.path.clone(), args.plugin_config.clone());
    let list = move || match Target::open(&path, config.as_ref()) {
        Ok(target) => target.files(),
        // Whoever mends filter.yaml is waited for.
        Err(_) => vec![path.join(super::project::FILE)],
    };
    let on_change = move || {
        // A loop that has ended needs no waking.
        let _ = changes.send(Changed::Sources);
    };
    Ok(Watcher::start_listed(list, on_change)?)
}

/// The control loop reads the same files and serves them by itself: this one says so.
fn watch_config(args: &DevArgs, changes: mpsc::UnboundedSender<Changed>) -> anyhow::Result<Option<Watcher>> {
    if args.config.is_empty() {
        return Ok(None);
    }
    let on_change = move || {
        let _ = changes.send(Changed::Config);
    };
    Ok(Some(Watcher::start(&args.config, on_change)?))
}

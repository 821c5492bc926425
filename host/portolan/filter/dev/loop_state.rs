//! [`Loop`]: what the author's loop knows between two events, and what it does about each.

use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::CommandFactory;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{JoinError, JoinHandle};

use super::Changed;
use super::command::Command;
use super::save;
use super::screen::{Screen, Version};
use super::target::{Module, NotBuilt, Seen, Target};
use super::terminal::Keys;
use crate::args::{Args, DevArgs};
use crate::filter::stage::{Change, Event, Exchange, Stage, Subject};
use crate::signals::{Signal, Signals};

/// A build with the target that it is of.
type Build = (Target, Result<Module, NotBuilt>);

/// The loop's state.
pub(super) struct Loop<'a> {
    args: &'a DevArgs,
    stage: Stage,
    screen: Screen,
    seen: Seen,
    /// What the stage has been told last.
    subject: Option<Subject>,
    /// The module that serves; none while none does.
    live: Option<Vec<u8>>,
    /// The first build's, until it is told.
    first: Option<Module>,
    /// The build that runs.
    build: Option<JoinHandle<Build>>,
    /// Names of the files that it is for.
    names: Vec<String>,
    /// Something has changed since it began.
    is_stale: bool,
    /// Somebody has asked for it.
    is_forced: bool,
    last: Option<Exchange>,
}

/// What has happened.
enum Step {
    Asked(Command),
    Changed(Changed),
    Built(Result<Build, JoinError>),
    Event(Event),
    End,
}

impl<'a> Loop<'a> {
    /// A loop around a stage that runs, with what it was started with.
    pub(super) fn new(args: &'a DevArgs, target: Target, stage: Stage, screen: Screen, first: Option<Module>) -> Self {
        let mut seen = Seen::default();
        seen.changed(&target);
        Self {
            args,
            stage,
            screen,
            seen,
            subject: target.subject().ok(),
            live: None,
            first,
            build: None,
            names: Vec::new(),
            is_stale: false,
            is_forced: false,
            last: None,
        }
    }

    /// Says what the start has come to.
    pub(super) fn begin(&mut self, change: &Change, took: Duration) {
        self.screen.findings(&change.findings);
        match (self.first.take(), &change.refusal) {
            (Some(module), None) => {
                self.screen.begins(&self.version(&module), took, self.stage.address());
                self.live = Some(module.bytes);
            }
            (first, refusal) => {
                if let (Some(_), Some(refusal)) = (first, refusal) {
                    self.screen.refused(&[], refusal, false);
                }
                self.screen.waits(self.stage.address());
            }
        }
    }

    /// Waits for one thing and sees to it; false when it is time to end.
    pub(super) async fn turn(
        &mut self,
        signals: &mut Signals,
        changed: &mut UnboundedReceiver<Changed>,
        keys: &mut Keys,
    ) -> anyhow::Result<bool> {
        match self.step(signals, changed, keys).await {
            Step::End | Step::Asked(Command::Quit) => return Ok(false),
            Step::Asked(command) => self.carry_out(command).await?,
            Step::Changed(Changed::Sources) => self.rebuild(false),
            Step::Changed(Changed::Config) => {
                let start = Instant::now();
                let change = self.stage.look().await;
                self.screen.configured(change, start.elapsed());
            }
            Step::Built(built) => self.take_over(built).await?,
            Step::Event(event) => self.tell(event),
        }
        let lost = self.stage.take_lost();
        if lost > 0 {
            self.screen.lost(lost);
        }
        Ok(true)
    }

    /// Ends: what is in flight is finished first.
    pub(super) async fn stop(self, limit: Duration) {
        self.stage.stop(limit).await;
    }

    async fn step(&mut self, signals: &mut Signals, changed: &mut UnboundedReceiver<Changed>, keys: &mut Keys) -> Step {
        let Self { stage, build, .. } = self;
        tokio::select! {
            command = keys.next() => Step::Asked(command),
            Some(changed) = changed.recv() => Step::Changed(changed),
            built = ended(build) => Step::Built(built),
            event = stage.next() => event.map_or(Step::End, Step::Event),
            signal = signals.next() => match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Hangup => Step::End,
            },
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::Stream(record) => {
                let exchange = self.stage.exchange(*record);
                self.screen.exchange(&exchange, self.stage.plugin());
                self.last = Some(exchange);
            }
            Event::Callback(callback) => self.screen.callback(&callback, self.stage.plugin()),
        }
    }

    /// Begins to build what has changed, or notes that it must be done again. Forced: whether it has or not.
    fn rebuild(&mut self, forced: bool) {
        let target = match Target::open(&self.args.path, self.args.plugin_config.as_ref()) {
            Ok(target) => target,
            Err(error) => return self.screen.says(&format!("{error:#}")),
        };
        let names = self.seen.changed(&target);
        if names.is_empty() && !forced && !self.is_stale {
            return;
        }
        self.names.extend(names.into_iter().filter(|name| !self.names.contains(name)).collect::<Vec<_>>());
        self.is_forced |= forced;
        if self.build.is_some() {
            self.is_stale = true;
            return;
        }
        self.is_stale = false;
        self.build = Some(tokio::task::spawn_blocking(move || {
            let built = target.build();
            (target, built)
        }));
    }

    /// Puts what was built in place of what runs.
    async fn take_over(&mut self, built: Result<Build, JoinError>) -> anyhow::Result<()> {
        self.build = None;
        let (target, built) = built.context("the build has ended with a fault")?;
        if self.is_stale {
            // Half of it may be of before the last change.
            self.rebuild(false);
            return Ok(());
        }
        let names = std::mem::take(&mut self.names);
        let forced = std::mem::take(&mut self.is_forced);
        match built {
            Ok(module) => self.swap(&target, &names, module, forced).await?,
            Err(error) => self.screen.not_built(&names, &error, self.live.is_some()),
        }
        Ok(())
    }

    async fn swap(&mut self, target: &Target, names: &[String], module: Module, forced: bool) -> anyhow::Result<()> {
        let mut subject = target.subject()?;
        // Of another name it would be another plugin, beside the one that runs.
        if let Some(told) = &self.subject {
            subject.name.clone_from(&told.name);
        }
        let is_same = self.live.as_ref() == Some(&module.bytes) && self.subject.as_ref() == Some(&subject);
        if is_same && !forced {
            self.screen.unchanged(names, module.took);
            return Ok(());
        }
        let start = Instant::now();
        let change = self.stage.swap(Some(&module.bytes), Some(&subject)).await?;
        let took = start.elapsed();
        self.subject = Some(subject);
        self.screen.awaits_start();
        match &change.refusal {
            None => {
                self.screen.live(names, &self.version(&module), took, change.in_flight);
                self.live = Some(module.bytes);
            }
            Some(refusal) => self.screen.refused(names, refusal, self.live.is_some()),
        }
        Ok(())
    }

    fn version<'m>(&self, module: &'m Module) -> Version<'m> {
        let served = self.stage.served();
        let about = served.map(|served| (served.imports().len(), served.abi()));
        Version { module, about }
    }

    async fn carry_out(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Rebuild => self.rebuild(true),
            Command::Tests => self.run("test", &[]).await?,
            Command::Save => self.save().await?,
            Command::Bench => self.run("bench", &[]).await?,
            Command::Trace => self.screen.again(self.last.as_ref(), self.stage.plugin()),
            Command::Page => match self.stage.admin() {
                Some(address) => self.screen.says(&format!("page  http://{address}/")),
                None => self.screen.says("there is no admin server"),
            },
            Command::Help => self.screen.says(super::command::KEYS),
            Command::Quit => {}
        }
        Ok(())
    }

    /// Sends the last request once more, through a gateway of its own, and writes what comes of it as a case.
    async fn save(&self) -> anyhow::Result<()> {
        match self.last.as_ref().and_then(save::arguments) {
            Some(arguments) => self.run("test", &arguments).await?,
            None => self.screen.says("no request has come to the filter yet"),
        }
        Ok(())
    }

    /// Runs another command of `portolan filter` on the same target, in a process of its own.
    async fn run(&self, name: &'static str, more: &[String]) -> anyhow::Result<()> {
        let line = Args::command();
        if line.find_subcommand("filter").and_then(|filter| filter.find_subcommand(name)).is_none() {
            self.screen.says(&format!("this binary has no `filter {name}`"));
            return Ok(());
        }
        let mut process = Process::new(std::env::current_exe().context("cannot find this binary")?);
        process.args(["filter", name]).arg(&self.args.path).args(more).stdin(Stdio::null());
        if let Some(config) = &self.args.plugin_config {
            process.args(["--plugin-config", &config.to_string()]);
        }
        let ended = tokio::task::spawn_blocking(move || process.status()).await?;
        ended.with_context(|| format!("cannot run `filter {name}`"))?;
        Ok(())
    }
}

/// The end of a build; never without one.
async fn ended(build: &mut Option<JoinHandle<Build>>) -> Result<Build, JoinError> {
    match build {
        Some(build) => build.await,
        None => std::future::pending().await,
    }
}

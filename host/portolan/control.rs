//! [`Control`]: the control loop. A change of a file is read, translated, built and published; whatever fails on the
//! way is said, and the last good state serves on.

mod bind_again;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use portolan_config::{Diagnostic, Severity, Watcher};
use portolan_model::Model;
use portolan_proxy::{BuildProblem, Builder, ClientSockets, Snapshot, SnapshotCell};
use portolan_telemetry::Metrics;
use tokio::sync::oneshot;

use self::bind_again::BindAgain;
use crate::load::{Loader, Read};
use crate::modules::Fingerprint;
use crate::report::Report;
use crate::view::{self, Dumped, ListenerErrors};

/// What wakes the loop.
#[derive(Debug)]
enum Event {
    /// A watched file changed.
    Changed,
    /// Build anew, even if nothing changed.
    Reload,
    /// As if a file had changed, and somebody wants to know what came of it.
    Ask(oneshot::Sender<Turn>),
    /// Change nothing from now on, until told otherwise; the answer is that nothing is under way.
    Hold(oneshot::Sender<()>),
    /// Go on.
    Release,
    /// Open no listener from now on.
    End,
    /// An address is bound that could not be when the last snapshot was built.
    Bound,
}

/// What one turn of the loop has come to.
#[derive(Debug)]
pub(crate) struct Turn {
    /// What is served now.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What is to be said about the files.
    pub(crate) findings: Vec<Diagnostic>,
    /// What could not be built; with true the old version serves on.
    pub(crate) problems: Vec<(Diagnostic, bool)>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Everything that the loop knows between two changes.
pub(crate) struct Control {
    loader: Loader,
    builder: Builder,
    watcher: Option<Watcher>,
    events: Sender<Event>,
    wakes: Receiver<Event>,
    metrics: Arc<Metrics>,
    report: Report,
    config_dump: Arc<ArcSwapOption<Dumped>>,
    listener_errors: Arc<ArcSwap<ListenerErrors>>,
    /// What was built last, good or not: the same again is no change.
    tried: Option<(Arc<Model>, Fingerprint)>,
    /// What could not be built then.
    problems: Vec<BuildProblem>,
    /// What the files' last reading found.
    findings: Vec<Diagnostic>,
    again: BindAgain,
}

/// A handle on the running loop.
#[derive(Clone, Debug)]
pub(crate) struct ControlHandle {
    events: Sender<Event>,
}

impl ControlHandle {
    /// Reads and builds everything again, now.
    pub(crate) fn reload(&self) {
        // A loop that has ended has nothing to reload.
        let _ = self.events.send(Event::Reload);
    }

    /// Lets nothing change any more. Comes back when the change under way is published.
    pub(crate) async fn hold(&self) {
        let (answer, answered) = oneshot::channel();
        // A loop that has ended changes nothing either.
        let _ = self.events.send(Event::Hold(answer));
        let _ = answered.await;
    }

    /// Lets changes happen again, those that were held up first.
    pub(crate) fn release(&self) {
        let _ = self.events.send(Event::Release);
    }

    /// The process is about to end. Changes are served on, but for new listeners: another process may be there for them.
    pub(crate) fn end(&self) {
        // A loop that has ended opens none.
        let _ = self.events.send(Event::End);
    }

    /// Reads the files anew: something beside them has changed.
    pub(crate) fn changed(&self) {
        // A loop that has ended has nothing to read.
        let _ = self.events.send(Event::Changed);
    }

    /// Looks at the files now, whether a change has been noticed or not. None when the loop has stopped in between.
    pub(crate) async fn look(&self) -> Option<Turn> {
        let (answer, answered) = oneshot::channel();
        self.events.send(Event::Ask(answer)).ok()?;
        answered.await.ok()
    }
}

impl Control {
    /// Watches the files, so that no change between now and the first reading is missed. Nothing is read yet.
    pub(crate) fn new(loader: Loader, builder: Builder, metrics: Arc<Metrics>) -> Self {
        let (events, wakes) = mpsc::channel();
        let on_change = {
            let events = events.clone();
            // A loop that has ended needs no waking.
            move || {
                let _ = events.send(Event::Changed);
            }
        };
        loader.modules().on_change(on_change.clone());
        let watcher = Watcher::start(loader.paths(), on_change)
            .inspect_err(|error| tracing::error!("files are not watched, only SIGHUP reloads: {error}"))
            .ok();
        Self {
            loader,
            builder,
            watcher,
            events,
            wakes,
            metrics,
            report: Report::default(),
            config_dump: Arc::default(),
            listener_errors: Arc::default(),
            tried: None,
            problems: Vec::new(),
            findings: Vec::new(),
            again: BindAgain::default(),
        }
    }

    /// What `/config_dump` shows, kept up to date.
    pub(crate) fn config_dump(&self) -> Arc<ArcSwapOption<Dumped>> {
        self.config_dump.clone()
    }

    /// What keeps listeners from accepting, kept up to date.
    pub(crate) fn listener_errors(&self) -> Arc<ArcSwap<ListenerErrors>> {
        self.listener_errors.clone()
    }

    /// The first snapshot. Mistakes in the files are said and left out; with nothing good it serves nothing.
    pub(crate) fn first(&mut self) -> Arc<Snapshot> {
        let start = Instant::now();
        let read = self.read(false);
        let snapshot = self.build(&read);
        self.report.first(&read, self.loader.resources(), start.elapsed());
        self.report.problems(&self.diagnosed());
        if let Some(dev_tls) = self.loader.dev_tls() {
            dev_tls.say(&read.model);
        }
        self.tell(&read, &snapshot);
        snapshot
    }

    /// Runs the loop on a thread of its own, so that a slow compilation delays nobody.
    pub(crate) fn spawn(mut self, cell: SnapshotCell) -> anyhow::Result<ControlHandle> {
        let handle = ControlHandle { events: self.events.clone() };
        let body = move || {
            while let Some(event) = self.next() {
                let events = match event {
                    Event::Hold(answer) => self.held(answer),
                    event => std::iter::once(event).chain(self.wakes.try_iter()).collect::<Vec<_>>(),
                };
                if events.iter().any(|event| matches!(event, Event::End)) {
                    self.builder.end();
                    self.again.restart(false);
                    if events.len() == 1 {
                        continue;
                    }
                }
                let forced = events.iter().any(|event| matches!(event, Event::Reload));
                let bound = events.iter().any(|event| matches!(event, Event::Bound));
                let start = Instant::now();
                // A fault of ours in one file must not end reloading for good.
                if catch_unwind(AssertUnwindSafe(|| self.turn(&cell, forced, bound))).is_err() {
                    tracing::error!("a fault of the gateway stopped this reload; the last good state serves on");
                    self.metrics.config.reload_total.inc("fault");
                    continue;
                }
                for event in events {
                    match event {
                        // Whoever asked may have gone.
                        Event::Ask(answer) => drop(answer.send(self.came_to(cell.load(), start.elapsed()))),
                        // It came together with others, which are done.
                        Event::Hold(answer) => drop(self.events.send(Event::Hold(answer))),
                        Event::Changed | Event::Reload | Event::Release | Event::End | Event::Bound => {}
                    }
                }
            }
        };
        thread::Builder::new().name("control".to_owned()).spawn(body).context("cannot start the control loop")?;
        Ok(handle)
    }

    /// The next event; while a listener lacks its sockets they are tried again. None when nobody sends any more.
    fn next(&mut self) -> Option<Event> {
        loop {
            let Some(pause) = self.again.wait() else { return self.wakes.recv().ok() };
            match self.wakes.recv_timeout(pause) {
                Ok(event) => return Some(event),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let bound = self.builder.bind_again();
                    for address in &bound {
                        tracing::info!("listener {address}: the address is free by now, and served");
                    }
                    if !bound.is_empty() {
                        return Some(Event::Bound);
                    }
                    self.again.later();
                }
            }
        }
    }

    /// Waits for the word to go on, or for ever; what has come meanwhile is the answer.
    fn held(&self, answer: oneshot::Sender<()>) -> Vec<Event> {
        let _ = answer.send(());
        let mut events = Vec::new();
        while let Ok(event) = self.wakes.recv() {
            match event {
                Event::Release => break,
                // One that has not been heard yet is enough.
                Event::Changed if events.iter().any(|event| matches!(event, Event::Changed)) => {}
                event => events.push(event),
            }
        }
        events
    }

    /// One change: read, translate, compare, build, publish. With `bound` the same is built anew: a listener has its sockets.
    fn turn(&mut self, cell: &SnapshotCell, forced: bool, bound: bool) {
        let start = Instant::now();
        let read = self.read(forced);
        let (same_model, same_code) = match &self.tried {
            Some((model, modules)) => (read.means(model), *modules == read.modules),
            None => (false, false),
        };
        let current = cell.load();
        if same_model && same_code && !forced && !bound {
            self.report.unchanged(&read, self.loader.resources());
            self.tell(&read, &current);
            return;
        }
        let said = if bound { self.diagnosed() } else { Vec::new() };
        let snapshot = self.build(&read);
        cell.publish(snapshot.clone());
        let new_code = !same_code && self.problems.is_empty();
        // Code that is not taken changes nothing: its problem says so.
        if !same_model || self.problems.is_empty() {
            self.report.reload(&read, self.loader.resources(), (&current, &snapshot), new_code, start.elapsed());
        }
        let mut problems = self.diagnosed();
        problems.retain(|problem| !said.contains(problem));
        self.report.problems(&problems);
        self.tell(&read, &snapshot);
    }

    fn read(&mut self, forced: bool) -> Read {
        let read = self.loader.read(forced);
        if let Some(watcher) = &self.watcher {
            watcher.set_seen(read.sources.stamps_when_read());
        }
        read
    }

    /// Builds, and remembers what was built of what.
    fn build(&mut self, read: &Read) -> Arc<Snapshot> {
        // Before building: a file that changes while it is read must wake the loop again.
        self.watch(read);
        let (snapshot, problems) = self.builder.build(read.model.clone());
        self.listener_errors.store(Arc::new(view::listener_errors(&read.model, &problems)));
        self.tried = Some((read.model.clone(), read.modules.clone()));
        self.problems = problems;
        self.again.restart(self.builder.lacks_sockets());
        snapshot
    }

    /// True when the last reading found errors, or something could not be built.
    pub(crate) fn has_errors(&self) -> bool {
        !self.problems.is_empty() || self.findings.iter().any(|finding| finding.severity >= Severity::Error)
    }

    /// Uses the sockets of another process for the first snapshot.
    pub(crate) fn inherit(&mut self, sockets: ClientSockets) {
        self.builder.inherit(sockets);
    }

    /// What the last turn, or the first reading, has come to.
    pub(crate) fn came_to(&self, snapshot: Arc<Snapshot>, took: Duration) -> Turn {
        Turn { snapshot, findings: self.findings.clone(), problems: self.diagnosed(), took }
    }

    /// What could not be built, and whether the old version serves on.
    fn diagnosed(&self) -> Vec<(Diagnostic, bool)> {
        self.problems.iter().map(|problem| (self.loader.diagnose(problem), problem.kept_old)).collect()
    }

    fn watch(&self, read: &Read) {
        if let Some(watcher) = &self.watcher {
            let files = [read.modules.files(), self.loader.named_files(&read.model)].concat();
            watcher.set_extra(&files);
        }
    }

    /// Says what was found to the log, the admin port and the metrics.
    fn tell(&mut self, read: &Read, snapshot: &Arc<Snapshot>) {
        let problems = self.diagnosed().into_iter().map(|(diagnostic, _)| diagnostic);
        let findings: Vec<_> = read.diagnostics.iter().cloned().chain(problems).collect();
        let good = findings.iter().all(|finding| finding.severity < Severity::Error);
        let (snapshot_now, objects) = (snapshot.clone(), self.loader.resources().statuses());
        self.config_dump.store(Some(Arc::new(Dumped { snapshot: snapshot_now, objects, findings })));
        // Last: whoever reads of it in the log finds it on the admin port.
        self.report.findings(&read.diagnostics);
        self.findings.clone_from(&read.diagnostics);
        self.count(snapshot, good);
    }

    fn count(&self, snapshot: &Snapshot, good: bool) {
        let config = &self.metrics.config;
        config.reload_total.inc(if good { "success" } else { "kept_old" });
        config.last_reload_successful.set(good.into());
        config.generation.set(i64::try_from(snapshot.generation).unwrap_or(i64::MAX));
        for (state, count) in view::objects_by_state(self.loader.resources()) {
            config.objects.set(state, count);
        }
        if good {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            config.last_reload_success_timestamp_seconds.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }
}

//! [`Exporter`]: a worker's spans on their way to the collector: in batches, one at a time, beside the requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::SpanPlan;
use crate::callout::send_spans;
use crate::worker::Worker;

/// Longest time that a span waits while the collector is there.
const INTERVAL: Duration = Duration::from_secs(1);

/// A batch of so many spans goes at once.
const BATCH: usize = 512;

/// Most spans that wait on one worker, and most bytes of them; further ones are dropped and counted.
const MAX_WAITING: usize = 8192;
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// How long the last spans may take when the worker ends.
const FLUSH_TIME: Duration = Duration::from_secs(2);

/// What waits on one worker.
#[derive(Default)]
pub(crate) struct Exporter {
    waiting: RefCell<Batch>,
    /// The task runs.
    runs: Cell<bool>,
    /// Do not wait for more.
    hurry: Notify,
    ended: Notify,
    /// The last batch was lost: said once, not for each.
    failing: Cell<bool>,
    /// The worker has ended: nothing is sent any more.
    closed: Cell<bool>,
}

/// Spans for one collector.
#[derive(Default)]
struct Batch {
    plan: Option<Arc<SpanPlan>>,
    spans: Vec<Vec<u8>>,
    bytes: usize,
}

impl Exporter {
    /// Takes spans that have been written.
    pub(crate) fn push(&self, worker: &Rc<Worker>, plan: &Arc<SpanPlan>, spans: impl IntoIterator<Item = Vec<u8>>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.plan.as_ref().is_some_and(|known| !Arc::ptr_eq(known, plan)) && !self.closed.get() {
            // A reload has brought another collector or other tags.
            let (worker, old) = (worker.clone(), std::mem::take(&mut *waiting));
            spawn_local(async move { worker.exporter.send(&worker, old).await });
        }
        waiting.plan.get_or_insert_with(|| plan.clone());
        for span in spans {
            if self.closed.get() || waiting.spans.len() >= MAX_WAITING || waiting.bytes + span.len() > MAX_BYTES {
                let view = worker.view();
                plan.counters(&view.snapshot.metrics).spans_dropped.inc();
                continue;
            }
            waiting.bytes += span.len();
            waiting.spans.push(span);
        }
        if waiting.spans.len() >= BATCH {
            self.hurry.notify_one();
        }
        drop(waiting);
        if !self.closed.get() && !self.runs.replace(true) {
            let worker = worker.clone();
            spawn_local(async move { worker.exporter.run(&worker).await });
        }
    }

    /// Sends until nothing waits.
    async fn run(&self, worker: &Rc<Worker>) {
        loop {
            let in_time = tokio::select! {
                () = sleep(INTERVAL) => true,
                () = self.hurry.notified() => false,
            };
            let batch = std::mem::take(&mut *self.waiting.borrow_mut());
            if let Some(plan) = batch.plan.as_ref().filter(|_| in_time) {
                let view = worker.view();
                plan.counters(&view.snapshot.metrics).timer_flushed.inc();
            }
            self.send(worker, batch).await;
            if self.waiting.borrow().spans.is_empty() {
                self.runs.set(false);
                self.ended.notify_waiters();
                return;
            }
        }
    }

    async fn send(&self, worker: &Rc<Worker>, batch: Batch) {
        let Some(plan) = batch.plan.filter(|_| !batch.spans.is_empty()) else { return };
        let count = batch.spans.len() as u64;
        let message = plan.message(&batch.spans);
        drop(batch.spans);
        let sent = send_spans(worker, &plan.wanted, message.into()).await;
        let view = worker.view();
        let counters = plan.counters(&view.snapshot.metrics);
        let provider = &plan.wanted.provider;
        match sent {
            Ok(()) => {
                counters.spans_sent.inc_by(count);
                if self.failing.replace(false) {
                    tracing::info!(%provider, "the collector takes spans again");
                }
            }
            Err(reason) => {
                counters.spans_dropped.inc_by(count);
                if !self.failing.replace(true) {
                    tracing::warn!(%provider, %reason, "spans are lost: the collector does not take them");
                }
            }
        }
    }

    /// Sends what waits, for a worker that is about to end.
    pub(crate) async fn flush(&self) {
        let ended = self.ended.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if self.runs.get() {
            self.hurry.notify_one();
            // What is left then is lost.
            let _ = timeout(FLUSH_TIME, ended).await;
        }
        self.close();
    }

    /// Spans that come now are lost.
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }
}

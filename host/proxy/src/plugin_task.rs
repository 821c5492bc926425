//! What runs of a plugin beside the streams, in one task of the worker: ticks, queues, and the start of callouts.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};

use crate::callout;
use crate::worker::Worker;
use crate::worker_plugin::WorkerPlugin;

/// Ticks do not come faster than this, whatever period a filter asks for.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// Queues of a filter that has used up its CPU time, or was put aside, are looked at again after this.
const PUT_OFF: Duration = Duration::from_millis(50);

/// Wakes a plugin's task, from any thread: a queue may be filled by another worker.
#[derive(Default)]
pub(crate) struct Attention(Notify);

impl Attention {
    pub(crate) fn notify(&self) {
        self.0.notify_one();
    }
}

impl Wake for Attention {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
}

/// Starts the task. It ends with the plugin.
pub(crate) fn spawn(worker: &Rc<Worker>, plugin: &Rc<WorkerPlugin>) {
    // The first round looks at what the VM has asked for while it started.
    plugin.attention.notify();
    spawn_local(run(Rc::downgrade(worker), Rc::downgrade(plugin), plugin.attention.clone()));
}

async fn run(worker: Weak<Worker>, plugin: Weak<WorkerPlugin>, attention: Arc<Attention>) {
    let waker = Waker::from(attention.clone());
    let mut ticks = Ticks::default();
    loop {
        tokio::select! {
            biased;
            () = ticks.next() => {
                let Some(plugin) = plugin.upgrade() else { return };
                ticks.count();
                if plugin.is_available() {
                    plugin.enter(|vm| vm.on_tick());
                }
            }
            () = attention.0.notified() => {
                let (Some(worker), Some(plugin)) = (worker.upgrade(), plugin.upgrade()) else { return };
                if plugin.is_put_off() {
                    drop(plugin);
                    sleep(PUT_OFF).await;
                    attention.notify();
                    continue;
                }
                see_to(&plugin, &waker);
                callout::carry_out(&worker, &plugin);
                ticks.set(plugin.with_vm(|vm| vm.tick_period()).flatten());
            }
        }
        // However short the period, streams and sockets of the worker have their turn in between.
        tokio::task::yield_now().await;
    }
}

fn see_to(plugin: &Rc<WorkerPlugin>, waker: &Waker) {
    plugin.enter(|vm| {
        vm.set_queue_waker(waker.clone());
        vm.on_queues()
    });
}

/// When the next tick is due.
#[derive(Default)]
struct Ticks {
    period: Option<Duration>,
    due: Option<Instant>,
}

impl Ticks {
    fn set(&mut self, period: Option<Duration>) {
        let period = period.map(|period| period.max(SHORTEST_PERIOD));
        if period != self.period {
            self.period = period;
            self.due = period.and_then(|period| Instant::now().checked_add(period));
        }
    }

    /// The next one is a period after now: ticks that were late are not made up for.
    fn count(&mut self) {
        self.due = self.period.and_then(|period| Instant::now().checked_add(period));
    }

    async fn next(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

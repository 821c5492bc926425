//! [`Workers`]: starts the worker threads and ends them without losing a request.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::edge::{Edge, EdgeLimits};
use crate::publish::SnapshotCell;
use crate::worker::Worker;

/// How far the drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not draining.
    Serving,
    /// Still accepting; responses tell clients to close.
    Announced,
    /// Another process accepts from the listeners' sockets; responses tell clients to close.
    HandedOver,
    /// Listeners close; requests in flight end.
    Closing,
    /// What is left is cut.
    Over,
}

/// Sockets of listeners that another process has handles on, and serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// Those of TCP: it knows no others.
    Tcp,
    /// All.
    All,
}

/// What workers are told. Whoever is late sees the last only: it holds for what was said before, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) stage: Stage,
    /// None where nobody else has the sockets.
    pub(crate) handed_over: Option<HandedOver>,
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    /// Each says whether nothing had to be cut.
    threads: Vec<JoinHandle<bool>>,
    drain: watch::Sender<Drain>,
}

/// Why the workers do not start.
#[derive(Debug, thiserror::Error)]
pub enum StartWorkersError {
    /// The system gave no thread or no event queue.
    #[error("worker {0} does not start: {1}")]
    Worker(usize, std::io::Error),
}

impl Workers {
    /// Starts `count` workers, each on a thread and a runtime of its own, serving what `cell` holds.
    pub fn start(count: usize, cell: &SnapshotCell, limits: EdgeLimits) -> Result<Self, StartWorkersError> {
        let edge = Edge::new(limits);
        let drain = watch::Sender::new(Drain { stage: Stage::Serving, handed_over: None });
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let failed = |error| StartWorkersError::Worker(index, error);
            let (cell, told, edge) = (cell.clone(), drain.subscribe(), edge.clone());
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return true;
                    }
                };
                runtime.block_on(async {
                    let worker = Worker::new(index, cell.load(), edge);
                    // It is new: nobody has set one.
                    let _ = worker.recorder.set(cell.traffic().recorder());
                    worker.run_after(started, cell.subscribe(), told).await
                })
            });
            threads.push(thread.map_err(failed)?);
            starting.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended"))).map_err(failed)?;
        }
        Ok(Self { threads, drain })
    }

    /// Responses carry `connection: close` from here on; everything is still accepted.
    pub fn announce_drain(&self) {
        self.tell(Stage::Announced);
    }

    /// Another process serves from now on, from these sockets, which it has handles on: this one stops. What is open goes on,
    /// and clients that send requests are told to close. Sessions of UDP get their answers from this process until they are
    /// idle, for the time that the drain takes at most.
    pub fn hand_over(&self, what: HandedOver) {
        self.drain.send_replace(Drain { stage: Stage::HandedOver, handed_over: Some(what) });
    }

    fn tell(&self, stage: Stage) {
        self.drain.send_modify(|drain| drain.stage = stage);
    }

    /// Closes the listeners and lets requests in flight end, for at most `limit`; then cuts what is left. Blocks: call it
    /// off the runtimes. True when nothing had to be cut, but for sessions of UDP.
    pub fn drain(self, limit: Duration) -> bool {
        self.tell(Stage::Closing);
        let (done, all_done) = std::sync::mpsc::channel();
        let threads = self.threads;
        let joiner = std::thread::spawn(move || {
            // A worker that panicked has nothing left to drain.
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or(true)).collect();
            let _ = done.send(());
            ended.into_iter().all(|complete| complete)
        });
        if all_done.recv_timeout(limit).is_err() {
            self.drain.send_modify(|drain| drain.stage = Stage::Over);
        }
        joiner.join().unwrap_or(true)
    }
}

/// The channel on which a worker says that it serves.
pub(crate) type Started = std::sync::mpsc::SyncSender<Result<(), std::io::Error>>;

impl Worker {
    async fn run_after(
        self: std::rc::Rc<Self>,
        started: Started,
        snapshots: watch::Receiver<Arc<crate::snapshot::Snapshot>>,
        drain: watch::Receiver<Drain>,
    ) -> bool {
        self.clone().begin(&snapshots);
        let _ = started.send(Ok(()));
        self.run(snapshots, drain).await
    }
}

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

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    stage: watch::Sender<Stage>,
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
        let stage = watch::Sender::new(Stage::Serving);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let failed = |error| StartWorkersError::Worker(index, error);
            let (cell, stages, edge) = (cell.clone(), stage.subscribe(), edge.clone());
            let (started, starting) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                runtime.block_on(async {
                    let worker = Worker::new(index, cell.load(), edge);
                    // It is new: nobody has set one.
                    let _ = worker.recorder.set(cell.traffic().recorder());
                    worker.run_after(started, cell.subscribe(), stages).await;
                });
            });
            threads.push(thread.map_err(failed)?);
            starting.recv().unwrap_or_else(|_| Err(std::io::Error::other("the thread ended"))).map_err(failed)?;
        }
        Ok(Self { threads, stage })
    }

    /// Responses carry `connection: close` from here on; everything is still accepted.
    pub fn announce_drain(&self) {
        self.stage.send_replace(Stage::Announced);
    }

    /// Another process accepts from now on, from the same sockets, which it has handles on: this one stops. What is open
    /// goes on, and clients that send requests are told to close.
    pub fn hand_over(&self) {
        self.stage.send_replace(Stage::HandedOver);
    }

    /// Closes the listeners and lets requests in flight end, for at most `limit`; then cuts what is left. Blocks: call it
    /// off the runtimes. True when nothing had to be cut.
    pub fn drain(self, limit: Duration) -> bool {
        self.stage.send_replace(Stage::Closing);
        let (done, all_done) = std::sync::mpsc::channel();
        let threads = self.threads;
        let joiner = std::thread::spawn(move || {
            for thread in threads {
                // A worker that panicked has nothing left to drain.
                let _ = thread.join();
            }
            let _ = done.send(());
        });
        let in_time = all_done.recv_timeout(limit).is_ok();
        if !in_time {
            self.stage.send_replace(Stage::Over);
        }
        let _ = joiner.join();
        in_time
    }
}

/// The channel on which a worker says that it serves.
pub(crate) type Started = std::sync::mpsc::SyncSender<Result<(), std::io::Error>>;

impl Worker {
    async fn run_after(
        self: std::rc::Rc<Self>,
        started: Started,
        snapshots: watch::Receiver<Arc<crate::snapshot::Snapshot>>,
        stage: watch::Receiver<Stage>,
    ) {
        self.clone().begin(&snapshots);
        let _ = started.send(Ok(()));
        self.run(snapshots, stage).await;
    }
}

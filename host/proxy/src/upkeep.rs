//! What must happen to clusters without a request: endpoints come back, warm-up ends, hash tables are made anew after an
//! ejection. One thread for the process, which sleeps until something is due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use crate::clock;
use crate::cluster::ClusterState;

/// A cluster to look after, and when by [`clock::now_ms`].
struct Job {
    due_ms: u64,
    cluster: Weak<ClusterState>,
}

/// None when the system gives no thread: then what is due now is done by the caller, and the rest when endpoints change.
static JOBS: LazyLock<Option<Sender<Job>>> = LazyLock::new(|| {
    let (sender, jobs) = mpsc::channel();
    let thread = std::thread::Builder::new().name("upkeep".to_owned());
    thread.spawn(move || run(&jobs)).ok().map(|_| sender)
});

/// Has the cluster's plan renewed at that time, off the workers.
pub(crate) fn renew_at(due_ms: u64, cluster: &Arc<ClusterState>) {
    let job = Job { due_ms, cluster: Arc::downgrade(cluster) };
    let sent = JOBS.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
    if !sent && due_ms <= clock::now_ms() {
        cluster.renew_plan();
    }
}

fn run(jobs: &mpsc::Receiver<Job>) {
    let mut waiting: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let mut clusters = std::collections::HashMap::new();
    let mut number = 0;
    loop {
        let now = clock::now_ms();
        while let Some(Reverse((due, id))) = waiting.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            waiting.pop();
            let cluster: Option<Weak<ClusterState>> = clusters.remove(&id);
            if let Some(cluster) = cluster.and_then(|cluster| cluster.upgrade()) {
                tracing::debug!(cluster = %cluster.name, due, "plan renewed");
                cluster.renew_plan();
            }
        }
        let next = waiting.peek().map_or(u64::MAX, |Reverse((due, _))| due.saturating_sub(clock::now_ms()));
        match jobs.recv_timeout(Duration::from_millis(next.min(3_600_000))) {
            Ok(job) => {
                number += 1;
                waiting.push(Reverse((job.due_ms, number)));
                clusters.insert(number, job.cluster);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

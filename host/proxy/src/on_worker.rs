//! [`OnWorker`]: runs what hyper needs beside an HTTP/2 connection on the thread of its worker.

use std::future::Future;

use tokio::task::spawn_local;

/// hyper's executor.
#[derive(Clone, Copy)]
pub(crate) struct OnWorker;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

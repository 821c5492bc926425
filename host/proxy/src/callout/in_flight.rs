//! [`InFlight`]: the tasks that carry out a plugin's callouts; they end with the VM that has asked for them.

use std::cell::RefCell;
use std::collections::HashMap;

use portolan_wasm::GrpcSend;
use tokio::task::AbortHandle;

use super::frames::Sends;

/// By id. Dropping it, or a task's place in it, ends the task.
#[derive(Default)]
pub(crate) struct InFlight {
    tasks: RefCell<HashMap<u32, Task>>,
}

struct Task {
    incarnation: u32,
    abort: AbortHandle,
    /// Where the messages of a gRPC stream go; none once the filter has ended its side.
    sends: Option<Sends>,
}

impl InFlight {
    pub(super) fn add(&self, id: u32, incarnation: u32, abort: AbortHandle, sends: Option<Sends>) {
        // A task runs only after this, so it cannot have ended before it stands here.
        self.tasks.borrow_mut().insert(id, Task { incarnation, abort, sends });
    }

    /// The task is about to end by itself.
    pub(super) fn remove(&self, id: u32, incarnation: u32) {
        let mut tasks = self.tasks.borrow_mut();
        if tasks.get(&id).is_some_and(|task| task.incarnation == incarnation) {
            tasks.remove(&id);
        }
    }

    /// One more message on a gRPC stream; nothing happens when its peer has ended it.
    pub(super) fn send(&self, send: GrpcSend) {
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(&send.id) else { return };
        let end = send.end;
        if let Some(sends) = &task.sends {
            // A stream that has just broken drops its queue; its end is on its way to the filter.
            let _ = sends.send(send);
        }
        if end {
            task.sends = None;
        }
    }

    /// Ends the filter's side of a gRPC stream.
    pub(super) fn close(&self, id: u32) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(&id) {
            task.sends = None;
        }
    }

    /// Gives a callout up.
    pub(super) fn cancel(&self, id: u32) {
        if let Some(task) = self.tasks.borrow_mut().remove(&id) {
            task.abort.abort();
        }
    }

    /// Gives all of them up: their VM is gone.
    pub(crate) fn clear(&self) {
        for (_, task) in self.tasks.take() {
            task.abort.abort();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.clear();
    }
}

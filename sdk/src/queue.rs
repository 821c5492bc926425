//! [`Queue`]: messages between the VMs of a plugin, or of different plugins.

use crate::HostError;
use crate::raw::calls;
use crate::raw::scratch::Callback;

/// A queue of the host: each message is taken once, by whoever is first. Bounded: in Portolan 10,000 messages and
/// 16 MiB for each VM id.
///
/// ```
/// use std::cell::RefCell;
/// use portolan_sdk::prelude::*;
/// use portolan_sdk::Queue;
///
/// /// Notes each path; one VM at a time writes the notes down.
/// struct Audit {
///     notes: Queue,
///     written: RefCell<Vec<Vec<u8>>>,
/// }
///
/// impl Filter for Audit {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self { notes: Queue::register("notes")?, written: RefCell::default() })
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         self.notes.push(request.path()?)?;
///         Ok(Action::Continue)
///     }
///
///     fn on_queue_ready(&self, queue: Queue) -> Result<(), HostError> {
///         while let Some(note) = queue.pop()? {
///             self.written.borrow_mut().push(note);
///         }
///         Ok(())
///     }
/// }
///
/// portolan_sdk::filter! { Audit: on_request_headers, on_queue_ready }
///
/// let host = portolan_sdk::testing::TestHost::<Audit>::start("").expect("any configuration will do");
/// host.stream().request_headers(&[(":path", "/secret")]);
/// assert_eq!(host.queue("notes"), [b"/secret"]);
/// host.queue_ready("notes");
/// assert_eq!(host.queue("notes"), [[0_u8; 0]; 0], "taken");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    id: u32,
}

impl Queue {
    pub(crate) fn of(id: u32) -> Self {
        Self { id }
    }

    /// Makes a queue, or finds the one of this name; from now on this VM hears in
    /// [`on_queue_ready`](crate::Filter::on_queue_ready) when it holds something.
    pub fn register(name: &str) -> Result<Self, HostError> {
        calls::register_queue(name).map(Self::of)
    }

    /// A queue that a VM with this id has registered (an empty one means the own); none when nobody has.
    pub fn find(vm_id: &str, name: &str) -> Result<Option<Self>, HostError> {
        Ok(calls::resolve_queue(vm_id, name)?.map(Self::of))
    }

    /// Adds a message.
    pub fn push(self, message: &[u8]) -> Result<(), HostError> {
        calls::enqueue(self.id, message)
    }

    /// Takes the oldest message; none when the queue is empty.
    pub fn pop(self) -> Result<Option<Vec<u8>>, HostError> {
        let _callback = Callback::enter();
        Ok(calls::dequeue(self.id)?.map(<[u8]>::to_vec))
    }
}

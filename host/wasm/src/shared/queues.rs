//! `SharedQueues`: named queues between VMs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::abi::Status;
use crate::context::VmToken;

/// Most queues of one VM id.
const MAX_QUEUES: usize = 1_000;

/// Most entries of one queue.
const MAX_ENTRIES: usize = 10_000;

/// What an entry costs beside its bytes.
const ENTRY_COST: usize = 64;

/// All queues. An id is the queue's place in the list plus 1: queues are never taken away.
#[derive(Default)]
pub(crate) struct SharedQueues {
    queues: Mutex<Queues>,
}

#[derive(Default)]
struct Queues {
    list: Vec<Queue>,
    /// Bytes of all entries by VM id: what waits for one filter takes nothing from the others.
    totals: HashMap<String, usize>,
}

struct Queue {
    vm_id: String,
    name: Box<[u8]>,
    /// Most bytes of all queues of the VM id.
    limit: usize,
    entries: VecDeque<Bytes>,
    /// The VM that hears of entries: the last one that registered the queue.
    listener: Option<(VmToken, Waker)>,
    /// Entries that it has not heard of.
    notices: usize,
}

impl SharedQueues {
    /// The id of the queue with this name, which is made when it is not there. None when there are too many. All queues of
    /// the VM id hold at most `limit` bytes, whoever fills them.
    pub(crate) fn register(&self, vm_id: &str, name: &[u8], limit: usize) -> Option<u32> {
        let mut queues = self.lock();
        if let Some(id) = queues.find(vm_id, name) {
            if let Some(queue) = queues.at(id) {
                queue.limit = limit;
            }
            return Some(id);
        }
        if queues.list.iter().filter(|queue| queue.vm_id == vm_id).count() == MAX_QUEUES {
            return None;
        }
        queues.list.push(Queue {
            vm_id: vm_id.to_owned(),
            name: name.into(),
            limit,
            entries: VecDeque::new(),
            listener: None,
            notices: 0,
        });
        Some(queues.list.len() as u32)
    }

    /// The id of the queue with this name, if it is there.
    pub(crate) fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.lock().find(vm_id, name)
    }

    /// Adds an entry at the end.
    pub(crate) fn enqueue(&self, id: u32, value: &[u8]) -> Status {
        let mut queues = self.lock();
        let Some((vm_id, limit)) = queues.at(id).map(|queue| (queue.vm_id.clone(), queue.limit)) else {
            return Status::NotFound;
        };
        let total = queues.totals.get(&vm_id).copied().unwrap_or(0) + value.len() + ENTRY_COST;
        let Some(queue) = queues.at(id).filter(|queue| total <= limit && queue.entries.len() < MAX_ENTRIES) else {
            return Status::InternalFailure;
        };
        queue.entries.push_back(Bytes::copy_from_slice(value));
        queue.notices = (queue.notices + 1).min(MAX_ENTRIES);
        let waker = queue.listener.as_ref().map(|(_, waker)| waker.clone());
        queues.totals.insert(vm_id, total);
        drop(queues);
        if let Some(waker) = waker {
            waker.wake();
        }
        Status::Ok
    }

    /// Takes the oldest entry.
    pub(crate) fn dequeue(&self, id: u32) -> Result<Bytes, Status> {
        let mut queues = self.lock();
        let queue = queues.at(id).ok_or(Status::NotFound)?;
        let value = queue.entries.pop_front().ok_or(Status::Empty)?;
        let vm_id = queue.vm_id.clone();
        if let Some(total) = queues.totals.get_mut(&vm_id) {
            *total -= value.len() + ENTRY_COST;
        }
        Ok(value)
    }

    /// Makes this VM the one that hears of entries, and wakes it when some came already.
    pub(crate) fn listen(&self, id: u32, token: VmToken, waker: &Waker) {
        let mut queues = self.lock();
        let Some(queue) = queues.at(id) else { return };
        queue.listener = Some((token, waker.clone()));
        if queue.notices > 0 {
            waker.wake_by_ref();
        }
    }

    /// True for the VM that hears, once for each entry that came.
    pub(crate) fn take_notice(&self, id: u32, token: VmToken) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.at(id) else { return false };
        let hears = queue.notices > 0 && queue.listener.as_ref().is_some_and(|(listener, _)| *listener == token);
        queue.notices -= usize::from(hears);
        hears
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queues {
    fn find(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        let index = self.list.iter().position(|queue| queue.vm_id == vm_id && *queue.name == *name)?;
        Some(index as u32 + 1)
    }

    fn at(&mut self, id: u32) -> Option<&mut Queue> {
        self.list.get_mut(id.checked_sub(1)? as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16 * 1024 * 1024;

    #[test]
    fn a_queue_is_first_in_first_out_and_found_by_name() {
        let queues = SharedQueues::default();
        let id = queues.register("vm", b"q", LIMIT).unwrap_or_default();
        assert_eq!(queues.register("vm", b"q", LIMIT), Some(id));
        assert_eq!(queues.resolve("vm", b"q"), Some(id));
        assert_eq!(queues.resolve("other", b"q"), None);
        assert_eq!(queues.enqueue(id, b"1"), Status::Ok);
        assert_eq!(queues.enqueue(id, b"2"), Status::Ok);
        assert_eq!(queues.dequeue(id), Ok(Bytes::from_static(b"1")));
        assert_eq!(queues.dequeue(id), Ok(Bytes::from_static(b"2")));
        assert_eq!(queues.dequeue(id), Err(Status::Empty));
        assert_eq!(queues.dequeue(0), Err(Status::NotFound));
        assert_eq!(queues.enqueue(99, b""), Status::NotFound);
    }

    #[test]
    fn the_last_vm_that_listens_hears_of_each_entry_once() {
        let queues = SharedQueues::default();
        let id = queues.register("vm", b"q", LIMIT).unwrap_or_default();
        let (first, last) = (VmToken::next(), VmToken::next());
        queues.listen(id, first, Waker::noop());
        queues.listen(id, last, Waker::noop());
        assert_eq!(queues.enqueue(id, b"1"), Status::Ok);
        assert!(!queues.take_notice(id, first));
        assert!(queues.take_notice(id, last));
        assert!(!queues.take_notice(id, last));
    }

    #[test]
    fn entries_are_bounded() {
        let queues = SharedQueues::default();
        let id = queues.register("vm", b"q", LIMIT).unwrap_or_default();
        assert!((0..MAX_ENTRIES).all(|_| queues.enqueue(id, b"") == Status::Ok));
        assert_eq!(queues.enqueue(id, b""), Status::InternalFailure);
        let other = queues.register("vm", b"r", LIMIT).unwrap_or_default();
        assert_eq!(queues.enqueue(other, &vec![0; LIMIT]), Status::InternalFailure);
        let of_another = queues.register("other", b"q", LIMIT).unwrap_or_default();
        assert_eq!(queues.enqueue(of_another, &vec![0; LIMIT - ENTRY_COST]), Status::Ok, "its room is its own");
    }
}

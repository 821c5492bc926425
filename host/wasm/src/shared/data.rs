//! `SharedData`: keys and values of one VM id, with compare-and-swap.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::abi::Status;

/// Longest value in bytes.
pub(crate) const MAX_VALUE: usize = 1024 * 1024;

/// What an entry costs beside its bytes; else empty values could fill the host's memory.
const ENTRY_COST: usize = 128;

const SHARDS: usize = 16;

type Shard = HashMap<Box<[u8]>, Entry>;

struct Entry {
    value: Box<[u8]>,
    cas: u32,
}

/// Shared keys and values. Workers meet at a sixteenth of the keys at most.
#[derive(Default)]
pub(crate) struct SharedData {
    shards: [Mutex<Shard>; SHARDS],
    /// The last CAS number given.
    cas: AtomicU32,
    /// Bytes in use by VM id: what one filter keeps takes nothing from the others.
    totals: Mutex<HashMap<Box<str>, usize>>,
}

impl SharedData {
    /// Appends the value to `out`; its CAS number, which is never 0.
    pub(crate) fn read(&self, vm_id: &str, key: &[u8], out: &mut Vec<u8>) -> Option<u32> {
        let key = FullKey::new(vm_id, key);
        self.with_shard(&key, |shard| {
            let entry = shard.get(&*key)?;
            out.extend_from_slice(&entry.value);
            Some(entry.cas)
        })
    }

    /// Writes a value. `cas` 0 always overwrites; any other must be the key's own, when the key is there. All keys and
    /// values of the VM id take at most `limit` bytes.
    pub(crate) fn set(&self, vm_id: &str, key: &[u8], value: &[u8], cas: u32, limit: usize) -> Status {
        if value.len() > MAX_VALUE {
            return Status::BadArgument;
        }
        let key = FullKey::new(vm_id, key);
        self.with_shard(&key, |shard| {
            let old = shard.get_mut(&*key);
            if old.as_ref().is_some_and(|entry| cas != 0 && cas != entry.cas) {
                return Status::CasMismatch;
            }
            let freed = old.as_ref().map_or(0, |entry| cost(&key, &entry.value));
            if !self.reserve(vm_id, cost(&key, value), freed, limit) {
                return Status::InternalFailure;
            }
            let cas = self.next_cas();
            match old {
                // Counters and tables keep their size: no allocation for them.
                Some(entry) if entry.value.len() == value.len() => {
                    entry.value.copy_from_slice(value);
                    entry.cas = cas;
                }
                _ => drop(shard.insert((*key).into(), Entry { value: value.into(), cas })),
            }
            Status::Ok
        })
    }

    fn with_shard<R>(&self, key: &[u8], run: impl FnOnce(&mut Shard) -> R) -> R {
        // Only who waits for whom depends on it: a sum will do.
        let index =
            key.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte))) % SHARDS;
        run(&mut self.shards[index].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a value in place of another; false when that goes over the limit.
    fn reserve(&self, vm_id: &str, needed: usize, freed: usize, limit: usize) -> bool {
        if needed == freed {
            return true;
        }
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.get(vm_id).copied().unwrap_or(0);
        let after = total.saturating_sub(freed).saturating_add(needed);
        if after > limit {
            return false;
        }
        totals.insert(vm_id.into(), after);
        true
    }

    fn next_cas(&self) -> u32 {
        match self.cas.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
            0 => self.next_cas(),
            cas => cas,
        }
    }
}

/// VM id and key as one: a VM id with a NUL in it cannot reach into another one's keys, since its length leads. Short ones,
/// which nearly all are, need no allocation.
enum FullKey {
    Short([u8; 128], usize),
    Long(Vec<u8>),
}

impl FullKey {
    fn new(vm_id: &str, key: &[u8]) -> Self {
        let length = vm_id.len().to_le_bytes();
        let parts = [&length[..], vm_id.as_bytes(), key];
        let mut short = [0; 128];
        let mut end = 0;
        for part in parts {
            let Some(place) = short.get_mut(end..end + part.len()) else { return Self::Long(parts.concat()) };
            place.copy_from_slice(part);
            end += part.len();
        }
        Self::Short(short, end)
    }
}

impl Deref for FullKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(bytes, end) => &bytes[..*end],
            Self::Long(bytes) => bytes,
        }
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_COST
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 16 * 1024 * 1024;

    impl SharedData {
        fn value(&self, vm_id: &str, key: &[u8]) -> Option<(Vec<u8>, u32)> {
            let mut value = Vec::new();
            self.read(vm_id, key, &mut value).map(|cas| (value, cas))
        }
    }

    #[test]
    fn compare_and_swap_refuses_a_stale_number() {
        let data = SharedData::default();
        assert_eq!(data.value("vm", b"k"), None);
        assert_eq!(data.set("vm", b"k", b"1", 77, LIMIT), Status::Ok);
        let (value, cas) = data.value("vm", b"k").unwrap_or_default();
        assert_eq!(value, b"1");
        assert_ne!(cas, 0);
        assert_eq!(data.set("vm", b"k", b"2", cas, LIMIT), Status::Ok);
        assert_eq!(data.set("vm", b"k", b"3", cas, LIMIT), Status::CasMismatch);
        assert_eq!(data.set("vm", b"k", b"4", 0, LIMIT), Status::Ok);
        assert_eq!(data.value("vm", b"k").map(|(value, _)| value), Some(b"4".to_vec()));
    }

    #[test]
    fn keys_of_another_vm_id_are_out_of_reach() {
        let data = SharedData::default();
        assert_eq!(data.set("a", b"bk", b"1", 0, LIMIT), Status::Ok);
        assert_eq!(data.value("ab", b"k"), None);
    }

    #[test]
    fn long_keys_are_keys_like_short_ones() {
        let data = SharedData::default();
        for length in [0, 1, 117, 118, 119, 500] {
            let key = vec![b'k'; length];
            assert_eq!(data.set("vm", &key, &[7; 3], 0, LIMIT), Status::Ok);
            assert_eq!(data.set("vm", &key, &[length as u8; 3], 0, LIMIT), Status::Ok);
        }
        for length in [0, 1, 117, 118, 119, 500] {
            let found = data.value("vm", &vec![b'k'; length]).map(|(value, _)| value);
            assert_eq!(found, Some(vec![length as u8; 3]), "{length}");
        }
    }

    #[test]
    fn values_and_their_sum_are_bounded() {
        let data = SharedData::default();
        assert_eq!(data.set("vm", b"k", &vec![0; MAX_VALUE + 1], 0, LIMIT), Status::BadArgument);
        let big = vec![0; MAX_VALUE];
        let set = |number: u8| data.set("vm", &[number], &big, 0, LIMIT);
        assert!((0..15).all(|number| set(number) == Status::Ok));
        assert_eq!(set(15), Status::InternalFailure);
        assert_eq!(set(3), Status::Ok, "replacing needs no more room");
        assert_eq!(data.set("vm", &[3], b"", 0, LIMIT), Status::Ok);
        assert_eq!(set(15), Status::Ok, "the room of a replaced value is free again");
        assert_eq!(set(16), Status::InternalFailure);
        assert_eq!(data.set("other", b"k", &big, 0, LIMIT), Status::Ok, "another filter has room of its own");
    }
}

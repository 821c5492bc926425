//! [`Cache`]: the passwords that were right, so that each request does not pay for a hash made to be slow.
//!
//! Only a keyed hash of name and password is kept, under a key that no other VM has and that ends with this one.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Most entries; the oldest makes room.
const MAX_ENTRIES: usize = 1_024;

/// What a pair of name and password is known by.
pub(crate) type Key = [u8; 32];

/// Pairs that were verified.
pub(crate) struct Cache {
    secret: Key,
    /// In nanoseconds.
    ttl: u64,
    entries: RefCell<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Until when each counts.
    until: HashMap<Key, u64>,
    /// As they came.
    order: VecDeque<Key>,
}

impl Cache {
    pub(crate) fn new(ttl: Duration) -> Self {
        let random = RandomState::new();
        let mut secret = Key::default();
        for (place, part) in secret.chunks_exact_mut(8).enumerate() {
            part.copy_from_slice(&random.hash_one(place).to_le_bytes());
        }
        Self { secret, ttl: ttl.as_nanos() as u64, entries: RefCell::default() }
    }

    /// The key of a pair.
    pub(crate) fn key(&self, name: &[u8], password: &[u8]) -> Key {
        let length = (name.len() as u64).to_le_bytes();
        let hash = Sha256::new().chain_update(self.secret).chain_update(length).chain_update(name);
        hash.chain_update(password).finalize().into()
    }

    /// True when this pair was right not long ago.
    pub(crate) fn knows(&self, key: &Key, now: u64) -> bool {
        // Further ahead than it can be: the clock was set back.
        let entries = self.entries.borrow();
        entries.until.get(key).is_some_and(|until| *until > now && *until - now <= self.ttl)
    }

    /// Remembers a pair that was right.
    pub(crate) fn remember(&self, key: Key, now: u64) {
        if self.ttl == 0 {
            return;
        }
        let mut entries = self.entries.borrow_mut();
        if entries.until.insert(key, now.saturating_add(self.ttl)).is_none() {
            entries.order.push_back(key);
        }
        if entries.order.len() > MAX_ENTRIES
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.until.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_known_for_a_while() {
        let cache = Cache::new(Duration::from_nanos(100));
        let key = cache.key(b"alice", b"secret");
        assert!(!cache.knows(&key, 1_000));
        cache.remember(key, 1_000);
        assert!(cache.knows(&key, 1_000) && cache.knows(&key, 1_099));
        assert!(!cache.knows(&key, 1_100), "over");
        assert!(!cache.knows(&key, 1), "a clock that was set back");
        cache.remember(key, 2_000);
        assert!(cache.knows(&key, 2_050), "anew");
    }

    #[test]
    fn name_and_password_do_not_flow_into_each_other() {
        let cache = Cache::new(Duration::from_secs(1));
        assert_ne!(cache.key(b"a", b"bc"), cache.key(b"ab", b"c"));
        assert_ne!(cache.key(b"a", b"b"), Cache::new(Duration::from_secs(1)).key(b"a", b"b"), "keyed");
    }

    #[test]
    fn the_oldest_makes_room() {
        let cache = Cache::new(Duration::from_secs(1));
        let key = |number: usize| cache.key(b"a", &number.to_le_bytes());
        for number in 0..=MAX_ENTRIES {
            cache.remember(key(number), 0);
        }
        assert!(!cache.knows(&key(0), 0) && cache.knows(&key(1), 0) && cache.knows(&key(MAX_ENTRIES), 0));
        assert_eq!(cache.entries.borrow().until.len(), MAX_ENTRIES);
    }

    #[test]
    fn without_a_time_nothing_is_kept() {
        let cache = Cache::new(Duration::ZERO);
        let key = cache.key(b"a", b"b");
        cache.remember(key, 5);
        assert!(!cache.knows(&key, 5));
    }
}

//! [`Numbered`]: labels of metrics by number, so that counting a request compares numbers. A number means the same for as long
//! as the process runs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

/// Numbers that are given out at most; what comes then counts as nothing.
const MAX_NUMBERS: usize = 65_536;

/// What is known by number.
pub(crate) struct Numbered<K, V>(RwLock<Known<K, V>>);

struct Known<K, V> {
    numbers: HashMap<K, u32>,
    /// That of number 1 first.
    all: Vec<Arc<V>>,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Self {
        Self(RwLock::new(Known { numbers: HashMap::new(), all: Vec::new() }))
    }
}

impl<K: Clone + Eq + Hash, V> Numbered<K, V> {
    /// The number of this key; 0 when there are no more numbers.
    pub(crate) fn number(&self, key: &K, make: impl FnOnce(&K) -> V) -> u32 {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).numbers.get(key).copied();
        known.unwrap_or_else(|| self.0.write().unwrap_or_else(PoisonError::into_inner).add(key, make))
    }

    /// What has this number; nothing has 0.
    pub(crate) fn of(&self, number: u32) -> Option<Arc<V>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.all.get((number as usize).checked_sub(1)?).cloned()
    }
}

impl<K: Clone + Eq + Hash, V> Known<K, V> {
    fn add(&mut self, key: &K, make: impl FnOnce(&K) -> V) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        if self.all.len() >= MAX_NUMBERS {
            return 0;
        }
        self.all.push(Arc::new(make(key)));
        let number = u32::try_from(self.all.len()).unwrap_or(0);
        self.numbers.insert(key.clone(), number);
        number
    }
}

//! A cheap hash. Only the configuration writes to the maps that use it, so nobody can aim collisions at them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by bytes.
pub(crate) type ByteMap<T> = HashMap<Box<[u8]>, T, BuildHasherDefault<WordHasher>>;

/// Multiplies and rotates, eight bytes at a time.
#[derive(Default)]
pub(crate) struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0xf135_7aea_2e62_a9c5);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.add(u64::from_le_bytes(*word)));
        self.add(rest.iter().fold(rest.len() as u64, |word, byte| word << 8 | u64::from(*byte)));
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    /// The map takes its bits from both ends.
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

//! [`Slot`]: a few keys and their times, as one value of the host's shared data.
//!
//! Fingerprints come first and then the times, in the same order: a look-up reads what lies together.

/// Most keys of a slot.
pub(crate) const ENTRIES: usize = 64;

const FINGERPRINT: usize = size_of::<u32>();
const TIME: usize = size_of::<u64>();
const ENTRY: usize = FINGERPRINT + TIME;

/// A slot's bytes. Any bytes are one; what is not a whole entry does not count.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    bytes: Vec<u8>,
}

impl Slot {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn len(&self) -> usize {
        self.bytes.len() / ENTRY
    }

    /// The place of a key.
    pub(crate) fn find(&self, fingerprint: u32) -> Option<usize> {
        let (known, _) = self.bytes[..self.len() * FINGERPRINT].as_chunks::<FINGERPRINT>();
        known.iter().position(|known| u32::from_le_bytes(*known) == fingerprint)
    }

    fn times(&self) -> impl Iterator<Item = u64> {
        let (times, _) = self.bytes[self.len() * FINGERPRINT..].as_chunks::<TIME>();
        times.iter().take(self.len()).map(|time| u64::from_le_bytes(*time))
    }

    /// The time at a place; 0 where there is none.
    pub(crate) fn time(&self, place: usize) -> u64 {
        let start = self.len() * FINGERPRINT + place * TIME;
        let bytes = self.bytes.get(start..start + TIME).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    pub(crate) fn set_time(&mut self, place: usize, time: u64) {
        let start = self.len() * FINGERPRINT + place * TIME;
        if let Some(bytes) = self.bytes.get_mut(start..start + TIME) {
            bytes.copy_from_slice(&time.to_le_bytes());
        }
    }

    /// Adds a key, in the place of one whose bucket is full again if there is one. True when the slot had no room: the
    /// key whose bucket would have been full first is forgotten then. Those who are being refused are so last.
    pub(crate) fn insert(&mut self, fingerprint: u32, time: u64, now: u64) -> bool {
        let oldest = self.times().enumerate().map(|(place, time)| (time, place)).min();
        match oldest {
            Some((oldest, place)) if oldest <= now || self.len() >= ENTRIES => {
                let start = place * FINGERPRINT;
                self.bytes[start..start + FINGERPRINT].copy_from_slice(&fingerprint.to_le_bytes());
                self.set_time(place, time);
                oldest > now
            }
            _ => {
                self.grow(fingerprint, time);
                false
            }
        }
    }

    fn grow(&mut self, fingerprint: u32, time: u64) {
        let count = self.len();
        let (fingerprints, times) = self.bytes[..count * ENTRY].split_at(count * FINGERPRINT);
        let mut bytes = Vec::with_capacity((count + 1) * ENTRY);
        bytes.extend_from_slice(fingerprints);
        bytes.extend_from_slice(&fingerprint.to_le_bytes());
        bytes.extend_from_slice(times);
        bytes.extend_from_slice(&time.to_le_bytes());
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_found_again() {
        let mut slot = Slot::default();
        assert_eq!(slot.find(7), None);
        for key in 0..10 {
            assert!(!slot.insert(key, 100 + u64::from(key), 0));
        }
        let place = slot.find(7).expect("just put there");
        assert_eq!(slot.time(place), 107);
        slot.set_time(place, 200);
        let slot = Slot::new(slot.bytes().to_vec());
        assert_eq!(slot.time(slot.find(7).expect("it was there")), 200);
        assert_eq!(slot.bytes().len(), 10 * ENTRY);
    }

    #[test]
    fn a_key_whose_bucket_is_full_again_makes_room() {
        let mut slot = Slot::default();
        for key in 0..10 {
            slot.insert(key, 100 + u64::from(key), 0);
        }
        assert!(!slot.insert(99, 300, 100), "nothing is lost");
        assert_eq!((slot.find(0), slot.bytes().len()), (None, 10 * ENTRY));
    }

    #[test]
    fn the_key_that_would_be_full_first_is_forgotten() {
        let mut slot = Slot::default();
        for key in 0..ENTRIES as u32 {
            slot.insert(key, 1_000 - u64::from(key), 0);
        }
        assert!(slot.insert(99, 2_000, 0));
        assert_eq!(slot.find(ENTRIES as u32 - 1), None, "the one with the smallest time");
        assert!(slot.find(0).is_some() && slot.find(99).is_some());
        assert_eq!(slot.bytes().len(), ENTRIES * ENTRY);
    }

    proptest! {
        #[test]
        fn a_slot_does_what_a_map_does(keys in proptest::collection::vec((0..50_u32, 1..1000_u64), 0..200)) {
            let (mut slot, mut map) = (Slot::default(), HashMap::new());
            for (key, time) in keys {
                map.insert(key, time);
                match slot.find(key) {
                    Some(place) => slot.set_time(place, time),
                    None => prop_assert!(!slot.insert(key, time, 0)),
                }
                for (key, time) in &map {
                    prop_assert_eq!(slot.find(*key).map(|place| slot.time(place)), Some(*time));
                }
            }
        }

        #[test]
        fn any_bytes_are_a_slot(bytes: Vec<u8>, key: u32, now: u64) {
            let mut slot = Slot::new(bytes);
            slot.find(key).map(|place| slot.time(place));
            slot.insert(key, 5, now);
            prop_assert!(slot.find(key).is_some());
        }
    }
}

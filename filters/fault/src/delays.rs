//! [`Delays`]: requests that wait, by the time at which they go on.

use std::collections::BTreeMap;
use std::time::Duration;

/// Waiting things; `T` is a request and what becomes of it.
#[derive(Debug)]
pub struct Delays<T> {
    /// By nanoseconds since 1970, then by the order in which they came.
    waiting: BTreeMap<(u64, u64), T>,
    count: u64,
}

impl<T> Delays<T> {
    /// Nobody waits.
    pub fn new() -> Self {
        Self { waiting: BTreeMap::new(), count: 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Puts one in; true when it is the one that goes on first.
    pub fn put(&mut self, now: u64, delay: Duration, waiting: T) -> bool {
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        self.count += 1;
        let key = (now.saturating_add(delay), self.count);
        self.waiting.insert(key, waiting);
        self.waiting.first_key_value().is_some_and(|(first, _)| *first == key)
    }

    /// Takes out who has waited long enough, longest first.
    pub fn due(&mut self, now: u64) -> Vec<T> {
        let later = self.waiting.split_off(&(now.saturating_add(1), 0));
        std::mem::replace(&mut self.waiting, later).into_values().collect()
    }

    /// How long until the next one; none when nobody waits.
    pub fn next(&self, now: u64) -> Option<Duration> {
        let ((due, _), _) = self.waiting.first_key_value()?;
        Some(Duration::from_nanos(due.saturating_sub(now)))
    }
}

impl<T> Default for Delays<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_waited_long_enough_goes_in_order() {
        let mut delays = Delays::new();
        assert_eq!(delays.next(0), None);
        assert!(delays.put(100, Duration::from_nanos(50), "b"));
        assert!(!delays.put(110, Duration::from_nanos(40), "c"));
        assert!(delays.put(120, Duration::from_nanos(20), "a"));
        assert_eq!(delays.next(130), Some(Duration::from_nanos(10)));
        assert!(delays.due(139).is_empty());
        assert_eq!(delays.due(150), ["a", "b", "c"]);
        assert_eq!(delays.next(150), None);
    }

    #[test]
    fn a_delay_beyond_the_clock_s_end_just_waits() {
        let mut delays = Delays::new();
        delays.put(u64::MAX - 1, Duration::MAX, ());
        assert_eq!(delays.next(u64::MAX - 1), Some(Duration::from_nanos(1)));
    }
}

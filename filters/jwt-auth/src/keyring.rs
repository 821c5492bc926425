//! [`Keyring`]: the keys of one rule on one worker, and when they are fetched again.

use std::rc::Rc;

use crate::jwks::Keys;
use crate::rule::KeySource;

/// Shortest time between two fetches in milliseconds: tokens with made-up key names must not make the gateway ask its
/// issuer at their pace.
const MIN_INTERVAL: u64 = 10_000;

/// Keys, and what is known of fetching them. Times are milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: Rc<Keys>,
    /// Keys older than this are fetched again; none when they are in the configuration.
    refresh: Option<u64>,
    fetched: Option<u64>,
    tried: Option<u64>,
    /// One clone for each request that waits for a fetch of its own.
    waiting: Rc<()>,
}

impl Keyring {
    /// For a rule.
    pub fn new(source: &KeySource) -> Self {
        match source {
            KeySource::Inline(keys) => Self { keys: Rc::new(keys.clone()), ..Self::default() },
            KeySource::Remote(remote) => {
                let refresh = u64::try_from(remote.refresh.as_millis()).unwrap_or(u64::MAX);
                Self { refresh: Some(refresh), ..Self::default() }
            }
        }
    }

    /// The keys that there are; none before the first fetch.
    pub fn keys(&self) -> Rc<Keys> {
        self.keys.clone()
    }

    /// True when it is time to fetch, whoever asks.
    pub fn is_due(&self, now: u64) -> bool {
        let Some(refresh) = self.refresh else { return false };
        let is_old = self.fetched.is_none_or(|fetched| now.saturating_sub(fetched) >= refresh);
        is_old && self.may_try(now)
    }

    /// True when a token names a key that is not there, and another look is allowed.
    pub fn may_look_again(&self, now: u64) -> bool {
        self.refresh.is_some() && self.may_try(now)
    }

    fn may_try(&self, now: u64) -> bool {
        self.tried.is_none_or(|tried| now.saturating_sub(tried) >= MIN_INTERVAL)
    }

    /// Requests that wait for keys.
    pub fn waiting(&self) -> usize {
        Rc::strong_count(&self.waiting) - 1
    }

    /// A request waits for as long as it keeps this: also one that ends before the answer counts no more then.
    pub fn wait(&self) -> Rc<()> {
        self.waiting.clone()
    }

    /// A fetch begins.
    pub fn begin(&mut self, now: u64) {
        self.tried = Some(now);
    }

    /// A fetch has brought keys. True when they are others than before.
    pub fn replace(&mut self, keys: Keys, now: u64) -> bool {
        self.fetched = Some(now);
        let is_new = *self.keys != keys;
        if is_new {
            self.keys = Rc::new(keys);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::rule::RemoteKeys;

    fn keys(byte: &str) -> Keys {
        let secret = byte.repeat(43);
        Keys::read(format!(r#"{{"keys": [{{"kty": "oct", "k": "{secret}"}}]}}"#).as_bytes()).unwrap()
    }

    fn remote() -> Keyring {
        let remote = RemoteKeys::new("http://k/", None).unwrap();
        Keyring::new(&KeySource::Remote(RemoteKeys { refresh: std::time::Duration::from_secs(60), ..remote }))
    }

    #[test]
    fn keys_are_fetched_at_once_and_again_when_they_are_old() {
        let mut ring = remote();
        assert!(ring.is_due(5) && ring.keys().is_empty());
        ring.begin(5);
        assert!(!ring.is_due(6), "one is on its way");
        assert!(ring.replace(keys("A"), 100) && !ring.keys().is_empty());
        assert!(!ring.is_due(60_099) && ring.is_due(60_100));
        ring.begin(60_100);
        assert!(!ring.replace(keys("A"), 60_200), "the same keys");
        assert!(ring.replace(keys("E"), 60_300));
    }

    #[test]
    fn a_failed_fetch_keeps_the_keys_and_is_tried_again_later() {
        let mut ring = remote();
        ring.begin(0);
        ring.replace(keys("A"), 0);
        ring.begin(60_000);
        assert!(!ring.is_due(69_999) && ring.is_due(70_000) && !ring.keys().is_empty());
    }

    #[test]
    fn unknown_names_make_nobody_ask_faster_than_every_ten_seconds() {
        let mut ring = remote();
        ring.begin(0);
        ring.replace(keys("A"), 0);
        assert!(!ring.may_look_again(9_999) && ring.may_look_again(10_000));
        ring.begin(10_000);
        assert!(!ring.may_look_again(19_999));
    }

    #[test]
    fn keys_of_the_configuration_are_never_fetched() {
        let ring = Keyring::new(&KeySource::Inline(keys("A")));
        assert!(!ring.is_due(u64::MAX) && !ring.may_look_again(u64::MAX) && !ring.keys().is_empty());
    }
}

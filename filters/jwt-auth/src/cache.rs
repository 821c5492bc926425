//! [`Cache`]: tokens that were found good, so that a client which sends the same one again costs no signature.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::token::Claims;

/// Longest token that is kept, in bytes; with the number of entries this bounds the memory.
const MAX_KEPT: usize = 4 * 1024;

/// Longest time in seconds that one is believed without a new look at its signature.
const MAX_AGE: u64 = 300;

/// A token that was found good.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The rule that it fulfils.
    pub rule: usize,
    /// What it says.
    pub claims: Rc<Claims>,
    /// The middle part of the token.
    pub payload: Rc<str>,
}

/// Good tokens, the oldest first to go.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Rc<str>, (Verified, u64)>,
    order: VecDeque<Rc<str>>,
    size: usize,
}

impl Cache {
    /// Room for so many.
    pub fn new(size: usize) -> Self {
        Self { size, ..Self::default() }
    }

    /// What is known of a token at this time.
    pub fn known(&self, token: &str, now: u64) -> Option<&Verified> {
        self.entries.get(token).filter(|(_, until)| now < *until).map(|(verified, _)| verified)
    }

    /// Remembers a token until it expires, or for five minutes.
    pub fn remember(&mut self, token: &str, verified: Verified, now: u64) {
        let until = verified.claims.expires.unwrap_or(u64::MAX).min(now.saturating_add(MAX_AGE));
        if self.size == 0 || token.len() > MAX_KEPT || until <= now {
            return;
        }
        let token: Rc<str> = token.into();
        if self.entries.insert(token.clone(), (verified, until)).is_some() {
            return;
        }
        self.order.push_back(token);
        if self.order.len() > self.size
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    /// Forgets the tokens of a rule: its keys have changed, and what an old key has signed is good no more.
    pub fn forget_rule(&mut self, rule: usize) {
        self.entries.retain(|_, (verified, _)| verified.rule != rule);
        let entries = &self.entries;
        self.order.retain(|token| entries.contains_key(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(rule: usize, expires: Option<u64>) -> Verified {
        Verified { rule, claims: Rc::new(Claims { expires, ..Claims::default() }), payload: "p".into() }
    }

    #[test]
    fn a_token_is_known_until_it_expires_and_for_five_minutes_at_most() {
        let mut cache = Cache::new(10);
        cache.remember("short", verified(0, Some(110)), 100);
        cache.remember("long", verified(0, Some(10_000)), 100);
        cache.remember("endless", verified(0, None), 100);
        cache.remember("gone", verified(0, Some(100)), 100);
        let known = |token, now| cache.known(token, now).is_some();
        assert_eq!((known("short", 109), known("short", 110)), (true, false));
        assert_eq!(
            (known("long", 399), known("long", 400), known("endless", 399), known("endless", 400)),
            (true, false, true, false)
        );
        assert!(!known("gone", 100));
    }

    #[test]
    fn the_oldest_goes_and_large_ones_are_not_kept() {
        let mut cache = Cache::new(2);
        for token in ["a", "b", "b", "c"] {
            cache.remember(token, verified(0, None), 0);
        }
        cache.remember(&"x".repeat(MAX_KEPT + 1), verified(0, None), 0);
        assert!(cache.known("a", 1).is_none() && cache.known("b", 1).is_some() && cache.known("c", 1).is_some());
        assert_eq!((cache.entries.len(), cache.order.len()), (2, 2));
    }

    #[test]
    fn new_keys_make_the_rules_tokens_unknown() {
        let mut cache = Cache::new(9);
        cache.remember("a", verified(0, None), 0);
        cache.remember("b", verified(1, None), 0);
        cache.forget_rule(0);
        assert!(cache.known("a", 1).is_none() && cache.known("b", 1).is_some());
        assert_eq!(cache.order.len(), 1);
    }
}

//! [`Rare`]: a value that mostly is what it always is, and takes next to no memory then.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A type with a value that most have.
pub trait Usual: Clone + PartialEq + 'static {
    /// That value, which is the default too.
    fn usual() -> &'static Self;
}

/// A value of which only an unusual one is kept. Read as the value itself, also by serde.
#[derive(Clone, Debug)]
pub struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Rare<T> {
    /// The value itself.
    pub fn into_value(self) -> T
    where
        T: Usual,
    {
        self.0.map_or_else(|| T::usual().clone(), |value| *value)
    }

    /// True when nothing is kept.
    pub fn is_usual(&self) -> bool {
        self.0.is_none()
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::usual(),
        }
    }
}

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::usual()).then(|| Box::new(value)))
    }
}

/// What is usual is never kept, so two are the same when what is kept is.
impl<T: Usual> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Usual + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeaderOperations, RetryPolicy};

    #[test]
    fn only_what_is_unusual_is_kept() {
        assert!(Rare::from(RetryPolicy::default()).0.is_none());
        assert_eq!(*RetryPolicy::usual(), RetryPolicy::default());
        assert_eq!(*HeaderOperations::usual(), HeaderOperations::default());
        let unusual = RetryPolicy { attempts: 7, ..RetryPolicy::default() };
        assert_eq!(Rare::from(unusual).attempts, 7);
        assert_eq!(size_of::<Rare<RetryPolicy>>(), size_of::<usize>());
    }
}

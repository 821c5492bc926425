//! Values that all VMs of a plugin share: the host's shared data.
//!
//! There is one VM for each worker, so what a filter keeps in its own fields is one worker's. Shared values are locked for
//! the moment of each call; changes that depend on the old value are made with compare-and-swap, and tried again a bounded
//! number of times when another VM was faster.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::{HostError, Status};

/// How often a change is tried when others are faster.
const TRIES: u32 = 32;

/// A version that no value has: writing with it succeeds only where nothing is.
const NEVER: u32 = u32::MAX;

/// A shared value and the number to pass back when replacing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedValue {
    /// A copy of the value.
    pub bytes: Vec<u8>,
    /// Changes with each write.
    pub version: u32,
}

/// The value under `key`; none when nobody wrote it.
///
/// ```
/// # use portolan_sdk::{shared, testing::TestHost, prelude::*};
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let _host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// # fn example() -> Result<(), HostError> {
/// shared::set("visits", b"1")?;
/// let seen = shared::value("visits")?.expect("just written");
/// assert!(shared::replace("visits", b"2", seen.version)?);
/// assert!(!shared::replace("visits", b"3", seen.version)?, "it changed meanwhile");
/// assert!(!shared::create("visits", b"0")?, "it is there");
/// let after = shared::update("visits", |old| [old.unwrap_or_default(), b"!"].concat())?;
/// assert_eq!(after, b"2!");
/// # Ok(())
/// # }
/// # example().expect("the test host has shared data");
/// ```
pub fn value(key: &str) -> Result<Option<SharedValue>, HostError> {
    let _callback = Callback::enter();
    Ok(calls::shared_data(key)?.map(|(bytes, version)| SharedValue { bytes: bytes.to_vec(), version }))
}

/// Writes `value`, whatever was there.
pub fn set(key: &str, value: &[u8]) -> Result<(), HostError> {
    calls::set_shared_data(key, value, 0)
}

/// Writes `value` when `version` is still the newest; false when somebody else was faster.
pub fn replace(key: &str, value: &[u8], version: u32) -> Result<bool, HostError> {
    match calls::set_shared_data(key, value, version) {
        Ok(()) => Ok(true),
        Err(error) if error.status == Status::CasMismatch => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `value` where nothing is; false when something is there.
pub fn create(key: &str, value: &[u8]) -> Result<bool, HostError> {
    replace(key, value, NEVER)
}

/// Puts what `change` makes of the old value in its place, and returns it. `change` may run several times; after 32 times
/// that others were faster the error is [`Status::CasMismatch`].
pub fn update(key: &str, mut change: impl FnMut(Option<&[u8]>) -> Vec<u8>) -> Result<Vec<u8>, HostError> {
    for _ in 0..TRIES {
        let old = value(key)?;
        let new = change(old.as_ref().map(|old| old.bytes.as_slice()));
        if replace(key, &new, old.map_or(NEVER, |old| old.version))? {
            return Ok(new);
        }
    }
    Err(HostError { call: "shared::update", status: Status::CasMismatch })
}

/// A number that all VMs count together.
///
/// ```
/// # use portolan_sdk::{shared, testing::TestHost, prelude::*};
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let _host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// # fn example() -> Result<(), HostError> {
/// let visits = shared::Counter::new("visits");
/// assert_eq!(visits.add(2)?, 2);
/// assert_eq!(visits.add(-1)?, 1);
/// assert_eq!(visits.value()?, 1);
/// # Ok(())
/// # }
/// # example().expect("the test host has shared data");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    key: String,
}

impl Counter {
    /// The counter under this key; 0 until somebody counts.
    pub fn new(key: &str) -> Self {
        Self { key: key.to_owned() }
    }

    /// Adds, and returns the sum. It stays within 64 bits. As [`update`], it tries 32 times.
    pub fn add(&self, offset: i64) -> Result<i64, HostError> {
        let sum = update(&self.key, |old| number(old).saturating_add(offset).to_le_bytes().to_vec())?;
        Ok(number(Some(&sum)))
    }

    /// The number now.
    pub fn value(&self) -> Result<i64, HostError> {
        let _callback = Callback::enter();
        Ok(number(calls::shared_data(&self.key)?.map(|(bytes, _)| bytes)))
    }

    /// Sets the number.
    pub fn set(&self, value: i64) -> Result<(), HostError> {
        set(&self.key, &value.to_le_bytes())
    }
}

/// What is no number counts as 0.
fn number(bytes: Option<&[u8]>) -> i64 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_le_bytes)
}

/// A shared value of a type of one's own, kept as JSON.
///
/// ```
/// # use portolan_sdk::{shared, testing::TestHost, prelude::*};
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let _host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// # fn example() -> Result<(), HostError> {
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Window {
///     started: u64,
///     requests: u32,
/// }
///
/// let window = shared::Json::<Window>::new("window");
/// assert!(window.value()?.is_none());
/// let after = window.update(|window| window.requests += 1)?;
/// assert_eq!(after.requests, 1);
/// # Ok(())
/// # }
/// # example().expect("the test host has shared data");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T> {
    key: String,
    value: PhantomData<T>,
}

impl<T: Serialize + DeserializeOwned> Json<T> {
    /// The value under this key.
    pub fn new(key: &str) -> Self {
        Self { key: key.to_owned(), value: PhantomData }
    }

    /// The value now; none when nobody wrote one. Bytes that are no such value are [`Status::ParseFailure`].
    pub fn value(&self) -> Result<Option<T>, HostError> {
        let _callback = Callback::enter();
        match calls::shared_data(&self.key)? {
            Some((bytes, _)) => self.parse(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a value, whatever was there.
    pub fn set(&self, value: &T) -> Result<(), HostError> {
        set(&self.key, &self.text(value)?)
    }

    /// Changes the value, which begins as its type's default, and returns what it is then. `change` may run several times:
    /// as [`update`], it tries 32 times.
    pub fn update(&self, mut change: impl FnMut(&mut T)) -> Result<T, HostError>
    where
        T: Default,
    {
        for _ in 0..TRIES {
            let old = value(&self.key)?;
            let mut new = old.as_ref().map_or(Ok(T::default()), |old| self.parse(&old.bytes))?;
            change(&mut new);
            if replace(&self.key, &self.text(&new)?, old.map_or(NEVER, |old| old.version))? {
                return Ok(new);
            }
        }
        Err(HostError { call: "shared::Json::update", status: Status::CasMismatch })
    }

    fn parse(&self, bytes: &[u8]) -> Result<T, HostError> {
        serde_json::from_slice(bytes).map_err(|_| HostError { call: "shared::Json", status: Status::ParseFailure })
    }

    fn text(&self, value: &T) -> Result<Vec<u8>, HostError> {
        serde_json::to_vec(value).map_err(|_| HostError { call: "shared::Json", status: Status::SerializationFailure })
    }
}

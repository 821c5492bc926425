//! Values that all VMs of a plugin share: the host's shared data.

use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::{HostError, Status};

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

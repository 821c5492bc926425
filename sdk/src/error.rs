//! [`HostError`]: what callbacks return when something did not work, and [`OrFail`], which makes one of anything.

use std::fmt::{self, Display};
use std::num::{ParseFloatError, ParseIntError};
use std::str::Utf8Error;
use std::string::FromUtf8Error;

use crate::{Status, log};

/// A host function that did not do what it was asked, or another step that failed. What becomes of the request is for
/// [`ON_ERROR`](crate::Filter::ON_ERROR) to say; the text goes to the log.
///
/// `?` makes one of the standard library's parse errors and of serde_json's, too, and [`OrFail`] of any error, with its text
/// in the log.
///
/// ```
/// use portolan_sdk::{HostError, Status};
///
/// let error = HostError { call: "proxy_set_property", status: Status::BadArgument };
/// assert_eq!(error.to_string(), "proxy_set_property: bad argument");
///
/// fn number(text: &[u8]) -> Result<u32, HostError> {
///     Ok(std::str::from_utf8(text)?.parse()?)
/// }
/// assert_eq!(number(b"x").expect_err("no number").to_string(), "number: parse failure");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError {
    /// Name of the host function, or of the step.
    pub call: &'static str,
    /// Its answer.
    pub status: Status,
}

impl HostError {
    /// A step of the filter's own that failed.
    pub fn new(step: &'static str, status: Status) -> Self {
        Self { call: step, status }
    }
}

impl Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        f.write_str(": ")?;
        f.write_str(self.status.as_str())
    }
}

impl std::error::Error for HostError {}

macro_rules! parse_failure {
    ($($error:ty: $step:literal,)*) => {
        $(
            impl From<$error> for HostError {
                fn from(_: $error) -> Self {
                    Self::new($step, Status::ParseFailure)
                }
            }
        )*
    };
}

parse_failure! {
    Utf8Error: "UTF-8",
    FromUtf8Error: "UTF-8",
    ParseIntError: "number",
    ParseFloatError: "number",
    serde_json::Error: "JSON",
}

/// Turns what a step gave into a value, or an error of a callback that names the step.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let host = portolan_sdk::testing::TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// fn ages(json: &str) -> Result<u32, HostError> {
///     let ages: Vec<u32> = serde_json::from_str(json).or_fail("ages")?;
///     ages.first().copied().or_fail("first age")
/// }
///
/// assert_eq!(ages("[7]"), Ok(7));
/// assert_eq!(ages("[]").expect_err("none").to_string(), "first age: not found");
/// assert_eq!(ages("7").expect_err("no list").to_string(), "ages: parse failure");
/// assert_eq!(host.logs()[0].1, "ages: invalid type: integer `7`, expected a sequence at line 1 column 1");
/// ```
pub trait OrFail<T> {
    /// The value. An error's text is logged at level warn and becomes [`Status::ParseFailure`]; nothing is
    /// [`Status::NotFound`].
    fn or_fail(self, step: &'static str) -> Result<T, HostError>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, step: &'static str) -> Result<T, HostError> {
        self.map_err(|error| {
            log::warn(&[step, ": ", &error.to_string()].concat());
            HostError::new(step, Status::ParseFailure)
        })
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_fail(self, step: &'static str) -> Result<T, HostError> {
        self.ok_or(HostError::new(step, Status::NotFound))
    }
}

//! [`PathPolicy`]: how request paths are made canonical, and what becomes of those that others may read otherwise.

use serde::{Deserialize, Serialize};

/// Of all listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathPolicy {
    /// `meshConfig.pathNormalization`.
    pub normalization: PathNormalization,
    /// A request is refused when a lenient reader would see another path that another rule is for. Portolan's own.
    pub refuse_ambiguous: bool,
}

impl Default for PathPolicy {
    fn default() -> Self {
        Self { normalization: PathNormalization::default(), refuse_ambiguous: true }
    }
}

impl PathPolicy {
    /// True for the default, which model dumps leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Istio's modes; each does what the one before does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// The path as it came.
    None,
    /// Dot segments, also percent-encoded, backslashes and percent-encoded unreserved letters. The default.
    #[default]
    Base,
    /// `//` is `/`.
    MergeSlashes,
    /// `%2F` and `%5C` are slashes.
    DecodeAndMergeSlashes,
}

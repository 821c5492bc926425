//! [`Namespace`]: known by name and labels only.

use serde::Deserialize;

/// A core `v1` Namespace; all that is read of it stands in its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {}

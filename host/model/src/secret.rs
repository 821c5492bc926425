//! [`Secret`]: a credential that never shows itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// Keys and certificates of a Kubernetes Secret. `Debug` and serialisation leave the values out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// `namespace/name`.
    pub name: String,
    /// Entry names with their bytes.
    #[serde(skip)]
    pub entries: Vec<(String, Vec<u8>)>,
    /// The Secret in the user's file.
    pub origin: Origin,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("entries", &"[redacted]").finish()
    }
}

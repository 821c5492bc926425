//! [`Secret`]: a credential that never shows itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// Index into [`crate::Model::secrets`].
pub type SecretId = u32;

/// Keys and certificates of a Kubernetes Secret, or of files. `Debug` and serialisation leave the values out.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// `namespace/name`, or the paths of files as they were written.
    pub name: String,
    /// Entry names with their bytes: `tls.crt`, `tls.key`, `ca.crt`, `ca.crl`. Empty when it is missing.
    #[serde(skip)]
    pub entries: Vec<(String, Vec<u8>)>,
    /// Files that hold entries: the entry's name, and the path as it was written. Whoever reads the configuration reads them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub files: Vec<(String, String)>,
    /// The line that names it.
    pub origin: Origin,
}

impl Secret {
    /// The bytes of an entry; none when it is absent or empty.
    pub fn entry(&self, name: &str) -> Option<&[u8]> {
        let found = self.entries.iter().find(|(known, _)| known == name);
        found.map(|(_, bytes)| bytes.as_slice()).filter(|bytes| !bytes.is_empty())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("entries", &"[redacted]").finish()
    }
}

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
    /// Entry names with their bytes: `tls.crt`, `tls.key`, `tls.ocsp-staple`, `ca.crt`, `ca.crl`. Empty when it is missing.
    #[serde(skip)]
    pub entries: Vec<(String, Vec<u8>)>,
    /// Files that hold entries: the entry's name, and the path as it was written. Whoever reads the configuration reads them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub files: Vec<(String, String)>,
    /// Who is to sign it, where nobody has brought it; none for all others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acme: Option<AcmeOrder>,
    /// The line that names it.
    pub origin: Origin,
}

/// A certificate that an authority is asked for by ACME. Whoever reads the configuration sees to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeOrder {
    /// Exact hosts, in order and each once.
    pub names: Vec<String>,
    /// Where the authority can reach somebody, as URLs; may be empty.
    pub contact: Vec<String>,
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

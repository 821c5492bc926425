//! [`Secret`]: certificates and keys that gateways name.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::resources::Unread;

/// A core `v1` Secret, without its metadata.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque` (default) and others.
    #[serde(rename = "type")]
    pub secret_type: Option<String>,
    /// Values in base64.
    pub data: BTreeMap<String, String>,
    /// Plain values; they win over `data`.
    pub string_data: BTreeMap<String, String>,
    immutable: Unread,
}

impl fmt::Debug for Secret {
    /// Names the keys and never shows a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("secret_type", &self.secret_type)
            .field("data", &self.data.keys())
            .field("string_data", &self.string_data.keys())
            .finish()
    }
}

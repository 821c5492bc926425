//! [`Secret`]: certificates and keys that gateways name.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

impl Secret {
    /// The bytes of an entry that is there, decoded and not empty.
    pub fn value(&self, name: &str) -> Option<Vec<u8>> {
        let plain = self.string_data.get(name).map(|text| text.clone().into_bytes());
        let decoded = || {
            // Long values are often folded over lines.
            let text: String = self.data.get(name)?.split_whitespace().collect();
            STANDARD.decode(text).ok()
        };
        plain.or_else(decoded).filter(|bytes| !bytes.is_empty())
    }
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

//! [`ConfigMap`]: read for Istio's mesh configuration only.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::resources::Unread;

/// A core `v1` ConfigMap, without its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConfigMap {
    /// Texts by key.
    pub data: BTreeMap<String, String>,
    binary_data: Unread,
    immutable: Unread,
}

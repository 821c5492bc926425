//! Parts of a DestinationRule's `loadBalancer`, of which locality is in the mesh configuration too.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One of four things to hash, and how the hashes are looked up.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// A request header.
    pub http_header_name: Option<String>,
    /// A cookie, which the gateway may make.
    pub http_cookie: Option<HttpCookie>,
    /// The client's address.
    pub use_source_ip: Option<bool>,
    /// A query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Old place of `ringHash.minimumRingSize`.
    pub minimum_ring_size: Option<u64>,
    /// The default.
    pub ring_hash: Option<RingHash>,
    /// Instead of a ring.
    pub maglev: Option<Maglev>,
}

/// A cookie to hash.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpCookie {
    /// Required.
    pub name: String,
    /// Of a cookie that is made.
    pub path: Option<String>,
    /// Duration; without, no cookie is made. 0 is a session cookie.
    pub ttl: Option<String>,
    /// Further attributes of a cookie that is made.
    pub attributes: Vec<CookieAttribute>,
}

/// `name=value` of a `set-cookie`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CookieAttribute {
    /// Name.
    pub name: String,
    /// Value; may be absent.
    pub value: Option<String>,
}

/// Settings of the ring.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RingHash {
    /// 1024 by default.
    pub minimum_ring_size: Option<u64>,
}

/// Settings of Maglev.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Maglev {
    /// A prime number, 65537 by default.
    pub table_size: Option<u64>,
}

/// New endpoints begin with a part of their weight.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Warmup {
    /// Required.
    pub duration: Option<String>,
    /// Percent of the weight to begin with, 10 by default.
    pub minimum_percent: Option<f64>,
    /// 1 by default.
    pub aggression: Option<f64>,
}

/// Which places are preferred.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// Weights by the gateway's place.
    pub distribute: Vec<Distribute>,
    /// Which region comes after the gateway's own.
    pub failover: Vec<Failover>,
    /// Labels that decide, most important first.
    pub failover_priority: Vec<String>,
    /// True by default.
    pub enabled: Option<bool>,
}

/// Weights of places for gateways in a place.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Distribute {
    /// `region/zone/subzone`, with `*` for any.
    pub from: String,
    /// Such places, and percent for each.
    pub to: BTreeMap<String, u32>,
}

/// A region and the one after it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Failover {
    /// The gateway's region.
    pub from: String,
    /// The next.
    pub to: String,
}

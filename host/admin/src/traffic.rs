//! `/traffic`: distinct requests of late.

use serde::{Deserialize, Serialize};

/// What is remembered.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrafficView {
    /// The most frequent first.
    pub requests: Vec<RequestKey>,
    /// Requests that were served and not remembered.
    pub unseen: u64,
}

/// Requests that a route cannot tell apart, but by their query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// How many there were.
    pub count: u64,
    /// The listener's.
    pub port: u16,
    /// The method.
    pub method: String,
    /// The Host header.
    pub host: String,
    /// Without the query.
    pub path: String,
    /// Lines of those headers that some route asks for; none of a credential.
    pub headers: Vec<(String, String)>,
}

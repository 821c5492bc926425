//! [`Listener`]: a socket, and the route table that its requests go by.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// Index into [`crate::Model::route_tables`].
pub type RouteTableId = u32;

/// One address that plain HTTP is served on. Istio merges all plain HTTP servers of a port and bind address into one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `ADDRESS_PORT` as Istio names it, e.g. `0.0.0.0_8080`.
    pub name: String,
    /// Address to bind: the server's port after Service or `--port-map` mapping.
    pub address: SocketAddr,
    /// The port number as the Gateway wrote it: what a route's `port` condition and default destination ports mean.
    pub server_port: u16,
    /// Which hosts and routes are served here.
    pub route_table: RouteTableId,
    /// The Gateway servers that were merged into this listener, oldest first.
    pub origins: Vec<Origin>,
}

//! `/listeners`: the sockets that are served.

use std::net::SocketAddr;

use axum::response::Response;
use http::{StatusCode, Uri};
use portolan_model::{Listener, Origin, UdpListener};
use serde::Serialize;

use crate::output::{Form, json, text, unknown_form};

/// One listener.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerView {
    /// Envoy's name, e.g. `0.0.0.0_8080`.
    pub name: String,
    /// Address that is bound.
    pub address: SocketAddr,
    /// The port as the Gateway wrote it.
    pub server_port: u16,
    /// `file:line` of each Gateway server that is served here.
    pub origins: Vec<String>,
    /// What keeps it from accepting, e.g. that its address is in use; none when it accepts.
    pub error: Option<String>,
}

impl From<&Listener> for ListenerView {
    /// The view of a listener that accepts.
    fn from(Listener { name, address, server_port, origins, .. }: &Listener) -> Self {
        Self::new(name, *address, *server_port, origins)
    }
}

impl From<&UdpListener> for ListenerView {
    /// The view of a listener that takes datagrams.
    fn from(UdpListener { name, address, server_port, origins, .. }: &UdpListener) -> Self {
        Self::new(name, *address, *server_port, origins)
    }
}

/// Answers `/listeners`.
pub(crate) fn respond(uri: &Uri, listeners: &[ListenerView]) -> Response {
    match Form::of(uri) {
        Some(Form::Text) => text(StatusCode::OK, listeners.iter().map(ListenerView::line).collect::<String>()),
        Some(Form::Json) => json(&serde_json::json!({ "listeners": listeners })),
        None => unknown_form(),
    }
}

impl ListenerView {
    fn new(name: &str, address: SocketAddr, server_port: u16, origins: &[Origin]) -> Self {
        let origins = origins.iter().map(Origin::place).collect();
        Self { name: name.to_owned(), address, server_port, origins, error: None }
    }

    /// Envoy's `NAME::ADDRESS`, and the error when there is one.
    fn line(&self) -> String {
        match &self.error {
            None => format!("{}::{}\n", self.name, self.address),
            Some(error) => format!("{}::{}::error::{error}\n", self.name, self.address),
        }
    }
}

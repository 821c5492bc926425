//! Connections towards endpoints: [`connect`] makes one as the cluster's [`UpstreamTransport`] says, with TLS, PROXY
//! protocol and keep-alive; `http2` is how requests share one.

mod certificates;
mod connect;
mod failure;
mod http2;
mod proxy_protocol;
mod socket;
mod tls;
mod transport;
mod verify;

pub(crate) use certificates::Certificates;
pub(crate) use connect::{Application, ConnectError, connect, open_for_check};
pub use failure::is_left_out;
pub(crate) use failure::{StreamFailure, alert, stream_failure};
pub(crate) use http2::{Http2Connection, Http2Stream, announce_trailers, as_http2, as_websocket};
pub(crate) use socket::Socket;
pub(crate) use transport::{ConnectionKey, Form, UpstreamTransport, without_port};

//! [`VerifyReloadArgs`]: the command line of `portolan verify-reload`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

/// Arguments of `portolan verify-reload`.
#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyReloadArgs {
    /// Folder that the running gateway watches; the objects that change are put there, and removed at the end
    #[arg(long, short = 'c', value_name = "DIR")]
    pub config: PathBuf,
    /// What is requested over HTTP/1 and HTTP/2, e.g. `http://127.0.0.1:8080/`
    ///
    /// The first answer says which status is right.
    #[arg(long, value_name = "URL")]
    pub url: http::Uri,
    /// Host that is asked for, when it is not the one of the URL
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Path of a unary gRPC method at the URL's address, e.g. `/grpc.health.v1.Health/Check`, called with an empty message
    ///
    /// The first `grpc-status` says which one is right.
    #[arg(long, value_name = "PATH")]
    pub grpc: Option<String>,
    /// Path of a gRPC method whose answers come one after the other, called with an empty message and held open
    ///
    /// It is called again when it has ended with `grpc-status: 0`.
    #[arg(long, value_name = "PATH")]
    pub grpc_stream: Option<String>,
    /// Path of a long answer, which is read slowly over HTTP/1 and HTTP/2
    #[arg(long, value_name = "PATH")]
    pub download: Option<String>,
    /// Path that takes a POST of 100 KiB, which are sent over two seconds, over HTTP/1 and HTTP/2
    #[arg(long, value_name = "PATH")]
    pub upload: Option<String>,
    /// Path of a WebSocket at the URL's address, one of which is held open over HTTP/1 and one over HTTP/2
    #[arg(long, value_name = "PATH")]
    pub websocket: Option<String>,
    /// Address of a TCP listener of the gateway, a connection to which is held open
    #[arg(long, value_name = "ADDRESS")]
    pub tcp: Option<SocketAddr>,
    /// The gateway's admin port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:15000")]
    pub admin: String,
    /// Changes of the configuration
    #[arg(long, value_name = "N", default_value = "200")]
    pub reloads: u32,
    /// Changes of a filter's configuration besides, each of which starts the filter anew
    #[arg(long, value_name = "N", default_value = "20")]
    pub filter_swaps: u32,
    /// Changes of the certificate of a listener on a free port of this machine, which is added for it and asked meanwhile
    #[arg(long, value_name = "N", default_value = "10")]
    pub certificate_changes: u32,
    /// Listeners on a free port of this machine that are added and removed
    #[arg(long, value_name = "N", default_value = "5")]
    pub listener_changes: u32,
    /// Connections of HTTP/1, of HTTP/2 and of unary gRPC
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// A change must be served within this time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::parse_duration)]
    pub timeout: Duration,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: VerifyOutput,
}

/// Forms of the answer of `verify-reload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyOutput {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

//! [`DevArgs`]: the command line of `portolan filter dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

/// Arguments of `portolan filter dev`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DevArgs {
    /// The project, or a module that something else builds
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".")]
    pub path: PathBuf,
    /// Where requests come in, `HOST:PORT` or `:PORT` for all addresses
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = super::parse_listen)]
    pub listen: SocketAddr,
    /// Your own configuration, beside which the filter is put; may be given several times [default: all to one backend]
    ///
    /// Its Gateways say where requests come in. A change of it is served at once.
    #[arg(long, short = 'c', value_name = "PATH", conflicts_with = "listen")]
    pub config: Vec<PathBuf>,
    /// Label of this gateway, as in `run`
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = super::parse_pair)]
    pub labels: Vec<(String, String)>,
    /// Port to bind for a Gateway's port, as in `run`
    #[arg(long = "port-map", value_name = "PORT=BIND", value_parser = super::parse_port_pair)]
    pub port_map: Vec<(u16, u16)>,
    /// A service that callouts of the filter reach: HOST, HOST:PORT or `outbound|PORT||HOST`; it answers as the backend does
    #[arg(long = "service", value_name = "NAME")]
    pub services: Vec<String>,
    /// `pluginConfig` of a module without a project; a project has it in filter.yaml
    #[arg(long, value_name = "JSON", value_parser = parse_json)]
    pub plugin_config: Option<serde_json::Value>,
    /// Which requests are shown with what the filter asked of the host
    ///
    /// With `off` the filter runs as in production, and its log goes to standard error.
    #[arg(long, value_enum, default_value_t)]
    pub trace: TraceMode,
    /// Show versions and troubles only
    #[arg(long, short)]
    pub quiet: bool,
    /// Least level that the filter is told to log at: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub filter_log_level: String,
    /// Address of the admin server; key `o` says which port it has got
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub admin_address: SocketAddr,
}

/// Which requests are traced on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceMode {
    /// Every one
    #[default]
    All,
    /// Those in which the filter failed, warned, or was refused something
    Errors,
    /// None
    Off,
}

pub(super) fn parse_json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}

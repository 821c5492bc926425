//! [`LimitArgs`]: limits of what comes in from outside.

use std::time::Duration;

use clap::Args as ClapArgs;
use portolan_config::parse_bytes;
use portolan_proxy::EdgeLimits;

use super::parse_duration;

/// Limits of what comes in from outside; those of a Gateway's annotations beat them. A time of `0s` is no limit, but for the
/// first two.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// How long a request's head may take to come in
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_time)]
    pub request_headers_timeout: Duration,
    /// How long a TLS handshake may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_time)]
    pub tls_handshake_timeout: Duration,
    /// How long a request may take to come in with its body
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    pub request_timeout: Duration,
    /// How long a request, a WebSocket too, may go without a byte either way: server-sent events and long polls included
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    pub stream_idle_timeout: Duration,
    /// How long a connection may be without a request
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub idle_timeout: Duration,
    /// Largest body of a request, e.g. `10Mi`; larger ones get 413 [default: none]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_request_bytes: Option<u64>,
    /// Connections of each listener at once; more are closed as they come [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: Option<u32>,
    /// Connections of one client's address at once; leave it where proxies stand in front [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections_per_source: Option<u32>,
    /// Resident memory, e.g. `512Mi`, `0` for any: from 95 % on requests get 503, from 98 % on connections are closed
    /// [default: the limit of the control group, if there is one]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_memory: Option<u64>,
}

impl LimitArgs {
    /// As the data plane takes them.
    pub(crate) fn edge_limits(&self) -> EdgeLimits {
        EdgeLimits {
            head_timeout: self.request_headers_timeout,
            handshake_timeout: self.tls_handshake_timeout,
            request_timeout: self.request_timeout,
            stream_idle_timeout: self.stream_idle_timeout,
            idle_timeout: self.idle_timeout,
            max_request_bytes: self.max_request_bytes,
            max_connections: self.max_connections,
            max_connections_per_source: self.max_connections_per_source,
            max_memory: self.max_memory.or_else(of_control_group),
        }
    }
}

/// What the control group leaves to this process, version 2 or 1; none where there is no limit.
fn of_control_group() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    // Version 1 writes a number near 2^63 where there is none.
    text.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

/// A time above zero.
fn parse_time(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("wants a time above 0".to_owned()),
        time => Ok(time),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text).ok_or_else(|| format!("`{text}` is not a size; wants e.g. 500k, 10Mi or 2Gi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_kubernetes() {
        assert_eq!((parse_size("10Mi"), parse_size("5k"), parse_size("0")), (Ok(10 << 20), Ok(5000), Ok(0)));
        for bad in ["", "Mi", "1MB", "-1", "99999999999Gi"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}

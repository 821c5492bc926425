//! [`GatewaySettings`]: what the annotations of a Gateway say of its listeners.

use portolan_model::{ConnectMode, ListenerLimits, Network, ProxyHeaders};

use super::{count, time};
use crate::duration;

/// The annotations of a Gateway, without the prefix.
pub(super) const KNOWN: [&str; 9] = [
    "acme",
    "connect",
    "grpc-web",
    "http3",
    "max-connections",
    "proxy-protocol",
    "proxy-protocol-trusted",
    "request-timeout",
    "stream-idle-timeout",
];

/// What the annotations say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GatewaySettings {
    /// Whether a header of the PROXY protocol must be there; none where there is none.
    proxy_header_required: Option<bool>,
    trusted: Vec<Network>,
    pub(crate) limits: ListenerLimits,
    /// Its servers of HTTPS are served over HTTP/3, too.
    pub(crate) http3: bool,
    /// What becomes of CONNECT; none where it is refused.
    pub(crate) connect: Option<ConnectMode>,
}

impl GatewaySettings {
    /// Who begins connections with a header of the PROXY protocol; none when the annotations do not say.
    pub(crate) fn proxy_headers(&self) -> Option<ProxyHeaders> {
        let required = self.proxy_header_required?;
        Some(ProxyHeaders { required, trusted: self.trusted.clone() })
    }

    /// One annotation; the error tells what it wants.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "proxy-protocol" => {
                self.proxy_header_required = Some(match value {
                    "required" => true,
                    "optional" => false,
                    _ => return Err("`required` or `optional`".to_owned()),
                });
            }
            "connect" => {
                self.connect = Some(match value {
                    "forward" => ConnectMode::Forward,
                    "terminate" => ConnectMode::Terminate,
                    _ => return Err("`forward` or `terminate`".to_owned()),
                });
            }
            // Read where they have their effect.
            "acme" | "grpc-web" => {}
            "http3" => self.http3 = value.parse().map_err(|_| "`true` or `false`".to_owned())?,
            "proxy-protocol-trusted" => self.trusted = networks(value)?,
            "max-connections" => {
                self.limits.max_connections = Some(count(value).ok().filter(|n| *n > 0).ok_or("a number above 0")?);
            }
            "stream-idle-timeout" => self.limits.stream_idle_timeout_ms = Some(time_or_never(value)?),
            _ => self.limits.request_timeout_ms = Some(time_or_never(value)?),
        }
        Ok(())
    }
}

fn networks(value: &str) -> Result<Vec<Network>, String> {
    let networks: Result<Vec<_>, _> = value.split(',').map(|text| text.trim().parse::<Network>()).collect();
    networks
        .map_err(|error| format!("addresses and ranges with commas between, e.g. `10.0.0.0/8, 2001:db8::1`: {error}"))
}

/// `0s` for never.
fn time_or_never(value: &str) -> Result<u64, String> {
    if duration::parse_ms(value) == Some(0) { Ok(0) } else { time(value) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use portolan_model::ConnectMode;

    use crate::annotations::{GatewaySettings, gateway_settings};

    fn read(entries: &[(&str, &str)]) -> (GatewaySettings, usize) {
        let annotations = entries.iter().map(|(key, value)| (format!("portolan.dev/{key}"), (*value).to_owned()));
        let (settings, faults) = gateway_settings(&annotations.collect::<BTreeMap<_, _>>());
        (settings, faults.len())
    }

    #[test]
    fn a_gateway_says_who_begins_with_a_proxy_header() {
        let (settings, faults) = read(&[("proxy-protocol", "optional"), ("proxy-protocol-trusted", "10.0.0.0/8, ::1")]);
        let headers = settings.proxy_headers().unwrap();
        assert_eq!((headers.required, headers.trusted.len(), faults), (false, 2, 0));
        assert_eq!(read(&[("proxy-protocol-trusted", "10.0.0.0/8")]).0.proxy_headers(), None);
    }

    #[test]
    fn a_gateway_has_limits_of_its_own() {
        let (settings, faults) =
            read(&[("max-connections", "5"), ("stream-idle-timeout", "0s"), ("request-timeout", "90s")]);
        let limits = settings.limits;
        assert_eq!(faults, 0);
        assert_eq!((limits.max_connections, limits.stream_idle_timeout_ms), (Some(5), Some(0)));
        assert_eq!(limits.request_timeout_ms, Some(90_000));
    }

    #[test]
    fn a_gateway_switches_http_3_on() {
        assert!(!read(&[]).0.http3 && read(&[("http3", "true")]).0.http3 && !read(&[("http3", "false")]).0.http3);
    }

    #[test]
    fn a_gateway_takes_connect() {
        let modes = ["forward", "terminate"].map(|value| read(&[("connect", value)]).0.connect);
        assert_eq!(modes, [Some(ConnectMode::Forward), Some(ConnectMode::Terminate)]);
        assert_eq!(read(&[]).0.connect, None);
    }

    #[test]
    fn what_is_read_elsewhere_is_known() {
        assert_eq!(read(&[("acme", "mailto:ops@example.com"), ("grpc-web", "true")]).1, 0);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (key, value) in [
            ("connect", "true"),
            ("http3", "yes"),
            ("proxy-protocol", "yes"),
            ("proxy-protocol-trusted", "10.0.0.0/40"),
            ("max-connections", "0"),
            ("stream-idle-timeout", "5"),
            ("memory-limit", "1Mi"),
        ] {
            assert_eq!(read(&[(key, value)]), (GatewaySettings::default(), 1), "{key}: {value}");
        }
    }
}

//! [`PortProtocol`]: what a port of a service speaks, by its `appProtocol`, else by its name, as Istio reads them
//! (pkg/config/kube/conversion.go).

/// As far as it matters towards a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortProtocol {
    Http,
    Http2,
    /// TCP, TLS and all others.
    Other,
    /// Neither name nor `appProtocol` says it.
    Unknown,
}

impl PortProtocol {
    /// Of a Kubernetes Service's port.
    pub(super) fn of_service(name: &str, app_protocol: Option<&str>) -> Self {
        match app_protocol {
            Some("kubernetes.io/h2c") => return Self::Http2,
            Some("kubernetes.io/ws") => return Self::Http,
            Some("kubernetes.io/wss") => return Self::Other,
            _ => {}
        }
        let name = app_protocol.unwrap_or(name);
        if name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("grpc-web")) {
            return Self::Http2;
        }
        Self::parse(name.split('-').next().unwrap_or(name))
    }

    /// Of a ServiceEntry's port, in any case.
    pub(super) fn parse(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "http" | "http_proxy" => Self::Http,
            "http2" | "grpc" | "grpc-web" => Self::Http2,
            "tcp" | "udp" | "https" | "tls" | "mongo" | "redis" | "mysql" | "hbone" => Self::Other,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2)
    }

    pub(super) fn is_http2(self) -> bool {
        self == Self::Http2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_up_to_the_dash_or_the_app_protocol_says_what_a_port_speaks() {
        for (name, app, is_http2) in [
            ("grpc", None, true),
            ("grpc-api", None, true),
            ("HTTP2-api", None, true),
            ("grpc-web-x", None, true),
            ("http", None, false),
            ("http-grpc", None, false),
            ("grpcx", None, false),
            ("http", Some("grpc"), true),
            ("grpc", Some("http"), false),
            ("any", Some("kubernetes.io/h2c"), true),
            ("grpc", Some("kubernetes.io/ws"), false),
        ] {
            assert_eq!(PortProtocol::of_service(name, app).is_http2(), is_http2, "{name} {app:?}");
        }
    }
}

//! Typed properties of a stream, by Envoy's names.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::{Exchange, HostError};

/// Typed properties. None where the host does not know a property, or not yet; docs/proxy-wasm.md lists which are there in
/// Portolan, and Envoy's attributes have the same names.
impl<'a> Exchange<'a> {
    /// A property that is text; none also when it is not UTF-8.
    pub fn property_str(&self, key: &str) -> Result<Option<&'a str>, HostError> {
        Ok(self.property(key)?.and_then(|value| std::str::from_utf8(value).ok()))
    }

    /// A property that is a number; none also when it is none.
    pub fn property_i64(&self, key: &str) -> Result<Option<i64>, HostError> {
        Ok(self.property(key)?.and_then(|value| Some(i64::from_le_bytes(value.try_into().ok()?))))
    }

    /// A property that is true or false.
    pub fn property_bool(&self, key: &str) -> Result<Option<bool>, HostError> {
        Ok(self.property(key)?.and_then(|value| value.first().map(|byte| *byte != 0)))
    }

    fn parsed<T: FromStr>(&self, key: &str) -> Result<Option<T>, HostError> {
        Ok(self.property_str(key)?.and_then(|text| text.parse().ok()))
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, HostError> {
        Ok(self.property_i64(key)?.and_then(|nanoseconds| u64::try_from(nanoseconds).ok()).map(Duration::from_nanos))
    }

    /// Address and port of the client, as the gateway trusts `x-forwarded-for`.
    pub fn source_address(&self) -> Result<Option<SocketAddr>, HostError> {
        self.parsed("source\0address")
    }

    /// The client's address without its port.
    pub fn source_ip(&self) -> Result<Option<IpAddr>, HostError> {
        Ok(self.source_address()?.map(|address| address.ip()))
    }

    /// The gateway's own address that the client connected to.
    pub fn destination_address(&self) -> Result<Option<SocketAddr>, HostError> {
        self.parsed("destination\0address")
    }

    /// The endpoint that was chosen; from the response's headers on.
    pub fn upstream_address(&self) -> Result<Option<SocketAddr>, HostError> {
        self.parsed("upstream\0address")
    }

    /// The id of the request, as in `x-request-id`.
    pub fn request_id(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("request\0id")
    }

    /// `HTTP/1.1`, `HTTP/2`.
    pub fn protocol(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("request\0protocol")
    }

    /// The name of the route.
    pub fn route_name(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("xds\0route_name")
    }

    /// The name of the cluster.
    pub fn cluster_name(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("xds\0cluster_name")
    }

    /// The name of the virtual host.
    pub fn virtual_host_name(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("xds\0virtual_host_name")
    }

    /// The server name that the client asked for in its TLS handshake; none also when it is empty.
    pub fn server_name(&self) -> Result<Option<&'a str>, HostError> {
        Ok(self.property_str("connection\0requested_server_name")?.filter(|name| !name.is_empty()))
    }

    /// True when the client's connection is encrypted.
    pub fn is_tls(&self) -> Result<bool, HostError> {
        Ok(self.property("connection\0tls_version")?.is_some_and(|version| !version.is_empty()))
    }

    /// True when the client showed a certificate that was checked.
    pub fn is_mtls(&self) -> Result<bool, HostError> {
        Ok(self.property_bool("connection\0mtls")?.unwrap_or_default())
    }

    /// Why the response is what it is, e.g. `via_upstream`; at the end.
    pub fn response_code_details(&self) -> Result<Option<&'a str>, HostError> {
        self.property_str("response\0code_details")
    }

    /// The response's status; once there is one, also in [`on_log`](crate::Filter::on_log).
    pub fn response_code(&self) -> Result<Option<u16>, HostError> {
        Ok(self.property_i64("response\0code")?.and_then(|code| u16::try_from(code).ok()))
    }

    /// Bytes of the request's body, as far as they have come.
    pub fn request_size(&self) -> Result<Option<u64>, HostError> {
        Ok(self.property_i64("request\0size")?.and_then(|size| u64::try_from(size).ok()))
    }

    /// Bytes of the response's body, as far as they have come.
    pub fn response_size(&self) -> Result<Option<u64>, HostError> {
        Ok(self.property_i64("response\0size")?.and_then(|size| u64::try_from(size).ok()))
    }

    /// From the request's first byte to the response's last; at the end.
    pub fn duration_of_request(&self) -> Result<Option<Duration>, HostError> {
        self.duration("request\0duration")
    }
}

//! [`UpstreamTransport`]: a cluster's [`Transport`] made ready. A snapshot takes the last one's over when nothing about it
//! has changed, and with it the pooled connections, which belong to it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Version, header};
use portolan_model::{Pem, Transport, UpstreamProtocol};
use rustls::pki_types::ServerName;

use super::certificates::{CertificateError, Certificates};
use super::tls::ClientTls;
use crate::stream::Stream;

/// How connections of a cluster are made.
pub(crate) struct UpstreamTransport {
    pub(crate) settings: Transport,
    /// What the files said, in the order in which the settings name them.
    files: Vec<Arc<[u8]>>,
    /// None without TLS; an error when there is no TLS to be had: then there are no connections either.
    pub(super) tls: Option<Result<ClientTls, CertificateError>>,
}

/// How a request goes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Http1,
    Http2,
    /// As extended CONNECT (RFC 8441) over HTTP/2, if the endpoint takes it, else over HTTP/1.
    WebSocket,
}

/// What a connection is for besides its endpoint: one for another host, or another client, must not serve this request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    pub(super) server_name: Option<ServerName<'static>>,
    /// The client's address, and ours for the client.
    pub(super) proxied: Option<(SocketAddr, SocketAddr)>,
}

impl UpstreamTransport {
    /// The transport for these settings: the last one when nothing has changed. When the certificates cannot be used the last
    /// one serves on if it had the same settings; the error is told in any case.
    pub(crate) fn build(
        settings: &Transport,
        certificates: &mut Certificates,
        last: Option<&Arc<Self>>,
    ) -> (Arc<Self>, Option<CertificateError>) {
        let files = files(settings, certificates);
        let is_same =
            |last: &&Arc<Self>| last.settings == *settings && last.files == files && !matches!(last.tls, Some(Err(_)));
        if let Some(same) = last.filter(is_same) {
            return (same.clone(), None);
        }
        let tls = settings.tls.as_deref().map(|tls| ClientTls::new(tls, certificates));
        let error = tls.as_ref().and_then(|tls| tls.as_ref().err()).cloned();
        if error.is_some()
            && let Some(last) = last.filter(|last| last.may_serve_on(settings))
        {
            return (last.clone(), error);
        }
        (Arc::new(Self { settings: settings.clone(), files, tls }), error)
    }

    /// Plain HTTP/1.1.
    pub(crate) fn plain() -> Arc<Self> {
        Arc::new(Self { settings: Transport::default(), files: Vec::new(), tls: None })
    }

    fn may_serve_on(&self, settings: &Transport) -> bool {
        match (&self.settings.tls, &settings.tls, &self.tls) {
            (Some(old), Some(new), Some(Ok(_))) => {
                let rest = Transport { tls: None, ..settings.clone() };
                old.is_same_but_certificates(new) && Transport { tls: None, ..self.settings.clone() } == rest
            }
            _ => false,
        }
    }

    /// True when a request of this version goes out as HTTP/2.
    pub(crate) fn is_http2(&self, downstream: Version) -> bool {
        match self.settings.protocol {
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
            UpstreamProtocol::Downstream => downstream == Version::HTTP_2,
        }
    }

    /// What the connection of a request must be for, and how it goes out.
    pub(crate) fn needs(&self, stream: &Stream) -> (Option<Rc<ConnectionKey>>, Form) {
        if self.settings.is_plain() {
            return (None, Form::Http1);
        }
        let client = (stream.connection.peer, stream.connection.local);
        stream.with_state(|state| {
            let headers = &state.request.headers;
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let form = match self.is_http2(state.request.version) {
                false => Form::Http1,
                true if headers.contains_key(header::UPGRADE) => Form::WebSocket,
                true => Form::Http2,
            };
            (self.key(host, Some(client)), form)
        })
    }

    /// What our own certificate says of us; empty when it says nothing, or there is none.
    pub(crate) fn principal(&self) -> &str {
        match &self.tls {
            Some(Ok(tls)) => &tls.principal,
            _ => "",
        }
    }

    /// `https` where there is TLS.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// True when connections are made in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings && self.files == other.files
    }

    /// What a connection for this Host and client must be for; none where all are alike.
    pub(crate) fn key(
        &self,
        host: Option<&str>,
        client: Option<(SocketAddr, SocketAddr)>,
    ) -> Option<Rc<ConnectionKey>> {
        self.connection_key(host, client).map(Rc::new)
    }

    pub(super) fn connection_key(
        &self,
        host: Option<&str>,
        client: Option<(SocketAddr, SocketAddr)>,
    ) -> Option<ConnectionKey> {
        let by_host = matches!(&self.tls, Some(Ok(tls)) if tls.sni.is_none());
        let proxied = client.filter(|_| self.settings.proxy_protocol.is_some());
        if !by_host && proxied.is_none() {
            return None;
        }
        let name = host.filter(|_| by_host).map(without_port);
        let server_name = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
        Some(ConnectionKey { server_name, proxied })
    }
}

/// Of each file that can be read.
fn files(settings: &Transport, certificates: &mut Certificates) -> Vec<Arc<[u8]>> {
    let pems = settings.tls.iter().flat_map(|tls| tls.pems()).filter(|pem| matches!(pem, Pem::File { .. }));
    pems.filter_map(|pem| certificates.bytes(pem).ok()).collect()
}

/// The host alone, an address of IPv6 without its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    bare.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_the_host_without_port_and_brackets() {
        for (host, name) in [
            ("a.test", "a.test"),
            ("a.test:80", "a.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}

//! [`Known`]: what the formats in a route's header operations may name of a request. Made only for routes that have some.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header, request};
use portolan_telemetry::{ConnectionWords, StreamInfo};

use crate::context::{ConnectionInfo, StreamContext};
use crate::router::{ORIGINAL_PATH, SERVICE_TIME};
use crate::stream::Stream;

/// A request on which header operations are done.
pub(crate) struct Known<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) context: &'a StreamContext,
    pub(crate) scheme: &'static str,
}

impl Known<'_> {
    /// For operations on the request itself, whose headers are `headers` by now.
    pub(crate) fn of_request(&self, request: &Head<'_>, headers: &HeaderMap) -> StreamInfo {
        let of = |name: &str| headers.get(name).cloned();
        let context = self.context;
        let cluster = context.choice.and_then(|choice| context.snapshot.cluster(choice.cluster));
        let route = context.route.and_then(|id| context.snapshot.route(id));
        let connection = &context.connection;
        StreamInfo {
            start: self.stream.start(),
            method: Some(request.method.clone()),
            scheme: Some(self.scheme),
            path: request.uri.path_and_query().cloned(),
            protocol: Some(request.version),
            flags: context.flags,
            details: context.details.clone(),
            x_forwarded_for: of("x-forwarded-for"),
            user_agent: of("user-agent"),
            request_id: of("x-request-id"),
            authority: headers.get(header::HOST).cloned(),
            upstream_cluster: cluster.map(|cluster| cluster.state.name.clone()),
            downstream_local: Some(connection.local),
            downstream_remote: Some(context.remote()),
            downstream_direct: Some(connection.direct),
            requested_server_name: connection.state.server_name().cloned(),
            connection: Some(connection.clone()),
            route_name: route.map(|route| route.name.clone()).filter(|name| !name.is_empty()),
            attempts: context.attempts.max(1),
            request_headers: Some(headers.clone()),
            ..StreamInfo::default()
        }
    }

    /// For operations on the response. Of an answer of the gateway's `own` the code is not known yet, as in Envoy.
    pub(crate) fn of_response(
        &self,
        request: &request::Parts,
        headers: &HeaderMap,
        status: StatusCode,
        own: bool,
    ) -> StreamInfo {
        let head = Head { method: &request.method, uri: &request.uri, version: request.version };
        let mut info = self.of_request(&head, &request.headers);
        if let Some(original) = request.headers.get(ORIGINAL_PATH).and_then(|path| path.to_str().ok()?.parse().ok()) {
            info.rewritten_path = info.path.replace(original);
        }
        info.attempts = self.context.attempts;
        info.response_code = if own { 0 } else { status.as_u16() };
        info.head_status = Some(status.as_u16());
        info.upstream_host = self.context.endpoint.as_ref().map(|endpoint| endpoint.address);
        let took = headers.get(SERVICE_TIME).and_then(|took| took.to_str().ok()?.parse().ok());
        info.upstream_service_time = took.map(Duration::from_millis);
        info.response_headers = Some(headers.clone());
        info
    }
}

/// A request's line.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a http::Method,
    pub(crate) uri: &'a http::Uri,
    pub(crate) version: http::Version,
}

impl ConnectionWords for ConnectionInfo {
    fn id(&self) -> u64 {
        self.id
    }

    fn of_tls(&self, command: &str) -> Option<&str> {
        let tls = self.state.tls()?;
        let value = match command {
            "DOWNSTREAM_TLS_VERSION" => &tls.version,
            "DOWNSTREAM_PEER_SUBJECT" => &tls.peer.subject,
            "DOWNSTREAM_PEER_URI_SAN" => &tls.peer.uri_san,
            "DOWNSTREAM_PEER_DNS_SAN" => &tls.peer.dns_san,
            "DOWNSTREAM_PEER_FINGERPRINT_256" => &tls.sha256_peer_certificate_digest,
            "DOWNSTREAM_LOCAL_SUBJECT" => &tls.local.subject,
            "DOWNSTREAM_LOCAL_URI_SAN" => &tls.local.uri_san,
            "DOWNSTREAM_LOCAL_DNS_SAN" => &tls.local.dns_san,
            _ => return None,
        };
        Some(value).filter(|value| !value.is_empty()).map(String::as_str)
    }
}

/// What a format gives on a request; none when that is empty, and then nothing is done, as in Envoy.
pub(crate) fn written(format: &portolan_telemetry::Format, info: &StreamInfo) -> Option<HeaderValue> {
    let mut value = Vec::new();
    format.write_header(info, &mut value);
    HeaderValue::from_bytes(&value).ok().filter(|value| !value.is_empty())
}

//! [`Word`]: the rarer commands of Envoy's format language.

use http::uri::PathAndQuery;

use super::FormatError;
use super::fields::{millis, protocol_name};
use crate::StreamInfo;
use crate::upstream_address::UpstreamAddress;

/// Names of gRPC's statuses by number, as Envoy's `GRPC_STATUS` spells them.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// What a connection's TLS is asked for.
const OF_TLS: [&str; 9] = [
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_PEER_CERT",
];

/// A command that few formats name.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Path { source: PathSource, query: bool },
    QueryParam(Box<str>),
    QueryParams,
    Hostname(Box<str>),
    ConnectionId,
    UpstreamProtocol,
    UpstreamIp,
    UpstreamPort,
    UpstreamLocalIp,
    UpstreamLocalPort,
    DownstreamLocalPort,
    DownstreamRemotePort,
    DownstreamDirectPort,
    Attempts,
    ResponseDuration,
    ResponseTxDuration,
    GrpcStatus { number: bool },
    OfTls(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PathSource {
    Original,
    Sent,
    OriginalOrSent,
}

impl Word {
    /// The word of a command without arguments.
    pub(super) fn command(name: &str) -> Option<Self> {
        if let Some(known) = OF_TLS.iter().find(|known| **known == name) {
            return Some(Self::OfTls(known));
        }
        Some(match name {
            "QUERY_PARAMS" => Self::QueryParams,
            "HOSTNAME" => Self::Hostname(hostname()),
            "CONNECTION_ID" => Self::ConnectionId,
            "UPSTREAM_PROTOCOL" => Self::UpstreamProtocol,
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::UpstreamIp,
            "UPSTREAM_REMOTE_PORT" => Self::UpstreamPort,
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::UpstreamLocalIp,
            "UPSTREAM_LOCAL_PORT" => Self::UpstreamLocalPort,
            "DOWNSTREAM_LOCAL_PORT" => Self::DownstreamLocalPort,
            "DOWNSTREAM_REMOTE_PORT" => Self::DownstreamRemotePort,
            "DOWNSTREAM_DIRECT_REMOTE_PORT" => Self::DownstreamDirectPort,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::Attempts,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "RESPONSE_TX_DURATION" => Self::ResponseTxDuration,
            "GRPC_STATUS_NUMBER" => Self::GrpcStatus { number: true },
            _ => return None,
        })
    }

    /// `PATH`: with (`WQ`) or without (`NQ`) query, and which path; by default `WQ:ORIG_OR_PATH`.
    pub(super) fn path(argument: &str) -> Result<Self, FormatError> {
        let malformed = || FormatError::Malformed(format!("PATH({argument})"));
        let (query, source) = argument.split_once(':').unwrap_or((argument, ""));
        let query = match query {
            "" | "WQ" => true,
            "NQ" => false,
            _ => return Err(malformed()),
        };
        let source = match source {
            "" | "ORIG_OR_PATH" => PathSource::OriginalOrSent,
            "ORIG" => PathSource::Original,
            "PATH" => PathSource::Sent,
            _ => return Err(malformed()),
        };
        Ok(Self::Path { source, query })
    }

    /// `GRPC_STATUS`: by name, or as a number.
    pub(super) fn grpc_status(argument: &str) -> Result<Self, FormatError> {
        match argument {
            "" | "CAMEL_STRING" => Ok(Self::GrpcStatus { number: false }),
            "NUMBER" => Ok(Self::GrpcStatus { number: true }),
            _ => Err(FormatError::Malformed(format!("GRPC_STATUS({argument})"))),
        }
    }

    /// True when it reads the header maps of [`StreamInfo`].
    pub(super) fn wants_headers(&self) -> bool {
        matches!(self, Self::GrpcStatus { .. })
    }

    /// True when its value is a number, which JSON writes without quotes.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::ConnectionId
                | Self::Attempts
                | Self::ResponseDuration
                | Self::ResponseTxDuration
                | Self::UpstreamPort
                | Self::UpstreamLocalPort
                | Self::DownstreamLocalPort
                | Self::DownstreamRemotePort
                | Self::DownstreamDirectPort
                | Self::GrpcStatus { number: true }
        )
    }

    /// Hands the value over; false when the request has none.
    pub(super) fn write(&self, info: &StreamInfo, write: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut number = |value: Option<u64>| value.is_some_and(|value| write(value.to_string().as_bytes()));
        let port = |address: Option<std::net::SocketAddr>| address.map(|address| u64::from(address.port()));
        match self {
            Self::ConnectionId => number(info.connection.as_ref().map(|connection| connection.id())),
            Self::Attempts => number(Some(u64::from(info.attempts))),
            Self::ResponseDuration => number(info.response_duration.map(millis)),
            Self::ResponseTxDuration => {
                number(info.response_duration.map(|begun| millis(info.duration.saturating_sub(begun))))
            }
            Self::UpstreamPort => number(port(info.upstream_host.and_then(UpstreamAddress::socket))),
            Self::UpstreamLocalPort => number(port(info.upstream_local)),
            Self::DownstreamLocalPort => number(port(info.downstream_local)),
            Self::DownstreamRemotePort => number(port(info.downstream_remote)),
            Self::DownstreamDirectPort => number(port(info.downstream_direct)),
            _ => self.write_text(info, write),
        }
    }

    fn write_text(&self, info: &StreamInfo, write: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut ip = |address: Option<std::net::SocketAddr>| {
            address.is_some_and(|address| write(address.ip().to_string().as_bytes()))
        };
        match self {
            Self::UpstreamIp => return ip(info.upstream_host.and_then(UpstreamAddress::socket)),
            Self::UpstreamLocalIp => return ip(info.upstream_local),
            _ => {}
        }
        let path = || info.sent_path().and_then(PathAndQuery::query);
        match self {
            Self::Path { source, query } => path_of(*source, info)
                .is_some_and(|path| write(if *query { path.as_str() } else { path.path() }.as_bytes())),
            Self::QueryParam(name) => {
                path().and_then(|query| parameter(query, name)).is_some_and(|value| write(&value))
            }
            Self::QueryParams => path().is_some_and(|query| write(query.as_bytes())),
            Self::Hostname(name) => write(name.as_bytes()),
            Self::UpstreamProtocol => protocol_name(info.upstream_protocol).is_some_and(|name| write(name.as_bytes())),
            Self::GrpcStatus { number } => grpc_status(info).is_some_and(|status| {
                let name = status.parse().ok().and_then(|code: usize| GRPC_STATUSES.get(code)).copied();
                write(name.filter(|_| !number).unwrap_or(status).as_bytes())
            }),
            Self::OfTls(command) => {
                let connection = info.connection.as_ref();
                connection
                    .and_then(|connection| connection.of_tls(command))
                    .is_some_and(|value| write(value.as_bytes()))
            }
            _ => false,
        }
    }
}

fn path_of(source: PathSource, info: &StreamInfo) -> Option<&PathAndQuery> {
    match source {
        PathSource::Original => info.original_path(),
        PathSource::Sent => info.sent_path(),
        PathSource::OriginalOrSent => info.path.as_ref(),
    }
}

/// The first of this name, decoded.
fn parameter(query: &str, name: &str) -> Option<Vec<u8>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decoded(key), value)).find(|(key, _)| key == name.as_bytes()).map(|(_, v)| decoded(v))
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// In the trailers, or in the head of an answer without a body.
fn grpc_status(info: &StreamInfo) -> Option<&str> {
    let trailers = info.response_trailers.as_ref();
    let status = trailers.and_then(|trailers| trailers.get("grpc-status"));
    status.or_else(|| info.response_headers.as_ref()?.get("grpc-status"))?.to_str().ok()
}

/// The machine's name; empty when it has none.
fn hostname() -> Box<str> {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().into()
}

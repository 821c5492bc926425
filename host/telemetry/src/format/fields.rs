//! [`Field`]: one value of a request, and how it is printed.

use std::cell::Cell;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue, Version};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::FormatError;
use super::words::Word;
use crate::StreamInfo;
use crate::upstream_address::UpstreamAddress;

/// What a command stands for.
#[derive(Clone, Debug)]
pub(super) enum Field {
    StartTime,
    StartTimeAs(Box<str>),
    EmitTime,
    Method,
    Scheme,
    /// As the upstream is asked for it.
    Path,
    /// Before a rewrite; none without one.
    OriginalPath,
    Protocol,
    ResponseCode,
    HeadStatus,
    ResponseFlags,
    Details,
    ConnectionTermination,
    Cause,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamServiceTime,
    ForwardedFor,
    UserAgent,
    RequestId,
    Authority,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamLocalIp,
    DownstreamRemote,
    DownstreamRemoteIp,
    DownstreamDirect,
    DownstreamDirectIp,
    ServerName,
    RouteName,
    TraceId,
    RequestHeader(HeaderName),
    ResponseHeader(HeaderName),
    ResponseTrailer(HeaderName),
    /// Namespace and key, as [`StreamInfo::dynamic_metadata`] has them.
    DynamicMetadata(Box<str>),
    Word(Word),
    Absent,
}

/// Whether values are kept from ending quotes and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A line of text.
    Line,
    /// A header, or JSON, which has escapes of its own.
    Raw,
}

/// Commands of Envoy's, by their beginning, for which nothing is kept here: they print as absent.
const ALWAYS_ABSENT: &[&str] = &[
    "DYNAMIC_METADATA",
    "CLUSTER_METADATA",
    "UPSTREAM_METADATA",
    "METADATA",
    "FILTER_STATE",
    "UPSTREAM_FILTER_STATE",
    "DOWNSTREAM_PEER_",
    "DOWNSTREAM_TLS_",
    "PER_REQUEST_STATE",
    "LOCAL_REPLY_BODY",
    "VIRTUAL_CLUSTER_NAME",
    "CUSTOM_FLAGS",
    "FILTER_CHAIN_NAME",
    "REQUEST_DURATION",
    "REQUEST_TX_DURATION",
    "UPSTREAM_PEER_",
    "UPSTREAM_LOCAL_SUBJECT",
    "UPSTREAM_TLS_",
];

impl Field {
    /// The field of a command without arguments.
    pub(super) fn command(name: &str) -> Option<Self> {
        Some(match name {
            "START_TIME" => Self::StartTime,
            "EMIT_TIME" => Self::EmitTime,
            "STREAM_ID" => Self::RequestId,
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::ResponseCode,
            "RESPONSE_FLAGS" => Self::ResponseFlags,
            "RESPONSE_CODE_DETAILS" => Self::Details,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTermination,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::Cause,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "DURATION" => Self::Duration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamHost,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocal,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::DownstreamLocal,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DownstreamLocalIp,
            "DOWNSTREAM_REMOTE_ADDRESS" => Self::DownstreamRemote,
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamRemoteIp,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Self::DownstreamDirect,
            "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamDirectIp,
            "REQUESTED_SERVER_NAME" => Self::ServerName,
            "ROUTE_NAME" => Self::RouteName,
            "TRACE_ID" => Self::TraceId,
            _ => return Word::command(name).map(Self::Word),
        })
    }

    /// True for commands of Envoy's that have no value here.
    pub(super) fn is_always_absent(name: &str) -> bool {
        ALWAYS_ABSENT.iter().any(|begin| name.starts_with(begin))
    }

    /// The field of a header of `REQ`, `REQ_WITHOUT_QUERY`, `RESP` or `TRAILER`.
    pub(super) fn header(command: &str, header: &str) -> Result<Self, FormatError> {
        let name = || HeaderName::from_bytes(header.as_bytes()).map_err(|_| FormatError::HeaderName(header.to_owned()));
        Ok(match (command, header.to_ascii_lowercase().as_str()) {
            ("REQ", ":method") => Self::Method,
            ("REQ", ":scheme") => Self::Scheme,
            ("REQ", ":path") => Self::Path,
            ("REQ", "x-envoy-original-path") => Self::OriginalPath,
            ("REQ_WITHOUT_QUERY", ":path") => Self::Word(Word::path("NQ:PATH")?),
            ("REQ_WITHOUT_QUERY", "x-envoy-original-path") => Self::Word(Word::path("NQ:ORIG")?),
            ("REQ", ":authority" | "host") => Self::Authority,
            ("REQ", "x-forwarded-for") => Self::ForwardedFor,
            ("REQ", "user-agent") => Self::UserAgent,
            ("REQ", "x-request-id") => Self::RequestId,
            ("RESP", "x-envoy-upstream-service-time") => Self::UpstreamServiceTime,
            ("RESP", ":status") => Self::HeadStatus,
            ("REQ" | "REQ_WITHOUT_QUERY", _) => Self::RequestHeader(name()?),
            ("RESP", _) => Self::ResponseHeader(name()?),
            _ => Self::ResponseTrailer(name()?),
        })
    }

    /// True when it reads the header maps of [`StreamInfo`].
    pub(super) fn wants_headers(&self) -> bool {
        match self {
            Self::RequestHeader(_) | Self::ResponseHeader(_) | Self::ResponseTrailer(_) | Self::DynamicMetadata(_) => {
                true
            }
            Self::Word(word) => word.wants_headers(),
            _ => false,
        }
    }

    /// True when its value is a number, which JSON writes without quotes.
    pub(super) fn is_number(&self) -> bool {
        match self {
            Self::ResponseCode | Self::HeadStatus | Self::BytesReceived | Self::BytesSent | Self::Duration => true,
            Self::Word(word) => word.is_number(),
            _ => false,
        }
    }

    /// `START_TIME` in a pattern of strftime. It is tried once here, so that printing cannot fail later.
    pub(super) fn time(pattern: &str) -> Result<Self, FormatError> {
        let refused = |reason: &dyn std::fmt::Display| FormatError::TimeFormat {
            pattern: pattern.to_owned(),
            reason: reason.to_string(),
        };
        if pattern.is_empty() {
            return Ok(Self::StartTime);
        }
        let sample = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
        jiff::fmt::strtime::format(pattern, &sample).map_err(|error| refused(&error))?;
        Ok(Self::StartTimeAs(pattern.into()))
    }

    /// Appends the value, at most `max` bytes of it; false, and nothing appended, when the request has none.
    pub(super) fn write(&self, info: &StreamInfo, max: usize, form: Form, out: &mut Vec<u8>) -> bool {
        let text = |value: Option<&str>, out: &mut Vec<u8>| bytes(value.unwrap_or_default().as_bytes(), max, form, out);
        let header =
            |value: Option<&HeaderValue>, out: &mut Vec<u8>| bytes(value.map_or(b"", |v| v.as_bytes()), max, form, out);
        match self {
            Self::Method => text(info.method.as_ref().map(|method| method.as_str()), out),
            Self::Scheme => text(info.scheme, out),
            Self::Path => text(info.sent_path().map(|path| path.as_str()), out),
            Self::OriginalPath => text(info.original_path().map(|path| path.as_str()), out),
            Self::Details => words(Some(&info.details), max, form, out),
            Self::Cause => words(info.cause.as_deref(), max, form, out),
            Self::ConnectionTermination => text(info.connection_termination, out),
            Self::ForwardedFor => header(info.x_forwarded_for.as_ref(), out),
            Self::UserAgent => header(info.user_agent.as_ref(), out),
            Self::RequestId => header(info.request_id.as_ref(), out),
            Self::Authority => header(info.authority.as_ref(), out),
            Self::UpstreamCluster => text(info.upstream_cluster.as_deref(), out),
            Self::ServerName => text(info.requested_server_name.as_deref(), out),
            Self::RouteName => text(info.route_name.as_deref(), out),
            // Of several lines the first, as in Envoy.
            Self::RequestHeader(name) => header(info.request_headers.as_ref().and_then(|all| all.get(name)), out),
            Self::ResponseHeader(name) => header(info.response_headers.as_ref().and_then(|all| all.get(name)), out),
            Self::ResponseTrailer(name) => header(info.response_trailers.as_ref().and_then(|all| all.get(name)), out),
            Self::DynamicMetadata(name) => text(info.metadata(name), out),
            Self::Word(word) => word.write(info, &mut |value| bytes(value, max, form, out)),
            Self::Absent => false,
            _ => self.write_plain(info, max, out),
        }
    }

    /// Values that need no escape: numbers, times, addresses.
    fn write_plain(&self, info: &StreamInfo, max: usize, out: &mut Vec<u8>) -> bool {
        let begin = out.len();
        let written = match self {
            Self::StartTime => start_time(info.start, out),
            Self::StartTimeAs(pattern) => start_time_as(info.start, pattern, out),
            Self::EmitTime => start_time(SystemTime::now(), out),
            Self::Protocol => protocol(info.protocol, out),
            Self::ResponseCode => decimal(u64::from(info.response_code), out),
            Self::HeadStatus => {
                let status = info.head_status.unwrap_or(info.response_code);
                status != 0 && decimal(u64::from(status), out)
            }
            // Envoy has a dash for none, also where absent values leave nothing.
            Self::ResponseFlags => write!(out, "{}", info.flags).is_ok(),
            Self::BytesReceived => decimal(info.bytes_received, out),
            Self::BytesSent => decimal(info.bytes_sent, out),
            Self::Duration => decimal(millis(info.duration), out),
            Self::UpstreamServiceTime => info.upstream_service_time.is_some_and(|time| decimal(millis(time), out)),
            Self::UpstreamHost => upstream(info.upstream_host, out),
            Self::TraceId => {
                info.trace_id.is_some_and(|id| id.iter().try_for_each(|byte| write!(out, "{byte:02x}")).is_ok())
            }
            Self::UpstreamLocal => socket(info.upstream_local, out),
            Self::DownstreamLocal => socket(info.downstream_local, out),
            Self::DownstreamRemote => socket(info.downstream_remote, out),
            Self::DownstreamLocalIp => info.downstream_local.is_some_and(|address| ip(address.ip(), out)),
            Self::DownstreamDirect => socket(info.downstream_direct, out),
            Self::DownstreamDirectIp => info.downstream_direct.is_some_and(|address| ip(address.ip(), out)),
            Self::DownstreamRemoteIp => info.downstream_remote.is_some_and(|address| ip(address.ip(), out)),
            _ => false,
        };
        out.truncate(begin.saturating_add(max));
        written
    }
}

/// Text that stands outside of quotes: Envoy joins its words.
fn words(value: Option<&str>, max: usize, form: Form, out: &mut Vec<u8>) -> bool {
    let begin = out.len();
    let written = bytes(value.unwrap_or_default().as_bytes(), max, form, out);
    for byte in &mut out[begin..] {
        if *byte == b' ' {
            *byte = b'_';
        }
    }
    written
}

/// Appends at most `max` of the bytes, those of a line escaped that could end quotes or lines or that no terminal should
/// see.
fn bytes(value: &[u8], max: usize, form: Form, out: &mut Vec<u8>) -> bool {
    let value = &value[..value.len().min(max)];
    // Without an early end the compiler looks at sixteen bytes at a time, and nearly all text needs no escape.
    if form == Form::Raw || !value.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        out.extend_from_slice(value);
        return !value.is_empty();
    }
    for byte in value {
        if needs_escape(*byte) {
            escape(*byte, out);
        } else {
            out.push(*byte);
        }
    }
    true
}

fn needs_escape(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~') | (byte == b'"') | (byte == b'\\')
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    }
}

/// `write!` costs some hundred instructions a number; a line has a dozen of them.
fn decimal(value: u64, out: &mut Vec<u8>) -> bool {
    let mut digits = [0; 20];
    let begin = decimal_before(digits.len(), value, &mut digits);
    out.extend_from_slice(&digits[begin..]);
    true
}

/// Writes digits so that they stop before `end`; returns where they begin.
fn decimal_before(end: usize, value: u64, text: &mut [u8]) -> usize {
    let (mut begin, mut rest) = (end, value);
    loop {
        begin -= 1;
        text[begin] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return begin;
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn socket(address: Option<SocketAddr>, out: &mut Vec<u8>) -> bool {
    let Some(address) = address else { return false };
    let IpAddr::V4(v4) = address.ip() else { return write!(out, "{address}").is_ok() };
    let mut text = [0; "255.255.255.255:65535".len()];
    let colon = decimal_before(text.len(), u64::from(address.port()), &mut text) - 1;
    text[colon] = b':';
    let begin = v4_before(colon, v4, &mut text);
    out.extend_from_slice(&text[begin..]);
    true
}

fn upstream(address: Option<UpstreamAddress>, out: &mut Vec<u8>) -> bool {
    match address {
        Some(UpstreamAddress::Pipe(path)) => write!(out, "{path}").is_ok(),
        address => socket(address.and_then(UpstreamAddress::socket), out),
    }
}

fn ip(address: IpAddr, out: &mut Vec<u8>) -> bool {
    let IpAddr::V4(v4) = address else { return write!(out, "{address}").is_ok() };
    let mut text = [0; "255.255.255.255".len()];
    let begin = v4_before(text.len(), v4, &mut text);
    out.extend_from_slice(&text[begin..]);
    true
}

/// As [`decimal_before`], for four numbers with dots.
fn v4_before(end: usize, address: Ipv4Addr, text: &mut [u8]) -> usize {
    let [a, b, c, d] = address.octets();
    let mut begin = decimal_before(end, u64::from(d), text);
    for octet in [c, b, a] {
        begin -= 1;
        text[begin] = b'.';
        begin = decimal_before(begin, u64::from(octet), text);
    }
    begin
}

fn protocol(version: Option<Version>, out: &mut Vec<u8>) -> bool {
    let Some(name) = protocol_name(version) else { return false };
    out.extend_from_slice(name.as_bytes());
    true
}

/// A version of HTTP as Envoy spells it; none for those that are not served.
pub fn protocol_name(version: Option<Version>) -> Option<&'static str> {
    match version {
        Some(Version::HTTP_10) => Some("HTTP/1.0"),
        Some(Version::HTTP_11) => Some("HTTP/1.1"),
        Some(Version::HTTP_2) => Some("HTTP/2"),
        Some(Version::HTTP_3) => Some("HTTP/3"),
        _ => None,
    }
}

/// Envoy's `2026-11-22T14:49:13.123Z`. The date is printed once a second and thread.
fn start_time(start: SystemTime, out: &mut Vec<u8>) -> bool {
    thread_local! {
        static SECOND: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [0; 19])) };
    }
    let since_epoch = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (mut second, mut date) = SECOND.get();
    if second != since_epoch.as_secs() {
        second = since_epoch.as_secs();
        let Some(printed) = date_time(second) else { return false };
        date = printed;
        SECOND.set((second, date));
    }
    out.extend_from_slice(&date);
    let ms = since_epoch.subsec_millis();
    let digit = |value: u32| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
    true
}

fn date_time(second: u64) -> Option<[u8; 19]> {
    let at = Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    format!("{at:.0}").as_bytes().get(..19)?.try_into().ok()
}

fn start_time_as(start: SystemTime, pattern: &str, out: &mut Vec<u8>) -> bool {
    let Ok(at) = Timestamp::try_from(start) else { return false };
    let Ok(printed) = jiff::fmt::strtime::format(pattern, &at.to_zoned(TimeZone::UTC)) else { return false };
    out.extend_from_slice(printed.as_bytes());
    true
}

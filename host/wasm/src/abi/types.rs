//! The numbers that cross the boundary, after the proxy-wasm specification v0.2.1.

use std::fmt;

use crate::context::Direction;

/// What a host function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such header, property, function, queue or metric.
    NotFound = 1,
    /// A number out of range, text that HTTP forbids, or a call in the wrong phase.
    BadArgument = 2,
    /// The answer could not be written down.
    SerializationFailure = 3,
    /// The argument could not be read.
    ParseFailure = 4,
    /// A pointer outside the guest's memory, or the guest's allocator gave none.
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    Empty = 7,
    /// Somebody else has written the key in between.
    CasMismatch = 8,
    /// A limit of the host is reached.
    InternalFailure = 10,
    /// The host does not serve this function.
    Unimplemented = 12,
}

impl Status {
    /// The status as a result, for `?`.
    pub(crate) fn into_answer(self) -> Result<(), Self> {
        if self == Self::Ok { Ok(()) } else { Err(self) }
    }
}

impl Status {
    /// The ABI's name of a number.
    pub(crate) fn name_of(number: u32) -> &'static str {
        match number {
            0 => "OK",
            1 => "NOT_FOUND",
            2 => "BAD_ARGUMENT",
            3 => "SERIALIZATION_FAILURE",
            4 => "PARSE_FAILURE",
            6 => "INVALID_MEMORY_ACCESS",
            7 => "EMPTY",
            8 => "CAS_MISMATCH",
            10 => "INTERNAL_FAILURE",
            12 => "UNIMPLEMENTED",
            _ => "unknown status",
        }
    }
}

impl From<Status> for u32 {
    fn from(status: Status) -> Self {
        status as Self
    }
}

/// Version of the ABI, from the marker that the module exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`.
    V0_1_0,
    /// `proxy_abi_version_0_2_0`.
    V0_2_0,
    /// `proxy_abi_version_0_2_1`.
    V0_2_1,
    /// `proxy_abi_version_0_2_100`: Higress's 0.2.1 with Redis calls and another rule for pauses.
    V0_2_100,
}

impl AbiVersion {
    /// What a module exports to say its version: this and the version's digits joined with `_`.
    pub(crate) const MARKER: &'static str = "proxy_abi_version_";

    /// The version that this export marks; none for any other name and for unknown versions.
    pub(crate) fn from_marker(name: &str) -> Option<Self> {
        match name.strip_prefix(Self::MARKER)? {
            "0_1_0" => Some(Self::V0_1_0),
            "0_2_0" => Some(Self::V0_2_0),
            "0_2_1" => Some(Self::V0_2_1),
            "0_2_100" => Some(Self::V0_2_100),
            _ => None,
        }
    }

    /// True when body callbacks run while the filter holds the headers back, as Higress has it. In the other versions a
    /// pause in a headers callback holds everything.
    pub fn runs_body_while_headers_wait(self) -> bool {
        self == Self::V0_2_100
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
            Self::V0_2_100 => "0.2.100",
        })
    }
}

/// Which buffer a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    RequestBody,
    ResponseBody,
    DownstreamData,
    UpstreamData,
    CallBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    ForeignArguments,
    /// Higress's: the reply to `redis_call`.
    RedisReply,
}

impl BufferKind {
    /// The kind with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestBody,
            1 => Self::ResponseBody,
            2 => Self::DownstreamData,
            3 => Self::UpstreamData,
            4 => Self::CallBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::ForeignArguments,
            9 => Self::RedisReply,
            _ => return None,
        })
    }
}

/// Which header map a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallHeaders,
    CallTrailers,
}

impl MapKind {
    /// The kind with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallHeaders,
            7 => Self::CallTrailers,
            _ => return None,
        })
    }
}

impl MapKind {
    /// Which way the map goes; none for maps of callouts.
    pub(crate) fn direction(self) -> Option<Direction> {
        match self {
            Self::RequestHeaders | Self::RequestTrailers => Some(Direction::Request),
            Self::ResponseHeaders | Self::ResponseTrailers => Some(Direction::Response),
            _ => None,
        }
    }
}

/// Which direction a call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Request,
    Response,
    Downstream,
    Upstream,
}

impl StreamKind {
    /// The kind with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Request,
            1 => Self::Response,
            2 => Self::Downstream,
            3 => Self::Upstream,
            _ => return None,
        })
    }
}

/// How serious a line of a filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl LogLevel {
    /// The level with this number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return None,
        })
    }
}

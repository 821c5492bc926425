//! Numbers of the ABI as types, named as the crate `proxy-wasm` names them.
//!
//! They are not taken from that crate: linking it would export all of its callbacks from every filter.

/// What a header or body callback asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    /// Hand the message on.
    Continue = 0,
    /// Hold it: until the filter resumes it, or for good when a local reply was sent.
    Pause = 1,
}

/// Severity of a log line, in the ABI's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum LogLevel {
    /// Finest detail.
    Trace = 0,
    /// For who debugs the filter.
    Debug = 1,
    /// Worth knowing.
    Info = 2,
    /// Odd, but handled.
    Warn = 3,
    /// Something did not work.
    Error = 4,
    /// Nothing works.
    Critical = 5,
}

/// What a host function answered. Numbers that the ABI leaves out count as [`Status::InternalFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// No such header, property, key or function.
    NotFound = 1,
    /// An argument makes no sense, or not in this callback.
    BadArgument = 2,
    /// The host could not write its answer.
    SerializationFailure = 3,
    /// The host could not read the argument.
    ParseFailure = 4,
    /// A pointer or length lies outside of the module's memory.
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    Empty = 7,
    /// The shared value changed since it was read.
    CasMismatch = 8,
    /// Anything else.
    InternalFailure = 10,
    /// The host does not offer this function.
    Unimplemented = 12,
}

impl Status {
    /// The status with this number.
    pub fn from_raw(raw: i32) -> Self {
        match raw {
            0 => Self::Ok,
            1 => Self::NotFound,
            2 => Self::BadArgument,
            3 => Self::SerializationFailure,
            4 => Self::ParseFailure,
            6 => Self::InvalidMemoryAccess,
            7 => Self::Empty,
            8 => Self::CasMismatch,
            12 => Self::Unimplemented,
            _ => Self::InternalFailure,
        }
    }

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotFound => "not found",
            Self::BadArgument => "bad argument",
            Self::SerializationFailure => "serialization failure",
            Self::ParseFailure => "parse failure",
            Self::InvalidMemoryAccess => "invalid memory access",
            Self::Empty => "empty",
            Self::CasMismatch => "compare-and-swap mismatch",
            Self::InternalFailure => "internal failure",
            Self::Unimplemented => "unimplemented",
        }
    }
}

/// Whose headers or trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MapType {
    /// Headers of the request.
    HttpRequestHeaders = 0,
    /// Trailers of the request.
    HttpRequestTrailers = 1,
    /// Headers of the response.
    HttpResponseHeaders = 2,
    /// Trailers of the response.
    HttpResponseTrailers = 3,
    /// Metadata before the answer of a gRPC call.
    GrpcReceiveInitialMetadata = 4,
    /// Metadata after the answer of a gRPC call.
    GrpcReceiveTrailingMetadata = 5,
    /// Headers of the answer to an HTTP call.
    HttpCallResponseHeaders = 6,
    /// Trailers of the answer to an HTTP call.
    HttpCallResponseTrailers = 7,
}

/// Whose bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum BufferType {
    /// Body of the request.
    HttpRequestBody = 0,
    /// Body of the response.
    HttpResponseBody = 1,
    /// Body of the answer to an HTTP call.
    HttpCallResponseBody = 4,
    /// Message of the answer to a gRPC call.
    GrpcReceiveBuffer = 5,
    /// Configuration of the VM.
    VmConfiguration = 6,
    /// Configuration of the plugin.
    PluginConfiguration = 7,
    /// Arguments of a foreign function that the host calls.
    CallData = 8,
    /// Reply to a Redis call, as Higress's host numbers it.
    RedisReply = 9,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum MetricType {
    /// Only rises.
    Counter = 0,
    /// Goes both ways.
    Gauge = 1,
    /// Distribution of values.
    Histogram = 2,
}

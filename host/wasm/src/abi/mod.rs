//! The words of the ABI: its numbers and the wire form of header maps.

pub(crate) mod pairs;
pub(crate) mod protobuf;
mod types;

pub use types::{AbiVersion, Status};
pub(crate) use types::{BufferKind, LogLevel, MapKind, StreamKind};

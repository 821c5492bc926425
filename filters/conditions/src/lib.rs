//! What the filters of the library ask of a request: each condition as a type of the configuration and as a decision.
//! No filter by itself; a filter takes what it needs, and the linker leaves the rest out.

pub mod address;
mod client;
mod ranges;

pub use client::ClientAddress;
pub use ranges::IpRanges;

//! What the filters of the library ask of a request: each condition as a type of the configuration and as a decision; and
//! what their configurations write in one way, and how they keep to their time.
//! No filter by itself; a filter takes what it needs, and the linker leaves the rest out.

pub mod address;
mod budget;
mod by_route;
mod client;
mod head;
mod name;
mod pattern;
mod period;
mod ranges;
mod request;
mod text;
pub mod time;

pub use budget::CpuBudget;
pub use by_route::ByRoute;
pub use client::ClientAddress;
pub use head::{Head, LateHead};
pub use name::HeaderName;
pub use pattern::Pattern;
pub use period::Period;
pub use ranges::IpRanges;
pub use request::RequestMatch;
pub use text::StringMatch;

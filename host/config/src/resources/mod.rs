//! One file per kind, with only the fields that are read.

pub mod core;
pub mod istio;
mod unread;

pub use unread::Unread;

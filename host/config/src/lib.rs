//! From YAML to the model: sources are read into a resource set, and the resource set is translated.
//!
//! No sockets, no async. Everything a user wrote keeps its place, so that any answer can say which line of which file
//! caused it.

pub mod diagnostic;
pub mod kind;
pub mod object;
pub mod resource_set;
pub mod resources;

pub use resource_set::ResourceSet;

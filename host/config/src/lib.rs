//! From YAML to the model: sources are read into a resource set, and the resource set is translated.
//!
//! No sockets, no async. Everything a user wrote keeps its place, so that any answer can say which line of which file
//! caused it.

mod annotations;
pub mod diagnostic;
mod document;
mod duration;
mod extension;
mod hosts;
pub mod kind;
mod known;
mod locate;
pub mod object;
pub mod places;
pub mod plain;
mod quantity;
pub mod render;
pub mod resource_set;
pub mod resources;
pub mod source;
mod suggest;
pub mod translate;
mod tree;
mod typed;
pub mod update;
pub mod validate;
pub mod watch;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use quantity::parse_bytes;
pub use render::{render_github, render_json, render_text};
pub use resource_set::ResourceSet;
pub use source::Sources;
pub use translate::{TranslateOptions, Translation, Translator, translate};
pub use update::{ObjectState, ObjectStatus, read_str};
pub use watch::{WatchError, Watcher};

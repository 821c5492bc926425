//! [`LIBRARY`]: the bundled filters that a user puts into the chain with `url: bundled://NAME` of a WasmPlugin.
//!
//! Constants only: the build script of `filters/bundle` compiles this file as its own.

/// The scheme of a WasmPlugin's `url` that names one of them.
pub const SCHEME: &str = "bundled://";

/// A bundled filter that is in no chain until a WasmPlugin names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryFilter {
    /// What follows `bundled://`, and the folder's name in `filters`.
    pub name: &'static str,
    /// What it does, in one line for people.
    pub about: &'static str,
}

/// All of them, by name.
pub const LIBRARY: &[LibraryFilter] = &[
    LibraryFilter { name: "header-edit", about: "edits the headers of requests and responses" },
    LibraryFilter { name: "ip-allow", about: "lets clients in, or keeps them out, by their address" },
];

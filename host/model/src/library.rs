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
    /// It may hold a head until it has seen the body: body callbacks run meanwhile, as with the annotation
    /// `portolan.dev/allow-on-headers-stop-iteration`.
    pub holds_heads: bool,
}

impl LibraryFilter {
    const fn new(name: &'static str, about: &'static str) -> Self {
        Self { name, about, holds_heads: false }
    }
}

/// All of them, by name.
pub const LIBRARY: &[LibraryFilter] = &[
    LibraryFilter::new("authorization", "lets requests in, or keeps them out, by Istio's AuthorizationPolicies"),
    LibraryFilter::new("basic-auth", "asks for a user name and a password"),
    LibraryFilter::new("body-limit", "bounds the bodies of requests and responses"),
    LibraryFilter::new("compress", "compresses responses with gzip or brotli as they stream"),
    LibraryFilter::new("cors", "lets pages of other sites ask, and answers their preflights"),
    LibraryFilter {
        holds_heads: true,
        ..LibraryFilter::new("ext-authz", "asks an authorization service about each request, over HTTP or gRPC")
    },
    LibraryFilter::new("fault", "delays and aborts requests on purpose"),
    LibraryFilter::new("header-edit", "edits the headers of requests and responses"),
    LibraryFilter::new("ip-allow", "lets clients in, or keeps them out, by their address"),
    LibraryFilter::new("jwt-auth", "checks JSON Web Tokens, and claims that requests need"),
    LibraryFilter::new("maintenance", "answers in the place of a service that is down on purpose"),
    LibraryFilter::new("rate-limit", "limits requests by any of their properties, locally or through Redis"),
    LibraryFilter::new("sticky-canary", "marks a share of the users for a canary, always the same ones"),
];

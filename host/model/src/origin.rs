//! [`Origin`]: where in the user's files a thing came from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The object, file and line that caused something. Carried by every listener, route, cluster and plugin.
///
/// Two origins are always equal: a comment that moves a line is no change of the model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// Resource kind, e.g. `VirtualService`.
    pub kind: Arc<str>,
    /// `namespace/name` of the resource.
    pub name: Arc<str>,
    /// The file as the user named it: relative to the working directory when `--config` was.
    pub file: Arc<str>,
    /// Line in `file`, from 1; 0 when the thing comes from no file.
    pub line: u32,
    /// Column in `file`, from 1; 0 when unknown.
    pub column: u32,
    /// Where parts of it stand, for whoever tells why. No part of a model's dump.
    #[serde(skip)]
    pub parts: Parts,
}

/// Lines of the fields of a thing, by path below it: `timeout`, `headers.request.set.x-user`. Names of headers are lower
/// case.
#[derive(Clone, Debug, Default)]
pub struct Parts(Option<Arc<[Part]>>);

/// Path, file and line.
pub type Part = (Box<str>, Arc<str>, u32);

impl Parts {
    /// From paths with their files and lines.
    pub fn new(parts: Vec<Part>) -> Self {
        Self((!parts.is_empty()).then(|| parts.into()))
    }

    /// True when no line is known, as of a model that was read from a dump.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `file:line` of a part.
    pub fn place(&self, path: &str) -> Option<String> {
        let (_, file, line) = self.0.iter().flat_map(|parts| parts.iter()).find(|(part, _, _)| **part == *path)?;
        Some(format!("{file}:{line}"))
    }
}

impl Origin {
    /// `file:line`, the form in which explain, logs and the admin page name an origin.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// The place of a part of it, or its own.
    pub fn place_of(&self, part: &str) -> String {
        self.parts.place(part).unwrap_or_else(|| self.place())
    }
}

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl fmt::Display for Origin {
    /// `virtualservice/default/shop (routes.yaml:12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({}:{})", self.kind.to_lowercase(), self.name, self.file, self.line)
    }
}

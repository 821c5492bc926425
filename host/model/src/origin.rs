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
}

impl Origin {
    /// `file:line`, the form in which explain, logs and the admin page name an origin.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
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

//! [`Origin`]: where in the user's files a thing came from.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The object, file and line that caused something. Carried by every listener, route, cluster and plugin.
///
/// Two origins are always equal: a comment that moves a line is no change of the model.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// None for what comes from no file.
    document: Option<Arc<Document>>,
    /// In the document, from 1; 0 when the thing comes from no line.
    line: u32,
    column: u32,
    /// Where parts of it stand, for whoever tells why. No part of a model's dump.
    pub parts: Parts,
}

/// An object of the user's files. All origins in it have it in common: when text before it comes or goes, and it moves
/// within its file, they move with it, in models that were made before as well.
#[derive(Debug, Default)]
pub struct Document {
    /// Resource kind, e.g. `VirtualService`.
    kind: Cow<'static, str>,
    /// `namespace/name` of the resource.
    name: Box<str>,
    /// The file as the user named it: relative to the working directory when `--config` was.
    file: Arc<str>,
    /// The file's line where lines of the document count from, from 1.
    first_line: AtomicU32,
}

/// Lines of the fields of a thing, by path below it: `timeout`, `headers.request.set.x-user`. Names of headers are lower
/// case.
#[derive(Clone, Debug, Default)]
pub struct Parts(Option<Arc<[Part]>>);

/// Path, and the line in its document, from 1.
pub type Part = (Box<str>, Arc<Document>, u32);

impl Document {
    /// An object, and the line of its file that is line 1 of it.
    pub fn new(kind: impl Into<Cow<'static, str>>, name: &str, file: Arc<str>, first_line: u32) -> Self {
        Self { kind: kind.into(), name: name.into(), file, first_line: first_line.into() }
    }

    /// Resource kind, e.g. `VirtualService`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// `namespace/name` of the resource.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file as the user named it.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// The file's line that is line 1 of it.
    pub fn first_line(&self) -> u32 {
        self.first_line.load(Relaxed)
    }

    /// It stands elsewhere in its file now.
    pub fn move_to(&self, first_line: u32) {
        self.first_line.store(first_line, Relaxed);
    }

    /// The file's line of one of the document's, both from 1; 0 stays 0.
    pub fn line(&self, line: u32) -> u32 {
        match line {
            0 => 0,
            line => self.first_line().saturating_add(line - 1),
        }
    }
}

impl Parts {
    /// From paths with their documents and lines.
    pub fn new(parts: Vec<Part>) -> Self {
        Self((!parts.is_empty()).then(|| parts.into()))
    }

    /// True when no line is known, as of a model that was read from a dump.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `file:line` of a part.
    pub fn place(&self, path: &str) -> Option<String> {
        let (_, document, line) = self.0.iter().flat_map(|parts| parts.iter()).find(|(part, _, _)| **part == *path)?;
        Some(format!("{}:{}", document.file, document.line(*line)))
    }
}

impl Origin {
    /// A line of a document, from 1, and a column, from 1; 0 when it is unknown.
    pub fn new(document: Arc<Document>, line: u32, column: u32) -> Self {
        Self { document: Some(document), line, column, parts: Parts::default() }
    }

    /// A place of an object by the line of its file.
    pub fn at(kind: impl Into<Cow<'static, str>>, name: &str, file: &str, line: u32, column: u32) -> Self {
        Self::new(Arc::new(Document::new(kind, name, file.into(), 1)), line, column)
    }

    /// The same with the lines of its parts.
    pub fn with_parts(self, parts: Parts) -> Self {
        Self { parts, ..self }
    }

    /// Resource kind, e.g. `VirtualService`.
    pub fn kind(&self) -> &str {
        self.document.as_ref().map_or("", |document| document.kind())
    }

    /// `namespace/name` of the resource.
    pub fn name(&self) -> &str {
        self.document.as_ref().map_or("", |document| document.name())
    }

    /// The file as the user named it: relative to the working directory when `--config` was.
    pub fn file(&self) -> Arc<str> {
        self.document.as_ref().map(|document| document.file.clone()).unwrap_or_default()
    }

    /// Line in the file, from 1; 0 when the thing comes from no file.
    pub fn line(&self) -> u32 {
        self.document.as_ref().map_or(0, |document| document.line(self.line))
    }

    /// Column in the file, from 1; 0 when unknown.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// `file:line`, the form in which explain, logs and the admin page name an origin.
    pub fn place(&self) -> String {
        format!("{}:{}", self.file(), self.line())
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
        write!(f, "{}/{} ({}:{})", self.kind().to_lowercase(), self.name(), self.file(), self.line())
    }
}

/// How it stands in a dump.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Origin")]
struct Dumped<'a> {
    kind: Cow<'a, str>,
    name: Cow<'a, str>,
    file: Cow<'a, str>,
    line: u32,
    column: u32,
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let file = self.document.as_ref().map_or("", |document| &document.file);
        Dumped {
            kind: self.kind().into(),
            name: self.name().into(),
            file: file.into(),
            line: self.line(),
            column: self.column,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Dumped { kind, name, file, line, column } = Dumped::deserialize(deserializer)?;
        if line == 0 && kind.is_empty() && name.is_empty() && file.is_empty() {
            return Ok(Self { column, ..Self::default() });
        }
        Ok(Self::at(kind.into_owned(), &name, &file, line, column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_origins_of_an_object_move_with_it() {
        let document = Arc::new(Document::new("VirtualService", "default/shop", "routes.yaml".into(), 10));
        let part = ("timeout".into(), document.clone(), 4);
        let origin = Origin::new(document.clone(), 3, 5).with_parts(Parts::new(vec![part]));
        let before = origin.clone();
        assert_eq!(origin.to_string(), "virtualservice/default/shop (routes.yaml:12)");
        document.move_to(20);
        assert_eq!((before.line(), before.column()), (22, 5));
        assert_eq!(origin.place_of("timeout"), "routes.yaml:23");
        assert_eq!((Origin::default().line(), Origin::default().place()), (0, ":0".to_owned()));
    }
}

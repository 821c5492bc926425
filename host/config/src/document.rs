//! [`read_files`]: splits files into documents and reads each on its own, so that one broken document does not take
//! the others with it.

mod chunk;

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::Arc;

use chunk::{Chunk, split};
use portolan_model::{Document as Standing, Origin};
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::kind::Kind;
use crate::known::nearest;
use crate::locate;
use crate::object::Places;
use crate::plain::Plain;
use crate::resource_set::{ActiveObject, ObjectId};
use crate::tree::{Content, Spot, Tree};
use crate::typed::{self, Raw};

/// So many wrong keys of one document are told; a file made to annoy has more.
const MAX_KEY_FINDINGS: usize = 100;

/// What one file says.
#[derive(Debug, Default)]
pub(crate) struct FileReading {
    /// In order of the file.
    pub(crate) documents: Vec<Arc<DocumentReading>>,
    /// True when some document does not tell which object it is about: any object of the file may be meant.
    pub(crate) is_blind: bool,
}

/// What one document says.
#[derive(Debug, Default)]
pub(crate) struct DocumentReading {
    /// Its text, as a hash: the same again is read already.
    key: DocumentKey,
    /// Several in a list.
    pub(crate) objects: Vec<ReadObject>,
    is_blind: bool,
}

type DocumentKey = [u8; 32];

/// One object as read.
#[derive(Debug)]
pub(crate) struct ReadObject {
    /// Kind as written, empty when there is none; namespace as written, or `default`; the name, empty when there is none.
    pub(crate) standing: Arc<Standing>,
    /// As written.
    pub(crate) api_version: Box<str>,
    is_named: bool,
    /// Of a kind that is read and with a name.
    pub(crate) id: Option<Arc<ObjectId>>,
    /// Of its `kind:`, its line counted in the document.
    spot: Spot,
    pub(crate) outcome: Outcome,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// To be taken in.
    Valid(ActiveObject),
    /// Its diagnostics say why.
    Broken,
    /// Of a kind that is not read.
    Ignored,
}

impl ReadObject {
    /// Of its `kind:`.
    pub(crate) fn place(&self) -> Place {
        let (line, column, length) = self.spot;
        Place { file: self.standing.file().clone(), line: self.standing.line(line), column, length }
    }

    /// As [`ReadObject::place`].
    pub(crate) fn origin(&self) -> Origin {
        Origin::new(self.standing.clone(), self.spot.0, self.spot.1)
    }

    fn kind(&self) -> &str {
        self.standing.kind()
    }

    fn say(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }
}

impl DocumentReading {
    fn first_line(&self) -> Option<u32> {
        Some(self.objects.first()?.standing.first_line())
    }

    /// Moves its objects along. Not if something is said of them, with lines: then it is to be read anew.
    fn move_to(&self, first_line: u32) -> bool {
        let is_silent = self.objects.iter().all(|object| object.diagnostics.is_empty());
        if is_silent {
            self.objects.iter().for_each(|object| object.standing.move_to(first_line));
        }
        is_silent
    }
}

impl FileReading {
    /// All objects, in order of the file.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ReadObject> {
        self.documents.iter().flat_map(|document| &document.objects)
    }

    fn of(documents: Vec<Arc<DocumentReading>>) -> Self {
        let last = documents.last().and_then(|document| document.objects.last());
        // A file that ends in a broken object may be half written, and more objects on their way.
        let is_cut = last.is_some_and(|last| matches!(last.outcome, Outcome::Broken));
        let is_blind = is_cut || documents.iter().any(|document| document.is_blind);
        Self { documents, is_blind }
    }
}

/// A file to be read: its name, its text, and what it said before.
pub(crate) type Unread<'a> = (&'a Arc<str>, &'a str, Option<&'a FileReading>);

/// Reads all documents of files, on all cores; those of an earlier reading that are the same are taken from there. Tells
/// whether some of these stand elsewhere in their file now.
pub(crate) fn read_files(files: &[Unread<'_>]) -> (Vec<FileReading>, bool) {
    let texts: Vec<Cow<'_, str>> = files.iter().map(|(file, text, _)| plain_text(file, text)).collect();
    let (mut jobs, mut has_moved) = (Vec::new(), false);
    for (index, ((file, _, last), text)) in files.iter().zip(&texts).enumerate() {
        let mut known: HashMap<DocumentKey, VecDeque<&Arc<DocumentReading>>> = HashMap::new();
        for document in last.iter().flat_map(|last| &last.documents) {
            known.entry(document.key).or_default().push_back(document);
        }
        for chunk in split(text) {
            let key = chunk.key();
            // Each once, for it stands in one place.
            let known = known.get_mut(&key).and_then(VecDeque::pop_front).filter(|known| {
                let moves = known.first_line().is_some_and(|line| line != chunk.first_line);
                let is_taken = !moves || known.move_to(chunk.first_line);
                has_moved |= moves && is_taken;
                is_taken
            });
            jobs.push(Job { file: index, name: file, key, known: known.cloned(), chunk });
        }
    }
    let mut readings: Vec<Vec<Arc<DocumentReading>>> = vec![Vec::new(); files.len()];
    for (index, document) in jobs.iter().map(|job| job.file).zip(read_all(&jobs)) {
        readings[index].push(document);
    }
    (readings.into_iter().map(FileReading::of).collect(), has_moved)
}

/// One document of one of the files.
struct Job<'a> {
    file: usize,
    name: &'a Arc<str>,
    key: DocumentKey,
    known: Option<Arc<DocumentReading>>,
    chunk: Chunk<'a>,
}

/// Fewer documents than this are no work for a second thread.
const FEW: usize = 64;

fn read_all(jobs: &[Job<'_>]) -> Vec<Arc<DocumentReading>> {
    let new = jobs.iter().filter(|job| job.known.is_none()).count();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(new / FEW).max(1);
    if threads == 1 {
        return jobs.iter().map(Job::read).collect();
    }
    std::thread::scope(|scope| {
        let parts: Vec<_> = jobs.chunks(jobs.len().div_ceil(threads)).collect();
        let read = |part| move || -> Vec<_> { <[Job<'_>]>::iter(part).map(Job::read).collect() };
        let handles: Vec<_> = parts.iter().map(|part| scope.spawn(read(*part))).collect();
        let joined = handles.into_iter().map(|handle| handle.join().unwrap_or_else(|fault| resume_unwind(fault)));
        joined.flatten().collect()
    })
}

impl Job<'_> {
    fn read(&self) -> Arc<DocumentReading> {
        if let Some(known) = &self.known {
            return known.clone();
        }
        let mut reading = DocumentReading { key: self.key, ..DocumentReading::default() };
        document(self.name, &self.chunk).read(&mut reading);
        Arc::new(reading)
    }
}

/// Reads all documents of a file that holds no resources, as [`crate::plain`] says.
pub(crate) fn read_plain<T: DeserializeOwned>(
    file: &Arc<str>,
    text: &str,
    what: &str,
    wanted: &dyn Fn(&Places) -> bool,
) -> (Vec<Plain<T>>, Vec<Diagnostic>) {
    let (mut read, mut diagnostics) = (Vec::new(), Vec::new());
    each_document(file, text, |document| read.extend(document.read_plain(what, wanted, &mut diagnostics)));
    (read, diagnostics)
}

fn each_document(file: &Arc<str>, text: &str, mut read: impl FnMut(&Document<'_>)) {
    for chunk in split(&plain_text(file, text)) {
        read(&document(file, &chunk));
    }
}

fn plain_text<'a>(file: &str, text: &'a str) -> Cow<'a, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // YAML forbids tabs in indentation and JSON allows them; within JSON's strings there are none.
    if file.ends_with(".json") { Cow::from(text.replace('\t', " ")) } else { Cow::from(text) }
}

fn document<'a>(file: &'a Arc<str>, chunk: &'a Chunk<'_>) -> Document<'a> {
    let tree = Tree::of(&chunk.text, chunk.first_line);
    Document { file, text: &chunk.text, first_line: chunk.first_line, tree }
}

/// One document on its way to objects.
struct Document<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    first_line: u32,
    tree: Tree,
}

impl Document<'_> {
    fn read(&self, reading: &mut DocumentReading) {
        if let Some(error) = self.syntax_error() {
            return self.give_up(error, reading);
        }
        match self.tree.nodes.first().map(|root| &root.content) {
            None => {}
            Some(Content::Scalar(text)) if text.is_empty() => {}
            Some(Content::Map(_)) => self.read_root(reading),
            Some(_) => {
                let place = self.place(self.tree.nodes[0].spot);
                let message = "this is no resource: expected `apiVersion`, `kind` and `metadata`";
                self.give_up(Diagnostic::error("P0003", place, message), reading);
            }
        }
    }

    /// None when it is not wanted, or when something is wrong with it: told then.
    fn read_plain<T: DeserializeOwned>(
        &self,
        what: &str,
        wanted: &dyn Fn(&Places) -> bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Plain<T>> {
        if let Some(error) = self.syntax_error() {
            diagnostics.push(error);
            return None;
        }
        let standing = Standing::new("", "", self.file.clone(), self.first_line);
        let places = Arc::new(locate::places(&self.tree, 0, &Arc::new(standing)));
        if !wanted(&places) {
            return None;
        }
        let before = diagnostics.len();
        diagnostics.extend(self.key_findings(&|_| true));
        let has_findings = diagnostics.len() > before;
        let (text, first_line) = (self.text, self.first_line);
        let raw = Raw { text, first_line, places: places.clone(), has_findings, is_secret: false };
        let value = typed::read_plain(what, &raw, diagnostics)?;
        (diagnostics.len() == before).then_some(Plain { value, places })
    }

    /// The walk reads a little less than YAML's full grammar, so the last word is serde's.
    fn syntax_error(&self) -> Option<Diagnostic> {
        let stopped = self.tree.stopped.as_ref()?;
        if stopped.is_too_deep {
            return Some(Diagnostic::error("P0001", self.place(stopped.at), "nested too deeply"));
        }
        typed::syntax_error(self.text, self.first_line, self.file)
    }

    fn read_root(&self, reading: &mut DocumentReading) {
        let items = self.tree.child(0, "items").and_then(|items| self.tree.nodes.get(self.tree.resolve(items)?));
        let is_list = self.tree.text_at(0, &["kind"]).is_some_and(|kind| kind.ends_with("List"));
        let Some(Content::Seq(items)) = items.map(|items| &items.content).filter(|_| is_list) else {
            return self.read_object(0, self.text.into(), self.first_line, &|_| true, reading);
        };
        let spot = |index: usize| items.get(index).and_then(|item| self.tree.nodes.get(*item)).map(|node| node.spot);
        for (index, item) in items.iter().enumerate() {
            let (from, to) = (spot(index), spot(index + 1));
            let within = move |at: Spot| from.is_some_and(|from| at >= from) && to.is_none_or(|to| at < to);
            let (text, first_line) = self.item_text(*item);
            self.read_object(*item, text.into(), first_line, &within, reading);
        }
    }

    /// The text of an item of a list, in the columns where it stands.
    fn item_text(&self, item: usize) -> (String, u32) {
        let Some(node) = self.tree.resolve(item).and_then(|item| self.tree.nodes.get(item)) else {
            return (String::new(), self.first_line);
        };
        let text = self.text.get(node.bytes.0..node.bytes.1.max(node.bytes.0)).unwrap_or_default();
        let columns = usize::try_from(node.spot.1).unwrap_or(1).saturating_sub(1);
        (" ".repeat(columns) + text, node.spot.0)
    }

    /// `within` tells which places belong to the object, for what is found in the document as a whole.
    fn read_object(
        &self,
        node: usize,
        text: Cow<'_, str>,
        first_line: u32,
        within: &dyn Fn(Spot) -> bool,
        reading: &mut DocumentReading,
    ) {
        let mut object = self.start(node);
        object.diagnostics = self.key_findings(within);
        let has_findings = !object.diagnostics.is_empty();
        reading.is_blind |= has_findings;
        match self.known_kind(node, &mut object) {
            Ok(kind) if !object.is_named => {
                let place = self.tree.child(node, "metadata").and_then(|metadata| self.tree.nodes.get(metadata));
                let place = place.map_or(object.place(), |metadata| self.place(metadata.points_at(&self.tree)));
                let message = format!("`metadata.name` of this {} is missing", kind.name());
                object.say(Diagnostic::error("P0003", place, message));
                reading.is_blind = true;
            }
            Ok(kind) => {
                object.id = Some(self.id(kind, node));
                let places = Arc::new(locate::places(&self.tree, node, &object.standing));
                let raw = Raw { text: &text, first_line, places, has_findings, is_secret: kind == Kind::Secret };
                let valid = typed::read(kind, &raw, &mut object.diagnostics);
                object.outcome = valid.filter(|_| !has_findings).map_or(Outcome::Broken, Outcome::Valid);
            }
            Err(NotRead::Ignored) => {
                // A kind that is cut short or misspelt: a file on its way to be written must lose nothing.
                reading.is_blind |= !object.is_named || meant_kind(object.kind()).is_some();
                object.outcome = Outcome::Ignored;
            }
            Err(NotRead::Unnamed) => reading.is_blind = true,
            Err(NotRead::WrongVersion) => {}
        }
        reading.objects.push(object);
    }

    /// What is known of an object before it is read.
    fn start(&self, node: usize) -> ReadObject {
        let text = |path: &[&str]| self.tree.text_at(node, path).unwrap_or_default();
        let of_kind = self.tree.child(node, "kind").and_then(|kind| self.tree.nodes.get(kind));
        let spot = of_kind.map(|kind| kind.spot).or(self.tree.nodes.get(node).map(|node| node.points_at(&self.tree)));
        let (line, column, length) = spot.unwrap_or((self.first_line, 1, 1));
        let (kind, (namespace, name)) = (text(&["kind"]), self.full_name(node));
        let kind = Kind::by_name(kind).map_or_else(|| Cow::Owned(kind.to_owned()), |kind| Cow::Borrowed(kind.name()));
        let standing = Standing::new(kind, &format!("{namespace}/{name}"), self.file.clone(), self.first_line);
        ReadObject {
            standing: Arc::new(standing),
            api_version: text(&["apiVersion"]).into(),
            is_named: !name.is_empty(),
            id: None,
            spot: (line.saturating_sub(self.first_line) + 1, column, length),
            outcome: Outcome::Broken,
            diagnostics: Vec::new(),
        }
    }

    /// Namespace and name of an object.
    fn full_name(&self, node: usize) -> (&str, &str) {
        let text = |key| self.tree.text_at(node, &["metadata", key]).unwrap_or_default();
        let namespace = text("namespace");
        (if namespace.is_empty() { "default" } else { namespace }, text("name"))
    }

    fn id(&self, kind: Kind, node: usize) -> Arc<ObjectId> {
        let (namespace, name) = self.full_name(node);
        Arc::new(ObjectId::new(kind, namespace, name))
    }

    /// Keys that stand twice, and merge keys, which serde would pass over in silence.
    fn key_findings(&self, within: &dyn Fn(Spot) -> bool) -> Vec<Diagnostic> {
        let twice = self.tree.duplicate_keys().into_iter().filter(|(entry, _)| within(entry.spot));
        let twice = twice.map(|(entry, first)| {
            let message = format!("key `{}` stands twice in one map", entry.key);
            Diagnostic::error("P0006", self.place(entry.spot), message)
                .with_label(format!("first given in line {first}"))
        });
        let merges = self.tree.merge_keys().filter(|entry| within(entry.spot)).map(|entry| {
            Diagnostic::error("P0002", self.place(entry.spot), "merge keys (`<<`) are not supported")
                .with_help("write the fields out, or alias the whole value")
        });
        twice.chain(merges).take(MAX_KEY_FINDINGS).collect()
    }

    fn known_kind(&self, node: usize, object: &mut ReadObject) -> Result<Kind, NotRead> {
        let has = |key| self.tree.child(node, key).is_some();
        if !["apiVersion", "kind", "metadata", "spec"].into_iter().any(has) {
            // Somebody else's file, such as `compose.yaml`.
            let message = "this is no resource and is ignored: it has neither `apiVersion` nor `kind`";
            object.say(Diagnostic::warning("P0003", object.place(), message));
            object.outcome = Outcome::Ignored;
            return Err(NotRead::Unnamed);
        }
        let written = [("apiVersion", object.api_version.is_empty()), ("kind", object.kind().is_empty())];
        for (field, is_missing) in written {
            if is_missing {
                let message = format!("`{field}` is missing");
                object.say(Diagnostic::error("P0003", object.place(), message));
                return Err(NotRead::Unnamed);
            }
        }
        let Some(kind) = Kind::by_name(object.kind()) else {
            return Err(NotRead::Ignored);
        };
        if kind.api_versions().contains(&&*object.api_version) {
            return Ok(kind);
        }
        if kind.is_of_another_owner(&object.api_version) {
            return Err(NotRead::Ignored);
        }
        let spot = self.tree.child(node, "apiVersion").and_then(|version| self.tree.nodes.get(version));
        let place = spot.map_or(object.place(), |version| self.place(version.spot));
        let message = format!("`{}` is no API version of {}", object.api_version, kind.name());
        let known = kind.api_versions().join("`, `");
        object.say(Diagnostic::error("P0004", place, message).with_label(format!("known: `{known}`")));
        object.id = object.is_named.then(|| self.id(kind, node));
        Err(NotRead::WrongVersion)
    }

    /// A document of which nothing can be said but that it is wrong.
    fn give_up(&self, diagnostic: Diagnostic, reading: &mut DocumentReading) {
        let mut object = self.start(0);
        object.id = Kind::by_name(object.kind()).filter(|_| object.is_named).map(|kind| self.id(kind, 0));
        if object.kind().is_empty() {
            let Place { line, column, length, .. } = diagnostic.place;
            object.spot = (line.saturating_sub(self.first_line) + 1, column, length);
        }
        object.say(diagnostic);
        reading.objects.push(object);
        reading.is_blind = true;
    }

    fn place(&self, (line, column, length): Spot) -> Place {
        Place { file: self.file.clone(), line, column, length }
    }
}

/// Why an object is not read into a type.
enum NotRead {
    Ignored,
    Unnamed,
    WrongVersion,
}

/// One note for each kind that is not read, at its first object.
pub(crate) fn ignored_kinds<'a>(objects: impl Iterator<Item = &'a ReadObject>) -> Vec<Diagnostic> {
    let mut kinds: Vec<(&ReadObject, usize)> = Vec::new();
    for object in objects.filter(|object| matches!(object.outcome, Outcome::Ignored) && !object.kind().is_empty()) {
        let same =
            |(first, _): &&mut (&ReadObject, usize)| first.kind() == object.kind() && group(first) == group(object);
        match kinds.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => kinds.push((object, 1)),
        }
    }
    kinds.into_iter().map(|(first, count)| ignored_kind(first, count)).collect()
}

fn ignored_kind(first: &ReadObject, count: usize) -> Diagnostic {
    let objects = if count == 1 { "object".to_owned() } else { format!("{count} objects") };
    let message = format!("{objects} of kind `{}` (`{}`) ignored", first.kind(), first.api_version);
    let note = Diagnostic { severity: Severity::Note, ..Diagnostic::error("P0009", first.place(), message) };
    match meant_kind(first.kind()) {
        Some(known) => Diagnostic { severity: Severity::Warning, ..note }.with_help(format!("did you mean `{known}`?")),
        None => note,
    }
}

/// The kind that a word which is none was probably meant to be.
fn meant_kind(word: &str) -> Option<&'static str> {
    nearest(word, Kind::ALL.map(Kind::name)).filter(|known| *known != word)
}

fn group(object: &ReadObject) -> &str {
    object.api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests;

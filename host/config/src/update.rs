//! [`ResourceSet::update`]: takes in what the files say now, and keeps the last good version of what is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portolan_model::Origin;
use serde::Serialize;

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::document::{self, FileReading, Outcome, ReadObject};
use crate::resource_set::{ActiveObject, Kept, ObjectId, ResourceSet};
use crate::source::{SourceFile, Sources};

/// What became of one object of the files.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectStatus {
    /// What it is, and where it stands: of a kept version, where the new one stands. Without a name of its own it has an
    /// empty one.
    pub origin: Origin,
    /// What became of it.
    pub state: ObjectState,
    /// Why it is not active as written.
    pub reason: Option<Box<str>>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ObjectState {
    /// In force as written.
    Active,
    /// Its last good version is in force, for what is written is wrong.
    KeptOld,
    /// Not in force: wrong, and there never was a good version.
    Rejected,
    /// Of a kind that is not read.
    Ignored,
}

/// The next number for [`ResourceSet::lines`], for all sets.
static LINES: AtomicU64 = AtomicU64::new(1);

/// Reads one text, as if it were a file by itself.
pub fn read_str(name: &str, text: &str) -> (ResourceSet, Vec<Diagnostic>) {
    let mut resources = ResourceSet::default();
    let diagnostics = resources.update(&Sources::from_texts([(name, text)]));
    (resources, diagnostics)
}

impl ResourceSet {
    /// Makes the set what `sources` say, and tells everything that is wrong with them, in order of file and line.
    ///
    /// An object whose new version is invalid keeps its last good one. Where a document does not tell which object it
    /// is about, all objects of its file are kept that are defined nowhere else; likewise for a file that cannot be
    /// read. An object that stands twice is taken from the first place. What no file names any more is gone.
    pub fn update(&mut self, sources: &Sources) -> Vec<Diagnostic> {
        let (readings, has_moved) = self.readings(sources);
        if has_moved {
            self.lines = LINES.fetch_add(1, Relaxed);
        }
        let mut update = Update::default();
        for (file, reading) in sources.files().iter().zip(&readings) {
            update.diagnostics.extend(file.diagnostic());
            for object in reading.objects() {
                update.diagnostics.extend(object.diagnostics.iter().cloned());
                update.take(object, &self.active);
            }
        }
        let blind = sources.files().iter().zip(&readings).filter(|(_, reading)| reading.is_blind);
        for (file, _) in blind {
            let kept = update.keep_all_of(file, &self.active);
            if kept > 0 && file.is_blank {
                update.diagnostics.push(emptied(file, kept));
            }
        }
        let objects = readings.iter().flat_map(|reading| reading.objects());
        update.diagnostics.extend(document::ignored_kinds(objects));
        let Update { active, statuses, mut diagnostics, .. } = update;
        in_order(&mut diagnostics, sources);
        (self.active, self.statuses) = (active, statuses.into());
        let read = sources.files().iter().zip(readings).filter(|(file, _)| file.hash != [0; 32]);
        self.readings = read.map(|(file, reading)| (file.name.clone(), (file.hash, reading))).collect();
        diagnostics
    }

    /// As [`ResourceSet::objects`], to keep.
    pub fn statuses(&self) -> Arc<[ObjectStatus]> {
        self.statuses.clone()
    }

    /// What became of each object of the files, in their order.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectStatus> {
        self.statuses.iter()
    }

    /// What each file says, and whether something has moved; a file that did not change is not read again.
    fn readings(&self, sources: &Sources) -> (Vec<Arc<FileReading>>, bool) {
        let known: Vec<_> = sources.files().iter().map(|file| self.known_reading(file)).collect();
        let new = sources.files().iter().zip(&known).filter(|(_, known)| known.is_none()).filter_map(|(file, _)| {
            let last = self.readings.get(&file.name).map(|(_, reading)| &**reading);
            Some((&file.name, &**file.content.as_ref().ok()?, last))
        });
        let (new, has_moved) = document::read_files(&new.collect::<Vec<_>>());
        let mut new = new.into_iter().map(Arc::new);
        (known.into_iter().map(|known| known.or_else(|| new.next()).unwrap_or_default()).collect(), has_moved)
    }

    /// What is known of a file without reading its text.
    fn known_reading(&self, file: &SourceFile) -> Option<Arc<FileReading>> {
        // An empty file is most likely about to be written: editors and shells truncate first. Whoever means it deletes it.
        if file.content.is_err() || file.is_blank {
            return Some(Arc::new(FileReading { is_blind: true, ..FileReading::default() }));
        }
        let known = self.readings.get(&file.name).filter(|(hash, _)| *hash == file.hash);
        // What there is no text of has been taken in: if not here, it says nothing.
        let blind = || file.is_dropped.then(|| Arc::new(FileReading { is_blind: true, ..FileReading::default() }));
        known.map(|(_, reading)| reading.clone()).or_else(blind)
    }
}

/// A new state of the set, as it grows.
#[derive(Default)]
struct Update<'a> {
    active: BTreeMap<Arc<ObjectId>, Kept>,
    statuses: Vec<ObjectStatus>,
    /// Every object that some document is about, where it stands first.
    claimed: HashMap<&'a ObjectId, &'a ReadObject>,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Update<'a> {
    fn take(&mut self, object: &'a ReadObject, old: &BTreeMap<Arc<ObjectId>, Kept>) {
        let reason = || object.diagnostics.iter().find(|finding| finding.severity == Severity::Error).map(summary);
        let Some(id) = object.id.as_ref() else {
            let state = match object.outcome {
                Outcome::Ignored => ObjectState::Ignored,
                Outcome::Valid(_) | Outcome::Broken => ObjectState::Rejected,
            };
            return self.tell(object, state, reason());
        };
        if let Some(first) = self.claimed.get(&**id) {
            let finding = duplicate(object, &first.place());
            let reason = summary(&finding);
            self.diagnostics.push(finding);
            return self.tell(object, ObjectState::Rejected, Some(reason));
        }
        self.claimed.insert(id, object);
        let kept =
            |object_now: &ActiveObject| Kept { object: object_now.clone(), file: object.standing.file().clone() };
        if let Outcome::Valid(valid) = &object.outcome {
            self.active.insert(id.clone(), kept(valid));
            return self.tell(object, ObjectState::Active, None);
        }
        match old.get(id) {
            Some(good) => {
                self.active.insert(id.clone(), kept(&good.object));
                self.tell(object, ObjectState::KeptOld, reason());
            }
            None => self.tell(object, ObjectState::Rejected, reason()),
        }
    }

    /// Keeps the objects of a file, or of the files below a folder, that no document is about. Tells how many.
    fn keep_all_of(&mut self, file: &SourceFile, old: &BTreeMap<Arc<ObjectId>, Kept>) -> usize {
        let before = self.active.len();
        let name = Path::new(&*file.name);
        let is_of_file = |kept: &Kept| {
            let kept = Path::new(&*kept.file);
            kept.starts_with(name) || (name == Path::new(".") && kept.is_relative())
        };
        let reason = self.diagnostics.iter().find(|finding| finding.place.file == file.name).map(summary);
        for (id, kept) in old.iter().filter(|(_, kept)| is_of_file(kept)) {
            if self.claimed.contains_key(&**id) || self.active.contains_key(id) {
                continue;
            }
            self.active.insert(id.clone(), kept.clone());
            let name = format!("{}/{}", id.namespace, id.name);
            let origin = Origin::at(id.kind.name(), &name, &kept.file, 1, 1);
            self.statuses.push(ObjectStatus { origin, state: ObjectState::KeptOld, reason: reason.clone() });
        }
        self.active.len() - before
    }

    fn tell(&mut self, object: &ReadObject, state: ObjectState, reason: Option<Box<str>>) {
        self.statuses.push(ObjectStatus { origin: object.origin(), state, reason });
    }
}

fn emptied(file: &SourceFile, kept: usize) -> Diagnostic {
    let objects = if kept == 1 { "its object keeps" } else { "its objects keep" };
    let message = format!("the file is empty: {objects} the last version");
    let place = Place { file: file.name.clone(), line: 1, column: 1, length: 1 };
    Diagnostic::warning("P0010", place, message).with_help("delete the file to remove what it defined")
}

fn duplicate(object: &ReadObject, first: &Place) -> Diagnostic {
    let message = format!("{} `{}` is defined twice", object.standing.kind(), object.standing.name());
    Diagnostic::error("P0005", object.place(), message)
        .with_label(format!("the one at {}:{} is used", first.file, first.line))
}

fn summary(finding: &Diagnostic) -> Box<str> {
    let Place { file, line, column, .. } = &finding.place;
    format!("{file}:{line}:{column}: {}", finding.message).into()
}

/// Sorts by file, as they were read, then by line; a finding that stands twice is told once.
fn in_order(diagnostics: &mut Vec<Diagnostic>, sources: &Sources) {
    if diagnostics.is_empty() {
        return;
    }
    let order: HashMap<&str, usize> = sources.files().iter().map(|file| &*file.name).zip(0..).collect();
    diagnostics.sort_by_key(|finding| {
        let place = &finding.place;
        (order.get(&*place.file).copied(), place.line, place.column, finding.code)
    });
    let mut told = HashSet::new();
    diagnostics.retain(|finding| told.insert((finding.place.clone(), finding.code, finding.message.clone())));
}

#[cfg(test)]
mod tests;

//! Tests on real folders. Each waits for a call, far shorter than the rescan that would hide a missed event.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::symlink;

use super::*;

/// So long does an expected call take at most on a busy machine; the rescan of these tests never comes.
const PATIENCE: Duration = Duration::from_secs(5);

const NO_RESCAN: Timing = Timing { rescan: Duration::from_secs(3600), poll: Duration::from_secs(3600), ..TIMING };

struct Calls(Receiver<()>);

impl Calls {
    fn expect(&self, what: &str) {
        assert!(self.0.recv_timeout(PATIENCE).is_ok(), "no call after: {what}");
    }

    /// Takes calls until none comes for longer than the watcher waits for quiet.
    fn drain(&self) -> usize {
        let mut count = 0;
        while self.0.recv_timeout(3 * TIMING.limit).is_ok() {
            count += 1;
        }
        count
    }
}

fn watch(timing: Timing, paths: &[PathBuf]) -> (Watcher, Calls) {
    let (sender, calls) = mpsc::channel();
    let read = paths.to_vec();
    let watcher = Watcher::start_with(timing, paths, move || {
        // As the real caller does: reading must not cause calls.
        Sources::read(&read);
        sender.send(()).ok();
    });
    (watcher.unwrap(), Calls(calls))
}

#[test]
fn a_saved_file_is_told_within_the_limit_and_reading_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, "a: 1\n").unwrap();
    let (_watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    fs::write(&file, "a: 2\n").unwrap();
    calls.expect("a write");
    assert_eq!(calls.drain(), 0, "reading alone causes no call");
}

#[test]
fn a_file_named_by_itself_survives_editors_that_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, "a: 1\n").unwrap();
    let (_watcher, calls) = watch(NO_RESCAN, std::slice::from_ref(&file));
    for round in 2..4 {
        fs::rename(&file, dir.path().join("a.yaml~")).unwrap();
        fs::write(dir.path().join("4913.tmp"), format!("a: {round}\n")).unwrap();
        fs::rename(dir.path().join("4913.tmp"), &file).unwrap();
        calls.expect("a replacement");
        calls.drain();
    }
}

#[test]
fn every_swap_of_a_config_map_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let publish = |version: &str| {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("a.yaml"), format!("version: {version}\n")).unwrap();
        symlink(version, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    publish("..1");
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let (_watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    for version in ["..2", "..3", "..4"] {
        publish(version);
        calls.expect(version);
        calls.drain();
        let sources = Sources::read(&[dir.path().to_owned()]);
        assert_eq!(sources.files().len(), 1);
        assert_eq!(sources.files()[0].content.as_deref().unwrap(), format!("version: {version}\n"));
    }
}

#[test]
fn new_and_replaced_folders_are_watched() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    let (_watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    for round in ["first", "second"] {
        fs::create_dir(&sub).unwrap();
        calls.expect("a new folder");
        calls.drain();
        fs::write(sub.join("a.yaml"), round).unwrap();
        calls.expect("a file in a new folder");
        calls.drain();
        fs::remove_dir_all(&sub).unwrap();
        calls.expect("a removed folder");
        calls.drain();
    }
}

#[test]
fn folders_behind_links_are_watched() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(other.path().join("real.txt"), "a: 1\n").unwrap();
    symlink(other.path().join("real.txt"), dir.path().join("a.yaml")).unwrap();
    let (_watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    fs::write(other.path().join("real.txt"), "a: 2\n").unwrap();
    calls.expect("a change of a link's target");
}

#[test]
fn extra_files_are_watched_and_foreign_files_are_not() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let module = other.path().join("filter.wasm");
    fs::write(&module, "1").unwrap();
    File::options().write(true).open(&module).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let (watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    fs::write(dir.path().join("access.log"), "line\n").unwrap();
    assert_eq!(calls.drain(), 0, "a log beside the configuration is nothing to read");
    watcher.set_extra(std::slice::from_ref(&module));
    assert_eq!(calls.drain(), 0, "an old file was read as it is");
    fs::write(&module, "2").unwrap();
    calls.expect("a new module");
}

#[test]
fn many_writes_in_a_row_are_told_before_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let (_watcher, calls) = watch(NO_RESCAN, &[dir.path().to_owned()]);
    let mut file = File::create(dir.path().join("a.yaml")).unwrap();
    let start = Instant::now();
    while calls.0.try_recv().is_err() {
        assert!(start.elapsed() < PATIENCE, "no call while writing goes on");
        file.write_all(b"#\n").unwrap();
        thread::yield_now();
    }
}

#[test]
fn without_events_the_rescan_finds_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, "a: 1\n").unwrap();
    let rescan = Duration::from_millis(20);
    let paths = vec![file.clone()];
    let mut watch = Watch::new(Timing { rescan, poll: rescan, ..TIMING }, paths, None);
    watch.look();
    let ((messages, inbox), (sender, calls)) = (mpsc::channel(), mpsc::channel());
    let thread = thread::spawn(move || {
        watch.run(&inbox, &|| {
            sender.send(()).ok();
        });
    });
    fs::write(&file, "a: 2\n").unwrap();
    Calls(calls).expect("a change that no event tells");
    messages.send(Message::Stop).unwrap();
    thread.join().unwrap();
}

#[test]
fn listed_files_of_any_kind_are_told_new_ones_too_and_what_is_not_listed_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    fs::create_dir(file("src")).unwrap();
    fs::write(file("src/lib.rs"), "//!").unwrap();
    let root = dir.path().to_owned();
    let list = move || {
        let entries = fs::read_dir(root.join("src")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
    };
    let (sender, calls) = mpsc::channel();
    let _watcher = Watcher::start_on(NO_RESCAN, Vec::new(), Some(Box::new(list)), move || {
        sender.send(()).ok();
    })
    .unwrap();
    let calls = Calls(calls);
    fs::write(file("src/lib.rs"), "//! more").unwrap();
    calls.expect("a write");
    calls.drain();
    fs::write(file("src/new.rs"), "//!").unwrap();
    calls.expect("a new file");
    calls.drain();
    fs::write(file("src/lib.rs"), "//! more").unwrap();
    fs::write(file("src/notes.txt"), "x").unwrap();
    assert_eq!(calls.drain(), 0, "neither the same content again nor another file");
}

#[test]
fn a_rescan_compares_with_what_the_caller_has_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    let paths = [dir.path().to_owned()];
    fs::write(&file, "a: 1\n").unwrap();
    // Without watches of the system every call is a rescan's.
    let (sender, calls) = mpsc::channel();
    let mut watch = Watch::new(Timing { poll: Duration::from_millis(20), ..TIMING }, paths.to_vec(), None);
    watch.look();
    let (messages, inbox) = mpsc::channel();
    thread::spawn(move || watch.run(&inbox, &|| sender.send(()).unwrap_or_default()));
    let read = Sources::read(&paths);
    fs::write(&file, "a: 12\n").unwrap();
    let calls = Calls(calls);
    calls.expect("a change");
    messages.send(Message::Seen(read.stamps_when_read())).unwrap();
    calls.expect("another reading than that of the change");
    messages.send(Message::Seen(Sources::read(&paths).stamps_when_read())).unwrap();
    assert!(calls.drain() <= 1, "the change has been read");
    messages.send(Message::Stop).unwrap();
}

//! Tests of the access log.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Instant;

use super::*;

fn request(code: u16) -> StreamInfo {
    StreamInfo { response_code: code, ..StreamInfo::default() }
}

fn codes(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| line.split(' ').nth(4).unwrap().to_owned())
        .collect()
}

/// Waits for what another thread does, up to a time that only a broken writer reaches.
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "the writer did not get there");
        std::thread::yield_now();
    }
}

#[test]
fn dropping_the_log_writes_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path).unwrap();
    for code in 200..300 {
        log.record(&request(code));
    }
    drop(log);
    assert_eq!(codes(&path), (200..300).map(|code| code.to_string()).collect::<Vec<_>>());
}

#[test]
fn lines_arrive_while_the_log_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path).unwrap();
    log.record(&request(200));
    until(|| codes(&path) == ["200"]);
    log.record(&request(404));
    until(|| codes(&path) == ["200", "404"]);
}

#[test]
fn an_existing_file_is_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    for code in [200, 201] {
        AccessLog::open(&path).unwrap().record(&request(code));
    }
    assert_eq!(codes(&path), ["200", "201"]);
}

#[test]
fn threads_do_not_tear_each_others_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = AccessLog::open(&path).unwrap();
    std::thread::scope(|scope| {
        for code in 200..204 {
            let log = &log;
            scope.spawn(move || (0..500).for_each(|_| log.record(&request(code))));
        }
    });
    assert_eq!(log.dropped(), 0);
    drop(log);
    let codes = codes(&path);
    for code in 200..204 {
        assert_eq!(codes.iter().filter(|one| **one == code.to_string()).count(), 500);
    }
}

#[test]
fn lines_beyond_the_buffer_are_dropped_and_counted() {
    let counters = Arc::new(AccessLogMetrics::default());
    let shared = Shared { state: Mutex::default(), changed: Condvar::new(), counters: counters.clone() };
    let line = vec![b'x'; 300_000];
    for _ in 0..5 {
        shared.append(&line);
    }
    assert_eq!((counters.lines_total.value(), counters.dropped_total.value()), (3, 2));
}

#[test]
fn a_pipe_that_nobody_reads_holds_neither_workers_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Opened for both, so that the writer's open does not wait for a reader.
    let pipe = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let log = AccessLog::open(&path).unwrap();
    let mut long = request(200);
    long.details = "x".repeat(10_000).into();
    let begin = Instant::now();
    for _ in 0..400 {
        log.record(&long);
    }
    assert!(log.dropped() > 0, "1 MiB waits at most, beside what the writer holds");
    drop(log);
    assert!(begin.elapsed() < Duration::from_secs(20));
    drop(pipe);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let error = AccessLog::open("/nonexistent/access.log").unwrap_err();
    assert_eq!(error.to_string(), "cannot open access log `/nonexistent/access.log`");
}

#[test]
fn failed_writes_are_counted_by_line() {
    let counters = Arc::new(AccessLogMetrics::default());
    let log =
        AccessLog::open_with(Path::new("/dev/full"), Format::compile("%PROTOCOL%").unwrap(), counters.clone()).unwrap();
    log.record(&request(200));
    drop(log);
    assert_eq!(counters.write_failed_total.value(), 1);
}

//! A constant load in the background that counts every request that was not answered as it should be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::await_true;
use super::client::{Connection, Request};

/// Pause between two requests of one connection.
const PAUSE: Duration = Duration::from_millis(2);

/// Keep-alive connections, each sending one request after the other.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Report>>,
}

/// What a load saw.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Requests answered with 200.
    pub(crate) answered: usize,
    /// What went wrong, in words; the first hundred.
    pub(crate) failures: Vec<String>,
    /// Connections that the gateway ended after a whole response.
    pub(crate) reconnects: usize,
    /// Times until the whole response was there, sorted.
    pub(crate) latencies: Vec<Duration>,
}

impl Load {
    /// Starts `connections` of them; a request fails unless it gets a 200.
    pub(crate) fn start(address: SocketAddr, request: &Request, connections: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let spawn = |_| {
            let (stop, answered, request) = (Arc::clone(&stop), Arc::clone(&answered), request.clone());
            std::thread::spawn(move || run(address, &request, &stop, &answered))
        };
        let threads = (0..connections).map(spawn).collect();
        Self { stop, answered, threads }
    }

    /// Waits until this many more requests were answered.
    pub(crate) fn await_more(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        await_true("more answers under load", || self.answered.load(Ordering::Relaxed) >= goal);
    }

    /// Ends it and sums up.
    pub(crate) fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut whole = Report::default();
        for thread in self.threads {
            let part = thread.join().expect("a thread of the load");
            whole.answered += part.answered;
            whole.reconnects += part.reconnects;
            whole.failures.extend(part.failures);
            whole.latencies.extend(part.latencies);
        }
        whole.latencies.sort_unstable();
        whole
    }
}

impl Report {
    /// Fails when a request failed.
    pub(crate) fn assert_no_failures(&self) {
        assert!(
            self.failures.is_empty(),
            "{} requests failed of {}: {:?}",
            self.failures.len(),
            self.answered,
            self.failures
        );
    }
}

fn run(address: SocketAddr, request: &Request, stop: &AtomicBool, answered: &AtomicUsize) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let opened = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(address),
        };
        match opened.and_then(|mut open| Ok((open.request(request)?, open))) {
            Ok((response, open)) if response.status == 200 => {
                report.answered += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                report.latencies.push(start.elapsed());
                if response.header("connection") == Some("close") {
                    report.reconnects += 1;
                } else {
                    connection = Some(open);
                }
            }
            Ok((response, _)) => report.fail(format!("status {}: {}", response.status, response.text())),
            Err(error) => report.fail(error.to_string()),
        }
        std::thread::sleep(PAUSE);
    }
    report
}

impl Report {
    fn fail(&mut self, what: String) {
        if self.failures.len() < 100 {
            self.failures.push(what);
        }
    }
}

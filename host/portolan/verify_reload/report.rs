//! [`Report`]: what was changed meanwhile, and what was lost.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::streams::{Tallies, Tally};
use crate::args::VerifyReloadArgs;

/// The answer of `verify-reload`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    reloads: u32,
    filter_swaps: u32,
    certificate_changes: u32,
    listener_changes: u32,
    /// Milliseconds until a change was served.
    served_p50_ms: u128,
    served_p99_ms: u128,
    #[serde(flatten)]
    tallies: Tallies,
}

impl Report {
    /// `took` is sorted.
    pub(super) fn new(args: &VerifyReloadArgs, tallies: Tallies, took: Vec<Duration>) -> Self {
        let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0, Duration::as_millis);
        Self {
            reloads: args.reloads,
            filter_swaps: args.filter_swaps,
            certificate_changes: args.certificate_changes,
            listener_changes: args.listener_changes,
            served_p50_ms: at(50),
            served_p99_ms: at(99),
            tallies,
        }
    }

    /// Requests and streams.
    pub(super) fn lost(&self) -> u64 {
        self.kinds().iter().map(|(_, tally)| tally.lost).sum()
    }

    fn kinds(&self) -> [(&'static str, &Tally); 10] {
        let all = &self.tallies;
        [
            ("http/1", &all.http1),
            ("http/2", &all.http2),
            ("grpc", &all.grpc),
            ("grpc stream", &all.grpc_stream),
            ("download", &all.download),
            ("upload", &all.upload),
            ("websocket", &all.websocket),
            ("websocket/2", &all.websocket_http2),
            ("tcp", &all.tcp),
            ("https", &all.https),
        ]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reloads, filter_swaps, certificate_changes, listener_changes, .. } = self;
        let Self { served_p50_ms, served_p99_ms, .. } = self;
        writeln!(
            f,
            "changes      {reloads} reloads, {filter_swaps} filter swaps, {certificate_changes} certificates,"
        )?;
        writeln!(f, "             {listener_changes} listeners added and removed")?;
        writeln!(f, "served after {served_p50_ms} ms (p50), {served_p99_ms} ms (p99)")?;
        for (name, tally) in self.kinds() {
            let Tally { answered, held, lost, failures } = tally;
            match answered + held + lost {
                0 => writeln!(f, "{name:<12} not asked")?,
                _ if *held > 0 || *answered == 0 => writeln!(f, "{name:<12} {held} held, {lost} cut")?,
                _ => writeln!(f, "{name:<12} {answered} answered, {lost} failed")?,
            }
            for failure in failures {
                writeln!(f, "             {failure}")?;
            }
        }
        match self.lost() {
            0 => writeln!(f, "lost         nothing"),
            lost => writeln!(f, "lost         {lost}"),
        }
    }
}

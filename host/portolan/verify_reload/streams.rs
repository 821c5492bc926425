//! [`Streams`]: requests and streams of all kinds under way, and what has become of them.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Context;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::held::Held;
use super::requests::{ANSWER_TIME, Kind, Work};
use super::secure::Secure;
use super::target::{Hurry, Target, Version};
use crate::args::VerifyReloadArgs;

/// Failures that are told.
const TOLD: usize = 10;

/// What became of one kind of traffic.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Requests that were answered as the first one, streams that came to their right end.
    pub(super) answered: u64,
    /// Streams that were held to the end.
    pub(super) held: u64,
    /// Requests that failed, streams that were cut.
    pub(super) lost: u64,
    /// How, the first ten.
    pub(super) failures: Vec<String>,
}

/// Traffic by kind.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tallies {
    pub(super) http1: Tally,
    pub(super) http2: Tally,
    pub(super) grpc: Tally,
    pub(super) grpc_stream: Tally,
    pub(super) download: Tally,
    pub(super) upload: Tally,
    pub(super) websocket: Tally,
    pub(super) websocket_http2: Tally,
    pub(super) tcp: Tally,
    /// Of the listener whose certificate changes.
    pub(super) https: Tally,
}

/// One of [`Tallies`].
type Pick = fn(&mut Tallies) -> &mut Tally;

/// Traffic under way.
#[derive(Default)]
pub(super) struct Streams {
    hurry: Hurry,
    tallies: Rc<RefCell<Tallies>>,
    requests: Vec<JoinHandle<()>>,
    secure: Option<(Hurry, JoinHandle<()>)>,
    held: Vec<JoinHandle<()>>,
}

impl Streams {
    /// Starts all of it; an error when something does not work to begin with.
    pub(super) async fn open(target: &Target, args: &VerifyReloadArgs) -> anyhow::Result<Self> {
        let mut streams = Self::default();
        let path = Some(&target.path);
        for _ in 0..args.connections {
            streams.ask(target, path, (Kind::Plain, Version::Http1), |all| &mut all.http1).await?;
            streams.ask(target, path, (Kind::Plain, Version::Http2), |all| &mut all.http2).await?;
            streams.ask(target, args.grpc.as_ref(), (Kind::Grpc, Version::Http2), |all| &mut all.grpc).await?;
        }
        let called = (Kind::GrpcStream, Version::Http2);
        streams.ask(target, args.grpc_stream.as_ref(), called, |all| &mut all.grpc_stream).await?;
        for version in [Version::Http1, Version::Http2] {
            streams.ask(target, args.download.as_ref(), (Kind::Download, version), |all| &mut all.download).await?;
            streams.ask(target, args.upload.as_ref(), (Kind::Upload, version), |all| &mut all.upload).await?;
        }
        streams.hold_all(target, args).await?;
        Ok(streams)
    }

    async fn ask(
        &mut self,
        target: &Target,
        path: Option<&String>,
        (kind, version): (Kind, Version),
        pick: Pick,
    ) -> anyhow::Result<()> {
        let Some(path) = path.cloned() else { return Ok(()) };
        let work = Work { kind, version, path, target: target.clone(), hurry: self.hurry.clone() };
        let first = work.first().await.with_context(|| format!("`{}`", work.path))?;
        let tallies = self.tallies.clone();
        self.requests.push(spawn_local(async move {
            work.keep_asking(first, |note| note(pick(&mut tallies.borrow_mut()))).await;
        }));
        Ok(())
    }

    async fn hold_all(&mut self, target: &Target, args: &VerifyReloadArgs) -> anyhow::Result<()> {
        if let Some(path) = &args.websocket {
            let open = |version| timeout(ANSWER_TIME, Held::websocket(target, path, version));
            let held = open(Version::Http1).await?.context("the WebSocket over HTTP/1")?;
            self.hold(held, |all| &mut all.websocket);
            let held = open(Version::Http2).await?.context("the WebSocket over HTTP/2")?;
            self.hold(held, |all| &mut all.websocket_http2);
        }
        if let Some(address) = &args.tcp {
            let held = Held::of(TcpStream::connect(address).await.context("the TCP listener")?);
            self.hold(held, |all| &mut all.tcp);
        }
        Ok(())
    }

    fn hold(&mut self, held: Held, pick: Pick) {
        let tallies = self.tallies.clone();
        pick(&mut tallies.borrow_mut()).held = 1;
        self.held.push(spawn_local(async move {
            let why = held.hold().await;
            pick(&mut tallies.borrow_mut()).cut(why);
        }));
    }

    /// Requests to the listener whose certificate changes.
    pub(super) fn ask_secure(&mut self, secure: &Rc<Secure>) {
        let (secure, hurry, tallies) = (secure.clone(), Hurry::default(), self.tallies.clone());
        let ending = hurry.clone();
        let asking = spawn_local(async move {
            secure.keep_asking(&ending, |note| note(&mut tallies.borrow_mut().https)).await;
        });
        self.secure = Some((hurry, asking));
    }

    /// Before that listener goes.
    pub(super) async fn end_secure(&mut self) {
        if let Some((hurry, asking)) = self.secure.take() {
            hurry.set(true);
            // A task that panicked has told so itself.
            let _ = asking.await;
        }
    }

    /// Lets requests under way end, closes the rest, and sums up.
    pub(super) async fn end(self) -> Tallies {
        self.hurry.set(true);
        for task in self.requests {
            // A task that panicked has told so itself.
            let _ = task.await;
        }
        self.held.iter().for_each(JoinHandle::abort);
        self.tallies.take()
    }
}

impl Tally {
    pub(super) fn lose(&mut self, why: String) {
        self.lost += 1;
        if self.failures.len() < TOLD {
            self.failures.push(why);
        }
    }

    fn cut(&mut self, why: String) {
        self.held = self.held.saturating_sub(1);
        self.lose(why);
    }
}

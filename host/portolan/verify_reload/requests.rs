//! [`Work`]: requests of one kind, one after the other, each compared with the first answer.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::body::{Body, Incoming};
use tokio::time::{sleep, timeout};

use super::streams::Tally;
use super::target::{Hurry, Outgoing, Sender, Target, Version};

/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(2);
/// For the head of an answer without an upload, and for each part of a body that must come.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How fast a slow download is read, in bytes a millisecond.
const BYTES_A_MILLISECOND: usize = 1600;
/// How often a stream's reader looks whether there is hurry.
const LOOK: Duration = Duration::from_millis(10);
/// A message of gRPC with nothing in it.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// What is asked again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A unary call.
    Grpc,
    /// A call whose answers come one after the other; it is called again when it has ended well.
    GrpcStream,
    /// A long answer, read slowly.
    Download,
    /// A long body, sent slowly.
    Upload,
}

/// Requests of one kind over one connection after the other.
pub(super) struct Work {
    pub(super) kind: Kind,
    pub(super) version: Version,
    pub(super) path: String,
    pub(super) target: Target,
    /// What has begun is to end.
    pub(super) hurry: Hurry,
}

/// What an answer is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    status: StatusCode,
    grpc: Option<HeaderValue>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        match &self.grpc {
            Some(status) => write!(f, ", grpc-status {}", status.to_str().unwrap_or("?")),
            None => Ok(()),
        }
    }
}

impl Work {
    /// The first answer says what is right. Nothing is slow yet; of a stream its beginning is enough.
    pub(super) async fn first(&self) -> anyhow::Result<(Sender, Verdict)> {
        let hurry = Hurry::default();
        hurry.set(true);
        let mut sender = self.target.connect(self.version).await?;
        let asked = self.exchange(&mut sender, &hurry);
        let verdict = timeout(ANSWER_TIME, asked).await.context("no answer")??.context("the connection ended")?;
        Ok((sender, verdict))
    }

    /// Asks until there is hurry.
    pub(super) async fn keep_asking(&self, first: (Sender, Verdict), note: impl Fn(&dyn Fn(&mut Tally))) {
        let (sender, right) = first;
        let mut open = Some(sender);
        while !self.hurry.get() {
            let asked = async {
                let mut sender = match open.take() {
                    Some(sender) => sender,
                    None => self.target.connect(self.version).await?,
                };
                let verdict = self.exchange(&mut sender, &self.hurry).await?;
                anyhow::Ok(verdict.map(|verdict| (sender, verdict)))
            };
            match asked.await {
                Ok(Some((sender, verdict))) if verdict == right => {
                    open = Some(sender);
                    note(&|tally| tally.answered += 1);
                }
                Ok(Some((_, verdict))) => note(&|tally| tally.lose(verdict.to_string())),
                // The gateway had wound the connection down, and nothing was sent on it.
                Ok(None) => {}
                Err(error) => note(&|tally| tally.lose(format!("{error:#}"))),
            }
            sleep(PAUSE).await;
        }
    }

    async fn exchange(&self, sender: &mut Sender, hurry: &Hurry) -> anyhow::Result<Option<Verdict>> {
        let late = || format!("no answer within {ANSWER_TIME:?}");
        let asked = timeout(ANSWER_TIME, sender.ask(self.request(hurry)?)).await.with_context(late)??;
        let Some(answer) = asked else { return Ok(None) };
        let (head, body) = answer.into_parts();
        let trailers = match self.kind {
            Kind::GrpcStream => self.follow(body, hurry).await?,
            _ => self.read(body, hurry).await?,
        };
        let status = head.headers.get("grpc-status").or_else(|| trailers.as_ref()?.get("grpc-status")).cloned();
        let grpc = match self.kind {
            Kind::Plain | Kind::Download | Kind::Upload => None,
            // There was no time left to see its end.
            Kind::GrpcStream if trailers.is_none() => status,
            Kind::Grpc | Kind::GrpcStream if status.is_none() => bail!("status {} without `grpc-status`", head.status),
            Kind::Grpc => status,
            // A good end is as good as none yet.
            Kind::GrpcStream => status.filter(|status| status != "0"),
        };
        Ok(Some(Verdict { status: head.status, grpc }))
    }

    fn request(&self, hurry: &Hurry) -> anyhow::Result<http::Request<Outgoing>> {
        let begin = |method| self.target.request(method, &self.path, self.version);
        let request = match self.kind {
            Kind::Plain | Kind::Download => begin(Method::GET).body(Outgoing::Whole(Bytes::new())),
            Kind::Upload => begin(Method::POST).body(Outgoing::slow(hurry)),
            Kind::Grpc | Kind::GrpcStream => begin(Method::POST)
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers")
                .body(Outgoing::Whole(EMPTY_MESSAGE)),
        };
        Ok(request?)
    }

    /// Reads to the end; trailers, if there are any.
    async fn read(&self, mut body: Incoming, hurry: &Hurry) -> anyhow::Result<Option<HeaderMap>> {
        let mut trailers = None;
        while let Some(frame) = timeout(ANSWER_TIME, next(&mut body)).await.context("the answer does not go on")? {
            let frame = frame?;
            if self.kind == Kind::Download && !hurry.get() {
                let length = frame.data_ref().map_or(0, Bytes::len);
                sleep(Duration::from_millis((length / BYTES_A_MILLISECOND) as u64)).await;
            }
            trailers = frame.into_trailers().ok().or(trailers);
        }
        Ok(trailers)
    }

    /// Reads until the stream ends or there is hurry: none then.
    async fn follow(&self, mut body: Incoming, hurry: &Hurry) -> anyhow::Result<Option<HeaderMap>> {
        let mut trailers = None;
        while !hurry.get() {
            // Streams may be quiet: the hurry is looked for now and then.
            match timeout(LOOK, next(&mut body)).await {
                Ok(Some(frame)) => trailers = frame?.into_trailers().ok().or(trailers),
                Ok(None) => return Ok(Some(trailers.unwrap_or_default())),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

type Part = Result<hyper::body::Frame<Bytes>, hyper::Error>;

async fn next(body: &mut Incoming) -> Option<Part> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

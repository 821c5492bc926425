//! [`Target`]: what is asked of the gateway, and [`Sender`], a connection that it is asked over.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use portolan_proxy::is_left_out;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::{Sleep, sleep};

use crate::UsageError;
use crate::args::VerifyReloadArgs;

/// How many pieces an upload has, of which size, and how long it waits between two: two seconds of 1 KiB each.
const PIECES: u32 = 100;
const PIECE: Bytes = Bytes::from_static(&[b'x'; 1024]);
const PIECE_PAUSE: Duration = Duration::from_millis(20);

/// What is asked of the gateway.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) host: String,
    pub(super) path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection that requests go over.
pub(super) enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

/// True when whatever is slow on purpose is to hurry: at the beginning and at the end.
pub(super) type Hurry = Rc<Cell<bool>>;

/// A request's body.
pub(super) enum Outgoing {
    /// There as a whole; may be empty.
    Whole(Bytes),
    /// An upload that takes its time.
    Slow { left: u32, pause: Option<Pin<Box<Sleep>>>, hurry: Hurry },
}

impl Target {
    pub(super) fn new(args: &VerifyReloadArgs) -> Result<Self, UsageError> {
        let wrong = || UsageError(format!("`{}` is no URL to ask: wants e.g. http://127.0.0.1:8080/", args.url));
        let authority = args.url.authority().filter(|_| args.url.scheme_str() == Some("http")).ok_or_else(wrong)?;
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            host: args.host.clone().unwrap_or_else(|| authority.to_string()),
            path: args.url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }

    pub(super) async fn connect(&self, version: Version) -> anyhow::Result<Sender> {
        let io = TokioIo::new(TcpStream::connect(&self.address).await.context("cannot connect")?);
        Ok(match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                spawn_local(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(Here, io).await?;
                spawn_local(connection);
                Sender::Http2(sender)
            }
        })
    }

    /// The beginning of a request for a path at this version.
    pub(super) fn request(&self, method: http::Method, path: &str, version: Version) -> http::request::Builder {
        let request = Request::builder().method(method);
        match version {
            Version::Http1 => request.uri(path).header(http::header::HOST, &self.host),
            Version::Http2 => request.uri(format!("http://{}{path}", self.host)),
        }
    }
}

/// Runs what hyper needs beside a connection on this thread.
#[derive(Clone, Copy)]
struct Here;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Here {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

impl Sender {
    /// The head of an answer; none when nothing of the request was sent, or the gateway has said that it did not look at it:
    /// every client of HTTP/2 asks again then.
    pub(super) async fn ask(&mut self, request: Request<Outgoing>) -> anyhow::Result<Option<Response<Incoming>>> {
        let answer = match self {
            Self::Http1(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                if sender.ready().await.is_err() {
                    return Ok(None);
                }
                sender.try_send_request(request).await
            }
        };
        match answer {
            Ok(response) => Ok(Some(response)),
            Err(mut error) if error.message().is_some() => {
                drop(error.take_message());
                Ok(None)
            }
            Err(error) => {
                let error = error.into_error();
                if is_left_out(&error) { Ok(None) } else { Err(error.into()) }
            }
        }
    }
}

impl Outgoing {
    pub(super) fn slow(hurry: &Hurry) -> Self {
        Self::Slow { left: PIECES, pause: None, hurry: hurry.clone() }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (left, pause, hurry) = match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Slow { left, pause, hurry } => (left, pause, hurry),
        };
        if pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_pending()) {
            return Poll::Pending;
        }
        if *left == 0 || (hurry.get() && pause.is_some()) {
            return Poll::Ready(None);
        }
        *left -= 1;
        *pause = Some(Box::pin(sleep(PIECE_PAUSE)));
        Poll::Ready(Some(Ok(Frame::data(PIECE))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Slow { .. } => SizeHint::default(),
        }
    }
}

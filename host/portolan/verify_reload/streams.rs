//! [`Streams`]: requests over HTTP/1 and HTTP/2 one after the other, a WebSocket and a TCP connection that stay open.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portolan_proxy::is_left_out;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use crate::UsageError;
use crate::args::VerifyReloadArgs;

/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(2);
/// For one answer, or the beginning of a stream.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Failures that are told.
const TOLD: usize = 10;

/// What is asked of the gateway.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: String,
    host: String,
    path: String,
    websocket: Option<String>,
    tcp: Option<String>,
}

/// What became of one kind of traffic.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Requests that were answered as the first one.
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
    pub(super) websocket: Tally,
    pub(super) tcp: Tally,
}

/// Traffic under way.
pub(super) struct Streams {
    ending: Rc<Cell<bool>>,
    tallies: Rc<RefCell<Tallies>>,
    requests: Vec<JoinHandle<()>>,
    held: Vec<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
enum Version {
    Http1,
    Http2,
}

/// A connection that requests go over.
enum Sender {
    Http1(http1::SendRequest<String>),
    Http2(http2::SendRequest<String>),
}

impl Target {
    pub(super) fn new(args: &VerifyReloadArgs) -> Result<Self, UsageError> {
        let wrong = || UsageError(format!("`{}` is no URL to ask: wants e.g. http://127.0.0.1:8080/", args.url));
        let authority = args.url.authority().filter(|_| args.url.scheme_str() == Some("http")).ok_or_else(wrong)?;
        Ok(Self {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            host: args.host.clone().unwrap_or_else(|| authority.to_string()),
            path: args.url.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            websocket: args.websocket.clone(),
            tcp: args.tcp.map(|address| address.to_string()),
        })
    }

    async fn connect(&self, version: Version) -> anyhow::Result<Sender> {
        let io = TokioIo::new(TcpStream::connect(&self.address).await.context("cannot connect")?);
        Ok(match version {
            Version::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                spawn_local(connection);
                Sender::Http1(sender)
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                spawn_local(connection);
                Sender::Http2(sender)
            }
        })
    }

    fn request(&self, version: Version) -> anyhow::Result<Request<String>> {
        let request = match version {
            Version::Http1 => Request::get(&self.path).header(header::HOST, &self.host),
            Version::Http2 => Request::get(format!("http://{}{}", self.host, self.path)),
        };
        Ok(request.body(String::new())?)
    }

    async fn open_websocket(&self, path: &str) -> anyhow::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await.context("cannot connect")?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.host
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() > 16 * 1024 || stream.read_buf(&mut answer).await? == 0 {
                bail!("no answer to the request for a WebSocket");
            }
        }
        if !answer.starts_with(b"HTTP/1.1 101 ") {
            bail!("no WebSocket: {}", String::from_utf8_lossy(&answer).lines().next().unwrap_or_default());
        }
        Ok(stream)
    }
}

impl Streams {
    /// Starts all of it; an error when something does not work to begin with.
    pub(super) async fn open(target: &Target, connections: u16) -> anyhow::Result<Self> {
        let (ending, tallies) = (Rc::new(Cell::new(false)), Rc::<RefCell<Tallies>>::default());
        let (mut requests, mut held) = (Vec::new(), Vec::new());
        for version in [Version::Http1, Version::Http2] {
            for _ in 0..connections {
                let (sender, right) = first(target, version).await?;
                let (target, ending, tallies) = (target.clone(), ending.clone(), tallies.clone());
                requests.push(spawn_local(async move {
                    keep_asking(&target, version, (sender, right), &ending, |note| {
                        note(version.tally(&mut tallies.borrow_mut()));
                    })
                    .await;
                }));
            }
        }
        if let Some(path) = &target.websocket {
            let stream = timeout(ANSWER_TIME, target.open_websocket(path)).await.context("the WebSocket")??;
            let tallies = tallies.clone();
            tallies.borrow_mut().websocket.held = 1;
            held.push(spawn_local(async move {
                hold(stream, |why| tallies.borrow_mut().websocket.cut(why)).await;
            }));
        }
        if let Some(address) = &target.tcp {
            let stream = TcpStream::connect(address).await.context("the TCP listener")?;
            let tallies = tallies.clone();
            tallies.borrow_mut().tcp.held = 1;
            held.push(spawn_local(async move {
                hold(stream, |why| tallies.borrow_mut().tcp.cut(why)).await;
            }));
        }
        Ok(Self { ending, tallies, requests, held })
    }

    /// Lets requests under way end, closes the rest, and sums up.
    pub(super) async fn end(self) -> Tallies {
        self.ending.set(true);
        for task in self.requests {
            // A task that panicked has told so itself.
            let _ = task.await;
        }
        self.held.iter().for_each(JoinHandle::abort);
        self.tallies.take()
    }
}

impl Version {
    fn tally(self, tallies: &mut Tallies) -> &mut Tally {
        match self {
            Self::Http1 => &mut tallies.http1,
            Self::Http2 => &mut tallies.http2,
        }
    }
}

impl Tally {
    fn lose(&mut self, why: String) {
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

/// The first answer of a connection says what is right.
async fn first(target: &Target, version: Version) -> anyhow::Result<(Sender, StatusCode)> {
    let mut sender = target.connect(version).await?;
    let asked = sender.ask(target.request(version)?);
    let status = timeout(ANSWER_TIME, asked).await.context("no answer")??.context("the connection ended")?;
    Ok((sender, status))
}

async fn keep_asking(
    target: &Target,
    version: Version,
    (sender, right): (Sender, StatusCode),
    ending: &Cell<bool>,
    note: impl Fn(&dyn Fn(&mut Tally)),
) {
    let mut open = Some(sender);
    while !ending.get() {
        let asked = async {
            let mut sender = match open.take() {
                Some(sender) => sender,
                None => target.connect(version).await?,
            };
            let status = sender.ask(target.request(version)?).await?;
            anyhow::Ok(status.map(|status| (sender, status)))
        };
        match timeout(ANSWER_TIME, asked).await {
            Ok(Ok(Some((sender, status)))) if status == right => {
                open = Some(sender);
                note(&|tally| tally.answered += 1);
            }
            Ok(Ok(Some((_, status)))) => note(&|tally| tally.lose(format!("status {status}"))),
            // The gateway had wound the connection down, and nothing was sent on it.
            Ok(Ok(None)) => {}
            Ok(Err(error)) => note(&|tally| tally.lose(format!("{error:#}"))),
            Err(_) => note(&|tally| tally.lose(format!("no answer within {ANSWER_TIME:?}"))),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Sender {
    /// The status of a whole answer; none when nothing of the request was sent, or the gateway has said that it did not look
    /// at it: every client of HTTP/2 asks again then.
    async fn ask(&mut self, request: Request<String>) -> anyhow::Result<Option<StatusCode>> {
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
            Ok(response) => {
                let status = response.status();
                read(response.into_body()).await?;
                Ok(Some(status))
            }
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

async fn read(mut body: Incoming) -> anyhow::Result<()> {
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

/// Reads what comes until the stream ends, which it should not.
async fn hold(mut stream: TcpStream, cut: impl Fn(String)) {
    let mut block = [0; 4096];
    loop {
        match stream.read(&mut block).await {
            Ok(0) => return cut("ended by the gateway".to_owned()),
            Ok(_) => {}
            Err(error) => return cut(error.to_string()),
        }
    }
}

//! [`Backend`]: the small HTTP server that `portolan demo` embeds, to have something to route to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Request bodies above this are not read; the connection ends with the answer.
const LARGEST_BODY: u64 = 1 << 20;

/// One listening backend. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend on a free loopback port, on the current runtime. Its answers name `label`.
    pub(crate) async fn start(label: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, label)) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, label: &'static str) {
    loop {
        match listener.accept().await {
            // An end of a connection in the middle is the peer's business.
            Ok((socket, _)) => drop(tokio::spawn(async move { drop(serve(socket, label).await) })),
            // Out of file descriptors: others will close.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// HTTP/1.1 with keep-alive, enough for what a gateway sends.
async fn serve(socket: TcpStream, label: &str) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    let mut head = String::new();
    while let Some(request) = read_head(&mut socket, &mut head).await? {
        let reusable = discard_body(&mut socket, &request).await?;
        let (status, wait) = wish(&request.path);
        tokio::time::sleep(wait).await;
        socket.get_mut().write_all(answer(label, &request, status, reusable).as_bytes()).await?;
        if !reusable {
            break;
        }
    }
    Ok(())
}

struct Request {
    method: String,
    path: String,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    Chunked,
}

/// None at the end of the connection.
async fn read_head(socket: &mut BufReader<TcpStream>, line: &mut String) -> io::Result<Option<Request>> {
    line.clear();
    if socket.read_line(line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let mut request = Request { method: word(), path: word(), body: Body::Length(0) };
    loop {
        line.clear();
        if socket.read_line(line).await? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(request));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            request.body = Body::Length(value.trim().parse().unwrap_or(0));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            request.body = Body::Chunked;
        }
    }
}

/// True when the connection stands at the next request.
async fn discard_body(socket: &mut BufReader<TcpStream>, request: &Request) -> io::Result<bool> {
    let Body::Length(length) = request.body else { return Ok(false) };
    if length > LARGEST_BODY {
        return Ok(false);
    }
    tokio::io::copy(&mut socket.take(length), &mut tokio::io::sink()).await?;
    Ok(true)
}

/// `/status/503` wishes for a status, `/delay/250` for a wait in milliseconds, at most 10 s.
fn wish(path: &str) -> (u16, Duration) {
    let path = path.split('?').next().unwrap_or_default();
    let number = |prefix| path.strip_prefix(prefix).and_then(|rest: &str| rest.parse::<u16>().ok());
    let status = number("/status/").filter(|status| (200..600).contains(status)).unwrap_or(200);
    (status, Duration::from_millis(number("/delay/").unwrap_or(0).min(10_000).into()))
}

fn answer(label: &str, request: &Request, status: u16, reusable: bool) -> String {
    let body = format!("{label}  {} {}\n", request.method, request.path);
    let connection = if reusable { "" } else { "connection: close\r\n" };
    let shown = if request.method == "HEAD" || status == 204 || status == 304 { "" } else { &body };
    format!(
        "HTTP/1.1 {status} Demo\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n{connection}\r\n{shown}",
        if status == 204 { 0 } else { body.len() }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn paths_wish_for_status_and_delay() {
        assert_eq!(wish("/status/503?x"), (503, Duration::ZERO));
        assert_eq!(wish("/delay/250"), (200, Duration::from_millis(250)));
        assert_eq!(wish("/status/99"), (200, Duration::ZERO));
        assert_eq!(wish("/delay/60000"), (200, Duration::from_secs(10)));
    }

    #[tokio::test]
    async fn answers_on_one_connection_again_and_again() {
        let backend = Backend::start("app v1").await.unwrap();
        let mut socket = TcpStream::connect(backend.address()).await.unwrap();
        for _ in 0..2 {
            socket.write_all(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"app v1  POST /a\n") {
                assert_ne!(socket.read_buf(&mut answer).await.unwrap(), 0);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "));
        }
    }
}

//! A raw HTTP/1.1 client: sends exact bytes, reads exactly one response, hides nothing.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request to be written out; `Host` comes first, then the headers as added.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub(crate) fn new(method: &str, host: &str, target: &str) -> Self {
        let headers = vec![("Host".to_owned(), host.to_owned())];
        Self { method: method.to_owned(), target: target.to_owned(), headers, body: Vec::new() }
    }

    /// `GET target`.
    pub(crate) fn get(host: &str, target: &str) -> Self {
        Self::new("GET", host, target)
    }

    /// Adds a header line.
    pub(crate) fn header(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// Tells the upstream how to behave, see [`super::upstream`].
    pub(crate) fn order(self, order: &str) -> Self {
        self.header("x-order", order)
    }

    /// A body with its `content-length`.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len();
        self.header("content-length", length)
    }

    /// The bytes on the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A whole response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// Status code.
    pub(crate) status: u16,
    /// Header lines in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, decoded when it came in chunks.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of the only line of this header; none when absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(n, _)| n == name);
        let first = lines.next().map(|(_, value)| value.as_str());
        assert!(lines.next().is_none(), "several lines of `{name}`: {:?}", self.headers);
        first
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Which upstream answered.
    pub(crate) fn upstream(&self) -> &str {
        self.header("x-upstream").unwrap_or("none")
    }

    /// The value of a header as the upstream saw it: its answer is the request's head.
    pub(crate) fn seen(&self, name: &str) -> Option<String> {
        let text = self.text();
        let prefix = format!("{}:", name.to_lowercase());
        let line = text.lines().find(|line| line.to_lowercase().starts_with(&prefix))?;
        Some(line[prefix.len()..].trim().to_owned())
    }

    /// The request line as the upstream saw it.
    pub(crate) fn seen_request_line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }
}

/// Bytes both ways, plain or within TLS.
pub(crate) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// One connection, which may carry many requests.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; reads give up after 15 s.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        Ok(Self::over(stream))
    }

    /// Over bytes that come and go in any way.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and reads its response.
    pub(crate) fn request(&mut self, request: &Request) -> io::Result<Response> {
        self.send(&request.to_bytes())?;
        self.response(request.method == "HEAD")
    }

    /// Reads one response; without a body when it answers a HEAD.
    pub(crate) fn response(&mut self, head_only: bool) -> io::Result<Response> {
        let mut response = self.head()?;
        if head_only || response.status == 204 || response.status == 304 || response.status < 200 {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            while let Some(mut chunk) = self.chunk()? {
                response.body.append(&mut chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().map_err(io::Error::other)?;
            response.body = self.exactly(length)?;
        } else {
            self.stream.read_to_end(&mut self.buffer)?;
            response.body = std::mem::take(&mut self.buffer);
        }
        Ok(response)
    }

    /// Reads a status line and headers, no body.
    pub(crate) fn head(&mut self) -> io::Result<Response> {
        let head = self.until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Ok(Response { status, headers: lines.filter_map(header).collect(), body: Vec::new() })
    }

    /// Reads one chunk; none after the last one and its trailers.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.until(b"\r\n")?;
        let size = String::from_utf8_lossy(&line);
        let size = size.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            while self.until(b"\r\n")? != b"\r\n" {}
            return Ok(None);
        }
        let mut chunk = self.exactly(size + 2)?;
        chunk.truncate(size);
        Ok(Some(chunk))
    }

    /// Reads this many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// True when the peer closed and nothing is left to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }

    /// Reads up to and including `end`.
    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return self.exactly(at + end.len());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut block = [0; 65_536];
        let count = self.stream.read(&mut block)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&block[..count]);
        Ok(())
    }
}

/// One request on a connection of its own.
pub(crate) fn send(address: SocketAddr, request: &Request) -> io::Result<Response> {
    Connection::open(address)?.request(request)
}

//! A strict reader of HTTP/1 requests, written apart from the gateway's, and an upstream that reads with it.
//!
//! Everything that two readers might see differently is malformed. What comes from the gateway must be stricter still:
//! nothing in it may be left to the reader's goodwill.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Names and values, in their order.
type Fields = Vec<(String, Vec<u8>)>;

/// A request as read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) target: String,
    /// In order, names in lower case.
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

impl Message {
    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    }
}

/// How a sequence of requests ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After a whole one.
    Whole,
    /// Within one, of which the head may be known.
    Partial(Option<Message>),
    /// Something is wrong with the next one, of which the head may be good.
    Malformed(String, Option<Message>),
}

/// Who has sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Client,
    Gateway,
}

/// Why there is no message yet.
enum Stop {
    More(Option<Box<Message>>),
    Bad(String, Option<Box<Message>>),
}

fn bad<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Bad(why.into(), None))
}

/// All requests that the bytes begin with, and how many bytes they take.
pub(crate) fn parse(bytes: &[u8], sender: Sender) -> (Vec<Message>, usize, Ending) {
    let (mut messages, mut at) = (Vec::new(), 0);
    loop {
        while sender == Sender::Client && bytes[at..].starts_with(b"\r\n") {
            at += 2;
        }
        if bytes[at..].is_empty() {
            return (messages, at, Ending::Whole);
        }
        match (Reader { bytes, at, sender }).message() {
            Ok((message, end)) => {
                messages.push(message);
                at = end;
            }
            Err(Stop::More(head)) => return (messages, at, Ending::Partial(head.map(|head| *head))),
            Err(Stop::Bad(why, head)) => return (messages, at, Ending::Malformed(why, head.map(|head| *head))),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    sender: Sender,
}

impl Reader<'_> {
    fn message(mut self) -> Result<(Message, usize), Stop> {
        let line = self.line()?;
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(method), Some(target), Some(version), None) => (method, target, version),
            _ => return bad(format!("request line {:?}", String::from_utf8_lossy(&line))),
        };
        let is_target = !target.is_empty() && target.iter().all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#');
        if !is_token(method) || !is_target || !matches!(version, b"HTTP/1.1" | b"HTTP/1.0") {
            return bad(format!("request line {:?}", String::from_utf8_lossy(&line)));
        }
        let mut message = Message { method: text(method), target: text(target), ..Message::default() };
        message.fields = self.fields()?;
        if self.sender == Sender::Gateway && (version != b"HTTP/1.1" || message.all("host").len() != 1) {
            return bad("version or host");
        }
        let (lengths, encodings) = (message.all("content-length"), message.all("transfer-encoding"));
        message.body = match (lengths.as_slice(), encodings.as_slice()) {
            ([], []) => Vec::new(),
            ([length], []) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let length: Option<usize> = text(length).parse().ok().filter(|_| digits);
                let Some(length) = length.filter(|length| i64::try_from(*length).is_ok()) else {
                    return bad("content-length");
                };
                self.exactly(length).map_err(|stop| with_head(stop, &message))?
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1" => {
                let (body, trailers) = self.chunks().map_err(|stop| with_head(stop, &message))?;
                message.trailers = trailers;
                body
            }
            _ => return bad("framing"),
        };
        Ok((message, self.at))
    }

    /// Up to a CRLF, without it; nothing else ends a line.
    fn line(&mut self) -> Result<Vec<u8>, Stop> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| matches!(byte, 0..=8 | 10..=31 | 127));
        match end.map(|end| (end, rest[end], rest.get(end + 1))) {
            None | Some((_, b'\r', None)) => Err(Stop::More(None)),
            Some((end, b'\r', Some(b'\n'))) => {
                self.at += end + 2;
                Ok(rest[..end].to_vec())
            }
            Some((_, byte, _)) => bad(format!("byte {byte} in a line")),
        }
    }

    fn fields(&mut self) -> Result<Fields, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
            if !is_token(&line[..colon]) {
                return bad(format!("field {:?}", String::from_utf8_lossy(&line)));
            }
            fields.push((text(&line[..colon]).to_lowercase(), line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Stop> {
        let body = self.bytes.get(self.at..self.at + length).ok_or(Stop::More(None))?;
        self.at += length;
        Ok(body.to_vec())
    }

    fn chunks(&mut self) -> Result<(Vec<u8>, Fields), Stop> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let rest = line[digits..].trim_ascii_start();
            let extended = rest.starts_with(b";") && self.sender == Sender::Client;
            let is_plain = line.len() == digits;
            let size =
                usize::from_str_radix(&text(&line[..digits]), 16).ok().filter(|size| i64::try_from(*size).is_ok());
            let Some(size) = size.filter(|_| is_plain || extended) else {
                return bad(format!("chunk {:?}", String::from_utf8_lossy(&line)));
            };
            if size == 0 {
                let trailers = self.fields()?;
                let framing = |name: &str| matches!(name, "content-length" | "transfer-encoding" | "host" | "trailer");
                if self.sender == Sender::Gateway && trailers.iter().any(|(name, _)| framing(name)) {
                    return bad("trailers");
                }
                return Ok((body, trailers));
            }
            // What is wrong after a chunk is seen when it is there.
            let left = &self.bytes[self.at..];
            let end = &left[size.min(left.len())..(size + 2).min(left.len())];
            if !b"\r\n".starts_with(end) {
                return bad("a chunk's end");
            }
            body.extend_from_slice(&self.exactly(size)?);
            self.exactly(2)?;
        }
    }
}

fn with_head(stop: Stop, head: &Message) -> Stop {
    match stop {
        Stop::More(_) => Stop::More(Some(Box::new(head.clone()))),
        Stop::Bad(why, _) => Stop::Bad(why, Some(Box::new(head.clone()))),
    }
}

fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An upstream that reads strictly, answers 200 to every request, and keeps what came.
pub(crate) struct StrictUpstream {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Arc<Mutex<Received>>>>>,
}

/// What came on one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) messages: Vec<Message>,
    /// The head of a message of which the rest has not come.
    pub(crate) partial: Option<Message>,
    pub(crate) malformed: Option<String>,
}

impl StrictUpstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the upstream");
        let address = listener.local_addr().expect("its address");
        let connections: Arc<Mutex<Vec<Arc<Mutex<Received>>>>> = Arc::default();
        let known = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::new(Mutex::new(Received::default()));
                known.lock().expect("nobody panics with it").push(received.clone());
                std::thread::spawn(move || read_all(&stream, &received));
            }
        });
        Self { address, connections }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has come so far, by connection.
    pub(crate) fn received(&self) -> Vec<Received> {
        let connections = self.connections.lock().expect("nobody panics with it");
        connections.iter().map(|received| received.lock().expect("nobody panics with it").clone()).collect()
    }
}

fn read_all(mut stream: &TcpStream, received: &Mutex<Received>) {
    let (mut bytes, mut block) = (Vec::new(), vec![0; 65_536]);
    while let Ok(count @ 1..) = stream.read(&mut block) {
        bytes.extend_from_slice(&block[..count]);
        let (messages, end, ending) = parse(&bytes, Sender::Gateway);
        let answers = messages.len();
        bytes.drain(..end);
        {
            let mut received = received.lock().expect("nobody panics with it");
            received.messages.extend(messages);
            received.partial = None;
            match ending {
                Ending::Whole => {}
                Ending::Partial(head) => received.partial = head,
                Ending::Malformed(why, _) => {
                    received.malformed = Some(format!("{why} in {:?}", String::from_utf8_lossy(&bytes)));
                    return;
                }
            }
        }
        for _ in 0..answers {
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

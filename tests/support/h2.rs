//! A raw client of HTTP/2: frames as a test writes them, and what comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::DEADLINE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const HAS_PRIORITY: u8 = 32;
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that go into no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            let mut rest = text.len();
            if rest < 127 {
                block.push(rest as u8);
            } else {
                block.push(127);
                rest -= 127;
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The four pseudo-fields of a request, and others.
pub(crate) fn request<'a>(method: &'a str, path: &'a str, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "app.test")];
    [&pseudo, others].concat()
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection with all that has come on it.
pub(crate) struct RawHttp2 {
    socket: TcpStream,
    unread: Vec<u8>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) closed: bool,
}

impl RawHttp2 {
    /// With nothing said yet.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { socket, unread: Vec::new(), frames: Vec::new(), closed: false }
    }

    /// With preface and these SETTINGS.
    pub(crate) fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut client = Self::silent(address);
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        client
    }

    /// The same, and the system keeps little of what has come and is not read.
    pub(crate) fn connect_with_small_buffer(address: SocketAddr, settings: &[u8]) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut client = Self::over(socket.into());
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        client
    }

    /// A peer that has gone is seen when it is read from.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    pub(crate) fn end_sending(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Reads until `holds`, or the connection has ended; false when neither came in time.
    pub(crate) fn until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        while !holds(self) && !self.closed {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).unwrap();
            let mut piece = [0; 16 * 1024];
            match self.socket.read(&mut piece) {
                Ok(0) => self.closed = true,
                Ok(length) => self.take(&piece[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.closed = true,
            }
        }
        holds(self)
    }

    fn take(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        while self.unread.len() >= 9 {
            let head = &self.unread[..9];
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if self.unread.len() < 9 + length {
                return;
            }
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = self.unread[9..9 + length].to_vec();
            self.unread.drain(..9 + length);
            if kind == SETTINGS && flags == 0 {
                self.send(&frame(SETTINGS, 1, 0, &[]));
            }
            self.frames.push(Frame { kind, flags, stream, payload });
        }
    }

    /// Frames of one kind on one stream.
    pub(crate) fn of(&self, kind: u8, stream: u32) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |frame| frame.kind == kind && frame.stream == stream)
    }

    /// True when nothing more comes on the stream.
    pub(crate) fn has_ended(&self, stream: u32) -> bool {
        let ends = |frame: &&Frame| matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
        self.of(RST_STREAM, stream).next().is_some()
            || self.frames.iter().filter(|frame| frame.stream == stream).any(|frame| ends(&frame))
    }

    pub(crate) fn status(&self, stream: u32) -> Option<u16> {
        self.of(HEADERS, stream).next().map(|frame| status(&frame.payload))
    }

    /// True when an answer has begun.
    pub(crate) fn status_seen(&self, stream: u32) -> bool {
        self.of(HEADERS, stream).next().is_some()
    }

    /// The code with which the stream was reset.
    pub(crate) fn reset(&self, stream: u32) -> Option<u32> {
        self.of(RST_STREAM, stream).next().map(|frame| code(&frame.payload))
    }

    /// The code of a GOAWAY that is no mere farewell.
    pub(crate) fn goaway(&self) -> Option<u32> {
        self.of(GOAWAY, 0).map(|frame| code(&frame.payload[4..])).find(|code| *code != 0)
    }

    pub(crate) fn body(&self, stream: u32) -> Vec<u8> {
        self.of(DATA, stream).flat_map(|frame| frame.payload.clone()).collect()
    }

    /// True when a PING is answered.
    pub(crate) fn is_alive(&mut self) -> bool {
        let answers = |client: &Self| client.of(PING, 0).filter(|frame| frame.flags == 1).count();
        let before = answers(self);
        self.send(&frame(PING, 0, 0, b"are you "));
        self.until(DEADLINE, |client| answers(client) > before)
    }
}

fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// `:status`, which comes first and is the first field on its connection.
fn status(block: &[u8]) -> u16 {
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // A new size of the table may come before.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [first @ 0x88..=0x8e, ..] => KNOWN[usize::from(first - 0x88)],
        [0x48 | 0x08, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [0x48 | 0x08, _, digits @ ..] => {
            let bits = digits[..3].iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
            let mut at = 24;
            (0..3).fold(0, |status, _| {
                let (five, six) = (bits >> (at - 5) & 0x1f, bits >> (at - 6) & 0x3f);
                let (digit, length) = if five < 3 { (five, 5) } else { (six - 0x19 + 3, 6) };
                at -= length;
                status * 10 + digit as u16
            })
        }
        other => panic!("no status: {other:?}"),
    }
}

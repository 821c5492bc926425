//! Upstreams that run in the test and misbehave on order.
//!
//! By default one answers 200 with its name in `x-upstream` and the request's head as the body. The request header
//! `x-order` changes that: `status N`, `delay MS`, `bytes N`, `chunks N`, `close` (no answer), `half` (a body cut
//! short), `echo` (the request's body comes back as it arrives), `sink` (the size of the request's body is the
//! answer). A standing order, [`Upstream::always`], holds for requests without one. A scripted one,
//! [`Upstream::scripted`], knows no orders: it keeps what it saw, and a function of the test makes its answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server on a port of its own; its threads end with the test.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    name: String,
    standing_order: Mutex<String>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    script: Option<Script>,
    seen: Mutex<Vec<Seen>>,
}

/// Makes the bytes of an answer of what was seen; none close the connection.
pub(crate) type Script = Box<dyn Fn(&Seen) -> Vec<u8> + Send + Sync>;

/// A whole request as a scripted upstream saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The request line without the version.
    pub(crate) line: String,
    /// Header lines in order, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, decoded when it came in chunks.
    pub(crate) body: Vec<u8>,
}

impl Upstream {
    /// Starts one that behaves.
    pub(crate) fn start(name: &str) -> Self {
        Self::with(name, None)
    }

    /// Starts one that keeps each request and answers with what `script` makes of it.
    pub(crate) fn scripted(name: &str, script: Script) -> Self {
        Self::with(name, Some(script))
    }

    fn with(name: &str, script: Option<Script>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the upstream");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            name: name.to_owned(),
            standing_order: Mutex::default(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
            script,
            seen: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                state.connections.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for requests without an order of their own; an empty one means to behave again.
    pub(crate) fn always(&self, order: &str) {
        *self.state.standing_order.lock().expect("no order panicked") = order.to_owned();
    }

    /// What a scripted one saw so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no script panicked").clone()
    }

    /// Requests that arrived so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Requests being answered now.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::SeqCst)
    }

    /// Most requests at one time so far.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

/// A request as it arrived.
struct Arrived {
    head: String,
    order: Vec<String>,
    body: BodyKind,
    upgrade: bool,
}

/// What is left to do for a request.
enum Then {
    /// Write this, and take the next.
    Answer(Vec<u8>),
    Close,
}

enum BodyKind {
    Length(u64),
    Chunked,
}

impl Seen {
    fn of_head(head: &str) -> Self {
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Self { line, headers: lines.filter_map(header).collect(), body: Vec::new() }
    }
}

impl State {
    fn serve(&self, mut stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        // An error ends this connection and nothing else: a peer that went away is part of the tests.
        while let Ok(Some(arrived)) = self.read_head(&mut reader) {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            let then = self.answer(&arrived, &mut reader, stream);
            // Before the last bytes go out: who has the answer can rely on the count.
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let goes_on = match then {
                Ok(Then::Answer(bytes)) => stream.write_all(&bytes).is_ok(),
                Ok(Then::Close) | Err(_) => false,
            };
            if !goes_on {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }

    fn read_head(&self, reader: &mut impl BufRead) -> io::Result<Option<Arrived>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        let value = |name: &str| {
            let find = |line: &str| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            head.lines().find_map(find)
        };
        let standing = || self.standing_order.lock().expect("no order panicked").clone();
        let order = value("x-order").unwrap_or_else(standing);
        let body = match value("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => BodyKind::Length(length),
            None if value("transfer-encoding").is_some() => BodyKind::Chunked,
            None => BodyKind::Length(0),
        };
        let upgrade = value("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"));
        Ok(Some(Arrived { order: order.split(' ').map(str::to_owned).collect(), body, upgrade, head }))
    }

    fn answer(&self, arrived: &Arrived, reader: &mut impl BufRead, mut out: &TcpStream) -> io::Result<Then> {
        if let Some(script) = &self.script {
            let mut seen = Seen::of_head(&arrived.head);
            drain(&arrived.body, reader, &mut seen.body)?;
            let answer = script(&seen);
            self.seen.lock().expect("no script panicked").push(seen);
            return Ok(if answer.is_empty() { Then::Close } else { Then::Answer(answer) });
        }
        if arrived.upgrade {
            return self.echo_upgraded(reader, out);
        }
        let argument = || arrived.order.get(1).and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
        match arrived.order[0].as_str() {
            "close" => return Ok(Then::Close),
            "half" => {
                drain(&arrived.body, reader, &mut io::sink())?;
                write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of")?;
                return Ok(Then::Close);
            }
            "echo" => {
                write!(out, "HTTP/1.1 200 OK\r\nx-upstream: {}\r\ntransfer-encoding: chunked\r\n\r\n", self.name)?;
                drain(&arrived.body, reader, &mut Chunks(out))?;
                return Ok(Then::Answer(b"0\r\n\r\n".to_vec()));
            }
            "sink" => {
                let size = drain(&arrived.body, reader, &mut io::sink())?;
                return Ok(self.plain(200, &size.to_string()));
            }
            _ => drain(&arrived.body, reader, &mut io::sink())?,
        };
        match arrived.order[0].as_str() {
            "status" => Ok(self.plain(argument(), &arrived.head)),
            "bytes" => self.stream_bytes(out, argument()),
            "chunks" => self.stream_chunks(out, argument()),
            "delay" => {
                std::thread::sleep(Duration::from_millis(argument() as u64));
                Ok(self.plain(200, &arrived.head))
            }
            _ => Ok(self.plain(200, &arrived.head)),
        }
    }

    fn plain(&self, status: usize, body: &str) -> Then {
        // A 204 with one is no answer.
        let body = if status == 204 { "" } else { body };
        let (name, length) = (&self.name, body.len());
        let head = format!(
            "HTTP/1.1 {status} Ordered\r\nx-upstream: {name}\r\nserver: upstream\r\ncontent-length: {length}\r\n\r\n"
        );
        Then::Answer((head + body).into_bytes())
    }

    fn stream_bytes(&self, mut out: &TcpStream, size: usize) -> io::Result<Then> {
        write!(out, "HTTP/1.1 200 OK\r\nx-upstream: {}\r\ncontent-length: {size}\r\n\r\n", self.name)?;
        io::copy(&mut io::repeat(b'b').take(size as u64), &mut out)?;
        Ok(Then::Answer(Vec::new()))
    }

    /// `count` chunks of 10 bytes, each with its number.
    fn stream_chunks(&self, mut out: &TcpStream, count: usize) -> io::Result<Then> {
        write!(out, "HTTP/1.1 200 OK\r\nx-upstream: {}\r\ntransfer-encoding: chunked\r\n\r\n", self.name)?;
        for number in 0..count {
            write!(out, "a\r\n{number:010}\r\n")?;
        }
        Ok(Then::Answer(b"0\r\n\r\n".to_vec()))
    }

    fn echo_upgraded(&self, reader: &mut impl BufRead, mut out: &TcpStream) -> io::Result<Then> {
        write!(out, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")?;
        loop {
            let block = reader.fill_buf()?;
            if block.is_empty() {
                return Ok(Then::Close);
            }
            out.write_all(block)?;
            let length = block.len();
            reader.consume(length);
        }
    }
}

/// Reads a request's body into `out` as it comes; its size.
fn drain(body: &BodyKind, reader: &mut impl BufRead, out: &mut impl Write) -> io::Result<u64> {
    match body {
        BodyKind::Length(length) => io::copy(&mut reader.take(*length), out),
        BodyKind::Chunked => {
            let mut total = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                total += io::copy(&mut reader.take(size), out)?;
                reader.read_line(&mut line)?;
                if size == 0 {
                    return Ok(total);
                }
            }
        }
    }
}

/// Writes each block as a chunk.
struct Chunks<'a>(&'a TcpStream);

impl Write for Chunks<'_> {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        if block.is_empty() {
            return Ok(0);
        }
        write!(self.0, "{:x}\r\n", block.len())?;
        self.0.write_all(block)?;
        self.0.write_all(b"\r\n")?;
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

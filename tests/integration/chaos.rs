//! An upstream that breaks HTTP in every way while many clients ask: whoever gets an answer gets its own, a request that the
//! upstream serves well succeeds, and nothing that may not be repeated is.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::SockRef;

use crate::support::await_true;
use crate::support::client::{Connection, Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::draw::Draw;
use crate::support::gateway::{Gateway, Options};

const CLIENTS: u64 = 8;
const REQUESTS: u64 = 150;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Whole,
    Chunked,
    Slow,
    /// Before the request's body is read.
    Early,
    AfterInterim,
    /// With bytes behind it that nobody asked for.
    WithSurplus,
    /// Then the connection ends, without a word before.
    ThenClose,
    Close,
    Reset,
    HalfHead,
    Garbage,
    TwoLengths,
    HalfBody,
    BadChunk,
    ResetInBody,
}

const DEEDS: [Deed; 15] = [
    Deed::Whole,
    Deed::Chunked,
    Deed::Slow,
    Deed::Early,
    Deed::AfterInterim,
    Deed::WithSurplus,
    Deed::ThenClose,
    Deed::Close,
    Deed::Reset,
    Deed::HalfHead,
    Deed::Garbage,
    Deed::TwoLengths,
    Deed::HalfBody,
    Deed::BadChunk,
    Deed::ResetInBody,
];

impl Deed {
    fn is_good(self) -> bool {
        matches!(
            self,
            Self::Whole
                | Self::Chunked
                | Self::Slow
                | Self::Early
                | Self::AfterInterim
                | Self::WithSurplus
                | Self::ThenClose
        )
    }

    /// What the gateway answers, unless the request goes again; none when the answer has begun.
    fn status(self) -> Option<u16> {
        match self {
            Self::Close | Self::Reset => Some(503),
            Self::HalfHead | Self::Garbage | Self::TwoLengths => Some(502),
            _ => None,
        }
    }

    fn bytes(self, id: &str) -> Vec<u8> {
        let body = body_of(id);
        let length = body.len();
        let text = match self {
            Self::Close | Self::Reset => String::new(),
            Self::HalfHead => "HTTP/1.1 200 OK\r\ncontent-le".to_owned(),
            Self::Garbage => "\u{1}\u{2}\u{3} what?\r\n\r\n".to_owned(),
            Self::TwoLengths => {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-length: 1\r\n\r\n{body}")
            }
            Self::Chunked => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
            }
            Self::BadChunk => {
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\nno\r\n")
            }
            Self::HalfBody | Self::ResetInBody => {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", 2 * length)
            }
            Self::AfterInterim => format!(
                "HTTP/1.1 103 Early Hints\r\nlink: </{id}>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
            Self::WithSurplus => format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
            ),
            Self::Whole | Self::Slow | Self::Early | Self::ThenClose => {
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
            }
        };
        text.into_bytes()
    }
}

fn body_of(id: &str) -> String {
    format!("{id};").repeat(1 + id.len() * 37)
}

/// What the upstream has done to each request, by its id, in order.
type Done = Arc<Mutex<HashMap<String, Vec<Deed>>>>;

struct Chaos {
    address: SocketAddr,
    done: Done,
}

impl Chaos {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (done, draw) = (Done::default(), Arc::new(Mutex::new(Draw(0x5eed))));
        let all = done.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (done, draw) = (all.clone(), draw.clone());
                // Clients that go away are expected.
                std::thread::spawn(move || drop(serve(stream, &done, &draw)));
            }
        });
        Self { address, done }
    }

    fn of(&self, id: &str) -> Vec<Deed> {
        self.done.lock().unwrap().get(id).cloned().unwrap_or_default()
    }
}

fn serve(mut stream: TcpStream, done: &Done, draw: &Mutex<Draw>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let head = read_head(&mut stream, &mut bytes)?;
        let (id, length) = (field(&head, "x-id"), field(&head, "content-length"));
        let is_calm = head.contains(" /calm ");
        let deed = if is_calm { Deed::Whole } else { DEEDS[draw.lock().unwrap().below(DEEDS.len())] };
        done.lock().unwrap().entry(id.clone()).or_default().push(deed);
        if deed == Deed::Early {
            stream.write_all(&deed.bytes(&id))?;
        }
        let length = length.parse().unwrap_or(0);
        while bytes.len() < length {
            fill(&mut stream, &mut bytes)?;
        }
        bytes.drain(..length);
        if deed == Deed::Slow {
            std::thread::sleep(Duration::from_millis(15));
        }
        if deed != Deed::Early {
            stream.write_all(&deed.bytes(&id))?;
        }
        if matches!(deed, Deed::Reset | Deed::ResetInBody) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Ok(());
        }
        if !deed.is_good() || deed == Deed::ThenClose {
            return Ok(());
        }
    }
}

fn read_head(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<String> {
    loop {
        if let Some(at) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..at + 4).collect();
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
        fill(stream, bytes)?;
    }
}

fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut block = [0; 16_384];
    match stream.read(&mut block)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        count => {
            bytes.extend_from_slice(&block[..count]);
            Ok(())
        }
    }
}

fn field(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next().unwrap_or_default()
}

/// One client's requests, over one connection as long as it holds.
fn ask(gateway: &Gateway, chaos: &Chaos, client: u64) {
    let mut connection = None;
    for number in 0..REQUESTS {
        let id = format!("{client}-{number}");
        let is_post = number % 3 == 0;
        let request = Request::new(if is_post { "POST" } else { "GET" }, "h", "/").header("x-id", &id);
        let request = if is_post { request.body(body_of(&id)) } else { request };
        let mut held: Connection = connection.take().unwrap_or_else(|| gateway.connect());
        let answer = final_answer(&mut held, &request);
        if answer.as_ref().is_ok_and(|answer| answer.header("connection") != Some("close")) {
            connection = Some(held);
        }
        judge(&chaos.of(&id), answer, &id, is_post);
    }
}

/// Reads over interim answers.
fn final_answer(connection: &mut Connection, request: &Request) -> std::io::Result<Response> {
    connection.send(&request.to_bytes())?;
    loop {
        let answer = connection.response(false)?;
        if answer.status >= 200 {
            return Ok(answer);
        }
    }
}

fn judge(deeds: &[Deed], answer: std::io::Result<Response>, id: &str, is_post: bool) {
    assert!(deeds.len() <= if is_post { 1 } else { 2 }, "{id} was sent too often: {deeds:?}");
    let what = answer.as_ref().map_or_else(|error| error.to_string(), |answer| answer.status.to_string());
    match (answer, deeds.last()) {
        (Ok(answer), Some(deed)) if deed.is_good() => {
            assert_eq!(answer.status, 200, "{id}: {deeds:?}");
            assert_eq!(answer.text(), body_of(id), "{deeds:?}");
        }
        (Ok(answer), Some(deed)) => assert_eq!(Some(answer.status), deed.status(), "{id}: {deeds:?}"),
        // Its connection had ended before, and nobody may send it twice.
        (Ok(answer), None) => assert!(is_post && answer.status == 503, "{id}: {what} without any deed"),
        (Err(_), deed) => {
            assert!(
                deed.is_some_and(|deed| !deed.is_good() && deed.status().is_none()),
                "{id}: {what} after {deeds:?}"
            );
        }
    }
}

#[test]
fn who_is_answered_gets_his_own_answer_whatever_the_upstream_does() {
    let chaos = Chaos::start();
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", chaos.address)]))
        .start();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (gateway, chaos) = (&gateway, &chaos);
            scope.spawn(move || ask(gateway, chaos, client));
        }
    });
    for number in 0..20 {
        let id = format!("calm-{number}");
        let answer = gateway.send(&Request::get("h", "/calm").header("x-id", &id));
        assert_eq!((answer.status, answer.text()), (200, body_of(&id)));
    }
    let active = || gateway.metric("envoy_cluster_upstream_rq_active", &["app.test"]);
    await_true("no request to be left", || active() < 0.5);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

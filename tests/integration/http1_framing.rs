//! Ten thousand requests, valid and mutated, between a client that pipelines and an upstream that reads strictly: what the
//! upstream gets is framed as the gateway understood it, and nothing is there that the client did not ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{Connection, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::draw::Draw;
use crate::support::gateway::Options;
use crate::support::strict::{Ending, Message, Sender, StrictUpstream, parse};

const CONNECTIONS: usize = 3400;
const CLIENTS: usize = 4;

/// What readers of HTTP/1 stumble over.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\0",
    "\u{1}",
    "#",
    "?",
    "/",
    "@",
    "0",
    "00",
    "+",
    "-",
    "0x",
    "_",
    "1_0",
    "\r\n ",
    " :",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET / HTTP/1.1\r\nHost: h\r\nX-Id: hidden\r\n\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "content-length:3\r\n",
    "Content-Length : 3\r\n",
    "Content-Length: 3, 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: x\r\n",
    "transfer-encoding : chunked\r\n",
    "Transfer-Encoding: \u{b}chunked\r\n",
    "Host: other\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Expect: 100-continue\r\n",
    "0\r\n\r\n",
    "3\r\nabc\r\n",
    "ffffffffffffffff\r\n",
    "3;a=b\r\nabc\r\n",
    "Trailer: x-t\r\n",
    "TE: trailers\r\n",
];

/// A valid request.
fn request(id: &str, draw: &mut Draw) -> Vec<u8> {
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: h\r\nX-Id: hidden-{id}\r\n\r\n");
    let head = |line: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: h\r\nX-Id: {id}\r\n{fields}\r\n");
    let text = match draw.below(9) {
        0 => head("GET /a", ""),
        1 => head("GET http://h/a?b", "Accept: */*\r\nX-Empty:\r\n"),
        2 => head("DELETE /a", "Content-Length: 0\r\n"),
        3 => head("POST /a", "Content-Length: 3\r\n") + "abc",
        4 => head("POST /a", &format!("Content-Length: {}\r\n", hidden.len())) + &hidden,
        5 => {
            head("POST /a", "Transfer-Encoding: chunked\r\n") + &format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len())
        }
        6 => {
            head("PUT /a", "Transfer-Encoding: Chunked\r\nTrailer: X-T\r\n")
                + "3;a=\"b\"\r\nabc\r\n02\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
        }
        7 => head("POST /a", "Expect: 100-continue\r\nContent-Length: 2\r\n") + "ab",
        _ => head("GET /a", "Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    };
    text.into_bytes()
}

/// One to three edits: a piece put in, a span cut out or doubled, a byte changed.
fn mutate(bytes: &mut Vec<u8>, draw: &mut Draw) {
    for _ in 0..=draw.below(3) {
        let start = draw.below(bytes.len() + 1);
        let end = (start + 1 + draw.below(20)).min(bytes.len());
        match draw.below(6) {
            0..3 => drop(bytes.splice(start..start, PIECES[draw.below(PIECES.len())].bytes())),
            3 => drop(bytes.drain(start..end)),
            4 => {
                let span = bytes[start..end].to_vec();
                drop(bytes.splice(start..start, span));
            }
            _ if start < bytes.len() => bytes[start] ^= 1 << draw.below(8),
            _ => {}
        }
    }
}

/// The bytes of one connection, and whether all of it is valid.
fn sequence(number: usize) -> (Vec<u8>, bool) {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15 ^ (number as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03));
    let (mut all, mut is_valid) = (Vec::new(), true);
    for index in 0..2 + draw.below(3) {
        let mut bytes = request(&format!("{number}-{index}"), &mut draw);
        if draw.below(3) == 0 {
            mutate(&mut bytes, &mut draw);
            is_valid = false;
        }
        all.extend(bytes);
    }
    (all, is_valid)
}

/// What identifies a request, whatever became of its path.
type Key = (String, Vec<Vec<u8>>, Vec<u8>);

fn key(message: &Message, with_body: bool) -> Key {
    let ids = message.all("x-id").into_iter().map(<[u8]>::to_vec).collect();
    (message.method.clone(), ids, if with_body { message.body.clone() } else { Vec::new() })
}

#[derive(Default)]
struct Understood {
    whole: BTreeMap<Key, usize>,
    heads: BTreeMap<Key, usize>,
}

impl Understood {
    fn add(&mut self, messages: &[Message], ending: &Ending) {
        for message in messages {
            *self.whole.entry(key(message, true)).or_default() += 1;
        }
        let partial = match ending {
            Ending::Partial(head) | Ending::Malformed(_, head) => head.as_ref(),
            Ending::Whole => None,
        };
        for message in messages.iter().chain(partial) {
            *self.heads.entry(key(message, false)).or_default() += 1;
        }
    }
}

/// The next answer that is not an interim one.
fn answer(connection: &mut Connection) -> std::io::Result<Response> {
    loop {
        let response = connection.response(false)?;
        if response.status >= 200 {
            return Ok(response);
        }
    }
}

/// Sends a sequence and reads what comes. The number of its requests, or what is wrong.
fn exchange(gateway: SocketAddr, number: usize, understood: &Mutex<Understood>) -> Result<usize, String> {
    let (bytes, is_valid) = sequence(number);
    let (messages, _, ending) = parse(&bytes, Sender::Client);
    assert!(!is_valid || ending == Ending::Whole, "{}", String::from_utf8_lossy(&bytes));
    understood.lock().unwrap().add(&messages, &ending);
    let mut connection = Connection::open(gateway).map_err(|error| error.to_string())?;
    // The gateway may have had enough before all of it is sent.
    let _ = connection.send(&bytes);
    let bad = matches!(ending, Ending::Malformed(..));
    let total = messages.len() + usize::from(bad);
    for index in 0..total {
        let response = answer(&mut connection).map_err(|error| format!("no answer to request {index}: {error}"))?;
        let (status, must_fail) = (response.status, index == messages.len());
        let closes = response.header("connection") == Some("close");
        let fits =
            status == 200 && !must_fail || !is_valid && (400..500).contains(&status) || must_fail && status == 501;
        if !fits || must_fail && !closes {
            return Err(format!("request {index} of {}: {status}, {ending:?}", messages.len()));
        }
        if closes {
            return if connection.is_closed() { Ok(index + 1) } else { Err("open after it closed".to_owned()) };
        }
    }
    Ok(total)
}

#[test]
fn what_the_upstream_gets_is_framed_as_the_gateway_understood_it() {
    let upstream = StrictUpstream::start();
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", upstream.address())]))
        .start();
    let (next, requests, understood) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::default());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONNECTIONS {
                        return;
                    }
                    let exchanged = exchange(gateway.address(), number, &understood);
                    let sequence = || sequence(number).0.escape_ascii().to_string();
                    requests.fetch_add(
                        exchanged.unwrap_or_else(|why| panic!("{number}: {why}\n{}", sequence())),
                        Ordering::Relaxed,
                    );
                }
            });
        }
    });
    let mut understood = understood.into_inner().unwrap();
    let mut arrived = 0;
    for received in upstream.received() {
        assert_eq!(received.malformed, None);
        if let Some(head) = &received.partial {
            assert!(understood.heads.contains_key(&key(head, false)), "nobody has sent {head:?}");
        }
        for message in &received.messages {
            arrived += 1;
            let left = understood.whole.get_mut(&key(message, true)).filter(|left| **left > 0);
            *left.unwrap_or_else(|| panic!("nobody has sent {message:?}")) -= 1;
        }
    }
    let (sent, answered) = (CONNECTIONS * 3, requests.into_inner());
    assert!(arrived * 2 > sent && answered > arrived, "{arrived} of about {sent} arrived, {answered} were answered");
}

//! The fuzz targets' functions on the stable toolchain: some thousand mutations of good documents, the same ones each
//! time. The fuzzer itself looks longer and elsewhere: `make fuzz`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

#[path = "support/draw.rs"]
mod draw;
#[path = "fuzz/src/lib.rs"]
pub mod fuzz;

use std::fs;
use std::path::Path;

use draw::Draw;

/// Mutations of each document.
const ROUNDS: usize = 400;

/// What YAML and Istio's types stumble over.
const PIECES: &[&str] = &[
    "\n",
    "\t",
    " ",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "...\n",
    "# ",
    "%",
    "~",
    "null",
    "true",
    "-1",
    "4294967296",
    "1e309",
    "0x7f",
    "\u{0}",
    "\u{feff}",
    "\u{85}",
    "é",
    "<<: *a\n",
    "? ",
    "*",
    "**",
    ".",
    "(",
    "(?i)",
    "\\",
    "[a-z]{1000}",
    "5s",
    "\r\n",
    "9223372036854775808",
];

/// Every YAML file below a folder of testdata.
fn documents(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(fs::read(path).unwrap());
        }
    }
}

#[test]
fn mutated_documents_never_panic_the_reader() {
    let mut good = Vec::new();
    documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata"), &mut good);
    assert!(good.len() > 5);
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    for document in &good {
        fuzz::yaml(document);
        for _ in 0..ROUNDS {
            fuzz::yaml(&draw.mutate(document, PIECES));
        }
    }
}

#[test]
fn the_index_of_the_matcher_finds_what_a_plain_search_finds() {
    let mut draw = Draw(0xd1b5_4a32_d192_ed03);
    for _ in 0..5000 {
        let bytes: Vec<_> = (0..400).map(|_| u8::try_from(draw.below(256)).unwrap()).collect();
        fuzz::matcher::matcher(&bytes);
    }
}

/// Requests in a row.
const HTTP1: &str = "\r\nGET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\nPOST /a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcPUT \
                     http://h/ HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nx:\ty \r\n\r\n3;a=\"b\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nt: 1\r\n\r\nGET / \
                     HTTP/1.0\r\n\r\n";

/// What readers of HTTP/1 stumble over.
const HTTP1_PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ";",
    "#",
    "\0",
    "0",
    "0\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 9223372036854775807\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Upgrade: x\r\n",
    "ffffffffffffffff\r\n",
];

#[test]
fn the_guard_of_http1_finds_the_ends_that_a_strict_reader_finds() {
    let mut draw = Draw(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let piece = u8::try_from(draw.below(80)).unwrap();
        fuzz::http1::http1(&[&[piece], draw.mutate(HTTP1.as_bytes(), HTTP1_PIECES).as_slice()].concat());
    }
}

/// One good example of each thing that a guest may hand over.
const GUEST: &[&[u8]] = &[
    b"\x02\0\0\0\x01\0\0\0\x03\0\0\0\x02\0\0\0\0\0\0\0a\0xyz\0bc\0\0",
    b"\x0a\x04name\x10\x01\x18\x01\x28\x02",
    b"\x0a\x06sha256\x12\x03key\x1a\x04text\x22\x05-----",
    b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\x00\x06\x2c\x02\x15",
    b"request.headers['x'] in ['a', 'b'] && request.path.matches('^/a') || [1, 2].exists(n, n == source.port)",
];

/// Headers of the PROXY protocol, of both versions.
const PROXY_HEADERS: &[&[u8]] = &[
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\x01\x02\x03\x04\x05\x06\x07\x08\x03\xe8\0\x50\x04\0\x03abc",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

#[test]
fn mutated_proxy_headers_are_read_alike_in_pieces() {
    let mut draw = Draw(0x1234_5678_9abc_def1);
    for good in PROXY_HEADERS {
        for _ in 0..20 * ROUNDS {
            fuzz::proxy_header(&draw.mutate(good, PIECES));
        }
    }
}

#[test]
fn mutated_bytes_of_a_guest_never_panic_the_host() {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d);
    for good in GUEST {
        fuzz::guest(good);
        for _ in 0..ROUNDS {
            fuzz::guest(&draw.mutate(good, PIECES));
        }
    }
}

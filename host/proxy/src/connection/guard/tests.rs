//! Tests of [`Guard`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::target::{encode, is_usual};
use super::{Fault, Guard, MAX_HEAD, control};

/// What a guard makes of bytes that come in pieces of this size: how many go on, and how it ends.
fn run(bytes: &[u8], piece: usize) -> (usize, u64, Option<Fault>) {
    let (mut guard, mut passed, mut held) = (Guard::new(), 0, Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        held.extend_from_slice(piece);
        match guard.check(&held) {
            Ok(length) => {
                passed += length;
                held.drain(..length);
            }
            Err((length, fault)) => return (passed + length, guard.heads(), Some(fault)),
        }
    }
    (passed, guard.heads(), None)
}

fn fault(bytes: &str) -> Option<Fault> {
    run(bytes.as_bytes(), usize::MAX).2
}

const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc\r\nGET / HTTP/1.1\r\nx:\ty\tz\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding:  Chunked \r\n\r\n3;a=\"b\"\r\nabc\r\n00A ;x\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\r\nc:\r\n\r\n",
    "POST / HTTP/1.1\r\ncontent-length: 00\r\n\r\nGET / HTTP/1.1\r\n\r\n",
];

#[test]
fn whole_messages_go_on_however_they_come() {
    for text in GOOD {
        let heads = text.matches("HTTP/1.").count() as u64;
        for piece in (1..30).chain([usize::MAX]) {
            assert_eq!(run(text.as_bytes(), piece), (text.len(), heads, None), "{piece}: {text}");
        }
    }
}

#[test]
fn a_head_is_held_until_it_is_whole() {
    let mut guard = Guard::new();
    assert_eq!(guard.check(b"GET / HTTP/1.1\r\nhost: a\r\n\r"), Ok(0));
    assert_eq!(guard.check(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET"), Ok(27));
    assert_eq!((guard.heads(), guard.check(b"GET ")), (1, Ok(0)));
}

#[test]
fn what_is_wrong_is_told_before_the_head_is_whole() {
    for (bytes, expected) in [
        ("SSH-2.0-OpenSSH\r\n", Fault::Codec),
        ("\u{16}\u{3}\u{1}", Fault::Characters),
        ("GET  / HTTP/1.1\r\n", Fault::Codec),
        ("G(T / HTTP/1.1\r\n", Fault::Codec),
        ("GET / HTTP/1.1\r\nx: y\r\nx y: z\r\nx", Fault::Codec),
        ("GET / HTTP/1.1\r\nxyz\r\n", Fault::Codec),
        ("GET / HTTP/1.1\r\nx: y\r\r", Fault::Codec),
    ] {
        assert_eq!(run(bytes.as_bytes(), usize::MAX).2, Some(expected), "{bytes:?}");
        assert_eq!(run(bytes.as_bytes(), 1).2, Some(expected), "{bytes:?}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_a_fault() {
    let post = |fields: &str| fault(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n"));
    for fields in [
        "content-length: 1\r\ncontent-length: 1",
        "content-length: 1, 1",
        "content-length:",
        "content-length: +1",
        "content-length: 0x1",
        "content-length: 1_0",
        "content-length: 18446744073709551615",
        "x: a\ny: b",
        "x: a\rb",
    ] {
        assert_eq!(post(fields), Some(Fault::Codec), "{fields}");
    }
    assert_eq!(post("x: a\0"), Some(Fault::Characters));
    for coding in ["gzip", "gzip, chunked", "chunked, chunked", ",chunked", "", "\"chunked\"", "chunked;q=1"] {
        assert_eq!(post(&format!("Transfer-Encoding: {coding}")), Some(Fault::Encoding), "{coding}");
    }
    assert_eq!(post("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), Some(Fault::Encoding));
    assert_eq!(post("transfer-encoding:\r\n chunked"), Some(Fault::Codec));
    assert_eq!(post("transfer-encoding: chunked\r\ncontent-length: 1"), Some(Fault::LengthAndEncoding));
    assert_eq!(post("content-length: 0\r\ntransfer-encoding: chunked"), Some(Fault::LengthAndEncoding));
    for line in ["GET / HTTP/2.0", "GET / HTTP/1.2", "GET / http/1.1", "GET /", "GET / HTTP/1.1 ", ""] {
        let expected = if line.is_empty() { None } else { Some(Fault::Codec) };
        assert_eq!(fault(&format!("{line}\r\n\r\n")), expected, "{line}");
    }
    assert_eq!(fault("GET / HTTP/1.0\r\n\r\n"), Some(Fault::Version));
    assert_eq!(fault("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"), Some(Fault::Codec));
    assert_eq!(fault("GET /#a HTTP/1.1\r\n\r\n"), Some(Fault::Fragment));
    assert_eq!(fault("GET / HTTP/1.1\nhost: a\n\n"), Some(Fault::Codec));
}

#[test]
fn chunks_that_are_none_are_a_fault_where_they_go_wrong() {
    for chunks in [
        "+3\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        " 3\r\nabc\r\n",
        "3 \r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n",
        "3\r\nabc0\r\n",
        "\r\nabc\r\n",
        "8000000000000000\r\n",
        "10000000000000003\r\nabc\r\n",
        "3;a\nb\r\n",
        "3;\0\r\n",
        "3 3\r\nabc\r\n",
        "0\r\nx: 1\n\r\n",
        "0\r\nx: 1\r\n 2\r\n\r\n",
        "0\r\nx: \0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "3\r\r\nabc",
    ] {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let whole = run(format!("{head}{chunks}").as_bytes(), usize::MAX);
        assert_eq!(whole.2, Some(Fault::Chunk), "{chunks:?}");
        assert_eq!(run(format!("{head}{chunks}").as_bytes(), 1), whole, "{chunks:?}");
        assert!(whole.0 >= head.len() && whole.0 < head.len() + chunks.len());
    }
}

#[test]
fn heads_have_bounds() {
    let long = "a".repeat(MAX_HEAD + 1);
    assert_eq!(fault(&format!("GET /{long}")), Some(Fault::TargetTooLarge));
    assert_eq!(fault(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Some(Fault::TargetTooLarge));
    assert_eq!(fault(&format!("{long}GET / HTTP/1.1\r\n\r\n")), Some(Fault::HeadTooLarge));
    assert_eq!(fault(&format!("GET / HTTP/1.1\r\nx: {long}")), Some(Fault::HeadTooLarge));
    assert_eq!(fault(&format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n")), Some(Fault::HeadTooLarge));
    assert_eq!(fault(&format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101))), Some(Fault::TooManyFields));
    assert_eq!(fault(&format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100))), None);
    let line = format!("3;{}\r\n", "a".repeat(5000));
    assert_eq!(fault(&format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{line}")), Some(Fault::Chunk));
}

#[test]
fn what_follows_a_request_for_an_upgrade_waits_for_its_answer() {
    let head = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    let mut guard = Guard::new();
    assert_eq!(guard.check(format!("{head}GET /").as_bytes()), Ok(head.len()));
    assert!(guard.is_undecided());
    guard.go_on();
    assert_eq!(guard.check(b"GET / HTTP/1.1\r\n\r\n"), Ok(18));
    let with_body = "POST / HTTP/1.1\r\nupgrade: x\r\ncontent-length: 2\r\n\r\nab";
    assert_eq!(guard.check(format!("{with_body}c").as_bytes()), Ok(with_body.len()));
    assert!(guard.is_undecided());
}

proptest! {
    #[test]
    fn pieces_are_read_like_the_whole(
        parts in prop::collection::vec(prop_oneof![
            prop::sample::select(GOOD).prop_map(str::to_owned),
            prop::sample::select(vec!["\r\n", "\n", "\r", ":", " ", "\t", "0\r\n\r\n", "3\r\nabc\r\n", "GET / HTTP/1.1\r\n",
                "content-length: 3\r\n", "transfer-encoding: chunked\r\n", "upgrade: a\r\n", "#", "\0", ";"]).prop_map(str::to_owned),
            "[ -~]{0,12}",
        ], 0..8),
        piece in 1..40_usize,
    ) {
        let text = parts.concat();
        let (pieces, whole) = (run(text.as_bytes(), piece), run(text.as_bytes(), usize::MAX));
        match (pieces.2, whole.2) {
            (None, _) => prop_assert_eq!(pieces, whole),
            // Pieces are read more closely.
            (Some(fault), None) => prop_assert!(fault == Fault::Codec && pieces.0 <= whole.0),
            (Some(_), Some(_)) => prop_assert!(pieces.0 <= whole.0 && pieces.1 <= whole.1),
        }
    }

    #[test]
    fn control_bytes_are_found(bytes in prop::collection::vec(any::<u8>(), 0..40), from in 0..48_usize) {
        let expected = bytes.iter().enumerate().skip(from).find(|(_, byte)| **byte < 0x20).map(|(at, _)| at);
        prop_assert_eq!(control(&bytes, from), expected);
    }

    #[test]
    fn what_is_unusual_in_a_target_is_found(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
        let is_odd = |byte: &u8| b"\"#<>`".contains(byte) || *byte >= 0x80;
        prop_assert_eq!(is_usual(&bytes), !bytes.iter().any(is_odd));
    }

    #[test]
    fn every_target_in_ascii_without_a_fragment_is_one_for_hyper(target in "[!-~&&[^#]]{0,12}") {
        let head = format!("GET /{target} HTTP/1.1\r\n\r\n");
        let mut guard = Guard::new();
        prop_assert_eq!(guard.check(head.as_bytes()), Ok(head.len()));
        let encoded = encode(head.as_bytes(), &guard.take_to_encode());
        let uri = http::Uri::try_from(encoded[..].split(|byte| *byte == b' ').nth(1).unwrap());
        prop_assert!(uri.is_ok(), "{:?}", encoded);
    }
}

#[test]
fn targets_of_several_heads_are_encoded_where_they_are_paths_or_queries() {
    let bytes = "GET /<a>`\"?\"<`> HTTP/1.1\r\nx: <\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET http://a/<?\" HTTP/1.1\r\n\r\n";
    let mut guard = Guard::new();
    assert_eq!(guard.check(bytes.as_bytes()), Ok(bytes.len()));
    let encoded = encode(bytes.as_bytes(), &guard.take_to_encode());
    let expected = "GET /%3Ca%3E%60\"?%22%3C`%3E HTTP/1.1\r\nx: <\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET http://a/%3C?%22 HTTP/1.1\r\n\r\n";
    assert_eq!(std::str::from_utf8(&encoded), Ok(expected));
    assert!(guard.take_to_encode().is_empty());
    assert_eq!(fault("GET /\u{e9} HTTP/1.1\r\n\r\n"), Some(Fault::Codec));
    assert_eq!(fault(&format!("GET /{} HTTP/1.1\r\n\r\n", "<".repeat(MAX_HEAD / 2))), Some(Fault::TargetTooLarge));
}

//! Bodies as a whole, and in parts.

use crate::prelude::*;
use crate::testing::TestHost;

const LIMIT: usize = 8;

/// Wants whole requests of at most 8 bytes and lets larger ones go; edits responses.
struct Bodies;

impl Filter for Bodies {
    type Config = NoConfig;
    type Stream = Vec<String>;

    fn configure(_: NoConfig) -> Result<Self, ConfigError> {
        Ok(Self)
    }

    fn stream(&self) -> Vec<String> {
        Vec::new()
    }

    fn on_request_body(&self, seen: &mut Vec<String>, request: &Request<'_>) -> Result<Action, HostError> {
        let (word, action) = match request.whole_body(LIMIT)? {
            Whole::Waiting => ("waiting".to_owned(), Action::Pause),
            Whole::TooLarge => ("too large".to_owned(), Action::Continue),
            Whole::Complete(body) => (body.escape_ascii().to_string(), Action::Continue),
        };
        seen.push(word);
        request.set_property("seen", seen.join(",").as_bytes())?;
        Ok(action)
    }

    fn on_response_headers(&self, _: &mut Vec<String>, response: &Response<'_>) -> Result<Action, HostError> {
        response.whole_body(LIMIT)?;
        Ok(Action::Continue)
    }

    fn on_response_body(&self, _: &mut Vec<String>, response: &Response<'_>) -> Result<Action, HostError> {
        match response.body_part(0, 1)? {
            b"-" => response.drop_body()?,
            _ => {
                response.append_body(b">")?;
                response.prepend_body(b"<")?;
            }
        }
        Ok(Action::Continue)
    }
}

crate::filter! { Bodies: stream, on_request_body, on_response_headers, on_response_body }

fn host() -> TestHost<Bodies> {
    TestHost::start("").expect("any configuration will do")
}

fn seen(parts: &[&[u8]], trailers: bool) -> (String, Vec<u8>) {
    let host = host();
    let mut stream = host.stream();
    for (index, part) in parts.iter().enumerate() {
        stream.request_body(part, !trailers && index + 1 == parts.len());
    }
    if trailers {
        stream.request_trailers(&[]);
    }
    let seen = stream.property("seen").unwrap_or_default();
    (String::from_utf8_lossy(&seen).into_owned(), stream.request_body_sent())
}

#[test]
fn a_whole_body_is_waited_for_and_goes_on_as_one() {
    assert_eq!(seen(&[b"ab", b"cd", b"ef"], false), ("waiting,waiting,abcdef".into(), b"abcdef".to_vec()));
    assert_eq!(seen(&[b""], false).0, "");
}

#[test]
fn a_body_that_is_too_large_stays_too_large_when_its_parts_go_on() {
    let (words, sent) = seen(&[b"abcd", b"efghi", b"j"], false);
    assert_eq!(words, "waiting,too large,too large");
    assert_eq!(sent, b"abcdefghij");
}

#[test]
fn trailers_end_a_body() {
    assert_eq!(seen(&[b"ab", b"cd"], true), ("waiting,waiting,abcd".into(), b"abcd".to_vec()));
    assert_eq!(seen(&[b"abcd", b"efghi"], true).0, "waiting,too large", "nothing is held any more");
    assert_eq!(seen(&[], true).0, "");
}

#[test]
fn parts_are_edited_where_they_are() {
    let host = host();
    let mut stream = host.stream();
    for part in [b"one".as_slice(), b"-two", b"three"] {
        stream.response_body(part, false);
    }
    assert_eq!(stream.response_body_sent(), b"<one><three>");
}

#[test]
fn a_whole_body_outside_of_a_body_callback_is_an_error() {
    let host = host();
    host.stream().response_headers(&[]);
    assert_eq!(host.logs()[0].1, "whole_body: bad argument");
}

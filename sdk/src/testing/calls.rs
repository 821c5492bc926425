//! [`TestCall`]: a call that a filter has made, and [`TestAnswer`]: what it is answered with.

use std::time::Duration;

use crate::RedisValue;

/// A call to another host that waits for its answer: [`TestHost::pending_calls`](super::TestHost::pending_calls).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestCall {
    pub(super) id: u32,
    /// HTTP, gRPC or Redis.
    pub kind: TestCallKind,
    /// As the filter named it.
    pub upstream: String,
    /// Of HTTP: the method.
    pub method: String,
    /// Of HTTP: path and query; of gRPC: `/SERVICE/METHOD`.
    pub path: String,
    /// Header lines in order, pseudo headers too; of gRPC: metadata.
    pub headers: Vec<(String, String)>,
    /// The body, the message, or the command in RESP.
    pub body: Vec<u8>,
    /// Header lines after the body.
    pub trailers: Vec<(String, String)>,
    /// As the filter said; of Redis it is the server's, and 0 here.
    pub timeout: Duration,
}

/// Which kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestCallKind {
    /// [`HttpCall`](crate::HttpCall).
    Http,
    /// [`GrpcCall`](crate::GrpcCall).
    Grpc,
    /// [`RedisCall`](crate::RedisCall).
    Redis,
}

impl TestCall {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        line.map(|(_, value)| value.as_str())
    }

    /// The words of a Redis command, as text.
    pub fn command(&self) -> Vec<String> {
        let Some(RedisValue::Array(words)) = RedisValue::parse(&self.body) else { return Vec::new() };
        let text = |word: &RedisValue<'_>| String::from_utf8_lossy(word.as_bytes().unwrap_or_default()).into_owned();
        words.iter().map(text).collect()
    }
}

/// An answer for [`TestHost::answer_call`](super::TestHost::answer_call).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestAnswer {
    /// Status of HTTP, of gRPC, and of Redis (0 or 1): an answer goes to a call of one kind, a failure to any.
    pub(super) status: [u32; 3],
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, String)>,
}

impl TestAnswer {
    fn with_status(status: [u32; 3]) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), trailers: Vec::new() }
    }

    /// HTTP with this status.
    pub fn new(status: u16) -> Self {
        Self::with_status([status.into(), 0, 0])
    }

    /// gRPC with this status. The body is the message, or the status's text when the status is not 0.
    pub fn grpc(status: u32) -> Self {
        Self::with_status([200, status, 0])
    }

    /// Redis with this reply in RESP.
    pub fn redis(reply: &[u8]) -> Self {
        Self::new(200).body(reply)
    }

    /// Nobody could be reached, as the host tells it: 503, gRPC's 14, Redis's 1.
    pub fn unavailable() -> Self {
        Self::with_status([503, 14, 1])
    }

    /// The time was over, as the host tells it: 504, gRPC's 4, Redis's 1.
    pub fn timed_out() -> Self {
        Self::with_status([504, 4, 1])
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// With one more trailer.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }
}

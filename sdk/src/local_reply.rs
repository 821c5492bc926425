//! [`LocalReply`]: an answer that the filter gives instead of the upstream.

/// An answer of the filter's own, sent with [`Exchange::reply`](crate::Exchange::reply).
///
/// ```
/// use portolan_sdk::LocalReply;
///
/// let reply = LocalReply::new(429).body(b"slow down").header("retry-after", "1").details("rate_limited");
/// assert_eq!(reply.status, 429);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply<'a> {
    /// HTTP status.
    pub status: u32,
    /// Reason for the access log, without blanks.
    pub details: &'a str,
    /// Headers besides those that the host adds.
    pub headers: Vec<(&'a str, &'a str)>,
    /// May be empty, the default.
    pub body: &'a [u8],
    /// gRPC status; none, the default, lets the host derive it from `status`.
    pub grpc_status: Option<i32>,
}

impl<'a> LocalReply<'a> {
    /// A reply without headers and body.
    pub fn new(status: u32) -> Self {
        Self { status, details: "", headers: Vec::new(), body: b"", grpc_status: None }
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With this reason in the access log.
    #[must_use]
    pub fn details(mut self, details: &'a str) -> Self {
        self.details = details;
        self
    }

    /// With this gRPC status.
    #[must_use]
    pub fn grpc_status(mut self, status: i32) -> Self {
        self.grpc_status = Some(status);
        self
    }
}

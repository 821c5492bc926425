//! [`GrpcCall`] and its [`GrpcAnswer`].

use std::marker::PhantomData;
use std::time::Duration;

use super::{Call, Failure, Grpc, TIMEOUT};
use crate::pairs;
use crate::raw::callouts::{self, GrpcRequest};
use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::timer::millis;
use crate::{BufferType, HostError};

const OK: u32 = 0;
const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;

/// A unary gRPC call, sent with [`Request::call`](crate::Request::call), [`Response::call`](crate::Response::call) or
/// [`root::call`](crate::root::call). Messages are bytes, as a protobuf library makes and takes them.
///
/// The upstream is the name of a cluster that speaks HTTP/2.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// struct Ask;
///
/// impl Filter for Ask {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self)
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         let call = GrpcCall::new("outbound|9000||greeter.test", "helloworld.Greeter", "SayHello").message(b"\n\x03you");
///         request.call(&call, |_: &Self, _, request, answer: &GrpcAnswer<'_>| {
///             request.set_header("x-greeting", answer.message()?)?;
///             Ok(Action::Continue)
///         })
///     }
/// }
///
/// portolan_sdk::filter! { Ask: stream, on_request_headers, grpc_calls }
///
/// use portolan_sdk::testing::{TestAnswer, TestHost};
/// let host = TestHost::<Ask>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.request_headers(&[]);
/// let call = &host.pending_calls()[0];
/// assert_eq!((call.path.as_str(), call.body.as_slice()), ("/helloworld.Greeter/SayHello", b"\n\x03you".as_slice()));
/// host.answer_call(call, &TestAnswer::grpc(0).body(b"hello"));
/// assert_eq!(stream.request_header("x-greeting"), ["hello"]);
/// ```
#[derive(Clone, Debug)]
pub struct GrpcCall<'a> {
    upstream: &'a str,
    service: &'a str,
    method: &'a str,
    metadata: Vec<(&'a str, &'a [u8])>,
    message: &'a [u8],
    timeout: Duration,
}

impl<'a> GrpcCall<'a> {
    /// A call with an empty message and a timeout of 5 seconds. The service's name has its package before it.
    pub fn new(upstream: &'a str, service: &'a str, method: &'a str) -> Self {
        Self { upstream, service, method, metadata: Vec::new(), message: b"", timeout: TIMEOUT }
    }

    /// With one more line of metadata.
    #[must_use]
    pub fn metadata(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.metadata.push((name, value.as_ref()));
        self
    }

    /// With this message, without gRPC's own five bytes before it.
    #[must_use]
    pub fn message(mut self, message: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.message = message.as_ref();
        self
    }

    /// Waiting this long for the answer; whole milliseconds, at least one.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Call for GrpcCall<'_> {
    type Kind = Grpc;

    fn send(&self) -> Result<u32, HostError> {
        callouts::grpc_call(&GrpcRequest {
            upstream: self.upstream,
            service: self.service,
            method: self.method,
            metadata: &pairs::encode(&self.metadata),
            message: self.message,
            timeout_ms: millis(self.timeout).max(1),
        })
    }
}

/// The answer to a [`GrpcCall`], to be read until the continuation returns.
#[derive(Debug)]
pub struct GrpcAnswer<'a> {
    status: u32,
    size: usize,
    callback: PhantomData<&'a ()>,
}

impl<'a> GrpcAnswer<'a> {
    pub(crate) fn message_of(_callback: &'a Callback, size: usize) -> Self {
        Self { status: OK, size, callback: PhantomData }
    }

    pub(crate) fn closed(_callback: &'a Callback, status: u32) -> Self {
        Self { status, size: 0, callback: PhantomData }
    }

    /// gRPC's status: 0 when all went well, 14 when nobody could be reached, 4 when the time was over.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// True when there is a message.
    pub fn is_ok(&self) -> bool {
        self.status == OK
    }

    /// Why there is no answer: status 14 or 4, whoever said so. Other statuses are the service's own answers.
    pub fn failure(&self) -> Option<Failure> {
        match self.status {
            UNAVAILABLE => Some(Failure::Unavailable),
            DEADLINE_EXCEEDED => Some(Failure::TimedOut),
            _ => None,
        }
    }

    /// The message; empty unless the status is 0.
    pub fn message(&self) -> Result<&'a [u8], HostError> {
        if self.size == 0 {
            return Ok(b"");
        }
        Ok(calls::buffer(BufferType::GrpcReceiveBuffer, 0, self.size)?.unwrap_or_default())
    }

    /// What the service says about a status that is not 0; often empty.
    pub fn status_message(&self) -> Result<&'a [u8], HostError> {
        if self.is_ok() { Ok(b"") } else { callouts::grpc_message() }
    }
}

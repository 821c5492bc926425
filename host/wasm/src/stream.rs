//! `StreamState`: what a filter can see and change of one stream, and `StreamHost`: what the proxy adds to it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, request, response};

use crate::abi::Status;
use crate::body::BodyBuffer;
use crate::context::{ContextId, VmToken};

/// What the proxy knows of a stream beyond its heads and bodies.
pub trait StreamHost: 'static + Send + Sized {
    /// Appends the value of a property that the host knows to `out`; false when it does not know it. Parts of `path`
    /// are joined with NUL; one-part names arrive as they are.
    fn property(&self, path: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool;

    /// True when the host takes this property itself; else it is kept in [`StreamState::properties`].
    fn set_property(&mut self, path: &[u8], value: &[u8]) -> bool;

    /// Keeps a property for the later streams of the client's connection, whose [`StreamHost::property`] then knows it.
    /// By default it is forgotten.
    fn keep_for_connection(&mut self, _path: &[u8], _value: &[u8]) {}

    /// Appends the value of a property that is the same for all streams, which root contexts can read too; false when
    /// there is none, as by default.
    fn property_without_stream(_path: &[u8], _out: &mut Vec<u8>) -> bool {
        false
    }

    /// The host's own foreign functions. Answers with the ABI's status ([`Status::NotFound`] for an unknown name) and
    /// appends the result to `out`.
    fn call_foreign(&mut self, name: &[u8], args: &[u8], out: &mut Vec<u8>) -> Status;

    /// Lends the stream of a context for the rest of the callback that runs in this VM, on this thread:
    /// `set_effective_context` has named it. None when it has ended or somebody uses it.
    fn lend(vm: VmToken, id: ContextId) -> Option<Box<StreamState<Self>>>;

    /// Gets a lent stream back, with what the filter has done to it: [`StreamState::resumed`] and
    /// [`StreamState::local_reply`] ask for something.
    fn take_back(vm: VmToken, id: ContextId, stream: Box<StreamState<Self>>);
}

/// A stream without a host: no properties and no foreign functions of its own.
impl StreamHost for () {
    fn lend(_: VmToken, _: ContextId) -> Option<Box<StreamState<Self>>> {
        None
    }

    fn take_back(_: VmToken, _: ContextId, _: Box<StreamState<Self>>) {}

    fn property(&self, _path: &[u8], _parts: StreamParts<'_>, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn set_property(&mut self, _path: &[u8], _value: &[u8]) -> bool {
        false
    }

    fn call_foreign(&mut self, _name: &[u8], _args: &[u8], _out: &mut Vec<u8>) -> Status {
        Status::NotFound
    }
}

/// The heads of a stream, for a host that answers a property.
#[derive(Clone, Copy, Debug)]
pub struct StreamParts<'a> {
    /// The request's head as filters have left it so far.
    pub request: &'a request::Parts,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Once they have arrived.
    pub request_trailers: Option<&'a HeaderMap>,
    /// Once it has arrived.
    pub response: Option<&'a response::Parts>,
    /// Once they have arrived.
    pub response_trailers: Option<&'a HeaderMap>,
}

/// One stream. It moves into a [`crate::PluginVm`] for each callback and comes back with what the filter did.
#[derive(Debug)]
pub struct StreamState<H> {
    /// The request's head. The `host` header is `:authority`, path and query of the URI are `:path`.
    pub request: request::Parts,
    /// `:scheme`, `http` or `https`.
    pub scheme: &'static str,
    /// The request's trailers once they have arrived, or a filter has added some at the end of the body.
    pub request_trailers: Option<HeaderMap>,
    /// The response's head once it has arrived.
    pub response: Option<response::Parts>,
    /// The response's trailers, as for the request.
    pub response_trailers: Option<HeaderMap>,
    /// The request's body as far as it waits in the gateway.
    pub request_body: BodyBuffer,
    /// The response's body as far as it waits in the gateway.
    pub response_body: BodyBuffer,
    /// Properties that filters have set and the host has not taken, by their path.
    pub properties: Vec<(Box<[u8]>, Bytes)>,
    /// Those among them that cannot be set again.
    pub read_only: Vec<Box<[u8]>>,
    /// The answer that a filter wants to give instead; the first one wins. Carried out after the callback.
    pub local_reply: Option<LocalReply>,
    /// A filter has called `clear_route_cache` or changed a request header: the route must be chosen again.
    pub route_cleared: bool,
    /// Directions that a filter has resumed or closed since the host looked last.
    pub resumed: Resumed,
    /// A TCP connection, for filters of layer 4: there are no heads, `request_body` is what waits of the client's bytes and
    /// `response_body` of the upstream's.
    pub is_connection: bool,
    /// See [`StreamState::number`]; 0 while nobody has asked.
    number: u64,
    /// What the proxy itself keeps for the stream.
    pub host: H,
}

/// Properties under this name, then namespace and key, all parted by NUL, are what `%DYNAMIC_METADATA%` tells.
const DYNAMIC_METADATA: &[u8] = b"dynamic_metadata\0";

impl<H> StreamState<H> {
    /// What filters have told, by `NAMESPACE:KEY`; none without any.
    pub fn dynamic_metadata(&self) -> Option<Box<[(String, String)]>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\0', ":");
        let told = self.properties.iter().filter_map(|(path, value)| {
            Some((text(path.strip_prefix(DYNAMIC_METADATA)?), String::from_utf8_lossy(value).into_owned()))
        });
        let told: Box<[_]> = told.collect();
        (!told.is_empty()).then_some(told)
    }

    /// A stream at its beginning: a request's head and nothing else.
    pub fn new(request: request::Parts, scheme: &'static str, host: H) -> Self {
        Self {
            request,
            scheme,
            request_trailers: None,
            response: None,
            response_trailers: None,
            request_body: BodyBuffer::new(),
            response_body: BodyBuffer::new(),
            properties: Vec::new(),
            read_only: Vec::new(),
            local_reply: None,
            route_cleared: false,
            resumed: Resumed::default(),
            is_connection: false,
            number: 0,
            host,
        }
    }

    /// A TCP connection at its beginning.
    pub fn connection(host: H) -> Self {
        let (head, ()) = http::Request::new(()).into_parts();
        Self { is_connection: true, ..Self::new(head, "", host) }
    }

    /// The number of this stream in traces, unique in the process. Drawn when it is first asked for, so that streams which
    /// nobody traces share no counter.
    pub fn number(&mut self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if self.number == 0 {
            self.number = NEXT.fetch_add(1, Relaxed);
        }
        self.number
    }

    /// The heads as the host's properties see them.
    pub fn parts(&self) -> StreamParts<'_> {
        StreamParts {
            request: &self.request,
            scheme: self.scheme,
            request_trailers: self.request_trailers.as_ref(),
            response: self.response.as_ref(),
            response_trailers: self.response_trailers.as_ref(),
        }
    }
}

/// An answer from a filter in place of the upstream's.
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// 200 to 599.
    pub status: StatusCode,
    /// For `response.code_details` and the access log; blanks are replaced by `_`. Empty when the filter gave none.
    pub details: String,
    /// May be empty.
    pub body: Bytes,
    /// Additional headers, validated; framing headers are left out.
    pub headers: HeaderMap,
    /// Status of a gRPC answer; counts for gRPC requests only.
    pub grpc_status: Option<u32>,
}

/// What a filter has called for the directions of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// `continue_stream` of the request, or of a connection's downstream.
    pub request: bool,
    /// `continue_stream` of the response, or of a connection's upstream.
    pub response: bool,
    /// `close_stream` of either direction: the stream is to be reset.
    pub close: bool,
}

impl Resumed {
    /// True when nothing was called for.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// What either of the two says.
    pub fn add(&mut self, other: Self) {
        self.request |= other.request;
        self.response |= other.response;
        self.close |= other.close;
    }
}

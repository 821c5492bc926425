//! [`At`]: which callback of a stream runs.

use crate::MapType;
use crate::dispatch::Flow;

/// Which callback of a stream it is, and what the host said with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) context: u32,
    pub(crate) part: Part,
    pub(crate) body_size: usize,
    pub(crate) end_of_stream: bool,
    /// A part of the body has gone on already; unknown for filters without `stream`.
    pub(super) passed: Option<bool>,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    None,
}

impl At {
    #[inline(always)]
    pub(crate) fn new(context: u32, part: Part, body_size: usize, end_of_stream: bool) -> Self {
        Self { context, part, body_size, end_of_stream, passed: None }
    }

    pub(crate) fn with(self, flow: &Flow) -> Self {
        Self { passed: Some(flow.passed()), ..self }
    }
}

impl Part {
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody | Self::RequestTrailers)
    }

    pub(crate) fn is_body(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody)
    }

    /// What "the headers" are in this callback.
    #[inline(always)]
    pub(super) fn map(self) -> MapType {
        match self {
            Self::RequestHeaders | Self::RequestBody | Self::None => MapType::HttpRequestHeaders,
            Self::RequestTrailers => MapType::HttpRequestTrailers,
            Self::ResponseHeaders | Self::ResponseBody => MapType::HttpResponseHeaders,
            Self::ResponseTrailers => MapType::HttpResponseTrailers,
        }
    }
}

//! [`TestStream`]: one request and its response.

use std::marker::PhantomData;

use super::state::{self, StreamState};
use super::{TestHost, TestReply};
use crate::dispatch::{self, Registered};
use crate::{Action, BufferType, MapType};

/// One request on a [`TestHost`]. Its end is the end of this value.
pub struct TestStream<'a, F: Registered> {
    id: u32,
    host: PhantomData<&'a TestHost<F>>,
}

impl<F: Registered> TestStream<'_, F> {
    pub(super) fn begin() -> Self {
        let id = state::with(state::State::begin_stream);
        if F::PER_STREAM {
            state::within(id, || dispatch::create::<F>(id, state::ROOT));
        }
        Self { id, host: PhantomData }
    }

    fn with<R>(&self, f: impl FnOnce(&mut StreamState) -> R) -> R {
        state::with(|state| f(state.stream(self.id)))
    }

    /// Sets a property before a callback reads it.
    pub fn set_property(&self, key: &str, value: &[u8]) {
        self.with(|stream| stream.properties.insert(key.as_bytes().to_vec(), value.to_vec()));
    }

    /// A property as it is now.
    pub fn property(&self, key: &str) -> Option<Vec<u8>> {
        self.with(|stream| stream.properties.get(key.as_bytes()).cloned())
    }

    /// Runs `on_request_headers` with these headers and no body.
    pub fn request_headers(&mut self, headers: &[(&str, &str)]) -> Action {
        self.headers(MapType::HttpRequestHeaders, headers, true, dispatch::request_headers::<F>)
    }

    /// Runs `on_request_headers` with these headers; a body or trailers follow.
    pub fn request_head(&mut self, headers: &[(&str, &str)]) -> Action {
        self.headers(MapType::HttpRequestHeaders, headers, false, dispatch::request_headers::<F>)
    }

    /// Runs `on_request_body` with a part of the body, after what the filter holds of it.
    pub fn request_body(&mut self, body: &[u8], end_of_stream: bool) -> Action {
        self.body(BufferType::HttpRequestBody, body, end_of_stream, dispatch::request_body::<F>)
    }

    /// Runs `on_request_trailers` with these trailers.
    pub fn request_trailers(&mut self, trailers: &[(&str, &str)]) -> Action {
        self.trailers(MapType::HttpRequestTrailers, trailers, dispatch::request_trailers::<F>)
    }

    /// Runs `on_response_headers` with these headers and no body.
    pub fn response_headers(&mut self, headers: &[(&str, &str)]) -> Action {
        self.headers(MapType::HttpResponseHeaders, headers, true, dispatch::response_headers::<F>)
    }

    /// Runs `on_response_headers` with these headers; a body or trailers follow.
    pub fn response_head(&mut self, headers: &[(&str, &str)]) -> Action {
        self.headers(MapType::HttpResponseHeaders, headers, false, dispatch::response_headers::<F>)
    }

    /// Runs `on_response_body` with a part of the body, after what the filter holds of it.
    pub fn response_body(&mut self, body: &[u8], end_of_stream: bool) -> Action {
        self.body(BufferType::HttpResponseBody, body, end_of_stream, dispatch::response_body::<F>)
    }

    /// Runs `on_response_trailers` with these trailers.
    pub fn response_trailers(&mut self, trailers: &[(&str, &str)]) -> Action {
        self.trailers(MapType::HttpResponseTrailers, trailers, dispatch::response_trailers::<F>)
    }

    /// Runs `on_foreign_function`.
    pub fn foreign_function(&mut self, function: u32, data: &[u8]) {
        self.with(|stream| stream.buffers.insert(BufferType::CallData as i32, data.to_vec()));
        state::within(self.id, || dispatch::foreign_function::<F>(self.id, function, data.len()));
    }

    /// Runs `on_log`.
    pub fn log(&mut self) {
        state::within(self.id, || dispatch::log::<F>(self.id));
    }

    fn headers(
        &mut self,
        map: MapType,
        headers: &[(&str, &str)],
        end: bool,
        callback: fn(u32, usize, bool) -> u32,
    ) -> Action {
        self.with(|stream| stream.set_map(map, headers));
        let action = state::within(self.id, || callback(self.id, headers.len(), end));
        self.note(map, false, action)
    }

    fn body(&mut self, kind: BufferType, body: &[u8], end: bool, callback: fn(u32, usize, bool) -> u32) -> Action {
        let size = self.with(|stream| stream.add_body(kind, body));
        let action = state::within(self.id, || callback(self.id, size, end));
        let of_request = kind == BufferType::HttpRequestBody;
        self.note(if of_request { MapType::HttpRequestHeaders } else { MapType::HttpResponseHeaders }, true, action)
    }

    fn trailers(&mut self, map: MapType, trailers: &[(&str, &str)], callback: fn(u32, usize) -> u32) -> Action {
        self.with(|stream| {
            stream.set_map(map, trailers);
            stream.end_body(body_of(map));
        });
        let action = state::within(self.id, || callback(self.id, trailers.len()));
        self.note(map, false, action)
    }

    fn note(&mut self, map: MapType, of_body: bool, action: u32) -> Action {
        let paused = action != Action::Continue as u32;
        self.with(|stream| stream.note(body_of(map), of_body, paused));
        if paused { Action::Pause } else { Action::Continue }
    }

    /// True while the filter holds the request or the response, or has answered itself.
    pub fn is_paused(&self) -> bool {
        self.with(|stream| stream.request.paused || stream.response.paused)
    }

    /// The values of a request header as they are now.
    pub fn request_header(&self, name: &str) -> Vec<String> {
        self.with(|stream| stream.values(MapType::HttpRequestHeaders, name))
    }

    /// The values of a request trailer as they are now.
    pub fn request_trailer(&self, name: &str) -> Vec<String> {
        self.with(|stream| stream.values(MapType::HttpRequestTrailers, name))
    }

    /// The values of a response header as they are now.
    pub fn response_header(&self, name: &str) -> Vec<String> {
        self.with(|stream| stream.values(MapType::HttpResponseHeaders, name))
    }

    /// The values of a response trailer as they are now.
    pub fn response_trailer(&self, name: &str) -> Vec<String> {
        self.with(|stream| stream.values(MapType::HttpResponseTrailers, name))
    }

    /// The part of the request's body that the last callback saw, as it is now.
    pub fn request_body_bytes(&self) -> Vec<u8> {
        self.with(|stream| stream.buffers.get(&(BufferType::HttpRequestBody as i32)).cloned().unwrap_or_default())
    }

    /// The part of the response's body that the last callback saw, as it is now.
    pub fn response_body_bytes(&self) -> Vec<u8> {
        self.with(|stream| stream.buffers.get(&(BufferType::HttpResponseBody as i32)).cloned().unwrap_or_default())
    }

    /// What of the request's body has gone on to the upstream.
    pub fn request_body_sent(&self) -> Vec<u8> {
        self.with(|stream| stream.request.sent.clone())
    }

    /// What of the response's body has gone on to the client.
    pub fn response_body_sent(&self) -> Vec<u8> {
        self.with(|stream| stream.response.sent.clone())
    }

    /// The local reply, when the filter sent one.
    pub fn reply(&self) -> Option<TestReply> {
        self.with(|stream| stream.reply.clone())
    }
}

fn body_of(map: MapType) -> BufferType {
    match map {
        MapType::HttpRequestHeaders | MapType::HttpRequestTrailers => BufferType::HttpRequestBody,
        _ => BufferType::HttpResponseBody,
    }
}

impl<F: Registered> Drop for TestStream<'_, F> {
    fn drop(&mut self) {
        if F::PER_STREAM {
            state::within(self.id, || dispatch::delete::<F>(self.id));
        }
        state::with(|state| state.end_stream(self.id));
    }
}

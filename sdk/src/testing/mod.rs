//! [`TestHost`]: runs a filter in `cargo test`, without Wasm.
//!
//! The filter is the same code: the host functions that it calls are answered from a state that belongs to the test's
//! thread. Needs feature `testing`:
//!
//! ```toml
//! [dev-dependencies]
//! portolan-sdk = { version = "0.1", features = ["testing"] }
//! ```

#[expect(unsafe_code, reason = "plays the host of an ABI that is made of pointers")]
pub(crate) mod imports;
mod state;

use std::marker::PhantomData;
use std::rc::Rc;

use state::State;

use crate::dispatch::{self, Registered};
use crate::{Action, BufferType, LogLevel, MapType, Status};

/// A host with one plugin. See [`Filter`](crate::Filter) for a whole test.
///
/// One at a time in each thread: starting another one forgets the first.
pub struct TestHost<F> {
    filter: PhantomData<fn() -> F>,
}

/// A local reply that the filter sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReply {
    /// HTTP status.
    pub status: u32,
    /// Reason for the access log.
    pub details: String,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
    /// -1 when the filter gave none.
    pub grpc_status: i32,
}

impl<F: Registered> TestHost<F> {
    /// Configures the filter with this JSON; the error is what it logged when it refused.
    pub fn start(configuration: &str) -> Result<Self, String> {
        F::with_plugin(dispatch::Plugin::clear);
        state::with(|state| {
            *state = State::default();
            state.buffers.insert(BufferType::PluginConfiguration as i32, configuration.as_bytes().to_vec());
        });
        if dispatch::configure::<F>(1, configuration.len()) {
            return Ok(Self { filter: PhantomData });
        }
        Err(state::with(|state| state.logs.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")))
    }

    /// Configures the filter anew, as a host does that reuses the VM. True when accepted.
    pub fn configure(&self, configuration: &str) -> bool {
        let bytes = configuration.as_bytes().to_vec();
        state::with(|state| state.buffers.insert(BufferType::PluginConfiguration as i32, bytes));
        dispatch::configure::<F>(1, configuration.len())
    }

    /// Begins a request; the last one's headers, properties and reply are forgotten.
    pub fn stream(&self) -> TestStream<'_, F> {
        let id = state::with(State::begin_stream);
        if F::PER_STREAM {
            dispatch::create::<F>(id, 1);
        }
        TestStream { id, host: PhantomData }
    }

    /// Answers calls of a foreign function from now on.
    pub fn answer(&self, name: &str, answer: impl Fn(&[u8]) -> Result<Vec<u8>, Status> + 'static) {
        state::with(|state| state.foreign.insert(name.as_bytes().to_vec(), Rc::new(answer)));
    }

    /// Makes a host function fail from now on, e.g. `proxy_set_property`.
    pub fn fail(&self, call: &'static str, status: Status) {
        state::with(|state| state.failures.insert(call, status));
    }

    /// The calls of foreign functions so far: name and arguments.
    pub fn foreign_calls(&self) -> Vec<(String, Vec<u8>)> {
        state::with(|state| state.foreign_calls.clone())
    }

    /// The host functions that the filter called so far, log lines left out.
    pub fn calls(&self) -> Vec<&'static str> {
        state::with(|state| state.calls.clone())
    }

    /// The lines logged so far.
    pub fn logs(&self) -> Vec<(LogLevel, String)> {
        state::with(|state| state.logs.clone())
    }
}

/// One request on a [`TestHost`]. Its end is the end of this value.
pub struct TestStream<'a, F: Registered> {
    id: u32,
    host: PhantomData<&'a TestHost<F>>,
}

impl<F: Registered> TestStream<'_, F> {
    /// Sets a property before a callback reads it.
    pub fn set_property(&self, key: &str, value: &[u8]) {
        state::with(|state| state.properties.insert(key.as_bytes().to_vec(), value.to_vec()));
    }

    /// A property as it is now.
    pub fn property(&self, key: &str) -> Option<Vec<u8>> {
        state::with(|state| state.properties.get(key.as_bytes()).cloned())
    }

    /// Runs `on_request_headers` with these headers and no body.
    pub fn request_headers(&mut self, headers: &[(&str, &str)]) -> Action {
        state::with(|state| state.set_map(MapType::HttpRequestHeaders, headers));
        action(dispatch::request_headers::<F>(self.id, headers.len(), true))
    }

    /// Runs `on_request_body` with a part of the body.
    pub fn request_body(&mut self, body: &[u8], end_of_stream: bool) -> Action {
        state::with(|state| state.buffers.insert(BufferType::HttpRequestBody as i32, body.to_vec()));
        action(dispatch::request_body::<F>(self.id, body.len(), end_of_stream))
    }

    /// Runs `on_response_headers` with these headers and no body.
    pub fn response_headers(&mut self, headers: &[(&str, &str)]) -> Action {
        state::with(|state| state.set_map(MapType::HttpResponseHeaders, headers));
        action(dispatch::response_headers::<F>(self.id, headers.len(), true))
    }

    /// Runs `on_response_body` with a part of the body.
    pub fn response_body(&mut self, body: &[u8], end_of_stream: bool) -> Action {
        state::with(|state| state.buffers.insert(BufferType::HttpResponseBody as i32, body.to_vec()));
        action(dispatch::response_body::<F>(self.id, body.len(), end_of_stream))
    }

    /// Runs `on_foreign_function`.
    pub fn foreign_function(&mut self, function: u32, data: &[u8]) {
        state::with(|state| state.buffers.insert(BufferType::CallData as i32, data.to_vec()));
        dispatch::foreign_function::<F>(self.id, function, data.len());
    }

    /// Runs `on_log`.
    pub fn log(&mut self) {
        dispatch::log::<F>(self.id);
    }

    /// The values of a request header as they are now.
    pub fn request_header(&self, name: &str) -> Vec<String> {
        state::with(|state| state.values(MapType::HttpRequestHeaders, name))
    }

    /// The values of a response header as they are now.
    pub fn response_header(&self, name: &str) -> Vec<String> {
        state::with(|state| state.values(MapType::HttpResponseHeaders, name))
    }

    /// The request's body as it is now.
    pub fn request_body_bytes(&self) -> Vec<u8> {
        state::with(|state| state.buffers.get(&(BufferType::HttpRequestBody as i32)).cloned().unwrap_or_default())
    }

    /// The response's body as it is now.
    pub fn response_body_bytes(&self) -> Vec<u8> {
        state::with(|state| state.buffers.get(&(BufferType::HttpResponseBody as i32)).cloned().unwrap_or_default())
    }

    /// The local reply, when the filter sent one.
    pub fn reply(&self) -> Option<TestReply> {
        state::with(|state| state.reply.clone())
    }
}

impl<F: Registered> Drop for TestStream<'_, F> {
    fn drop(&mut self) {
        if F::PER_STREAM {
            dispatch::delete::<F>(self.id);
        }
    }
}

fn action(raw: u32) -> Action {
    if raw == Action::Continue as u32 { Action::Continue } else { Action::Pause }
}

#[cfg(test)]
mod tests;

//! [`Filter`]: what a filter author implements, in three life spans.

use serde::de::DeserializeOwned;

use crate::{Action, ConfigError, Exchange, HostError, Queue, Request, Response};

/// A filter. The value itself is one plugin configuration in one VM; it lives from `configure` on and is shared by all
/// requests of that VM, so what changes sits in a [`std::cell::Cell`].
///
/// 1. **Plugin:** [`configure`](Self::configure) turns the typed configuration into the filter, once.
/// 2. **Stream:** [`stream`](Self::stream) makes what one request keeps between its callbacks. Filters without such
///    state say `type Stream = ();` and leave `stream` out of [`filter!`](crate::filter), which spares two calls a
///    request.
/// 3. **Callback:** the `on_` methods see the message. Values that they read are lent until they return. They return
///    `Result`: on a failed host call the SDK logs and does what [`ON_ERROR`](Self::ON_ERROR) says. Nothing here panics.
///
/// Implement the callbacks you need **and list them in [`filter!`](crate::filter)**: a host never calls what is not
/// listed.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     tenant_header: String,
/// }
///
/// /// Refuses requests that name no tenant.
/// struct Tenants {
///     config: Config,
/// }
///
/// impl Filter for Tenants {
///     type Config = Config;
///     type Stream = ();
///
///     fn configure(config: Config) -> Result<Self, ConfigError> {
///         Ok(Self { config })
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         match request.header(&self.config.tenant_header)? {
///             Some(_) => Ok(Action::Continue),
///             None => request.reply(&LocalReply::new(403).body(b"no tenant").details("no_tenant")),
///         }
///     }
/// }
///
/// portolan_sdk::filter! { Tenants: on_request_headers }
///
/// use portolan_sdk::testing::TestHost;
/// let host = TestHost::<Tenants>::start(r#"{ "tenant_header": "x-tenant" }"#).expect("the configuration is fine");
/// let mut stream = host.stream();
/// assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Pause);
/// assert_eq!(stream.reply().expect("a reply was sent").status, 403);
/// ```
pub trait Filter: Sized + 'static {
    /// What the plugin is configured with, as JSON. [`NoConfig`](crate::NoConfig) takes anything, and spares the module the
    /// JSON reader.
    type Config: DeserializeOwned + 'static;

    /// What one request keeps between its callbacks; `()` when nothing.
    type Stream: 'static;

    /// What a failed host call means for the request. Default: it goes on.
    const ON_ERROR: OnError = OnError::Continue;

    /// Turns the configuration into a filter. An error is logged and refuses the configuration.
    fn configure(config: Self::Config) -> Result<Self, ConfigError>;

    /// Makes the state of a new request.
    fn stream(&self) -> Self::Stream;

    /// The request's headers are there.
    fn on_request_headers(&self, _stream: &mut Self::Stream, _request: &Request<'_>) -> Result<Action, HostError> {
        Ok(Action::Continue)
    }

    /// A part of the request's body is there: [`Request::body_size`] bytes.
    fn on_request_body(&self, _stream: &mut Self::Stream, _request: &Request<'_>) -> Result<Action, HostError> {
        Ok(Action::Continue)
    }

    /// The request's trailers are there. By default the last part of a body that the filter holds goes to
    /// [`on_request_body`](Self::on_request_body), with `end_of_stream`; so a filter that waits for a whole body gets
    /// it in any case, and need not know of trailers.
    fn on_request_trailers(&self, stream: &mut Self::Stream, request: &Request<'_>) -> Result<Action, HostError> {
        request.end_body(|body| self.on_request_body(stream, body))
    }

    /// The response's headers are there: the upstream's, or those of a local reply.
    fn on_response_headers(&self, _stream: &mut Self::Stream, _response: &Response<'_>) -> Result<Action, HostError> {
        Ok(Action::Continue)
    }

    /// A part of the response's body is there: [`Response::body_size`] bytes.
    fn on_response_body(&self, _stream: &mut Self::Stream, _response: &Response<'_>) -> Result<Action, HostError> {
        Ok(Action::Continue)
    }

    /// The response's trailers are there. By default as [`on_request_trailers`](Self::on_request_trailers).
    fn on_response_trailers(&self, stream: &mut Self::Stream, response: &Response<'_>) -> Result<Action, HostError> {
        response.end_body(|body| self.on_response_body(stream, body))
    }

    /// The host tells something of its own: `function` says what, [`Exchange::call_data`] holds the rest.
    fn on_foreign_function(
        &self,
        _stream: &mut Self::Stream,
        _function: u32,
        _exchange: &Exchange<'_>,
    ) -> Result<(), HostError> {
        Ok(())
    }

    /// The period of [`timer::every`](crate::timer::every) has passed.
    fn on_tick(&self) -> Result<(), HostError> {
        Ok(())
    }

    /// A queue that this filter has registered holds something.
    fn on_queue_ready(&self, _queue: Queue) -> Result<(), HostError> {
        Ok(())
    }

    /// The stream is over; headers can be read a last time.
    fn on_log(&self, _stream: &mut Self::Stream, _exchange: &Exchange<'_>) -> Result<(), HostError> {
        Ok(())
    }
}

/// What a request gets when a callback, or the continuation of a call, returned an error. The error is logged in any case,
/// at level error, with the name of the host function or step.
///
/// A filter that guards something says [`Fail`](Self::Fail): else a request passes whenever a header cannot be read or a
/// service cannot be asked. Callbacks without a request to answer (`on_log`, `on_tick`, `on_queue_ready`,
/// `on_foreign_function`, continuations of [`root::call`](crate::root::call)) only log.
///
/// What happens when the filter itself breaks (a trap, a deadline) is for the host to say: `failStrategy` in a WasmPlugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It goes on as if the filter had said [`Action::Continue`].
    Continue,
    /// It is answered with 500 and details `filter_error`. Where that cannot be done any more, because the response has begun,
    /// it is held, and the host ends it when its time is over.
    Fail,
}

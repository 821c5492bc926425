//! The SDK's own behaviour, seen through the test host.

mod bodies;
mod calls;
mod typed;

use crate::prelude::*;
use crate::testing::TestHost;
use crate::{LogLevel, Status};

#[derive(serde::Deserialize)]
struct Config {
    name: String,
}

/// Writes its name into each request, and its stream's age into each response.
struct Named {
    name: String,
}

impl Filter for Named {
    type Config = Config;
    type Stream = u32;

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        if config.name.is_empty() { Err(ConfigError::new("`name` is empty")) } else { Ok(Self { name: config.name }) }
    }

    fn stream(&self) -> u32 {
        0
    }

    fn on_request_headers(&self, callbacks: &mut u32, request: &Request<'_>) -> Result<Action, HostError> {
        *callbacks += 1;
        request.add_header("x-name", self.name.as_bytes())?;
        request.set_property("seen", request.query()?.unwrap_or(b"no query"))?;
        Ok(Action::Continue)
    }

    fn on_request_body(&self, callbacks: &mut u32, request: &Request<'_>) -> Result<Action, HostError> {
        *callbacks += 1;
        let shout = request.body()?.to_ascii_uppercase();
        request.set_body(&shout)?;
        Ok(Action::Continue)
    }

    fn on_response_headers(&self, callbacks: &mut u32, response: &Response<'_>) -> Result<Action, HostError> {
        let digits = [b'0' + *callbacks as u8];
        response.set_header("x-callbacks", &digits)?;
        if response.status()? == 404 {
            response.remove_header("server")?
        }
        Ok(Action::Continue)
    }
}

crate::filter! { Named: stream, on_request_headers, on_request_body, on_response_headers }

fn host(name: &str) -> TestHost<Named> {
    TestHost::start(&format!(r#"{{"name": "{name}"}}"#)).expect("the configuration is fine")
}

#[test]
fn a_stream_keeps_its_state_between_callbacks() {
    let host = host("a");
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[(":path", "/p?q=1")]), Action::Continue);
    assert_eq!(stream.request_body(b"quiet", true), Action::Continue);
    assert_eq!(stream.response_headers(&[(":status", "404"), ("server", "x")]), Action::Continue);
    assert_eq!(stream.request_header("x-name"), ["a"]);
    assert_eq!(stream.property("seen").as_deref(), Some(b"q=1".as_slice()));
    assert_eq!(stream.request_body_bytes(), b"QUIET");
    assert_eq!(stream.response_header("x-callbacks"), ["2"]);
    assert_eq!(stream.response_header("server"), [""; 0]);
}

#[test]
fn streams_in_flight_stay_with_the_configuration_that_they_began_with() {
    let host = host("old");
    let mut early = host.stream();
    assert!(host.configure(r#"{"name": "new"}"#));
    early.request_headers(&[(":path", "/")]);
    assert_eq!(early.request_header("x-name"), ["old"]);
    let mut late = host.stream();
    late.request_headers(&[(":path", "/")]);
    assert_eq!(late.request_header("x-name"), ["new"]);
}

#[test]
fn a_refused_configuration_is_logged_with_its_place() {
    let refusal = |json| TestHost::<Named>::start(json).err();
    assert_eq!(refusal(r#"{"name": ""}"#).as_deref(), Some("invalid configuration: `name` is empty"));
    assert_eq!(
        refusal(r#"{"name": 7}"#).as_deref(),
        Some("invalid configuration: name: invalid type: integer `7`, expected a string at line 1 column 10")
    );
}

#[test]
fn a_failed_host_call_is_logged_and_fails_the_request_when_the_filter_says_so() {
    let host = host("a");
    host.fail("proxy_set_property", Status::BadArgument);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Pause);
    let reply = stream.reply().expect("the filter fails requests");
    assert_eq!((reply.status, reply.details.as_str()), (500, "filter_error"));
    assert_eq!(host.logs(), [(LogLevel::Error, "proxy_set_property: bad argument".into())]);
}

//! [`Whole`]: a body that a filter wants in one piece.

/// What [`Request::whole_body`](crate::Request::whole_body) and [`Response::whole_body`](crate::Response::whole_body)
/// say.
///
/// Bodies come in parts, and a body callback that pauses sees all of them so far the next time. `Waiting` asks for that
/// pause. Once a part has gone on the whole is out of reach: so after `TooLarge` it stays `TooLarge`, whatever else comes.
///
/// A body that ends with trailers has no last part. Then the SDK calls the body callback once more, with
/// `end_of_stream`, when the trailers are there (unless the filter lists a trailers callback of its own).
///
/// A body callback holds the body and not the head, which has gone on before: when the filter refuses, the upstream may
/// have seen a request that breaks off. A filter that must hold the head too pauses in the headers callback; then the body
/// comes only on hosts that are told so, in Portolan by the annotation `portolan.dev/allow-on-headers-stop-iteration`, in Envoy
/// by `allow_on_headers_stop_iteration`; elsewhere such a request waits for ever. `Continue` in the body callback lets both go.
///
/// The host has a limit too. In Portolan it is 1 MiB (Envoy: `per_connection_buffer_limit_bytes`, as much by default):
/// above it a request is answered with 413, and a response is cut. A filter's own limit belongs below.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// /// Refuses requests that mention dragons.
/// struct NoDragons;
///
/// impl Filter for NoDragons {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self)
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_body(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         match request.whole_body(64 * 1024)? {
///             Whole::Waiting => Ok(Action::Pause),
///             Whole::TooLarge => request.reply(&LocalReply::new(413)),
///             Whole::Complete(body) if body.windows(6).any(|part| part == b"dragon") => {
///                 request.reply(&LocalReply::new(403).body(b"no dragons"))
///             }
///             Whole::Complete(_) => Ok(Action::Continue),
///         }
///     }
/// }
///
/// // `stream` is listed, since the SDK keeps what has gone on for each stream.
/// portolan_sdk::filter! { NoDragons: stream, on_request_body }
///
/// let host = portolan_sdk::testing::TestHost::<NoDragons>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// assert_eq!(stream.request_body(b"here be dra", false), Action::Pause);
/// assert_eq!(stream.request_body(b"gons", true), Action::Pause);
/// assert_eq!(stream.reply().expect("it was refused").status, 403);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole<'a> {
    /// More is to come: return [`Action::Pause`](crate::Action::Pause).
    Waiting,
    /// All of it.
    Complete(&'a [u8]),
    /// It is larger than the limit, or a part of it has gone on already.
    TooLarge,
}

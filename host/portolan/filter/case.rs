//! [`Case`]: one test of a filter: a request, what the world around the gateway answers, and what must come of it.

mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_config::plain::Plain;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use crate::cases::forms::{Content, ContentMatch, Headers, TextMatch};
pub(crate) use read::{Cases, first_mistake, read};

use crate::cases::forms::{self, Forms};

/// One document of a `*.test.yaml` file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Case {
    /// What is tested, in words. Required, and unique in the folder.
    pub(crate) name: String,
    /// The filter's configuration; that of `filter.yaml` by default.
    pub(crate) config: Option<Value>,
    /// Requests that are sent first and not looked at.
    pub(crate) before: Vec<Request>,
    /// The request.
    pub(crate) request: Request,
    /// How the upstream answers; 200 without a body by default.
    pub(crate) upstream: Peer,
    /// How other services answer, by the host that the filter names in a callout.
    pub(crate) services: BTreeMap<String, Peer>,
    /// What must come of it. Something must be expected.
    pub(crate) expect: Expect,
}

/// A case with the places of its fields.
pub(crate) type PlacedCase = Plain<Case>;

/// A request as a client sends it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Request {
    /// GET by default.
    pub(crate) method: String,
    /// Path and query; `/` by default.
    pub(crate) path: String,
    /// `example.com` by default.
    pub(crate) host: String,
    /// Beside `host` and those that frame the body.
    pub(crate) headers: Headers,
    /// None by default.
    pub(crate) body: Option<Content>,
    /// None by default; with some, the body is sent in chunks.
    pub(crate) trailers: Headers,
}

impl Default for Request {
    fn default() -> Self {
        let (headers, trailers) = (Headers::default(), Headers::default());
        Self {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: "example.com".to_owned(),
            headers,
            body: None,
            trailers,
        }
    }
}

/// Who is asked by the gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Peer {
    /// Nobody listens there: `down`.
    Down,
    /// Gives this answer to each request.
    Answers(Answer),
}

/// An answer to a request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Answer {
    /// 200 by default.
    pub(crate) status: u16,
    /// Beside those that frame the body.
    pub(crate) headers: Headers,
    /// Empty by default.
    pub(crate) body: Option<Content>,
    /// None by default.
    pub(crate) trailers: Headers,
    /// Time before it is given; none by default.
    #[serde(deserialize_with = "forms::delay")]
    pub(crate) delay: Duration,
}

impl Default for Answer {
    fn default() -> Self {
        let (headers, trailers) = (Headers::default(), Headers::default());
        Self { status: 200, headers, body: None, trailers, delay: Duration::ZERO }
    }
}

impl Default for Peer {
    fn default() -> Self {
        Self::Answers(Answer::default())
    }
}

/// What must come of a case. What is absent is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Expect {
    /// What the upstream must have seen.
    pub(crate) request: Option<Arrival>,
    /// What the client must have got.
    pub(crate) response: Option<ResponseMatch>,
    /// Calls of the host that the filter must have made.
    pub(crate) calls: Option<Calls>,
    /// Requests that other services must have seen, all of them in this order.
    pub(crate) callouts: Option<Vec<CalloutMatch>>,
    /// Each must be in a line that the filter has logged, in this order.
    pub(crate) log: Vec<TextMatch>,
    /// The filter must refuse its configuration with such words; no request is sent then. A text alone is a part of them.
    pub(crate) refusal: Option<TextMatch>,
    /// Counters of the filter at the end, where its gauges stand, how often its histograms were recorded.
    pub(crate) metrics: BTreeMap<String, f64>,
}

/// Whether a request must have come to the upstream.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    /// `none`: nothing may have come.
    Nothing,
    /// One must have come, such as this.
    Request(Box<RequestMatch>),
}

/// Conditions on a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RequestMatch {
    /// The method.
    pub(crate) method: Option<TextMatch>,
    /// Path and query.
    pub(crate) path: Option<TextMatch>,
    /// The `host` header.
    pub(crate) host: Option<TextMatch>,
    /// By name; others may be there.
    pub(crate) headers: BTreeMap<String, TextMatch>,
    /// The body.
    pub(crate) body: Option<ContentMatch>,
    /// By name; others may be there.
    pub(crate) trailers: BTreeMap<String, TextMatch>,
}

/// Conditions on a response.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ResponseMatch {
    /// The status.
    pub(crate) status: Option<u16>,
    /// By name; others may be there.
    pub(crate) headers: BTreeMap<String, TextMatch>,
    /// The body.
    pub(crate) body: Option<ContentMatch>,
    /// By name; others may be there.
    pub(crate) trailers: BTreeMap<String, TextMatch>,
}

/// Conditions on a callout.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CalloutMatch {
    /// The name of the service in `services`.
    pub(crate) to: Option<String>,
    /// The method.
    pub(crate) method: Option<TextMatch>,
    /// Path and query.
    pub(crate) path: Option<TextMatch>,
    /// By name; others may be there.
    pub(crate) headers: BTreeMap<String, TextMatch>,
    /// The body.
    pub(crate) body: Option<ContentMatch>,
}

/// Calls of the host, each as the trace writes it, e.g. `set_header("x-stamp", "a1")`; `...` stands for any text. What a
/// call has answered may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// These and no others: written as `exact: [..]`.
    pub(crate) exact: bool,
    /// In this order.
    pub(crate) calls: Vec<String>,
}

impl Case {
    /// Whether anything is expected.
    fn expects_something(&self) -> bool {
        let Expect { request, response, calls, callouts, log, refusal, metrics } = &self.expect;
        let response = response.as_ref().is_some_and(ResponseMatch::asks_something);
        response
            || request.is_some()
            || calls.is_some()
            || callouts.is_some()
            || !log.is_empty()
            || refusal.is_some()
            || !metrics.is_empty()
    }
}

impl ResponseMatch {
    fn asks_something(&self) -> bool {
        self.status.is_some() || !self.headers.is_empty() || self.body.is_some() || !self.trailers.is_empty()
    }
}

impl Forms for Peer {
    type Map = Answer;
    type List = forms::NoList;
    const WHAT: &'static str = "an answer, or `down`";

    fn of_text(text: &str) -> Option<Self> {
        (text == "down").then_some(Self::Down)
    }

    fn of_map(map: Answer) -> Result<Self, String> {
        Ok(Self::Answers(map))
    }
}

impl Forms for Arrival {
    type Map = RequestMatch;
    type List = forms::NoList;
    const WHAT: &'static str = "a map, or `none`";

    fn of_text(text: &str) -> Option<Self> {
        (text == "none").then_some(Self::Nothing)
    }

    fn of_map(map: RequestMatch) -> Result<Self, String> {
        Ok(Self::Request(Box::new(map)))
    }
}

/// The map form of [`Calls`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ExactCalls {
    exact: Vec<String>,
}

impl Forms for Calls {
    type Map = ExactCalls;
    type List = Vec<String>;
    const WHAT: &'static str = "a list of calls, or `exact` with such a list";

    fn of_map(map: ExactCalls) -> Result<Self, String> {
        Ok(Self { exact: true, calls: map.exact })
    }

    fn of_list(calls: Vec<String>) -> Option<Self> {
        Some(Self { exact: false, calls })
    }
}

forms::deserialize!(Peer, Arrival, Calls);

#[cfg(test)]
mod tests;

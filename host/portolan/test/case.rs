//! [`RouteTest`]: a request, and where it must go.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use portolan_config::Diagnostic;
use portolan_config::plain::Plain;
use serde::Deserialize;

use crate::UsageError;
use crate::cases::files::UNUSABLE;
use crate::cases::forms::{self, ContentMatch, Forms, Headers, NoList, TextMatch};
use crate::explain::Question;

/// One document of a `*.test.yaml` file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteTest {
    /// What is tested, in words. Required, and unique in a run.
    pub(super) name: String,
    /// The request.
    pub(super) request: Asked,
    /// What must come of it. Something must be expected.
    pub(super) expect: Expect,
}

/// A test with the places of its fields.
pub(super) type PlacedTest = Plain<RouteTest>;

/// A request that nobody sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    /// GET by default.
    pub(super) method: String,
    /// `SCHEME://HOST[:PORT]/PATH`, in place of the four below.
    pub(super) url: Option<String>,
    /// The Host header. `example.com` by default.
    pub(super) host: Option<String>,
    /// Path and query; `/` by default.
    pub(super) path: Option<String>,
    /// Picks the listener: 80 by default, 443 with `tls`. When nothing listens there, the only listener is taken.
    pub(super) port: Option<u16>,
    /// Over TLS.
    pub(super) tls: Option<bool>,
    /// Other header lines.
    pub(super) headers: Headers,
}

impl Default for Asked {
    fn default() -> Self {
        let (url, host, path, port, tls) = (None, None, None, None, None);
        Self { method: "GET".to_owned(), url, host, path, port, tls, headers: Headers::default() }
    }
}

/// What must come of a request. What is absent is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Expect {
    /// The rule: its name, `FILE:LINE` or object (`virtualservice/shop`); `none`: no rule fits.
    pub(super) route: Option<TextMatch>,
    /// Where it is sent, with shares where they count; `none`: nowhere.
    pub(super) destination: Option<Destinations>,
    /// Path and query that the upstream gets.
    pub(super) path: Option<TextMatch>,
    /// Host header that the upstream gets.
    pub(super) host: Option<TextMatch>,
    /// Header lines that the upstream gets, by name; others may be there.
    pub(super) headers: BTreeMap<String, TextMatch>,
    /// Where a redirect leads to.
    pub(super) redirect: Option<TextMatch>,
    /// Of the gateway's own answer.
    pub(super) status: Option<u16>,
    /// Of the gateway's own answer.
    pub(super) body: Option<ContentMatch>,
    /// Of the gateway's own answer; of an upstream's, what the rule's operations add.
    pub(super) response_headers: BTreeMap<String, TextMatch>,
    /// E.g. `5s`; `none`.
    pub(super) timeout: Option<TextMatch>,
    /// Tries after the first.
    pub(super) retries: Option<u32>,
    /// In the words of `explain`.
    pub(super) fault: Option<TextMatch>,
    /// In the words of `explain`.
    pub(super) mirror: Option<TextMatch>,
    /// In the words of `explain`.
    pub(super) cors: Option<TextMatch>,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Destinations {
    /// All of them there; `none` for nowhere.
    All(String),
    /// To each its share in percent.
    Shares(BTreeMap<String, f64>),
}

impl Forms for Destinations {
    type Map = BTreeMap<String, f64>;
    type List = NoList;
    const WHAT: &'static str = "a destination, or a map of destinations to their shares in percent";

    fn of_text(text: &str) -> Option<Self> {
        Some(Self::All(text.to_owned()))
    }

    fn of_map(map: Self::Map) -> Result<Self, String> {
        if map.is_empty() { Err(format!("expected {}", Self::WHAT)) } else { Ok(Self::Shares(map)) }
    }
}

forms::deserialize!(Destinations);

impl Asked {
    /// As `explain` asks it.
    pub(super) fn question(&self) -> Result<Question, UsageError> {
        let Headers(lines) = &self.headers;
        let headers: Vec<_> = lines.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        if let Some(url) = &self.url {
            return Question::parse(url, &self.method, &headers);
        }
        Ok(Question {
            port: self.port.unwrap_or(if self.tls == Some(true) { 443 } else { 80 }),
            authority: self.host.clone().unwrap_or_else(|| "example.com".to_owned()),
            server_name: None,
            path: self.path.clone().unwrap_or_else(|| "/".to_owned()),
            method: self.method.clone(),
            headers,
        })
    }
}

impl Expect {
    fn asks_something(&self) -> bool {
        let Self {
            route,
            destination,
            path,
            host,
            headers,
            redirect,
            status,
            body,
            response_headers,
            timeout,
            retries,
            fault,
            mirror,
            cors,
        } = self;
        let texts = [route, path, host, redirect, timeout, fault, mirror, cors].iter().any(|text| text.is_some());
        let maps = !headers.is_empty() || !response_headers.is_empty();
        texts || maps || destination.is_some() || status.is_some() || body.is_some() || retries.is_some()
    }
}

/// What is wrong with a test beyond its form.
pub(super) fn check(test: &PlacedTest) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    let mut find = |path: &str, message: String| findings.push(Diagnostic::error(UNUSABLE, test.place(path), message));
    let RouteTest { name, request, expect } = &test.value;
    if name.trim().is_empty() {
        find("name", "a route test needs a `name`".to_owned());
    }
    if Method::from_bytes(request.method.as_bytes()).is_err() {
        find("request.method", format!("`{}` is not a method", request.method));
    }
    if let Some(url) = &request.url {
        let both = [
            (request.host.is_some(), "host"),
            (request.path.is_some(), "path"),
            (request.port.is_some(), "port"),
            (request.tls.is_some(), "tls"),
        ];
        if let Some((_, field)) = both.iter().find(|(is_there, _)| *is_there) {
            find(&format!("request.{field}"), format!("`{field}` is said by `url` already"));
        }
        if let Err(UsageError(wrong)) = Question::parse(url, &request.method, &[]) {
            find("request.url", wrong);
        }
    }
    if let Some(path) = &request.path
        && (!path.starts_with('/') && path != "*" || path.parse::<PathAndQuery>().is_err())
    {
        find("request.path", format!("`{path}` is not a path: it begins with `/`"));
    }
    for (name, value) in &request.headers.0 {
        if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(value).is_err() {
            find(&format!("request.headers.{name}"), format!("`{name}` is no header of HTTP"));
        }
    }
    if !expect.asks_something() {
        find("expect", "nothing is expected: name at least one of `route`, `destination`, `path`, `host`, `headers`, `redirect`, `status`, `body`, `responseHeaders`, `timeout`, `retries`, `fault`, `mirror`, `cors` in `expect`".to_owned());
    }
    findings
}

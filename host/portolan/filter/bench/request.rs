//! [`Prepared`]: a case's request, or a plain one, and the world's answers to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, request, response};
use portolan_proxy::BenchRequest;
use portolan_wasm::{CallResponse, HttpCall, Upstream};

use crate::filter::case::{Answer, Case, Content, Headers, Peer, Request};

/// Body of the plain response, in bytes.
const PLAIN_BODY: usize = 1024;

/// Everything that a request needs on its way.
pub(super) struct Prepared {
    request: request::Parts,
    request_body: Bytes,
    request_trailers: Option<HeaderMap>,
    response: response::Parts,
    response_body: Bytes,
    response_trailers: Option<HeaderMap>,
    callout: Box<dyn Fn(&HttpCall) -> CallResponse>,
}

impl Prepared {
    /// Without a case: a browser's GET of `/`, answered with 1 KiB of HTML.
    pub(super) fn new(case: Option<&Case>) -> anyhow::Result<Self> {
        let plain = plain();
        let case = case.unwrap_or(&plain);
        let Request { method, path, host, headers, body, trailers } = &case.request;
        let (mut request, ()) =
            http::Request::builder().method(method.as_str()).uri(path.as_str()).body(())?.into_parts();
        request.headers.insert(http::header::HOST, HeaderValue::from_str(host)?);
        add_headers(&mut request.headers, headers, body.as_ref())?;
        let (response, response_body, response_trailers) = answer(&case.upstream)?;
        let services = case.services.iter().map(|(name, peer)| Ok((name.clone(), answer(peer)?)));
        let services = services.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        Ok(Self {
            request,
            request_body: bytes(body.as_ref()),
            request_trailers: map(trailers)?,
            response,
            response_body,
            response_trailers,
            callout: Box::new(move |call| called(&services, call)),
        })
    }

    /// As the measurement takes it.
    pub(super) fn request(&self) -> BenchRequest<'_> {
        BenchRequest {
            request: self.request.clone(),
            request_body: self.request_body.clone(),
            request_trailers: self.request_trailers.clone(),
            response: self.response.clone(),
            response_body: self.response_body.clone(),
            response_trailers: self.response_trailers.clone(),
            callout: &*self.callout,
        }
    }

    /// `GET /hello`.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri)
    }
}

fn plain() -> Case {
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = Headers(vec![
        line("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        line("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        line("accept-language", "en-US,en;q=0.5"),
        line("accept-encoding", "gzip, deflate, br"),
        line("cookie", "session=0123456789abcdef; theme=dark"),
    ]);
    let body = Content { bytes: vec![b'x'; PLAIN_BODY], is_json: false };
    let answer = Answer {
        headers: Headers(vec![line("content-type", "text/html"), line("server", "bench")]),
        body: Some(body),
        ..Answer::default()
    };
    Case { request: Request { headers, ..Request::default() }, upstream: Peer::Answers(answer), ..Case::default() }
}

type Parts = (response::Parts, Bytes, Option<HeaderMap>);

/// Where nobody listens, the gateway answers 503.
fn answer(peer: &Peer) -> anyhow::Result<Parts> {
    let down = Answer { status: 503, ..Answer::default() };
    let Answer { status, headers, body, trailers, .. } = match peer {
        Peer::Answers(answer) => answer,
        Peer::Down => &down,
    };
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::from_u16(*status)?;
    add_headers(&mut parts.headers, headers, body.as_ref())?;
    Ok((parts, bytes(body.as_ref()), map(trailers)?))
}

fn add_headers(map: &mut HeaderMap, Headers(lines): &Headers, body: Option<&Content>) -> anyhow::Result<()> {
    for (name, value) in lines {
        map.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    if let Some(body) = body {
        if body.is_json && !map.contains_key(http::header::CONTENT_TYPE) {
            map.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        map.insert(http::header::CONTENT_LENGTH, body.bytes.len().into());
    }
    Ok(())
}

fn bytes(body: Option<&Content>) -> Bytes {
    body.map(|body| Bytes::copy_from_slice(&body.bytes)).unwrap_or_default()
}

/// None when it is empty.
fn map(headers: &Headers) -> anyhow::Result<Option<HeaderMap>> {
    let mut map = HeaderMap::new();
    add_headers(&mut map, headers, None)?;
    Ok((!map.is_empty()).then_some(map))
}

/// The answer of the service that the filter means; 503 when it is none of the case's, as of a cluster without endpoints.
fn called(services: &BTreeMap<String, Parts>, call: &HttpCall) -> CallResponse {
    let named = |name: &str| match &call.upstream {
        Upstream::Cluster(cluster) => &**cluster == name || cluster.rsplit('|').next() == Some(name),
        Upstream::Name { host, port } => host == name || format!("{host}:{port}") == name,
        Upstream::Address(address) => address.to_string() == name,
    };
    let found = services.iter().find(|(name, _)| named(name)).map(|(_, parts)| parts);
    match found {
        Some((parts, body, trailers)) => CallResponse {
            status: parts.status,
            headers: parts.headers.clone(),
            body: body.clone(),
            trailers: trailers.clone().unwrap_or_default(),
        },
        None => CallResponse {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        },
    }
}

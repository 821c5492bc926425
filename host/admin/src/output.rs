//! Forms of an answer: plain text, or JSON when `?format=json` asks for it.

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The form that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Form {
    /// Reads `?format=`; text by default, none for a form that is not served.
    pub(crate) fn of(uri: &Uri) -> Option<Self> {
        let mut pairs = uri.query().unwrap_or_default().split('&');
        match pairs.find_map(|pair| pair.strip_prefix("format=")) {
            None | Some("text") => Some(Self::Text),
            Some("json") => Some(Self::Json),
            Some(_) => None,
        }
    }
}

/// 400 for a form that is not served.
pub(crate) fn unknown_form() -> Response {
    text(StatusCode::BAD_REQUEST, "format is one of text, json\n")
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], body.into()).into_response()
}

/// An answer in JSON, indented since people read it too.
pub(crate) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(mut body) => {
            body.push('\n');
            (StatusCode::OK, [(CONTENT_TYPE, JSON)], body).into_response()
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write this as JSON: {error}\n")),
    }
}

/// 405 with what would be allowed.
pub(crate) fn method_not_allowed(allowed: &Method, reason: &str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, reason);
    if let Ok(value) = HeaderValue::from_str(allowed.as_str()) {
        response.headers_mut().insert(http::header::ALLOW, value);
    }
    response
}

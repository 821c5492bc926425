//! Methods of HTTP/1 that are taken: those that Envoy's parser knows. It answers 400 to any other, also in lower case.

use http::{HeaderValue, Method, header, request};

/// Beside those that `http` has names for.
const OTHERS: [&str; 26] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// Seen with Envoy 1.40, each of them.
pub(crate) fn is_known(method: &Method) -> bool {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::DELETE | Method::HEAD | Method::OPTIONS | Method::PATCH => {
            true
        }
        Method::CONNECT | Method::TRACE => true,
        _ => OTHERS.contains(&method.as_str()),
    }
}

/// A QUERY says what its body is. As in Envoy, one without a body has to, too.
pub(crate) fn is_bare_query(request: &request::Parts) -> bool {
    request.method.as_str() == "QUERY" && request.headers.get(header::CONTENT_TYPE).is_none_or(HeaderValue::is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn methods_are_envoys_and_in_upper_case() {
        for method in ["GET", "PATCH", "TRACE", "PURGE", "MSEARCH", "PROPFIND", "QUERY"] {
            assert!(is_known(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
        for method in ["get", "put", "Get", "FOO", "M-SEARCH", "PRI", "VERSION-CONTROL"] {
            assert!(!is_known(&Method::from_bytes(method.as_bytes()).unwrap()), "{method}");
        }
    }
}

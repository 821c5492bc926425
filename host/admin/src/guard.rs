//! Who may ask: keeps web pages in an operator's browser away from the admin port.
//!
//! A port on the loopback interface is within reach of every page that the operator has open. A page that points its own
//! name at 127.0.0.1 (DNS rebinding) shows itself by its `Host`; one that posts a form shows itself by its `Origin`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::output::text;

/// Middleware around every path of the admin port that is bound to `local`.
pub(crate) async fn check(State(local): State<SocketAddr>, request: Request, next: Next) -> Response {
    let mut response = match refusal(local, &request) {
        Some((status, reason)) => text(status, reason),
        None => next.run(request).await,
    };
    harden(response.headers_mut());
    response
}

/// Who has connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Middleware around what tells of single requests: only this machine may ask, wherever the port is bound.
pub(crate) async fn check_peer(request: Request, next: Next) -> Response {
    let is_here = request.extensions().get::<Peer>().is_some_and(|Peer(ip)| ip.to_canonical().is_loopback());
    if is_here { next.run(request).await } else { text(StatusCode::FORBIDDEN, "only from this machine\n") }
}

fn harden(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
}

fn refusal(local: SocketAddr, request: &Request) -> Option<(StatusCode, &'static str)> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let host = match (hosts.as_slice(), request.uri().authority()) {
        ([], None) if request.version() == Version::HTTP_10 => None,
        ([], None) => return Some((StatusCode::BAD_REQUEST, "a Host header is required\n")),
        // An absolute target overrules the header, but a browser never sends two that differ.
        ([], Some(target)) => Some(target.clone()),
        ([one], target) => match one.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) {
            Some(host) if target.is_none_or(|target| *target == host) => Some(host),
            _ => return Some((StatusCode::BAD_REQUEST, "the Host header is not valid\n")),
        },
        _ => return Some((StatusCode::BAD_REQUEST, "only one Host header is allowed\n")),
    };
    if local.ip().to_canonical().is_loopback() && host.as_ref().is_some_and(|host| !is_loopback(host)) {
        return Some((StatusCode::FORBIDDEN, "the admin port answers to localhost and loopback addresses only\n"));
    }
    if changes(request.method()) && is_foreign(request.headers(), host.as_ref()) {
        return Some((StatusCode::FORBIDDEN, "requests from other web pages change nothing here\n"));
    }
    None
}

fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host();
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// True when a browser says that another page sends the request. curl and its like send neither header.
fn is_foreign(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let cross_site = headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
    let other_origin = origin.is_some_and(|origin| {
        let authority = origin.split_once("://").and_then(|(_, rest)| rest.parse::<Authority>().ok());
        authority.as_ref() != host || authority.is_none()
    });
    cross_site || other_origin
}

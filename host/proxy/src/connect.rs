//! CONNECT, where the annotation `portolan.dev/connect` of a Gateway takes it: which requests are fit for it, and what becomes of
//! them. As in Envoy the route says where the bytes go, never the target that the client names.

use http::{HeaderValue, Method, Response, StatusCode, Uri, header, request};
use portolan_model::ConnectMode;

use crate::attempt::Attempts;
use crate::body::ResponseBody;
use crate::connection::Fault;
use crate::head;
use crate::listener::ListenerSlot;
use crate::local_reply::Refusal;
use crate::router::Forwarding;
use crate::stream::Guard;
use crate::upgrade;
use crate::view::View;

/// What becomes of CONNECT on a listener; none where it is refused.
pub(crate) fn mode(view: &View, slot: &ListenerSlot) -> Option<ConnectMode> {
    let tables = &view.snapshot.model.route_tables;
    tables.get(slot.route_table() as usize)?.connect
}

/// True for a CONNECT where it is taken.
pub(crate) fn is_taken(method: &Method, view: &View, slot: &ListenerSlot) -> bool {
    method == Method::CONNECT && mode(view, slot).is_some()
}

/// The path of a request with its query; none of a CONNECT.
pub(crate) fn path_of(head: &request::Parts) -> Option<&str> {
    match head.uri.path_and_query() {
        Some(path) => Some(path.as_str()),
        None => (head.method != Method::CONNECT).then_some("/"),
    }
}

/// Refuses what is no CONNECT as RFC 9110 section 9.3.6 has it: a target that is a host with a port, and no body. Its head gets
/// the target as Host, and has no path.
pub(crate) fn check(parts: &mut request::Parts) -> Result<(), Refusal> {
    if parts.extensions.get::<hyper::ext::Protocol>().is_some() {
        return Err(Refusal::Method);
    }
    let target = parts.uri.authority().filter(|target| {
        let is_whole = parts.uri.scheme().is_none() && parts.uri.path_and_query().is_none();
        is_whole && target.port_u16().is_some() && head::is_host(target.as_str().as_bytes())
    });
    let target = target.and_then(|target| HeaderValue::from_str(target.as_str()).ok()).ok_or(Refusal::NoUrl)?;
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::Malformed(Fault::Encoding));
    }
    if parts.headers.remove(header::CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err(Refusal::ConnectBody);
    }
    parts.headers.insert(header::HOST, target);
    // There is one thing that the connection may become.
    parts.headers.remove(header::UPGRADE);
    Ok(())
}

/// Makes a made-up request a CONNECT to its Host, at the listener's port where it says none.
pub(crate) fn aim(parts: &mut request::Parts, port: u16) {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let target = Uri::try_from(host).ok().filter(|target| target.port().is_some());
    if let Some(target) = target.or_else(|| Uri::try_from(format!("{host}:{port}")).ok()) {
        parts.uri = target;
    }
}

/// The target as an upstream is told it: filters and routes may have changed the Host.
pub(crate) fn set_target(parts: &mut request::Parts) {
    if parts.method == Method::CONNECT
        && let Some(target) = parts.headers.get(header::HOST).and_then(|host| Uri::try_from(host.as_bytes()).ok())
    {
        parts.uri = target;
    }
}

/// True when this answer to a CONNECT opens the tunnel. Of HTTP/2 hyper opens none for another success, and neither does Envoy.
pub(crate) fn opens(status: StatusCode, is_http2: bool) -> bool {
    if is_http2 { status == StatusCode::OK } else { status.is_success() }
}

/// Ends the tunnel here: connects to an endpoint and answers for it.
pub(crate) async fn terminate(
    job: &Forwarding<'_>,
    mut attempts: Attempts<'_>,
    guard: Guard,
) -> Response<ResponseBody> {
    match attempts.connect().await {
        Ok(opened) => {
            drop(attempts);
            upgrade::connected(job, opened, guard)
        }
        Err(reply) => {
            job.count_failed(&reply);
            job.stream.reply(*reply, guard).await
        }
    }
}

//! Spans to their collector: a callout that the gateway makes by itself, over gRPC or HTTP.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, uri};
use portolan_model::{TraceExport, Tracing};
use portolan_wasm::{Held, HttpCall, MAX_CALL_BODY, Upstream};

use super::{grpc, http as over_http};
use crate::worker::Worker;

/// The method of OTLP.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Sends a message with spans; a second time when the first came to nothing, as a connection may just have ended.
///
/// # Errors
/// Why the collector has not taken it.
pub(crate) async fn send_spans(worker: &Rc<Worker>, wanted: &Tracing, message: Bytes) -> Result<(), String> {
    match send(worker, wanted, message.clone()).await {
        Err((true, _)) => send(worker, wanted, message).await.map_err(|(_, reason)| reason),
        sent => sent.map_err(|(_, reason)| reason),
    }
}

/// With an error, whether it is worth another try.
async fn send(worker: &Rc<Worker>, wanted: &Tracing, message: Bytes) -> Result<(), (bool, String)> {
    let upstream = Upstream::Cluster(Arc::from(wanted.cluster_name.as_str()));
    let limit = Duration::from_millis(wanted.timeout_ms);
    match &wanted.export {
        TraceExport::Grpc => {
            let authority = wanted.authority.parse().unwrap_or(uri::Authority::from_static("collector"));
            let call = grpc::Tell {
                authority,
                path: uri::PathAndQuery::from_static(EXPORT),
                metadata: headers(&wanted.headers),
                limit,
            };
            grpc::tell(worker, &upstream, call, message).await
        }
        TraceExport::Http(path) | TraceExport::Zipkin { path, .. } => {
            let is_json = matches!(wanted.export, TraceExport::Zipkin { .. });
            let kind = if is_json { "application/json" } else { "application/x-protobuf" };
            let mut request = Request::new(());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = path.parse().unwrap_or_default();
            let sent = request.headers_mut();
            *sent = headers(&wanted.headers);
            sent.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            if let Ok(host) = HeaderValue::from_str(&wanted.authority) {
                sent.insert(header::HOST, host);
            }
            let (request, ()) = request.into_parts();
            let (body, trailers, held) = (message, HeaderMap::new(), Held::apart(MAX_CALL_BODY));
            let call = HttpCall { id: 0, upstream, request, body, trailers, timeout: limit, held };
            let (answer, _) = over_http::call(worker, call).await;
            let is_away = answer.status == StatusCode::SERVICE_UNAVAILABLE;
            if answer.status.is_success() {
                Ok(())
            } else {
                Err((is_away, format!("status {}", answer.status.as_u16())))
            }
        }
    }
}

fn headers(written: &[(String, String)]) -> HeaderMap {
    let header = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    written.iter().filter_map(header).collect()
}

//! A check by a request of HTTP: the status decides.

use bytes::Bytes;
use http::{HeaderValue, Request as Parts, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use portolan_model::HttpProbe;

use super::probe::{Client, Request, failure, reason, speaks_http2};
use super::tally::{FailureKind, Outcome};
use super::target::Target;
use crate::upstream::as_http2;

/// What backends know Envoy's checks by, to leave them out of their logs.
pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static("Envoy/HC");

pub(super) async fn ask(client: &mut Client, target: &Target, probe: &HttpProbe) -> Outcome {
    let is_http2 = probe.http2.unwrap_or_else(|| speaks_http2(target));
    let response = match client.send(target, is_http2, || request(target, probe, is_http2)).await {
        Ok(response) => response,
        Err(outcome) => return outcome,
    };
    let status = response.status().as_u16();
    // Only a whole answer counts.
    if let Err(error) = read(response.into_body()).await {
        client.close();
        return failure(FailureKind::Network, &format!("the answer ended early: {}", reason(&error)));
    }
    verdict(status, probe)
}

fn verdict(status: u16, probe: &HttpProbe) -> Outcome {
    let is_in = |ranges: &[(u16, u16)]| ranges.iter().any(|(start, end)| (*start..*end).contains(&status));
    if is_in(&probe.expected) {
        return Outcome::Success;
    }
    let kind = if is_in(&probe.retriable) { FailureKind::Retriable } else { FailureKind::Active };
    failure(kind, &format!("status {status}"))
}

fn request(target: &Target, probe: &HttpProbe, is_http2: bool) -> Option<Request> {
    let host = &target.plan.check.host;
    let request = Parts::builder()
        .method(probe.method.as_str())
        .uri(probe.path.as_str())
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .body(Full::<Bytes>::default());
    let (mut parts, body) = request.ok()?.into_parts();
    if is_http2 {
        as_http2(&mut parts, target.plan.transport.scheme());
    }
    Some(Request::from_parts(parts, body))
}

/// Reads to the end, and keeps nothing.
async fn read(mut body: Incoming) -> hyper::Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides() {
        let probe = HttpProbe {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            http2: None,
            expected: vec![(200, 300), (404, 405)],
            retriable: vec![(500, 503)],
        };
        let kind = |status| match verdict(status, &probe) {
            Outcome::Success => None,
            Outcome::Failure { kind, .. } => Some(kind),
        };
        assert_eq!([kind(200), kind(299), kind(404)], [None; 3]);
        assert_eq!([kind(300), kind(503)], [Some(FailureKind::Active); 2]);
        assert_eq!(kind(502), Some(FailureKind::Retriable));
    }
}

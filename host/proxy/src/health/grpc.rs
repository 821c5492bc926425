//! A check by `grpc.health.v1.Health/Check`: only SERVING is healthy.

use bytes::Bytes;
use http::{HeaderMap, Request as Parts, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::http::USER_AGENT;
use super::probe::{Client, Request, failure, reason};
use super::tally::{FailureKind, Outcome};
use super::target::Target;
use crate::upstream::as_http2;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// Most bytes of an answer, which has few.
const MAX_ANSWER: usize = 64 * 1024;

/// A status is a number of two digits.
const MAX_STATUS: usize = 8;

/// `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub(super) async fn ask(client: &mut Client, target: &Target, service: &str) -> Outcome {
    let response = match client.send(target, true, || request(target, service)).await {
        Ok(response) => response,
        Err(outcome) => return outcome,
    };
    if response.status() != 200 {
        return failure(FailureKind::Active, &format!("status {}", response.status().as_u16()));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return failure(FailureKind::Active, "the answer is no gRPC");
    }
    let of_head = status(response.headers());
    let (message, of_trailers) = match read(response.into_body()).await {
        Ok(read) => read,
        Err(why) => {
            client.close();
            return failure(FailureKind::Network, &why);
        }
    };
    verdict(of_head.or(of_trailers), &message)
}

fn request(target: &Target, service: &str) -> Option<Request> {
    let request = Parts::post(PATH)
        .header(header::HOST, &target.plan.check.host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(Full::from(framed(service)));
    let (mut parts, body) = request.ok()?.into_parts();
    as_http2(&mut parts, target.plan.transport.scheme());
    Some(Request::from_parts(parts, body))
}

/// `HealthCheckRequest` with `service` as field 1, in the frame of gRPC.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 8);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push((length & 0x7f) as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    Bytes::from([&[0], &length[..], &message].concat())
}

fn status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().unwrap_or_default().to_owned())
}

/// The answer's bytes, and the status of its trailers.
async fn read(mut body: Incoming) -> Result<(Vec<u8>, Option<String>), String> {
    let (mut bytes, mut of_trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer ended early: {}", reason(&error)))?;
        match frame.into_data() {
            Ok(data) if bytes.len() + data.len() > MAX_ANSWER => return Err("the answer is too long".to_owned()),
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => of_trailers = frame.trailers_ref().and_then(status),
        }
    }
    Ok((bytes, of_trailers))
}

fn verdict(grpc_status: Option<String>, answer: &[u8]) -> Outcome {
    match grpc_status.as_deref() {
        Some("0") => {}
        Some(other) if other.len() > MAX_STATUS => return failure(FailureKind::Active, "a grpc-status that is none"),
        Some(other) => return failure(FailureKind::Active, &format!("grpc-status {other}")),
        None => return failure(FailureKind::Active, "no grpc-status"),
    }
    let serving = answer.split_at_checked(5).and_then(|(head, message)| {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        (head[0] == 0 && length as usize == message.len()).then(|| serving_status(message)).flatten()
    });
    match serving {
        Some(SERVING) => Outcome::Success,
        Some(other) => {
            let name =
                usize::try_from(other).ok().and_then(|other| STATUSES.get(other)).unwrap_or(&"an unknown status");
            failure(FailureKind::Active, name)
        }
        None => failure(FailureKind::Active, "the answer is no HealthCheckResponse"),
    }
}

/// Field 1 of a `HealthCheckResponse`, 0 without one; none for what is no such message.
fn serving_status(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(status: Option<&str>, answer: &[u8]) -> Option<String> {
        match verdict(status.map(str::to_owned), answer) {
            Outcome::Success => None,
            Outcome::Failure { why, .. } => Some(why),
        }
    }

    #[test]
    fn only_serving_is_healthy() {
        assert_eq!(why(Some("0"), b"\0\0\0\0\x02\x08\x01"), None);
        // With a field that is not known before it.
        assert_eq!(why(Some("0"), b"\0\0\0\0\x05\x12\x01x\x08\x01"), None);
        for (status, answer, expected) in [
            (Some("0"), &b"\0\0\0\0\x02\x08\x02"[..], "NOT_SERVING"),
            (Some("0"), b"\0\0\0\0\0", "UNKNOWN"),
            (Some("0"), b"\0\0\0\0\x02\x08\x09", "an unknown status"),
            (Some("0"), b"", "the answer is no HealthCheckResponse"),
            (Some("0"), b"\x01\0\0\0\x02\x08\x01", "the answer is no HealthCheckResponse"),
            (Some("0"), b"\0\0\0\0\x02\x08\x81", "the answer is no HealthCheckResponse"),
            (Some("12"), b"", "grpc-status 12"),
            (Some("a status of many words"), b"", "a grpc-status that is none"),
            (None, b"\0\0\0\0\x02\x08\x01", "no grpc-status"),
        ] {
            assert_eq!(why(status, answer).as_deref(), Some(expected), "{answer:?}");
        }
    }

    #[test]
    fn the_request_names_the_service() {
        assert_eq!(&framed("")[..], b"\0\0\0\0\0");
        assert_eq!(&framed("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "s".repeat(300);
        assert_eq!(&framed(&long)[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
    }
}

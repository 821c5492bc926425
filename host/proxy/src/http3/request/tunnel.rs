//! CONNECT over HTTP/3, and WebSockets (RFC 9220), which are extended ones: hyper carries their bytes beside the request, and so do
//! we.

use bytes::Bytes;
use h3::error::Code;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use super::{ClientBody, Sending, unsent};

/// Most bytes that are read at once of what goes to the client.
const PIECE: usize = 16 * 1024;

/// What goes on at once, and what waits for a tunnel: the client's bytes behind a CONNECT.
pub(super) fn split_request(request: Request<ClientBody>) -> (Request<ClientBody>, Option<ClientBody>) {
    if request.method() != Method::CONNECT {
        return (request, None);
    }
    let (parts, body) = request.into_parts();
    let fault = body.fault.clone();
    (Request::from_parts(parts, ClientBody::none(fault)), Some(body))
}

/// Answers with the head, and carries bytes both ways until both sides have ended.
pub(super) async fn carry(
    mut client: ClientBody,
    server: OnUpgrade,
    response: Response<Incoming>,
    sending: &mut Sending,
) -> Result<(), Code> {
    let (parts, _) = response.into_parts();
    sending.send_response(Response::from_parts(parts, ())).await.map_err(unsent)?;
    let server = server.await.map_err(|_| Code::H3_INTERNAL_ERROR)?;
    let (mut from, mut to) = split(TokioIo::new(server));
    let fault = client.fault.clone();
    let up = async {
        while let Some(frame) = client.frame().await {
            let frame = frame.map_err(|_| fault.get().unwrap_or(Code::H3_REQUEST_CANCELLED))?;
            if let Ok(data) = frame.into_data() {
                // Who takes no more may still have something to say.
                if to.write_all(&data).await.is_err() {
                    return Ok(());
                }
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    };
    let down = async {
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece).await.map_err(|_| Code::H3_REQUEST_CANCELLED)? {
                0 => return sending.finish().await.map_err(unsent),
                length => sending.send_data(Bytes::copy_from_slice(&piece[..length])).await.map_err(unsent)?,
            }
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}

//! Streams that stay open and should not end: WebSockets over HTTP/1 and HTTP/2, TCP connections.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::target::{Outgoing, Sender, Target, Version};

/// RFC 6455 wants one; nobody looks at what it is.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A stream that is held, with what keeps its connection.
pub(super) struct Held {
    stream: Box<dyn AsyncRead + Unpin>,
    _sender: Option<Sender>,
}

impl Held {
    pub(super) fn of(stream: impl AsyncRead + Unpin + 'static) -> Self {
        Self { stream: Box::new(stream), _sender: None }
    }

    /// A WebSocket: an upgrade over HTTP/1, extended CONNECT (RFC 8441) over HTTP/2.
    pub(super) async fn websocket(target: &Target, path: &str, version: Version) -> anyhow::Result<Self> {
        let mut sender = target.connect(version).await?;
        let nothing = || Outgoing::Whole(Bytes::new());
        let request = match version {
            Version::Http1 => target
                .request(Method::GET, path, version)
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-key", KEY),
            Version::Http2 => {
                // Whether the gateway takes extended CONNECT is known with its SETTINGS, which come before any answer.
                let plain = target.request(Method::GET, &target.path, version).body(nothing())?;
                sender.ask(plain).await?.context("the connection ended")?;
                target.request(Method::CONNECT, path, version).extension(hyper::ext::Protocol::from_static("websocket"))
            }
        };
        let request = request.header("sec-websocket-version", "13").body(nothing())?;
        let mut answer = sender.ask(request).await?.context("the connection ended")?;
        let right = match version {
            Version::Http1 => StatusCode::SWITCHING_PROTOCOLS,
            Version::Http2 => StatusCode::OK,
        };
        if answer.status() != right {
            bail!("no WebSocket: status {}", answer.status());
        }
        let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await?);
        Ok(Self { stream: Box::new(stream), _sender: Some(sender) })
    }

    /// Reads what comes until the stream ends, which it should not: how it did.
    pub(super) async fn hold(mut self) -> String {
        let mut block = [0; 4096];
        loop {
            match self.stream.read(&mut block).await {
                Ok(0) => return "ended by the gateway".to_owned(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }
}

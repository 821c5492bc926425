//! One request over a connection of its own: by the connection's address the gateway's record of it is found again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{self, HeaderValue};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::{Request, Response, read_body};
use super::outgoing::{Outgoing, announce};

/// An open connection that has sent nothing yet.
pub(super) struct Connection {
    socket: TcpStream,
    /// Our side.
    pub(super) local: SocketAddr,
}

impl Connection {
    /// Connects to a listener of the gateway.
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    /// Sends one request and reads the whole response. None when the gateway closes without one.
    pub(super) async fn send(self, request: &Request, limit: Duration) -> anyhow::Result<Option<Response>> {
        match timeout(limit, exchange(self.socket, request)).await {
            Ok(result) => result,
            Err(_) => bail!("no whole response within {limit:?}"),
        }
    }
}

async fn exchange(socket: TcpStream, request: &Request) -> anyhow::Result<Option<Response>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let running = tokio::spawn(connection);
    let answered = sender.send_request(written(request)?).await;
    let result = match answered {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let (body, trailers) = read_body(body).await?;
            Ok(Some(Response { status: parts.status, headers: parts.headers, body, trailers }))
        }
        Err(error) if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => Ok(None),
        Err(error) => Err(error).context("the request did not get through"),
    };
    running.abort();
    result
}

fn written(request: &Request) -> anyhow::Result<http::Request<Outgoing>> {
    let body = Outgoing::new(request.body.clone(), request.trailers.clone());
    let mut written = http::Request::builder().method(request.method.clone()).uri(&request.path).body(body);
    if let Ok(written) = &mut written {
        let host = HeaderValue::try_from(&request.host).with_context(|| format!("`{}` is no host", request.host))?;
        written.headers_mut().insert(header::HOST, host);
        written.headers_mut().extend(request.headers.clone());
        announce(written.headers_mut(), &request.trailers);
    }
    written.with_context(|| format!("`{}` is no path", request.path))
}

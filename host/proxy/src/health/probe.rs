//! [`Client`]: one check of an endpoint after the other, over the cluster's own TLS and on a connection that is kept.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portolan_model::{HealthProbe, UpstreamProtocol};
use tokio::task::AbortHandle;

use super::tally::{FailureKind, Outcome};
use super::target::Target;
use super::{grpc, http, tcp};
use crate::upstream::{Application, Socket, open_for_check};

/// What a check of HTTP sends.
pub(super) type Request = ::http::Request<Full<Bytes>>;

/// The connection that the next check goes on, if there is one.
#[derive(Default)]
pub(super) struct Client(Option<Connection>);

struct Connection {
    sender: Sender,
    driver: AbortHandle,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// One check. Dropped in the middle, the client is of no further use.
    pub(super) async fn ask(&mut self, target: &Target) -> Outcome {
        match &target.plan.check.probe {
            HealthProbe::Http(probe) => http::ask(self, target, probe).await,
            HealthProbe::Grpc { service } => grpc::ask(self, target, service).await,
            HealthProbe::Tcp { send, receive } => tcp::ask(target, send, receive).await,
        }
    }

    /// The head of the answer. A kept connection that turns out to be gone says nothing of the endpoint: it is asked again on a
    /// new one.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        is_http2: bool,
        request: impl Fn() -> Option<Request>,
    ) -> Result<Response<Incoming>, Outcome> {
        let wrong = || failure(FailureKind::Network, "the request cannot be made");
        if let Some(kept) = self.0.take().filter(|kept| !kept.sender.is_closed()) {
            let answer = self.send_on(kept, request().ok_or_else(wrong)?).await;
            if let Ok(answer) = answer {
                return Ok(answer);
            }
        }
        let connection = connect(target, is_http2).await?;
        let answer = self.send_on(connection, request().ok_or_else(wrong)?).await;
        answer.map_err(|error| failure(FailureKind::Network, &format!("no answer: {}", reason(&error))))
    }

    async fn send_on(&mut self, mut connection: Connection, request: Request) -> hyper::Result<Response<Incoming>> {
        let answer = connection.sender.send(request).await?;
        self.0 = Some(connection);
        Ok(answer)
    }

    /// The next check goes on a new connection.
    pub(super) fn close(&mut self) {
        self.0 = None;
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

async fn connect(target: &Target, is_http2: bool) -> Result<Connection, Outcome> {
    let socket = socket(target, if is_http2 { Application::Http2 } else { Application::Http1 }).await?;
    let started =
        |error: hyper::Error| failure(FailureKind::Network, &format!("HTTP cannot start: {}", reason(&error)));
    let io = TokioIo::new(socket);
    // How a connection ends is told by the request on it.
    Ok(if is_http2 {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io).await.map_err(started)?;
        let driver = tokio::spawn(async move { driver.await.ok() }).abort_handle();
        Connection { sender: Sender::Http2(sender), driver }
    } else {
        let (sender, driver) = http1::handshake(io).await.map_err(started)?;
        let driver = tokio::spawn(async move { driver.await.ok() }).abort_handle();
        Connection { sender: Sender::Http1(sender), driver }
    })
}

pub(super) async fn socket(target: &Target, application: Application) -> Result<Socket, Outcome> {
    let plan = &target.plan;
    let opened = open_for_check(target.address(), &plan.transport, &plan.check.host, application).await;
    opened.map_err(|why| failure(FailureKind::Network, &why))
}

/// Whether the cluster's requests go out as HTTP/2.
pub(super) fn speaks_http2(target: &Target) -> bool {
    target.plan.transport.settings.protocol == UpstreamProtocol::Http2
}

pub(super) fn failure(kind: FailureKind, why: &str) -> Outcome {
    Outcome::Failure { kind, why: why.to_owned() }
}

/// hyper's error with its cause.
pub(super) fn reason(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

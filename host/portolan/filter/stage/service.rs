//! [`Service`]: a server in this process that answers as it is told and remembers what it has seen: the backend of the filter's
//! requests, or the other end of its callouts.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::message::{Response, Script, Seen, read_body};
use super::outgoing::{Outgoing, announce};
use super::te::{Answered, WithTe};

/// Most requests that one service remembers; the oldest is forgotten first.
const MOST_SEEN: usize = 1024;

/// What HTTP/2 begins with, as far as it takes to tell.
const PREFACE: &[u8] = b"PRI ";

/// A listening service. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    script: Mutex<Script>,
    seen: Mutex<VecDeque<(SocketAddr, Seen)>>,
}

impl Service {
    /// Starts one on a free loopback port, on the current runtime. It speaks HTTP/1.1 and HTTP/2 without TLS.
    pub(crate) async fn start(script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { script: Mutex::new(script), ..State::default() });
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it answers from now on.
    pub(crate) fn answer_with(&self, script: Script) {
        *lock(&self.state.script) = script;
    }

    /// Forgets what it has seen, and says what that was.
    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).drain(..).map(|(_, seen)| seen).collect()
    }

    /// The latest request with this id, else the latest on this connection, which is forgotten with all others like it: earlier
    /// tries.
    pub(super) fn take(&self, id: Option<&[u8]>, connection: Option<SocketAddr>) -> Option<Seen> {
        let mut all = lock(&self.state.seen);
        let has_id = |seen: &Seen| {
            let own = seen.headers.get("x-request-id").map(|own| own.as_bytes());
            own.is_some() && own == id
        };
        let by_id = all.iter().any(|(_, seen)| has_id(seen));
        let is_meant = |(peer, seen): &(SocketAddr, Seen)| match by_id {
            true => has_id(seen),
            // A filter has taken the id away: the first on the connection is the one that has ended first.
            false => {
                Some(*peer) == connection
                    && seen.headers.get("x-request-id").is_none_or(|own| Some(own.as_bytes()) == id)
            }
        };
        let place = if by_id { all.iter().rposition(is_meant) } else { all.iter().position(is_meant) }?;
        let (_, found) = all.remove(place)?;
        all.retain(|(_, seen)| !has_id(seen));
        Some(found)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        match listener.accept().await {
            // An end of a connection in the middle is the peer's business.
            Ok((socket, peer)) => drop(tokio::spawn(serve(socket, peer, state.clone()))),
            // Out of file descriptors: others will close.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, state: Arc<State>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    // How a connection ends is told to nobody: the gateway under test tells its side.
    if speaks_http2(&socket).await {
        let answering = service_fn(move |request| respond(request, peer, state.clone()));
        let io = TokioIo::new(socket);
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, answering).await;
    } else {
        let (socket, next) = WithTe::new(socket);
        let answering = service_fn(move |mut request: http::Request<Incoming>| {
            let (state, next) = (state.clone(), next.clone());
            request.headers_mut().remove(header::TE);
            async move { Ok::<_, io::Error>(respond(request, peer, state).await?.map(|body| body.then(Answered(next)))) }
        });
        let io = TokioIo::new(socket);
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, answering).await;
    }
}

/// Waits for the first bytes, and leaves them where they are.
async fn speaks_http2(socket: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    // Those who send so little at once are not ours.
    matches!(socket.peek(&mut first).await, Ok(count) if count == first.len() && first == PREFACE)
}

/// An error closes the connection.
async fn respond(
    request: http::Request<Incoming>,
    peer: SocketAddr,
    state: Arc<State>,
) -> Result<http::Response<Outgoing>, io::Error> {
    let (parts, body) = request.into_parts();
    let host = parts.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let host = host.or_else(|| parts.uri.authority().map(ToString::to_string)).unwrap_or_default();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (body, trailers) = read_body(body).await.map_err(io::Error::other)?;
    let seen = Seen { method: parts.method, host, path, headers: parts.headers, body, trailers };
    state.remember(peer, seen.clone());
    let script = lock(&state.script).clone();
    let (response, delay) = match script {
        Script::Echo => echo(&seen),
        Script::Answer { response, delay } => (*response, delay),
        Script::Down => return Err(io::Error::other("the service is down")),
    };
    tokio::time::sleep(delay).await;
    Ok(written(response))
}

impl State {
    fn remember(&self, peer: SocketAddr, request: Seen) {
        let mut seen = lock(&self.seen);
        if seen.len() == MOST_SEEN {
            seen.pop_front();
        }
        seen.push_back((peer, request));
    }
}

fn written(mut response: Response) -> http::Response<Outgoing> {
    announce(&mut response.headers, &response.trailers);
    let mut written = http::Response::new(Outgoing::new(response.body, response.trailers));
    *written.status_mut() = response.status;
    *written.headers_mut() = response.headers;
    written
}

/// The request as JSON, and the wish that its path names.
fn echo(seen: &Seen) -> (Response, Duration) {
    let path = seen.path.split('?').next().unwrap_or_default();
    let number = |prefix| path.strip_prefix(prefix).and_then(|rest: &str| rest.parse::<u16>().ok());
    let status = number("/status/").and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.filter(|status| !status.is_informational()).unwrap_or(StatusCode::OK);
    let delay = Duration::from_millis(number("/delay/").unwrap_or(0).min(10_000).into());
    let mut told = serde_json::json!({ "method": seen.method.as_str(), "path": seen.path, "host": seen.host });
    told["headers"] = fields(&seen.headers);
    if !seen.body.is_empty() {
        told["body"] = String::from_utf8_lossy(&seen.body).into();
    }
    if !seen.trailers.is_empty() {
        told["trailers"] = fields(&seen.trailers);
    }
    let mut response = Response::new(status);
    response.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.body = format!("{told:#}\n").into();
    (response, delay)
}

/// Several values of one name are joined as HTTP does.
fn fields(map: &HeaderMap) -> serde_json::Value {
    let joined = |name: &header::HeaderName| {
        let values: Vec<_> = map.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        (name.as_str().to_owned(), values.join(", ").into())
    };
    serde_json::Value::Object(map.keys().filter(|name| **name != header::HOST).map(joined).collect())
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

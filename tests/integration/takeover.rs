//! `--takeover`: one process after the other serves from the same sockets, and clients notice nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::client::{Connection, Request, send};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::load::Load;
use crate::support::tcp::{self, Server, Tcp, read_some};
use crate::support::upstream::Upstream;
use crate::support::{await_some, await_true};

/// What the old process says when it stops.
pub(crate) const REPLACED: &str = "replaced another process serves";

fn start(app: &Upstream) -> Tcp {
    let tcp_files =
        tcp::to(Server::echo()).replace("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n", "");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.keep().join("socket");
    let options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.backend}}]\n"))
        .file("app.yaml", service_entry("app.backend", &[("v1", app.address())]))
        .file("tcp.yaml", tcp_files)
        .argument("--minimum-drain-time")
        .argument("1s")
        .argument("--drain-time")
        .argument("170s")
        .argument("--takeover")
        .argument(path.display().to_string());
    Tcp::start_with(options)
}

/// A second process takes over; the answer is the first.
pub(crate) fn take_over(gateway: &mut Gateway) -> Child {
    take_over_by(gateway, Gateway::start_again)
}

/// This second process takes over; the answer is the first.
pub(crate) fn take_over_by(gateway: &mut Gateway, start: impl FnOnce(&Gateway) -> Child) -> Child {
    let before = gateway.log().matches(REPLACED).count();
    let next = start(gateway);
    await_true("the takeover", || gateway.log().matches(REPLACED).count() > before);
    gateway.become_process(next)
}

pub(crate) fn await_success(mut child: Child) {
    let status = await_some("the old process's end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// Requests over HTTP/2, one after the other; a connection that the gateway winds down is followed by another.
struct Http2Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Http2Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(http2_requests(address, &stopped, &count))
        });
        Self { stop, answered, thread }
    }

    fn await_more(&self, count: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        await_true("more answers over HTTP/2", || self.answered.load(Ordering::Relaxed) >= goal);
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn http2_requests(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<String> {
    let mut failures = Vec::new();
    let mut sender: Option<SendRequest<Full<Bytes>>> = None;
    while !stop.load(Ordering::Relaxed) && failures.len() < 100 {
        let mut open = match sender.take() {
            Some(open) => open,
            None => {
                let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
                    failures.push("refused".to_owned());
                    continue;
                };
                let (open, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                open
            }
        };
        if open.ready().await.is_err() {
            continue;
        }
        let request = http::Request::get("http://h/http2").body(Full::default()).unwrap();
        match open.try_send_request(request).await {
            Ok(response) => {
                let status = response.status();
                match response.into_body().collect().await {
                    Ok(_) if status == 200 => {
                        answered.fetch_add(1, Ordering::Relaxed);
                        sender = Some(open);
                    }
                    whole => failures.push(format!("{status}, {:?}", whole.err())),
                }
            }
            // When nothing of it was sent the connection had been wound down.
            Err(mut error) => {
                if error.take_message().is_none() {
                    failures.push(error.into_error().to_string());
                }
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    failures
}

/// A WebSocket and a TCP connection, open over everything that happens.
struct Held {
    socket: Connection,
    tcp: TcpStream,
}

impl Held {
    fn open(tcp: &Tcp) -> Self {
        let mut socket = tcp.gateway.connect();
        let request = Request::get("h", "/socket")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        socket.send(&request.to_bytes()).unwrap();
        assert_eq!(socket.head().unwrap().status, 101);
        Self { socket, tcp: tcp.connect() }
    }

    fn assert_alive(&mut self) {
        self.socket.send(b"over the socket").unwrap();
        assert_eq!(self.socket.exactly(15).unwrap(), b"over the socket");
        self.tcp.write_all(b"over tcp").unwrap();
        assert_eq!(read_some(&self.tcp, 8), "over tcp");
    }
}

#[test]
fn five_takeovers_under_load_fail_no_request_and_cut_no_stream() {
    let app = Upstream::start("app");
    let mut tcp = start(&app);
    let load = Load::start(tcp.gateway.address(), &Request::get("h", "/load"), 4);
    let http2 = Http2Load::start(tcp.gateway.address());
    let mut held = vec![Held::open(&tcp)];
    let mut old = Vec::new();
    for _ in 0..5 {
        old.push(take_over(&mut tcp.gateway));
        tcp.gateway.await_ready();
        load.await_more(50);
        http2.await_more(20);
        held.push(Held::open(&tcp));
        held.iter_mut().for_each(Held::assert_alive);
    }
    load.stop().assert_no_failures();
    let failures = http2.stop();
    assert!(failures.is_empty(), "{failures:?}");
    // Each process ends when its last stream has.
    for (mut held, old) in held.into_iter().zip(old) {
        held.assert_alive();
        drop(held);
        await_success(old);
    }
    tcp.gateway.signal("TERM");
    assert_eq!(tcp.gateway.await_exit().code(), Some(0));
}

#[test]
fn a_new_process_that_cannot_serve_leaves_the_old_one_serving() {
    let app = Upstream::start("app");
    let mut tcp = start(&app);
    let load = Load::start(tcp.gateway.address(), &Request::get("h", "/load"), 2);
    tcp.gateway.write("bad.yaml", "kind: [");
    let mut refused = tcp.gateway.start_again();
    let status = await_some("its end", || refused.try_wait().unwrap());
    assert_eq!(status.code(), Some(1), "{}", tcp.gateway.log());
    tcp.gateway.await_log("this process serves on: the other process has ended");
    load.await_more(50);
    // And its reloads go on.
    std::fs::remove_file(tcp.gateway.config().join("bad.yaml")).unwrap();
    let changed = "- match: [{uri: {exact: /new}}]\n  directResponse: {status: 204}\n- route: [{destination: {host: app.backend}}]\n";
    tcp.gateway.replace("routes.yaml", routes(changed));
    await_true("the change", || {
        send(tcp.gateway.address(), &Request::get("h", "/new")).is_ok_and(|response| response.status == 204)
    });
    let old = take_over(&mut tcp.gateway);
    load.await_more(50);
    await_success(old);
    load.stop().assert_no_failures();
}

//! `--takeover` in odd orders: signals, ends and other processes while one process gives way to another. A process that the
//! test itself plays stops at each step for as long as it likes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tokio::runtime::Runtime;
use tokio_seqpacket::ancillary::OwnedAncillaryMessage;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use crate::support::client::{Connection, Request, send};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::load::Load;
use crate::support::ports::Port;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_some, await_true};
use crate::takeover::{REPLACED, await_success, take_over};

/// A gateway that may be replaced, and what is behind it.
struct Site {
    gateway: Gateway,
    socket: PathBuf,
    _app: Upstream,
}

impl Site {
    fn start() -> Self {
        Self::start_with("300ms")
    }

    /// With the time for which it lets clients in after SIGTERM.
    fn start_with(notice: &str) -> Self {
        let socket = tempfile::tempdir().unwrap().keep().join("socket");
        let app = Upstream::start("app");
        let gateway = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app.backend}}]\n"))
            .file("app.yaml", service_entry("app.backend", &[("v1", app.address())]))
            .argument("--minimum-drain-time")
            .argument(notice)
            .argument("--drain-time")
            .argument("20s")
            .argument("--takeover")
            .argument(socket.display().to_string())
            .start();
        Self { gateway, socket, _app: app }
    }

    fn load(&self) -> Load {
        Load::start(self.gateway.address(), &Request::get("h", "/load"), 2)
    }

    /// New clients are all let in and served.
    fn assert_serves(&self) {
        for _ in 0..20 {
            assert_eq!(self.gateway.get("h", "/new").status, 200);
        }
    }
}

/// A request whose body is not there yet.
struct Held {
    connection: Connection,
    rest: Vec<u8>,
}

impl Held {
    fn open(gateway: &Gateway) -> Self {
        let mut bytes = Request::new("POST", "h", "/held").body("0123456789").to_bytes();
        let rest = bytes.split_off(bytes.len() - 5);
        let mut connection = gateway.connect();
        connection.send(&bytes).unwrap();
        Self { connection, rest }
    }

    fn finish(mut self) {
        self.connection.send(&self.rest).unwrap();
        assert_eq!(self.connection.response(false).unwrap().status, 200);
    }
}

/// A new process, played.
struct Next {
    runtime: Runtime,
    socket: UnixSeqpacket,
    sockets: Vec<TcpListener>,
}

impl Next {
    /// It has asked.
    fn ask(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let socket = runtime.block_on(UnixSeqpacket::connect(path)).unwrap();
        let next = Self { runtime, socket, sockets: Vec::new() };
        next.say(b"T");
        next
    }

    /// It has asked and has the sockets.
    fn with_sockets(path: &Path) -> Self {
        let mut next = Self::ask(path);
        let Self { runtime, socket, sockets } = &mut next;
        let received = async {
            loop {
                let (mut bytes, mut buffer) = ([0], [0; 1024]);
                let (_, ancillary) = socket.recv_with_ancillary(&mut bytes, &mut buffer).await.unwrap();
                for message in ancillary.into_messages() {
                    if let OwnedAncillaryMessage::FileDescriptors(handles) = message {
                        sockets.extend(handles.map(|handle: OwnedFd| TcpListener::from(handle)));
                    }
                }
                match &bytes {
                    b"A" => return,
                    other => assert_eq!(other, b"S"),
                }
            }
        };
        runtime.block_on(async { tokio::time::timeout(DEADLINE, received).await.unwrap() });
        next
    }

    fn say(&self, word: &[u8]) {
        self.runtime.block_on(self.socket.send(word)).unwrap();
    }

    /// The next word; nothing when the other process has ended.
    fn hear(&self) -> Vec<u8> {
        let mut bytes = [0; 8];
        let heard = async { tokio::time::timeout(DEADLINE, self.socket.recv(&mut bytes)).await.unwrap() };
        let read = self.runtime.block_on(heard).map(|info| info.bytes_read()).unwrap_or(0);
        bytes[..read].to_vec()
    }
}

/// An old process, played: at the path, and asked.
struct Last {
    runtime: Runtime,
    listener: UnixSeqpacketListener,
}

impl Last {
    fn at(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async { UnixSeqpacketListener::bind(path) }).unwrap();
        Self { runtime, listener }
    }

    fn await_asked(&mut self) -> UnixSeqpacket {
        let asked = async { tokio::time::timeout(DEADLINE, self.listener.accept()).await.unwrap() };
        self.runtime.block_on(asked).unwrap()
    }
}

fn await_end(child: &mut Child) -> Option<i32> {
    await_some("the end of a process", || child.try_wait().unwrap()).code()
}

#[test]
fn a_signal_to_the_old_process_while_the_new_one_starts_leaves_the_sockets_to_it() {
    let mut site = Site::start();
    let next = Next::with_sockets(&site.socket);
    assert!(!next.sockets.is_empty());
    site.gateway.signal("TERM");
    site.gateway.await_log("drain    at most");
    site.assert_serves();
    next.say(b"V");
    assert_eq!(next.hear(), b"G");
    site.gateway.await_log(REPLACED);
    assert_eq!(site.gateway.await_exit().code(), Some(0));
    // Whoever comes now is let in by what is left of the sockets: ours.
    for _ in 0..20 {
        TcpStream::connect_timeout(&site.gateway.address(), DEADLINE).unwrap();
    }
}

#[test]
fn a_signal_to_the_old_process_is_heeded_when_the_new_one_fails() {
    let mut site = Site::start_with("3s");
    let load = site.load();
    let next = Next::with_sockets(&site.socket);
    site.gateway.signal("TERM");
    site.gateway.await_log("drain    at most");
    load.await_more(20);
    load.stop().assert_no_failures();
    drop(next);
    assert_eq!(site.gateway.await_exit().code(), Some(0));
    assert!(!site.socket.exists());
    assert!(!site.gateway.log().contains("replaced"), "{}", site.gateway.log());
}

#[test]
fn a_process_that_has_got_a_signal_may_still_be_taken_over_from() {
    let mut site = Site::start_with("9s");
    let load = site.load();
    site.gateway.signal("TERM");
    site.gateway.await_log("drain    at most");
    let old = take_over(&mut site.gateway);
    site.gateway.await_ready();
    load.await_more(20);
    await_success(old);
    load.stop().assert_no_failures();
    site.assert_serves();
}

#[test]
fn a_new_process_that_ends_at_any_step_leaves_the_old_one_serving() {
    let mut site = Site::start();
    let load = site.load();
    for step in 0..3 {
        let before = site.gateway.log().matches("this process serves on").count();
        let next = match step {
            0 => Next::ask(&site.socket),
            _ => Next::with_sockets(&site.socket),
        };
        if step == 2 {
            next.say(b"X");
        }
        drop(next);
        await_true("the old process to go on", || {
            site.gateway.log().matches("this process serves on").count() > before
        });
        load.await_more(20);
    }
    let old = take_over(&mut site.gateway);
    load.await_more(20);
    await_success(old);
    load.stop().assert_no_failures();
}

#[test]
fn a_signal_to_a_new_process_before_it_has_taken_over_leaves_the_old_one_alone() {
    let path = tempfile::tempdir().unwrap().keep().join("socket");
    let mut last = Last::at(&path);
    let files = Options::new().file("gateway.yaml", ANY_GATEWAY).argument("--takeover");
    let mut next = files.argument(path.display().to_string()).spawn();
    let _asked = last.await_asked();
    next.signal("TERM");
    assert_eq!(next.await_exit().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn an_old_process_that_ends_while_it_is_asked_leaves_the_new_one_to_serve() {
    let path = tempfile::tempdir().unwrap().keep().join("socket");
    let mut last = Last::at(&path);
    let files = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- directResponse: {status: 204}\n"))
        .argument("--takeover");
    let next = files.argument(path.display().to_string()).spawn();
    drop((last.await_asked(), last));
    // The file that it has left behind is replaced.
    await_true("an answer", || {
        send(next.address(), &Request::get("h", "/")).is_ok_and(|response| response.status == 204)
    });
    next.await_log("ready");
    assert_eq!(next.get("h", "/").status, 204);
}

#[test]
fn two_processes_that_ask_at_the_same_time_take_over_one_after_the_other() {
    let mut site = Site::start();
    let load = site.load();
    let (one, two) = (site.gateway.start_again(), site.gateway.start_again());
    await_true("both takeovers", || site.gateway.log().matches(REPLACED).count() == 2);
    // One of the three is left.
    let mut all = [one, two];
    let mut ended = Vec::new();
    await_true("the end of the one in the middle", || {
        ended = all.iter_mut().map(|child| child.try_wait().unwrap()).collect();
        ended.iter().any(Option::is_some)
    });
    load.await_more(50);
    load.stop().assert_no_failures();
    let [one, two] = all;
    let (left, gone) = if ended[0].is_some() { (two, one) } else { (one, two) };
    await_success(gone);
    await_success(site.gateway.become_process(left));
    site.assert_serves();
}

#[test]
fn a_signal_to_a_process_that_was_replaced_does_not_cut_what_it_has() {
    let mut site = Site::start();
    let held = Held::open(&site.gateway);
    let mut old = take_over(&mut site.gateway);
    let id = old.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    site.gateway.await_log("it drains already");
    assert!(old.try_wait().unwrap().is_none());
    held.finish();
    assert_eq!(await_end(&mut old), Some(0));
}

#[test]
fn a_listener_that_goes_and_comes_back_while_the_old_process_drains_is_refused_and_served() {
    let mut site = Site::start();
    let held = Held::open(&site.gateway);
    let mut old = take_over(&mut site.gateway);
    site.gateway.await_ready();
    let other = Port::free();
    site.gateway.replace("gateway.yaml", ANY_GATEWAY.replace("number: 80", &format!("number: {}", other.number())));
    await_true("a refusal", || {
        let connected = TcpStream::connect_timeout(&site.gateway.address(), DEADLINE);
        connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    site.gateway.replace("gateway.yaml", ANY_GATEWAY);
    await_true("the listener again", || send(site.gateway.address(), &Request::get("h", "/")).is_ok());
    site.assert_serves();
    assert!(old.try_wait().unwrap().is_none(), "it still has a request");
    held.finish();
    assert_eq!(await_end(&mut old), Some(0));
}

#[test]
fn requests_to_the_admin_port_over_one_connection_are_all_answered_through_a_takeover() {
    let mut site = Site::start();
    let admin: SocketAddr = site.gateway.admin_address();
    let request = Request::get("localhost", "/stats/prometheus");
    let load = Load::start(admin, &request, 2);
    load.await_more(20);
    for _ in 0..3 {
        let old = take_over(&mut site.gateway);
        load.await_more(20);
        await_success(old);
    }
    load.stop().assert_no_failures();
}

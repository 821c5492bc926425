//! TCP through the gateway: servers whose sockets the test reads and writes, a Gateway with a server of TCP, and a client.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::DEADLINE;
use super::gateway::{Gateway, Options};
use super::ports::Port;

/// A server whose sockets the test itself reads and writes.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the server");
        let address = listener.local_addr().expect("its address");
        let (sender, accepted) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    /// Sends everything back, and its end when the client has ended.
    pub(crate) fn echo() -> SocketAddr {
        let server = Self::start();
        let address = server.address;
        std::thread::spawn(move || {
            for stream in server.accepted {
                std::thread::spawn(move || {
                    let mut writer = stream.try_clone().expect("a second handle");
                    let _ = io::copy(&mut &stream, &mut writer);
                    let _ = stream.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    /// Says its name and ends.
    pub(crate) fn named(name: &'static str) -> SocketAddr {
        let server = Self::start();
        let address = server.address;
        std::thread::spawn(move || {
            for mut stream in server.accepted {
                let _ = stream.write_all(name.as_bytes());
            }
        });
        address
    }

    /// True when no connection has come and none comes at once.
    pub(crate) fn has_none(&self) -> bool {
        self.accepted.recv_timeout(std::time::Duration::from_millis(50)).is_err()
    }

    /// A connection that comes soon.
    pub(crate) fn accept_now(&self) -> Option<TcpStream> {
        let stream = self.accepted.recv_timeout(std::time::Duration::from_millis(200)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit for reads");
        Some(stream)
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> TcpStream {
        let stream = self.accepted.recv_timeout(DEADLINE).expect("a connection from the gateway");
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit for reads");
        stream
    }
}

/// A Gateway with one server of TCP on port 9000; `rule` is its rule, in one line.
pub(crate) fn routes(rule: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: tcp}}
spec:
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}
  - {{port: {{number: 9000, name: tcp, protocol: TCP}}, hosts: ['*']}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: tcp}}
spec:
  hosts: ['*']
  gateways: [tcp]
  tcp:
  - {rule}
"
    )
}

pub(crate) fn service(host: &str, address: SocketAddr) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  ports: [{{number: 9000, name: tcp, protocol: TCP}}]
  resolution: STATIC
  endpoints: [{{address: {}, ports: {{tcp: {}}}}}]
",
        address.ip(),
        address.port()
    )
}

/// To `app.test` and nowhere else.
pub(crate) fn to(address: SocketAddr) -> String {
    routes("route: [{destination: {host: app.test}}]") + &service("app.test", address)
}

pub(crate) struct Tcp {
    pub(crate) gateway: Gateway,
    pub(crate) port: Port,
}

impl Tcp {
    pub(crate) fn start(files: &str) -> Self {
        Self::start_with(Options::new().file("tcp.yaml", files))
    }

    pub(crate) fn start_with(options: Options) -> Self {
        let port = Port::free();
        let map = format!("9000={}", port.number());
        Self { gateway: options.argument("--port-map").argument(map).start(), port }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.port.address()).expect("a connection to the gateway");
        stream.set_read_timeout(Some(DEADLINE)).expect("a limit for reads");
        stream
    }
}

pub(crate) fn read_all(mut stream: &TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("bytes up to the end");
    text
}

pub(crate) fn read_some(mut stream: &TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("as many bytes");
    String::from_utf8(bytes).expect("text")
}

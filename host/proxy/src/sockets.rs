//! [`Sockets`]: listening sockets, kept over reloads by address, handed on to a process that takes over, and closed without
//! losing a connection.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use socket2::{Domain, Protocol, Socket, Type};

use crate::worker_sockets::{ClientSocket, Inherited, WorkerSockets};

const BACKLOG: i32 = 4096;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Sockets {
    own: WorkerSockets<TcpListener>,
    /// HTTP/3 is served at the same address.
    http3: AtomicBool,
}

impl Sockets {
    /// For a snapshot or a listener that serves nobody.
    pub(crate) fn none() -> Self {
        Self { own: WorkerSockets::none(), http3: AtomicBool::default() }
    }

    /// What this worker is to accept from; nothing the second time.
    pub(crate) fn take(&self, worker: usize) -> Vec<TcpListener> {
        self.own.take(worker)
    }

    /// Further handles on all of them; none once they are being closed.
    pub(crate) fn handles(&self) -> io::Result<Vec<TcpListener>> {
        self.own.handles()
    }

    /// Whether clients may come over HTTP/3 to this address now.
    pub(crate) fn set_http3(&self, is_served: bool) {
        self.http3.store(is_served, Relaxed);
    }

    pub(crate) fn serves_http3(&self) -> bool {
        self.http3.load(Relaxed)
    }

    /// From here on they are closed when the workers let go of them.
    pub(crate) fn release(&self) {
        self.own.release();
    }
}

/// All sockets that are in use, by address: the same address keeps its sockets over reloads.
#[derive(Debug, Default)]
pub(crate) struct SocketRegistry {
    by_address: HashMap<SocketAddr, Weak<Sockets>>,
    inherited: Inherited<TcpListener>,
    /// The process is about to end: who connected to a new address would be sent away again at once.
    ends: bool,
}

impl SocketRegistry {
    /// Uses sockets of another process for their addresses, if those are wanted in the next snapshot.
    pub(crate) fn inherit(&mut self, sockets: Vec<TcpListener>) {
        for socket in sockets {
            accept_new(&socket);
            self.inherited.add(socket);
        }
    }

    /// Binds no address any more that is not in use.
    pub(crate) fn end(&mut self) {
        self.ends = true;
    }

    pub(crate) fn ends(&self) -> bool {
        self.ends
    }

    /// Forgets addresses that are not wanted any more: their sockets are closed by whoever took them, and an address that
    /// comes back needs new ones.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&SocketAddr) -> bool) {
        self.by_address.retain(|address, _| is_wanted(address));
        self.inherited.clear();
    }

    /// The sockets of this address, bound now unless they are in use already.
    pub(crate) fn bind(&mut self, address: SocketAddr, workers: usize) -> io::Result<Arc<Sockets>> {
        if let Some(sockets) = self.by_address.get(&address).and_then(Weak::upgrade) {
            return Ok(sockets);
        }
        if self.ends {
            return Ok(Arc::new(Sockets::none()));
        }
        let own = WorkerSockets::bind(address, workers, self.inherited.take(address))?;
        let sockets = Arc::new(Sockets { own, http3: AtomicBool::default() });
        self.by_address.retain(|_, sockets| sockets.strong_count() > 0);
        self.by_address.insert(address, Arc::downgrade(&sockets));
        Ok(sockets)
    }
}

impl ClientSocket for TcpListener {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    fn handle(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// Lets no further client begin a handshake with this socket: the first segment of each is dropped, which it sends again
/// after a second and is then refused. Handshakes under way go on, so that the queue can be taken in to its end, and closing
/// resets nobody. Where the system has no such filter, a client between two looks at the queue may be reset.
#[cfg(target_os = "linux")]
pub(crate) fn refuse_new(socket: &TcpListener) {
    use socket2::{SockFilter, SockRef};
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // Of linux/bpf_common.h: load a byte of the TCP header, mask it, compare it, return how much of the segment is kept.
    let program = [
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x54, 0, 0, SYN | ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(socket).attach_filter(&program) {
        tracing::debug!(%error, "new connections cannot be kept from a socket that closes");
    }
}

/// The other process may have been about to close it.
#[cfg(target_os = "linux")]
fn accept_new(socket: &TcpListener) {
    // As a rule there is nothing to detach.
    let _ = socket2::SockRef::from(socket).detach_filter();
}

#[cfg(not(target_os = "linux"))]
fn accept_new(_: &TcpListener) {}

#[cfg(not(target_os = "linux"))]
pub(crate) fn refuse_new(_: &TcpListener) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_that_refuses_keeps_its_queue_and_gets_no_more() {
        let socket = <TcpListener as ClientSocket>::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        refuse_new(&socket);
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_err());
        let (mut accepted, _) = socket.accept().unwrap();
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        accepted.set_nonblocking(false).unwrap();
        early.write_all(b"kept").unwrap();
        let mut read = [0; 4];
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"kept");
    }
}

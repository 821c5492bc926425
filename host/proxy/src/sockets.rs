//! [`Sockets`]: listening sockets, one for each worker with SO_REUSEPORT, kept over reloads by address, handed on to a
//! process that takes over, and closed without losing a connection.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};

const BACKLOG: i32 = 4096;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// By worker, until it takes them. One each, but for sockets of a process with more workers.
    by_worker: Vec<Mutex<Vec<TcpListener>>>,
    /// A second handle on each, for a process that takes over.
    handles: Mutex<Vec<TcpListener>>,
    /// HTTP/3 is served at the same address.
    http3: AtomicBool,
}

impl Sockets {
    /// For a snapshot or a listener that serves nobody.
    pub(crate) fn none() -> Self {
        Self { by_worker: Vec::new(), handles: Mutex::default(), http3: AtomicBool::default() }
    }

    /// Shares those that were taken over among the workers, and binds one for each that has none yet.
    fn bind(address: SocketAddr, workers: usize, inherited: Vec<TcpListener>) -> io::Result<Self> {
        let mut by_worker: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
        let mut handles = Vec::new();
        for (at, socket) in inherited.into_iter().enumerate() {
            handles.push(socket.try_clone()?);
            by_worker[at % workers].push(socket);
        }
        for own in by_worker.iter_mut().filter(|own| own.is_empty()) {
            let socket = bind(address)?;
            handles.push(socket.try_clone()?);
            own.push(socket);
        }
        let by_worker = by_worker.into_iter().map(Mutex::new).collect();
        Ok(Self { by_worker, handles: Mutex::new(handles), http3: AtomicBool::default() })
    }

    /// What this worker is to accept from; nothing the second time.
    pub(crate) fn take(&self, worker: usize) -> Vec<TcpListener> {
        self.by_worker.get(worker).map(|own| std::mem::take(&mut *lock(own))).unwrap_or_default()
    }

    /// Further handles on all of them; none once they are being closed.
    pub(crate) fn handles(&self) -> io::Result<Vec<TcpListener>> {
        lock(&self.handles).iter().map(TcpListener::try_clone).collect()
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
        lock(&self.handles).clear();
    }
}

/// All sockets that are in use, by address: the same address keeps its sockets over reloads.
#[derive(Debug, Default)]
pub(crate) struct SocketRegistry {
    by_address: HashMap<SocketAddr, Weak<Sockets>>,
    /// Of the process that this one takes over from, until they are bound.
    inherited: HashMap<SocketAddr, Vec<TcpListener>>,
    /// The process is about to end: who connected to a new address would be sent away again at once.
    ends: bool,
}

impl SocketRegistry {
    /// Uses sockets of another process for their addresses, if those are wanted in the next snapshot.
    pub(crate) fn inherit(&mut self, sockets: Vec<TcpListener>) {
        for socket in sockets {
            if let Ok(address) = socket.local_addr() {
                accept_new(&socket);
                self.inherited.entry(address).or_default().push(socket);
            }
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
        let inherited = self.inherited.remove(&address).unwrap_or_default();
        let sockets = Arc::new(Sockets::bind(address, workers, inherited)?);
        self.by_address.retain(|_, sockets| sockets.strong_count() > 0);
        self.by_address.insert(address, Arc::downgrade(&sockets));
        Ok(sockets)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
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

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn sockets_of_a_process_with_more_workers_are_all_accepted_from() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let others = [bind(address).unwrap(), bind(address).unwrap()];
        let mut registry = SocketRegistry::default();
        registry.inherit(std::iter::once(first).chain(others).collect());
        let sockets = registry.bind(address, 2).unwrap();
        assert_eq!((sockets.take(0).len(), sockets.take(1).len(), sockets.take(0).len()), (2, 1, 0));
        assert_eq!(sockets.handles().unwrap().len(), 3);
        sockets.release();
        assert!(sockets.handles().unwrap().is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_socket_that_refuses_keeps_its_queue_and_gets_no_more() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
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

//! [`UdpSockets`]: the sockets of one address, one for each worker; the system gives each source to one of them.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use socket2::{Domain, Protocol, Socket, Type};

/// Kept while a snapshot or a worker serves from them.
pub(crate) struct UdpSockets {
    by_worker: Vec<Mutex<Option<UdpSocket>>>,
    /// Sessions that are open, of all workers.
    sessions: AtomicU32,
}

/// A place among the sessions of an address, until it is dropped.
pub(super) struct Place(Arc<UdpSockets>);

impl UdpSockets {
    /// For a snapshot that serves nobody.
    pub(super) fn none() -> Self {
        Self { by_worker: Vec::new(), sessions: AtomicU32::new(0) }
    }

    fn bind(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let sockets: io::Result<Vec<_>> = (0..workers).map(|_| Ok(Mutex::new(Some(bind(address)?)))).collect();
        Ok(Self { by_worker: sockets?, sessions: AtomicU32::new(0) })
    }

    /// What this worker is to serve; nothing the second time.
    pub(super) fn take(&self, worker: usize) -> Option<UdpSocket> {
        self.by_worker.get(worker)?.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// None when there are so many sessions.
    pub(super) fn place(self: &Arc<Self>, limit: u32) -> Option<Place> {
        let next = |open: u32| (open < limit).then_some(open + 1);
        self.sessions.fetch_update(Relaxed, Relaxed, next).ok().map(|_| Place(self.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Relaxed);
    }
}

/// All sockets that are in use, by address: the same address keeps its sockets over reloads.
#[derive(Default)]
pub(super) struct UdpSocketRegistry(HashMap<SocketAddr, Weak<UdpSockets>>);

impl UdpSocketRegistry {
    /// The sockets of this address, bound now unless they are in use already.
    pub(super) fn bind(&mut self, address: SocketAddr, workers: usize) -> io::Result<Arc<UdpSockets>> {
        if let Some(sockets) = self.0.get(&address).and_then(Weak::upgrade) {
            return Ok(sockets);
        }
        let sockets = Arc::new(UdpSockets::bind(address, workers)?);
        self.0.insert(address, Arc::downgrade(&sockets));
        Ok(sockets)
    }

    /// Forgets addresses that are not wanted any more: their sockets are closed, and an address that comes back needs new
    /// ones.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|address, sockets| is_wanted(address) && sockets.strong_count() > 0);
    }
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

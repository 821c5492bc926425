//! [`UdpSockets`]: the sockets of one address, one for each worker; the system gives each source to one of them.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use socket2::{Domain, Protocol, Socket, Type};

use crate::worker_sockets::{ClientSocket, Inherited, WorkerSockets};

/// Kept while a snapshot or a worker serves from them.
pub(crate) struct UdpSockets {
    own: WorkerSockets<UdpSocket>,
    /// Sessions that are open, of all workers.
    sessions: AtomicU32,
}

/// A place among the sessions of an address, until it is dropped.
pub(super) struct Place(Arc<UdpSockets>);

impl UdpSockets {
    /// For a snapshot that serves nobody.
    pub(super) fn none() -> Self {
        Self { own: WorkerSockets::none(), sessions: AtomicU32::new(0) }
    }

    /// What this worker is to serve; nothing the second time.
    pub(super) fn take(&self, worker: usize) -> Vec<UdpSocket> {
        self.own.take(worker)
    }

    /// Further handles on all of them; none once they are being closed.
    pub(crate) fn handles(&self) -> io::Result<Vec<UdpSocket>> {
        self.own.handles()
    }

    /// From here on they are closed when the workers let go of them.
    pub(super) fn release(&self) {
        self.own.release();
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
pub(super) struct UdpSocketRegistry {
    by_address: HashMap<SocketAddr, Weak<UdpSockets>>,
    inherited: Inherited<UdpSocket>,
    /// The process is about to end: another one has, or will have, an address that is new here.
    ends: bool,
}

impl UdpSocketRegistry {
    /// Uses sockets of another process for their addresses, if those are wanted in the next snapshot.
    pub(super) fn inherit(&mut self, sockets: Vec<UdpSocket>) {
        sockets.into_iter().for_each(|socket| self.inherited.add(socket));
    }

    /// Binds no address any more that is not in use.
    pub(super) fn end(&mut self) {
        self.ends = true;
    }

    /// The sockets of this address, bound now unless they are in use already.
    pub(super) fn bind(&mut self, address: SocketAddr, workers: usize) -> io::Result<Arc<UdpSockets>> {
        if let Some(sockets) = self.by_address.get(&address).and_then(Weak::upgrade) {
            return Ok(sockets);
        }
        if self.ends {
            return Ok(Arc::new(UdpSockets::none()));
        }
        let own = WorkerSockets::bind(address, workers, self.inherited.take(address))?;
        let sockets = Arc::new(UdpSockets { own, sessions: AtomicU32::new(0) });
        self.by_address.insert(address, Arc::downgrade(&sockets));
        Ok(sockets)
    }

    /// Forgets addresses that are not wanted any more: their sockets are closed, and an address that comes back needs new
    /// ones.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&SocketAddr) -> bool) {
        self.by_address.retain(|address, sockets| is_wanted(address) && sockets.strong_count() > 0);
        self.inherited.clear();
    }
}

impl ClientSocket for UdpSocket {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    fn handle(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

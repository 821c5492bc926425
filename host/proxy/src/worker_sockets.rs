//! [`WorkerSockets`]: the sockets of one address, one for each worker with SO_REUSEPORT, with second handles on them for a
//! process that takes over; and [`Inherited`], those that such a process was given.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Handles on all sockets that clients come to: what a process that takes over is given.
#[derive(Debug, Default)]
pub struct ClientSockets {
    /// They listen.
    pub tcp: Vec<TcpListener>,
    /// They are bound, and connected to nobody.
    pub udp: Vec<UdpSocket>,
}

/// A kind of socket.
pub(crate) trait ClientSocket: Sized {
    /// One more of this address.
    fn bind(address: SocketAddr) -> io::Result<Self>;
    /// A second handle.
    fn handle(&self) -> io::Result<Self>;
    fn address(&self) -> io::Result<SocketAddr>;
}

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct WorkerSockets<S> {
    by_worker: Vec<Mutex<Own<S>>>,
    /// A second handle on each, for a process that takes over.
    handles: Mutex<Vec<S>>,
}

/// What one worker has.
#[derive(Debug)]
enum Own<S> {
    /// One, but for sockets of a process with more workers.
    Bound(Vec<S>),
    /// The other process had fewer workers: one is bound when it is taken. Before that the system would give it clients,
    /// whom nobody would serve should this process not come to serve at all.
    Missing(SocketAddr),
    Taken,
}

impl<S: ClientSocket> WorkerSockets<S> {
    /// For a snapshot or a listener that serves nobody.
    pub(crate) fn none() -> Self {
        Self { by_worker: Vec::new(), handles: Mutex::default() }
    }

    /// Shares those that were taken over among the workers, or binds one for each.
    pub(crate) fn bind(address: SocketAddr, workers: usize, inherited: Vec<S>) -> io::Result<Self> {
        let bound = match inherited {
            none if none.is_empty() => (0..workers).map(|_| S::bind(address)).collect::<io::Result<_>>()?,
            inherited => inherited,
        };
        let handles = bound.iter().map(S::handle).collect::<io::Result<_>>()?;
        let mut by_worker: Vec<_> = (0..workers).map(|_| Own::Missing(address)).collect();
        for (at, socket) in bound.into_iter().enumerate() {
            match &mut by_worker[at % workers] {
                Own::Bound(sockets) => sockets.push(socket),
                own => *own = Own::Bound(vec![socket]),
            }
        }
        Ok(Self { by_worker: by_worker.into_iter().map(Mutex::new).collect(), handles: Mutex::new(handles) })
    }

    /// What this worker is to serve; nothing the second time.
    pub(crate) fn take(&self, worker: usize) -> Vec<S> {
        let Some(own) = self.by_worker.get(worker) else { return Vec::new() };
        match std::mem::replace(&mut *lock(own), Own::Taken) {
            Own::Bound(sockets) => sockets,
            Own::Missing(address) => self.bind_missing(address).unwrap_or_else(|error| {
                tracing::error!(%address, %error, worker, "a worker has no socket, the others serve");
                Vec::new()
            }),
            Own::Taken => Vec::new(),
        }
    }

    fn bind_missing(&self, address: SocketAddr) -> io::Result<Vec<S>> {
        let socket = S::bind(address)?;
        lock(&self.handles).push(socket.handle()?);
        Ok(vec![socket])
    }

    /// Further handles on all of them; none once they are being closed.
    pub(crate) fn handles(&self) -> io::Result<Vec<S>> {
        lock(&self.handles).iter().map(S::handle).collect()
    }

    /// From here on they are closed when the workers let go of them.
    pub(crate) fn release(&self) {
        lock(&self.handles).clear();
    }
}

/// Sockets of the process that this one takes over from, until they are bound.
#[derive(Debug)]
pub(crate) struct Inherited<S>(HashMap<SocketAddr, Vec<S>>);

impl<S> Default for Inherited<S> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<S: ClientSocket> Inherited<S> {
    pub(crate) fn add(&mut self, socket: S) {
        if let Ok(address) = socket.address() {
            self.0.entry(address).or_default().push(socket);
        }
    }

    pub(crate) fn take(&mut self, address: SocketAddr) -> Vec<S> {
        self.0.remove(&address).unwrap_or_default()
    }

    /// Lets go of those that nobody has taken.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn inherited(count: usize) -> (SocketAddr, Vec<UdpSocket>) {
        let first = <UdpSocket as ClientSocket>::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let others = (1..count).map(|_| <UdpSocket as ClientSocket>::bind(address).unwrap());
        (address, std::iter::once(first).chain(others).collect())
    }

    #[test]
    fn sockets_of_a_process_with_more_workers_are_all_served() {
        let (address, three) = inherited(3);
        let sockets = WorkerSockets::bind(address, 2, three).unwrap();
        assert_eq!((sockets.take(0).len(), sockets.take(1).len(), sockets.take(0).len()), (2, 1, 0));
        assert_eq!(sockets.handles().unwrap().len(), 3);
        sockets.release();
        assert!(sockets.handles().unwrap().is_empty());
    }

    #[test]
    fn a_worker_without_a_socket_binds_one_when_it_takes_it() {
        let (address, one) = inherited(1);
        let sockets = WorkerSockets::bind(address, 2, one).unwrap();
        assert_eq!(sockets.handles().unwrap().len(), 1, "nothing is bound yet");
        assert_eq!((sockets.take(0).len(), sockets.take(1).len(), sockets.take(1).len()), (1, 1, 0));
        assert_eq!(sockets.handles().unwrap().len(), 2);
    }
}

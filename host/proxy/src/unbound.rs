//! [`Unbound`]: addresses of listeners that could not be bound, and their sockets once they can be.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Those of the last snapshot, with sockets of the kind that its listeners have.
pub(crate) struct Unbound<S> {
    addresses: Vec<SocketAddr>,
    /// Sockets of such ones that were bound since, kept for the next snapshot.
    regained: Vec<Arc<S>>,
}

impl<S> Default for Unbound<S> {
    fn default() -> Self {
        Self { addresses: Vec::new(), regained: Vec::new() }
    }
}

impl<S> Unbound<S> {
    /// A snapshot is built of these, those that its listeners lack.
    pub(crate) fn replace(&mut self, addresses: Vec<SocketAddr>) {
        // What was regained its listeners have by now.
        *self = Self { addresses, regained: Vec::new() };
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Tries them again; those that are bound now are the answer.
    pub(crate) fn bind_again(&mut self, mut bind: impl FnMut(SocketAddr) -> io::Result<Arc<S>>) -> Vec<SocketAddr> {
        let mut bound = Vec::new();
        self.addresses.retain(|address| match bind(*address) {
            Ok(sockets) => {
                self.regained.push(sockets);
                bound.push(*address);
                false
            }
            Err(_) => true,
        });
        bound
    }
}

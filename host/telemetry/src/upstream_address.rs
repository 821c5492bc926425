//! [`UpstreamAddress`]: where an endpoint listens.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Paths of sockets that are known at most over the life of the process.
const MAX_PIPES: usize = 65_536;

/// An address and port, or a Unix socket: Envoy's pipe. As small as an address, and copied like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpstreamAddress {
    /// Of TCP or UDP.
    Socket(SocketAddr),
    /// A path, or `@` and an abstract name.
    Pipe(&'static str),
}

static PIPES: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

impl UpstreamAddress {
    /// The socket of this path, which is kept once for as long as the process runs; none when there are too many.
    pub fn pipe(path: &str) -> Option<Self> {
        let mut known = PIPES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(path) {
            return Some(Self::Pipe(path));
        }
        if known.len() >= MAX_PIPES {
            return None;
        }
        let path: &'static str = Box::leak(path.into());
        known.insert(path);
        Some(Self::Pipe(path))
    }

    /// The address and port; none of a Unix socket.
    pub fn socket(self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(address),
            Self::Pipe(_) => None,
        }
    }
}

impl From<SocketAddr> for UpstreamAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

/// Envoy's words: `10.0.0.1:80`, `/run/app.sock`, `@name`.
impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Pipe(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_kept_once_and_told_as_it_is() {
        let (one, two) = (UpstreamAddress::pipe("/run/a.sock"), UpstreamAddress::pipe("/run/a.sock"));
        assert_eq!(one, two);
        let (UpstreamAddress::Pipe(one), UpstreamAddress::Pipe(two)) = (one.unwrap(), two.unwrap()) else {
            panic!("these are pipes");
        };
        assert!(std::ptr::eq(one, two), "the same text in memory");
        assert_eq!(UpstreamAddress::Pipe(one).to_string(), "/run/a.sock");
        assert_eq!(size_of::<UpstreamAddress>(), size_of::<SocketAddr>());
    }
}

//! Free ports that no other test of a parallel run takes: below the ephemeral range and locked by file.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that belongs to this test until the value is dropped.
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free one.
    pub(crate) fn free() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("ports");
        std::fs::create_dir_all(&folder).expect("the folder of port locks");
        loop {
            let seed = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let number = 12_000 + u16::try_from(seed % 18_000).expect("below 18,000");
            let lock = File::create(folder.join(number.to_string())).expect("a lock file");
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
    }

    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

//! `--takeover PATH`: a new process takes the listening sockets of a running one over a Unix socket, serves, and only then
//! does the old one stop accepting and drain.
//!
//! The new process asks at PATH; the old one sends handles on its sockets, waits for the word that they are served, and
//! confirms. Whatever goes wrong before that leaves the old one serving. Then the new one takes PATH's place for the next.

mod wire;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::timeout;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use self::wire::Word;

/// The new process must serve within this time; its filters are compiled in it.
const START_TIME: Duration = Duration::from_secs(60);
/// What needs no work must be answered within this time.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Owner only.
const PRIVATE: u32 = 0o600;

/// A running process that is about to be replaced by this one.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: UnixSeqpacket,
    sockets: Vec<TcpListener>,
}

impl Predecessor {
    /// Asks whoever listens at the path for its sockets; none when nobody does.
    pub(crate) async fn at(path: &Path) -> anyhow::Result<Option<Self>> {
        let socket = match UnixSeqpacket::connect(path).await {
            Ok(socket) => socket,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("cannot take over at `{}`", path.display())),
        };
        check_peer(&socket)?;
        let asked = async {
            wire::say(&socket, Word::Take).await?;
            wire::receive(&socket).await
        };
        let sockets = timeout(START_TIME, asked).await.context("the running process does not answer")?;
        let sockets = sockets.context("the running process does not hand its sockets on")?;
        Ok(Some(Self { socket, sockets }))
    }

    /// Its socket for this address, if it has one.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_wanted = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        let at = self.sockets.iter().position(is_wanted)?;
        Some(self.sockets.swap_remove(at))
    }

    /// All that were not taken.
    pub(crate) fn take_rest(&mut self) -> Vec<TcpListener> {
        std::mem::take(&mut self.sockets)
    }

    /// Tells it that its sockets are served here. Comes back when it has stopped accepting; an error means that it serves on.
    pub(crate) async fn replace(self) -> anyhow::Result<()> {
        let told = async {
            wire::say(&self.socket, Word::Serving).await?;
            wire::hear(&self.socket).await
        };
        match timeout(ANSWER_TIME, told).await {
            Ok(Ok(Some(Word::Go))) => Ok(()),
            // It has ended in between: nobody else is there to serve.
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
            Ok(Ok(Some(_)) | Err(_)) | Err(_) => bail!("the running process serves on, it does not give way"),
        }
    }
}

/// A place where the next process finds this one.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixSeqpacketListener,
    path: PathBuf,
}

/// The next process, which has asked.
#[derive(Debug)]
pub(crate) struct Successor {
    socket: UnixSeqpacket,
}

impl Offer {
    /// Takes the path's place, also from a process that was there before. Only this user may use it.
    pub(crate) fn new(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot listen on `{}` (`--takeover`)", path.display());
        let mut name = path.file_name().with_context(failed)?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let own = path.with_file_name(name);
        // What a process of this number has left behind.
        let _ = fs::remove_file(&own);
        let listener = UnixSeqpacketListener::bind(&own).with_context(failed)?;
        let placed =
            fs::set_permissions(&own, fs::Permissions::from_mode(PRIVATE)).and_then(|()| fs::rename(&own, path));
        placed.inspect_err(|_| drop(fs::remove_file(&own))).with_context(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// The next process of this user that asks.
    pub(crate) async fn asked(&mut self) -> Successor {
        loop {
            let asked = async {
                let socket = self.listener.accept().await?;
                check_peer(&socket).map_err(io::Error::other)?;
                let first = timeout(ANSWER_TIME, wire::hear(&socket)).await.map_err(io::Error::other)?;
                if first? == Some(Word::Take) {
                    Ok(Successor { socket })
                } else {
                    Err(io::Error::other("it asks nothing"))
                }
            };
            match asked.await {
                Ok(successor) => return successor,
                Err(error) => {
                    tracing::warn!(%error, "a process that would take over is turned away");
                    // Running out of descriptors must not become a busy loop.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Takes the path's place back from a process that did not come to serve.
    pub(crate) fn place_again(&mut self) -> anyhow::Result<()> {
        *self = Self::new(&self.path)?;
        Ok(())
    }

    /// Nobody is to find this process any more.
    pub(crate) fn withdraw(&self) {
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

impl Successor {
    /// Hands the sockets on and waits until they are served. An error means that this process is to serve on.
    pub(crate) async fn serves(&self, sockets: &[TcpListener]) -> anyhow::Result<()> {
        let served = async {
            wire::send(&self.socket, sockets).await?;
            wire::hear(&self.socket).await
        };
        match timeout(START_TIME, served).await {
            Ok(Ok(Some(Word::Serving))) => Ok(()),
            Ok(Ok(None)) => bail!("the other process has ended"),
            Ok(Ok(Some(_))) => bail!("the other process speaks out of turn"),
            Ok(Err(error)) => Err(error).context("the other process cannot be reached"),
            Err(_) => {
                // It may still be at work, and must not believe that this process has ended.
                let _ = timeout(ANSWER_TIME, wire::say(&self.socket, Word::No)).await;
                bail!("the other process does not serve after {START_TIME:?}")
            }
        }
    }

    /// The last word: it serves alone from here on.
    pub(crate) async fn go(&self) {
        // Should it have ended just now, its sockets' clients are its supervisor's care.
        let _ = timeout(ANSWER_TIME, wire::say(&self.socket, Word::Go)).await;
    }
}

/// Sockets go to, and come from, processes of the same user only.
fn check_peer(socket: &UnixSeqpacket) -> anyhow::Result<()> {
    let own = UnixSeqpacket::pair()?.0.peer_cred()?.uid();
    let other = socket.peer_cred().context("cannot tell whose process is there")?.uid();
    if own != other {
        bail!("the other process belongs to another user ({other})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn sockets(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_socket_comes_over_and_the_path_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let mut offer = Offer::new(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        let sockets = sockets(100);
        let old = async {
            let successor = offer.asked().await;
            successor.serves(&sockets).await.unwrap();
            successor.go().await;
        };
        let new = async {
            let mut predecessor = Predecessor::at(&path).await.unwrap().unwrap();
            let first = sockets[0].local_addr().unwrap();
            assert!(predecessor.take(first).is_some() && predecessor.take(first).is_none());
            assert_eq!(predecessor.take_rest().len(), 99);
            predecessor.replace().await.unwrap();
        };
        tokio::join!(old, new);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_new_process_that_ends_early_is_an_error_for_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        let mut offer = Offer::new(&path).unwrap();
        let sockets = sockets(1);
        let old = async { offer.asked().await.serves(&sockets).await.unwrap_err().to_string() };
        let new = async { drop(Predecessor::at(&path).await.unwrap().unwrap()) };
        let (said, ()) = tokio::join!(old, new);
        assert_eq!(said, "the other process has ended");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn where_nobody_listens_there_is_no_predecessor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("takeover");
        assert!(Predecessor::at(&path).await.unwrap().is_none());
        drop(Offer::new(&path).unwrap());
        assert!(path.exists(), "what a killed process leaves");
        assert!(Predecessor::at(&path).await.unwrap().is_none());
        Offer::new(&path).unwrap().withdraw();
        assert!(!path.exists());
    }
}

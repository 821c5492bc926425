//! `--takeover PATH`: a new process takes the sockets of a running one that clients come to over a Unix socket, serves, and
//! only then does the old one stop accepting and drain.
//!
//! The new process asks at PATH; the old one sends handles on its sockets, waits for the word that they are served, and
//! confirms. Whatever goes wrong before that leaves the old one serving. Then the new one takes PATH's place for the next.

mod wire;

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use portolan_proxy::{ClientSockets, HandedOver};
use tokio::time::{sleep, timeout};
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use self::wire::Word;

/// The new process must serve within this time; its filters are compiled in it.
const START_TIME: Duration = Duration::from_secs(60);
/// What needs no work must be answered within this time.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How often the path is asked again where whoever was there has gone meanwhile: another one has taken its place.
const TRIES: usize = 5;
const TRY_PAUSE: Duration = Duration::from_millis(50);
/// Owner only.
const PRIVATE: u32 = 0o600;

/// A running process that is about to be replaced by this one.
#[derive(Debug)]
pub(crate) struct Predecessor {
    socket: UnixSeqpacket,
    sockets: ClientSockets,
}

impl Predecessor {
    /// Asks whoever listens at the path for its sockets; none when nobody does.
    pub(crate) async fn at(path: &Path) -> anyhow::Result<Option<Self>> {
        let mut tries = 0;
        loop {
            let socket = match UnixSeqpacket::connect(path).await {
                Ok(socket) => socket,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    return Ok(None);
                }
                Err(error) => return Err(error).with_context(|| format!("cannot take over at `{}`", path.display())),
            };
            check_peer(&socket)?;
            let asked = async {
                wire::ask(&socket).await?;
                wire::receive(&socket).await
            };
            match timeout(START_TIME, asked).await.context("the running process does not answer")? {
                Ok(sockets) => return Ok(Some(Self { socket, sockets })),
                Err(error) if has_gone(&error) && tries < TRIES => {
                    tries += 1;
                    sleep(TRY_PAUSE).await;
                }
                Err(error) => return Err(error).context("the running process does not hand its sockets on"),
            }
        }
    }

    /// Its listening socket for this address, if it has one.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_wanted = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == address);
        let at = self.sockets.tcp.iter().position(is_wanted)?;
        Some(self.sockets.tcp.swap_remove(at))
    }

    /// All that were not taken.
    pub(crate) fn take_rest(&mut self) -> ClientSockets {
        std::mem::take(&mut self.sockets)
    }

    /// Tells it that its sockets are served here. Comes back when it is about to stop; an error means that it serves on.
    pub(crate) async fn replace(self) -> anyhow::Result<()> {
        let told = async {
            wire::say(&self.socket, Word::Serving).await?;
            wire::hear(&self.socket).await
        };
        match timeout(ANSWER_TIME, told).await {
            Ok(Ok(Some(Word::Go))) => Ok(()),
            // It has ended in between: nobody else is there to serve.
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) if has_gone(&error) => Ok(()),
            Ok(Ok(Some(_)) | Err(_)) | Err(_) => bail!("the running process serves on, it does not give way"),
        }
    }
}

/// A place where the next process finds this one.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixSeqpacketListener,
    path: PathBuf,
    /// The socket's file, by device and number.
    file: Option<(u64, u64)>,
}

/// The next process, which has asked.
#[derive(Debug)]
pub(crate) struct Successor {
    socket: UnixSeqpacket,
    /// What it has asked for.
    asks: HandedOver,
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
        Ok(Self { listener, path: path.to_owned(), file: file_at(path) })
    }

    /// The next process of this user that asks.
    pub(crate) async fn asked(&mut self) -> Successor {
        loop {
            let asked = async {
                let socket = self.listener.accept().await?;
                check_peer(&socket).map_err(io::Error::other)?;
                let asks = timeout(ANSWER_TIME, wire::hear_asking(&socket)).await.map_err(io::Error::other)?;
                let asks = asks?.ok_or_else(|| io::Error::other("it asks nothing"))?;
                io::Result::Ok(Successor { socket, asks })
            };
            match asked.await {
                Ok(successor) => return successor,
                Err(error) => {
                    tracing::warn!(%error, "a process that would take over is turned away");
                    // Running out of descriptors must not become a busy loop.
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Takes the path's place back from a process that did not come to serve.
    pub(crate) fn place_again(&mut self) -> anyhow::Result<()> {
        *self = Self::new(&self.path)?;
        Ok(())
    }

    /// Nobody is to find this process any more. The path is left alone when another one has taken it.
    pub(crate) fn withdraw(&self) {
        if self.file.is_some() && file_at(&self.path) == self.file {
            // It may be gone already.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

impl Successor {
    /// What it is given.
    pub(crate) fn asks(&self) -> HandedOver {
        self.asks
    }

    /// Hands the sockets on and waits until they are served, for which it is given the last word: what it has is the answer.
    /// An error means that this process is to serve on.
    pub(crate) async fn serves(&self, sockets: &ClientSockets) -> anyhow::Result<HandedOver> {
        let served = async {
            wire::send(&self.socket, sockets, self.asks).await?;
            wire::hear(&self.socket).await
        };
        match timeout(START_TIME, served).await {
            Ok(Ok(Some(Word::Serving))) => {}
            Ok(Ok(None)) => bail!("the other process has ended"),
            Ok(Ok(Some(_))) => bail!("the other process speaks out of turn"),
            Ok(Err(error)) if has_gone(&error) => bail!("the other process has ended"),
            Ok(Err(error)) => return Err(error).context("the other process cannot be reached"),
            Err(_) => {
                // It may still be at work, and must not believe that this process has ended.
                let _ = timeout(ANSWER_TIME, wire::say(&self.socket, Word::No)).await;
                bail!("the other process does not serve after {START_TIME:?}")
            }
        }
        match timeout(ANSWER_TIME, wire::say(&self.socket, Word::Go)).await {
            Ok(Ok(())) => Ok(self.asks),
            Ok(Err(_)) | Err(_) => bail!("the other process has ended"),
        }
    }
}

fn has_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
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
mod tests;

//! Bytes both ways until both sides have ended. Each direction reads a piece and writes it before it reads the next, so a
//! slow reader slows the writer down and no more than a piece for each direction waits in the gateway. An end (FIN) goes
//! through as an end, and the other direction lives on.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use portolan_telemetry::ResponseFlags;
use portolan_wasm::Peer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, split};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Connection;
use super::chain::{Chain, Closed, Passed};
use super::client::{FromPeer, ToPeer};
use super::upstream::{Upstream, Way};
use crate::upstream::Socket;

/// Most bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// How long a client that sends on is read after its last byte.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    /// Where a worker reads to: a connection holds memory only for what it has under way.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the upstream.
    Upload,
    /// From the upstream to the client.
    Download,
}

/// A side is gone without an end, so that nothing is left to do in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Client,
    Upstream,
    /// Filters have closed the connection.
    Closed(Closed),
}

/// Where a direction's bytes come from.
pub(super) struct Source<R = FromPeer> {
    half: R,
    /// Its end has been read.
    ended: bool,
}

/// How the two directions know of each other.
#[derive(Default)]
struct Ends {
    /// The upstream has taken all that it will.
    download: Notify,
    /// Which direction has ended first.
    first: Cell<Option<Direction>>,
}

/// Carries bytes until both directions have ended. `early` is what filters have let go of the client's before.
pub(super) async fn both(
    connection: &Rc<Connection>,
    client: (Source, ToPeer),
    upstream: Upstream,
    early: (Bytes, bool),
) {
    let held = upstream.held;
    let ends = Ends::default();
    let carried = match upstream.way {
        Way::Socket(Socket::Plain(socket)) => {
            let (from, to) = socket.into_split();
            carry(connection, client, (Source::new(from), to), early, &ends).await
        }
        Way::Socket(Socket::Tls(stream)) => {
            let (from, to) = split(*stream);
            carry(connection, client, (Source::new(from), to), early, &ends).await
        }
        // Boxed: rare, and what awaits them is as large as the largest of all.
        Way::Socket(Socket::Pipe(socket)) => {
            let (from, to) = socket.into_split();
            Box::pin(carry(connection, client, (Source::new(from), to), early, &ends)).await
        }
        Way::Socket(Socket::PipeTls(stream)) => {
            let (from, to) = split(*stream);
            Box::pin(carry(connection, client, (Source::new(from), to), early, &ends)).await
        }
        Way::Tunnel(io) => {
            let (from, to) = split(io);
            Box::pin(carry(connection, client, (Source::new(from), to), early, &ends)).await
        }
    };
    let (by_client, by_upstream) = match carried {
        // Who has ended last has ended the connection; of the upstream it counts who was first.
        Ok(()) => {
            let upstream_first = ends.first.get() == Some(Direction::Download);
            (upstream_first, upstream_first)
        }
        Err(Gone::Client) => (true, false),
        Err(Gone::Upstream) => (false, true),
        Err(Gone::Closed(closed)) => {
            connection.record.terminated(closed.name());
            (false, false)
        }
    };
    connection.by_client.set(by_client);
    held.ended(by_upstream);
}

async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    connection: &Rc<Connection>,
    (from_client, to_client): (Source, ToPeer),
    (from_upstream, to_upstream): (Source<R>, W),
    early: (Bytes, bool),
    ends: &Ends,
) -> Result<(), Gone> {
    let up = upload(connection, from_client, to_upstream, early, ends);
    tokio::try_join!(up, download(connection, from_upstream, to_client, ends)).map(|_| ())
}

/// Before there is an upstream: filters see the connection, and may hold it and read of it. None when they close it.
pub(super) async fn admit(connection: &Connection, from: &mut Source) -> Option<(Bytes, bool)> {
    let Some(chain) = &connection.chain else { return Some((Bytes::new(), false)) };
    let mut passed = chain.pass(Direction::Upload, Bytes::new(), false);
    loop {
        match passed {
            Passed::Through(data, end) => return Some((data, end)),
            Passed::Closed(closed) => {
                connection.record.terminated(closed.name());
                return None;
            }
            Passed::Held => {}
        }
        match from.filtered(connection, Direction::Upload, chain).await {
            Ok(next) => passed = next,
            Err(_) => {
                connection.flag(ResponseFlags::DC);
                connection.by_client.set(true);
                return None;
            }
        }
    }
}

async fn upload<W: AsyncWrite + Unpin>(
    connection: &Connection,
    mut from: Source,
    mut to: W,
    early: (Bytes, bool),
    ends: &Ends,
) -> Result<(), Gone> {
    let (mut piece, mut end) = early;
    loop {
        if !piece.is_empty() {
            // Under TLS what was written may still wait in the gateway.
            if to.write_all(&piece).await.is_err() || to.flush().await.is_err() {
                discard(&mut from, ends).await;
                return Ok(());
            }
            connection.touch();
        }
        if end {
            // What fails here fails because the upstream is gone, which the other direction tells.
            let _ = to.shutdown().await;
            ends.first.set(ends.first.get().or(Some(Direction::Upload)));
            return Ok(());
        }
        (piece, end) = from.next(connection, Direction::Upload, Gone::Client).await?;
    }
}

/// The upstream takes no more, but what it has said before is still carried: the client is read on so that it comes to
/// read, and a moment longer than the last byte to it, since closing a socket with bytes unread takes back what was sent.
async fn discard(from: &mut Source, ends: &Ends) {
    let half = &mut from.half;
    let to_the_end = async { while read(half).await.is_ok_and(|piece| !piece.is_empty()) {} };
    tokio::pin!(to_the_end);
    tokio::select! {
        () = &mut to_the_end => {}
        () = ends.download.notified() => {
            // The client has had its time; what it sends now nobody reads.
            let _ = timeout(LINGER, to_the_end).await;
        }
    }
}

async fn download<R: AsyncRead + Unpin>(
    connection: &Connection,
    mut from: Source<R>,
    mut to: ToPeer,
    ends: &Ends,
) -> Result<(), Gone> {
    loop {
        let (piece, end) = match from.next(connection, Direction::Download, Gone::Upstream).await {
            Ok(next) => next,
            Err(gone) => {
                if gone == Gone::Upstream {
                    // Envoy hands an upstream's reset on: the client must not take what it has for the whole.
                    connection.flag(ResponseFlags::UR);
                    to.reset();
                }
                return Err(gone);
            }
        };
        // When the client takes no more, its own direction ends too, with what it has sent before.
        // TLS keeps what is written until it is told to send it.
        let refused = !piece.is_empty() && (to.write_all(&piece).await.is_err() || to.flush().await.is_err());
        connection.touch();
        if end && !refused {
            let _ = to.shutdown().await;
            ends.first.set(ends.first.get().or(Some(Direction::Download)));
        }
        if end || refused {
            ends.download.notify_one();
            return Ok(());
        }
    }
}

/// The next piece; empty at the end.
async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Bytes> {
    std::future::poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
    })
    .await
}

impl<R: AsyncRead + Unpin> Source<R> {
    pub(super) fn new(half: R) -> Self {
        Self { half, ended: false }
    }

    /// What comes next and may go on; true when it is the last.
    async fn next(
        &mut self,
        connection: &Connection,
        direction: Direction,
        broken: Gone,
    ) -> Result<(Bytes, bool), Gone> {
        let Some(chain) = &connection.chain else {
            let piece = read(&mut self.half).await.map_err(|_| broken)?;
            connection.carried(direction, piece.len());
            let end = piece.is_empty();
            return Ok((piece, end));
        };
        loop {
            match self.filtered(connection, direction, chain).await.map_err(|_| broken)? {
                Passed::Through(piece, end) if end || !piece.is_empty() => return Ok((piece, end)),
                Passed::Through(..) | Passed::Held => {}
                Passed::Closed(closed) => return Err(Gone::Closed(closed)),
            }
        }
    }

    /// The next piece through the filters, or what one of them has let go in the meantime.
    async fn filtered(
        &mut self,
        connection: &Connection,
        direction: Direction,
        chain: &Rc<Chain>,
    ) -> io::Result<Passed> {
        tokio::select! {
            biased;
            passed = chain.resumed(direction) => Ok(passed),
            piece = read(&mut self.half), if !self.ended => {
                let piece = piece?;
                connection.carried(direction, piece.len());
                self.ended = piece.is_empty();
                let passed = chain.pass(direction, piece, self.ended);
                if self.ended && direction == Direction::Download {
                    connection.tell_upstream_end(Peer::Remote);
                }
                Ok(passed)
            }
        }
    }
}

impl Connection {
    fn carried(&self, direction: Direction, bytes: usize) {
        self.touch();
        match direction {
            Direction::Upload => {
                self.record.received(bytes);
                self.tcp.metrics.downstream_cx_rx_bytes_total.inc_by(bytes as u64);
            }
            Direction::Download => {
                self.record.sent(bytes);
                self.tcp.metrics.downstream_cx_tx_bytes_total.inc_by(bytes as u64);
            }
        }
    }
}

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
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::Connection;
use super::upstream::Upstream;

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
pub(super) enum Direction {
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
}

/// How the two directions know of each other.
#[derive(Default)]
struct Ends {
    /// The upstream has taken all that it will.
    download: Notify,
    /// Which direction has ended first.
    first: Cell<Option<Direction>>,
}

/// Carries bytes until both directions have ended.
pub(super) async fn both(connection: &Rc<Connection>, client: TcpStream, upstream: Upstream) {
    let held = upstream.held;
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.socket.into_split();
    let ends = Ends::default();
    let by_upstream = match tokio::try_join!(
        upload(connection, from_client, to_upstream, &ends),
        download(connection, from_upstream, to_client, &ends),
    ) {
        Ok(((), ())) => ends.first.get() == Some(Direction::Download),
        Err(gone) => gone == Gone::Upstream,
    };
    held.ended(by_upstream);
}

async fn upload(
    connection: &Connection,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ends: &Ends,
) -> Result<(), Gone> {
    loop {
        let piece = read(&mut from).await.map_err(|_| Gone::Client)?;
        connection.carried(Direction::Upload, piece.len());
        if piece.is_empty() {
            // What fails here fails because the upstream is gone, which the other direction tells.
            let _ = to.shutdown().await;
            ends.first.set(ends.first.get().or(Some(Direction::Upload)));
            return Ok(());
        }
        if to.write_all(&piece).await.is_err() {
            discard(&mut from, ends).await;
            return Ok(());
        }
        connection.touch();
    }
}

/// The upstream takes no more, but what it has said before is still carried: the client is read on so that it comes to
/// read, and a moment longer than the last byte to it, since closing a socket with bytes unread takes back what was sent.
async fn discard(from: &mut OwnedReadHalf, ends: &Ends) {
    let to_the_end = async { while read(from).await.is_ok_and(|piece| !piece.is_empty()) {} };
    tokio::pin!(to_the_end);
    tokio::select! {
        () = &mut to_the_end => {}
        () = ends.download.notified() => {
            // The client has had its time; what it sends now nobody reads.
            let _ = timeout(LINGER, to_the_end).await;
        }
    }
}

async fn download(
    connection: &Connection,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ends: &Ends,
) -> Result<(), Gone> {
    loop {
        let Ok(piece) = read(&mut from).await else {
            // Envoy hands an upstream's reset on: the client must not take what it has for the whole.
            connection.flag(ResponseFlags::UR);
            reset_when_dropped(to);
            return Err(Gone::Upstream);
        };
        connection.carried(Direction::Download, piece.len());
        let ended = piece.is_empty();
        if ended {
            let _ = to.shutdown().await;
            ends.first.set(ends.first.get().or(Some(Direction::Download)));
        }
        // When the client takes no more, its own direction ends too, with what it has sent before.
        if ended || to.write_all(&piece).await.is_err() {
            ends.download.notify_one();
            return Ok(());
        }
        connection.touch();
    }
}

fn reset_when_dropped(socket: OwnedWriteHalf) {
    // A socket that refuses it sends an end instead.
    let _ = socket2::SockRef::from(socket.as_ref()).set_linger(Some(Duration::ZERO));
    socket.forget();
}

/// The next piece; empty at the end.
async fn read(from: &mut OwnedReadHalf) -> io::Result<Bytes> {
    std::future::poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
    })
    .await
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

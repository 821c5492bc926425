//! [`Client`]: the client's side of a connection, as it came or as TLS brought it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::tls::ClientStream;

/// Both halves, and what has been read already.
pub(crate) struct Client {
    pub(super) from: FromPeer,
    pub(super) to: ToPeer,
}

/// What a peer sends.
pub(super) struct FromPeer {
    half: ReadHalf,
    early: Bytes,
}

enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(tokio::io::ReadHalf<ClientStream>),
}

/// What a peer is sent.
pub(super) enum ToPeer {
    Plain(OwnedWriteHalf),
    Tls(tokio::io::WriteHalf<ClientStream>),
}

impl Client {
    /// `early` is what has been read of the socket already.
    pub(crate) fn of_socket(socket: TcpStream, early: Bytes) -> Self {
        let (from, to) = socket.into_split();
        Self { from: FromPeer { half: ReadHalf::Plain(from), early }, to: ToPeer::Plain(to) }
    }

    pub(crate) fn of_tls(stream: ClientStream) -> Self {
        let (from, to) = tokio::io::split(stream);
        Self { from: FromPeer { half: ReadHalf::Tls(from), early: Bytes::new() }, to: ToPeer::Tls(to) }
    }
}

impl ToPeer {
    /// Ends the connection with a reset. Within TLS the missing `close_notify` says that the rest is missing.
    pub(super) fn reset(self) {
        if let Self::Plain(socket) = self {
            // A socket that refuses it sends an end instead.
            let _ = socket2::SockRef::from(socket.as_ref()).set_linger(Some(Duration::ZERO));
            socket.forget();
        }
    }
}

impl AsyncRead for FromPeer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..length]);
            self.early.advance(length);
            return Poll::Ready(Ok(()));
        }
        match &mut self.half {
            ReadHalf::Plain(half) => Pin::new(half).poll_read(cx, buf),
            ReadHalf::Tls(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ToPeer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_write(cx, buf),
            Self::Tls(half) => Pin::new(half).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_flush(cx),
            Self::Tls(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(half) => Pin::new(half).poll_shutdown(cx),
            Self::Tls(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

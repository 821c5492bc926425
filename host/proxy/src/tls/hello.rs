//! [`Hello`]: the client's socket, which keeps what it has read as long as it may have to be handed on as it came.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A client's socket.
pub(crate) struct Hello {
    socket: TcpStream,
    /// What has been read already, before the hello was awaited.
    early: Bytes,
    /// None when nobody will ask. A hello has 64 KiB at most: rustls reads no further.
    kept: Option<Vec<u8>>,
}

impl Hello {
    pub(super) fn new(socket: TcpStream, early: Bytes, keep: bool) -> Self {
        Self { socket, early, kept: keep.then(Vec::new) }
    }

    /// Keeps nothing from here on.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// The socket, and what was read of it.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        let mut read = self.kept.unwrap_or_default();
        read.extend_from_slice(&self.early);
        (self.socket, read.into())
    }
}

impl AsyncRead for Hello {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.early.is_empty() {
            Pin::new(&mut self.socket).poll_read(cx, buf)
        } else {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(length));
            Poll::Ready(Ok(()))
        };
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Hello {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

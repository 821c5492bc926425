//! [`Watched`]: the client's side of a connection as hyper reads and writes it, and [`sniff`], which tells HTTP/2 by prior
//! knowledge from HTTP/1.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::farewell::Farewell;
use crate::context::ConnectionInfo;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes that are read to tell: a usual head of HTTP/1 in one piece.
const PIECE: usize = 4096;

thread_local! {
    static SCRATCH: RefCell<[u8; PIECE]> = const { RefCell::new([0; PIECE]) };
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// The client's side; tells the activity when bytes come.
pub(super) struct Watched<S> {
    socket: S,
    /// What has been read already.
    early: Bytes,
    protocol: Protocol,
    info: Arc<ConnectionInfo>,
    farewell: Farewell,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, early: Bytes, protocol: Protocol, info: Arc<ConnectionInfo>) -> Self {
        Self { socket, early, protocol, info, farewell: Farewell::default() }
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>, wanted: usize) {
        if self.protocol == Protocol::Http1 {
            self.farewell.after_write(matches!(polled, Poll::Ready(Ok(written)) if *written == wanted));
            if polled.is_ready() {
                self.info.activity.progress();
            }
        }
    }

    fn note(&self, bytes: &[u8]) {
        let activity = &self.info.activity;
        match self.protocol {
            Protocol::Http1 => activity.bytes_came(bytes),
            // Frames that are no head come too. The first bytes are the preface: from there on the client may be idle.
            Protocol::Http2 => {
                if activity.has_begun() {
                    activity.await_head(false);
                }
            }
        }
    }
}

/// Reads until it is clear what the client speaks. What was read is given back; an end or an error shows at the next read.
/// `early` has been read before.
pub(super) async fn sniff(socket: &mut TcpStream, early: Bytes) -> (Protocol, Bytes) {
    let mut read = Vec::new();
    let mut early = Some(early).filter(|early| !early.is_empty());
    loop {
        let piece = match early.take() {
            Some(early) => early,
            None => match piece(socket).await {
                Ok(piece) => piece,
                Err(_) => return (Protocol::Http1, read.into()),
            },
        };
        let is_end = piece.is_empty();
        if read.is_empty() && !PREFACE.starts_with(&piece[..piece.len().min(PREFACE.len())]) {
            return (Protocol::Http1, piece);
        }
        read.extend_from_slice(&piece);
        let known = read.len().min(PREFACE.len());
        if read[..known] != PREFACE[..known] || is_end {
            return (Protocol::Http1, read.into());
        }
        if known == PREFACE.len() {
            return (Protocol::Http2, read.into());
        }
    }
}

async fn piece(socket: &mut TcpStream) -> io::Result<Bytes> {
    std::future::poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
            Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
        })
    })
    .await
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.info.activity.is_late() {
            let me = self.get_mut();
            // The end is what hyper reads behind it.
            return me.farewell.poll(Pin::new(&mut me.socket), cx).map(Ok);
        }
        if !self.early.is_empty() {
            let length = self.early.len().min(buf.remaining());
            let begin = buf.filled().len();
            buf.put_slice(&self.early[..length]);
            self.early.advance(length);
            self.note(&buf.filled()[begin..]);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() != before {
            self.note(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(&polled, buf.len());
        polled
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
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(&polled, bufs.iter().map(|buf| buf.len()).sum());
        polled
    }
}

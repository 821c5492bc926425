//! [`WithTe`]: a connection whose requests all say `te: trailers`, whatever the gateway sends. A server of HTTP/1 sends
//! trailers only to who asks for them, and a gateway must not pass a client's `te` on: without this no service here
//! could answer with trailers.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What is put in after the first line of each request.
const LINE: &[u8] = b"te: trailers\r\n";

/// First lines longer than this are passed on as they are.
const LONGEST_LINE: usize = 64 * 1024;

/// The connection, and what has been read of it ahead.
pub(super) struct WithTe {
    socket: TcpStream,
    next: NextHead,
    ahead: Vec<u8>,
    /// The first line is in `ahead` as a whole.
    is_ready: bool,
}

/// Set whenever the next bytes begin a request: at first, and when an answer has been written. The gateway does not send
/// a request before it has the answer to the last one.
#[derive(Clone, Debug)]
pub(super) struct NextHead(Arc<AtomicBool>);

/// Lives as long as an answer: when that has been sent, a head comes next.
#[derive(Debug)]
pub(super) struct Answered(pub(super) NextHead);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.0.store(true, SeqCst);
    }
}

impl WithTe {
    pub(super) fn new(socket: TcpStream) -> (Self, NextHead) {
        let next = NextHead(Arc::new(AtomicBool::new(true)));
        (Self { socket, next: next.clone(), ahead: Vec::new(), is_ready: false }, next)
    }

    /// Reads until the first line is there, and puts ours behind it. An end of the connection is told as it is.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_ready {
            let mut space = [0; 4096];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            self.ahead.extend_from_slice(read.filled());
            let line = self.ahead.windows(2).position(|pair| pair == b"\r\n");
            if let Some(end) = line {
                self.ahead.splice(end + 2..end + 2, LINE.iter().copied());
            }
            self.is_ready = line.is_some() || read.filled().is_empty() || self.ahead.len() > LONGEST_LINE;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for WithTe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.next.0.load(SeqCst) {
            ready!(this.poll_head(cx))?;
            this.next.0.store(false, SeqCst);
            this.is_ready = false;
        }
        if this.ahead.is_empty() {
            return Pin::new(&mut this.socket).poll_read(cx, buffer);
        }
        let count = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(&this.ahead[..count]);
        this.ahead.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WithTe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

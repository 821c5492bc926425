//! [`Recorded`]: an upstream socket that remembers the head it was last asked to write, for the rare case that the head
//! must be sent again: one copy of the encoded bytes, where keeping a header map would cost a clone of each field. And
//! whether it stopped in the middle of an answer's head.

use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::Socket;

/// Longer heads are not remembered, and so not sent again.
const MAX_HEAD: usize = 64 * 1024;

/// The head that a connection was last asked to write.
#[derive(Debug, Default)]
pub(crate) struct SentHead {
    state: Mutex<State>,
    /// Bytes have come that end no head.
    mid_head: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The request under way has no body, so that its first write is its whole head.
    on: bool,
    bytes: Vec<u8>,
}

impl SentHead {
    /// A new request begins.
    pub(crate) fn begin(&self, on: bool) {
        if let Ok(mut state) = self.state.lock() {
            state.on = on;
            state.bytes.clear();
        }
        self.mid_head.store(false, Relaxed);
    }

    /// True when the peer has begun to answer since then, and its last bytes ended no head: if it ends here, it does not
    /// speak HTTP as it should. Says nothing of a body, nor of HTTP/2.
    pub(crate) fn is_mid_head(&self) -> bool {
        self.mid_head.load(Relaxed)
    }

    /// What was to be written of it: all of its head, whether the system took it or not.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state.lock().map(|state| state.bytes.clone()).unwrap_or_default()
    }

    fn note(&self, buffers: &[io::IoSlice<'_>]) {
        let Ok(mut state) = self.state.lock() else { return };
        if !state.on || !state.bytes.is_empty() {
            return;
        }
        let length: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        state.on = length <= MAX_HEAD;
        if state.on {
            for buffer in buffers {
                state.bytes.extend_from_slice(buffer);
            }
        }
    }
}

/// The socket.
pub(crate) struct Recorded {
    socket: Socket,
    sent: Arc<SentHead>,
}

impl Recorded {
    pub(crate) fn new(socket: Socket, sent: &Arc<SentHead>) -> Self {
        Self { socket, sent: sent.clone() }
    }
}

impl AsyncRead for Recorded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if let [.., _] = &buf.filled()[before..] {
            self.sent.mid_head.store(!buf.filled().ends_with(b"\r\n\r\n"), Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.note(&[io::IoSlice::new(buf)]);
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
        self.sent.note(bufs);
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

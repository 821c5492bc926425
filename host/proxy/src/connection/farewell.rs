//! [`Farewell`]: what a client of HTTP/1 is told whose head has not come in time. hyper, which waits for the rest of it, cannot
//! answer what it has not read; the connection's own socket can.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Envoy's answer.
const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 22\r\ncontent-type: text/plain\r\n\
    server: portolan\r\nconnection: close\r\n\r\nrequest header timeout";

/// Bytes of its body.
pub(super) const LATE_LENGTH: u64 = 22;

/// How far it has been told.
#[derive(Debug, Default)]
pub(super) struct Farewell {
    told: usize,
}

impl Farewell {
    /// Ready when there is nothing more to be told, or nobody to tell it to.
    pub(super) fn poll<S: AsyncWrite>(&mut self, mut socket: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<()> {
        while self.told < LATE.len() {
            match ready!(socket.as_mut().poll_write(cx, &LATE[self.told..])) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(written) => self.told += written,
            }
        }
        // A socket that is gone needs no flush.
        socket.poll_flush(cx).map(|_| ())
    }
}

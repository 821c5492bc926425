//! gRPC's framing: messages with their length in front, in both directions, within their bounds.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use portolan_wasm::{GrpcSend, Held, MAX_GRPC_MESSAGE};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A flag and the length.
const PREFIX: usize = 5;

/// Where messages of a stream go. Bounded by the share that each of them holds.
pub(super) type Sends = UnboundedSender<GrpcSend>;

/// What is to be sent: one message, or those that come.
pub(super) enum Queue {
    One(Option<Bytes>),
    Many(UnboundedReceiver<GrpcSend>),
}

/// The queue of a call with its message, or of a stream.
pub(super) fn queue(message: Option<Bytes>) -> (Option<Sends>, Queue) {
    match message {
        Some(message) => (None, Queue::One(Some(message))),
        None => {
            let (sends, receiver) = unbounded_channel();
            (Some(sends), Queue::Many(receiver))
        }
    }
}

/// The body of a gRPC request.
pub(super) struct Outgoing {
    queue: Queue,
    ended: bool,
}

impl Outgoing {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue, ended: false }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = match &mut self.queue {
            Queue::One(message) => {
                let message = message.take();
                self.ended = true;
                message
            }
            Queue::Many(queue) => {
                let send = ready!(queue.poll_recv(cx));
                self.ended = send.as_ref().is_none_or(|send| send.end);
                // The shares are given back here: from now on HTTP/2's flow control bounds what waits.
                send.map(|send| send.message)
            }
        };
        Poll::Ready(message.map(|message| Ok(Frame::data(framed(&message)))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// Why what came is no message. gRPC has a status for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// Larger than may be received.
    TooLarge,
    /// Compressed, which was not offered, or not gRPC at all.
    Malformed,
}

/// Takes messages out of what comes.
#[derive(Default)]
pub(super) struct Incoming {
    buffer: BytesMut,
}

impl Incoming {
    /// Adds what has come; it counts for the callout until it is taken out.
    pub(super) fn push(&mut self, data: &[u8], held: &mut Held) -> Result<(), FrameError> {
        if !held.grow(data.len()) {
            return Err(FrameError::TooLarge);
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// The next whole message.
    pub(super) fn next(&mut self, held: &mut Held) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let [flag, a, b, c, d] = *prefix;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 0 {
            return Err(FrameError::Malformed);
        }
        if length > MAX_GRPC_MESSAGE {
            return Err(FrameError::TooLarge);
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        held.shrink(PREFIX + length);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// True when nothing of a message is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

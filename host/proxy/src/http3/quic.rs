//! [`Quic`]: a connection of quinn's as h3 reads and writes it. Frames are looked at on their way, no request is taken in
//! after GOAWAY that the client was told is not, and it is known when a client has no use for an answer any more.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{Connection, ConnectionError, ReadError, VarInt, WriteError};

use super::frames::{Fault, Frames};

/// Resolves when the client has all of an answer, or has no use for it.
pub(super) type Stopped = Pin<Box<dyn Future<Output = ()>>>;

type Opening<T> = Option<Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>>;

/// Which requests are taken in.
#[derive(Clone, Default)]
pub(super) struct Intake(Rc<Requests>);

#[derive(Default)]
struct Requests {
    /// The first stream that has not come.
    next: Cell<u64>,
    /// No stream from this one on is taken in.
    end: Cell<Option<u64>>,
    /// Of the request that was taken in last.
    stopped: RefCell<Option<Stopped>>,
}

impl Intake {
    /// True when nothing has come.
    pub(super) fn is_unused(&self) -> bool {
        self.0.next.get() == 0
    }

    /// Takes in nothing from so many requests after the last that has come on; from the first on when none has.
    pub(super) fn close(&self, further: u64) {
        let next = self.0.next.get();
        self.0.end.set(Some(if next == 0 { 0 } else { next + 4 * (further - 1) }));
    }

    /// When the client has done with the request that was taken in last.
    pub(super) fn stopped(&self) -> Stopped {
        self.0.stopped.take().unwrap_or_else(|| Box::pin(std::future::pending()))
    }

    /// Whether a stream is taken in.
    fn admits(&self, id: u64) -> bool {
        let admitted = self.0.end.get().is_none_or(|end| id < end);
        if admitted {
            // Every fourth one is a request.
            self.0.next.set(self.0.next.get().max(id + 4));
        }
        admitted
    }
}

/// The connection.
pub(super) struct Quic {
    connection: Connection,
    intake: Intake,
    two_way: Opening<(quinn::SendStream, quinn::RecvStream)>,
    one_way: Opening<quinn::RecvStream>,
    opener: Opener,
}

impl Quic {
    pub(super) fn new(connection: Connection, intake: Intake) -> Self {
        let opener = Opener { connection: connection.clone(), opening: None };
        Self { connection, intake, two_way: None, one_way: None, opener }
    }
}

impl quic::Connection<Bytes> for Quic {
    type RecvStream = Receiving;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Receiving, ConnectionErrorIncoming>> {
        let connection = &self.connection;
        let accepted = ready!(polled(&mut self.one_way, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        }));
        Poll::Ready(accepted.map_err(lost).and_then(|stream| Receiving::new(connection, stream, Frames::of_one_way())))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<TwoWay, ConnectionErrorIncoming>> {
        loop {
            let connection = &self.connection;
            let accepted = ready!(polled(&mut self.two_way, cx, || {
                let connection = connection.clone();
                Box::pin(async move { connection.accept_bi().await })
            }));
            let (mut sending, mut receiving) = accepted.map_err(lost)?;
            if self.intake.admits(sending.id().into()) {
                let stopped = sending.stopped();
                self.intake.0.stopped.replace(Some(Box::pin(async move { _ = stopped.await })));
                let receiving = Receiving::new(connection, receiving, Frames::of_request())?;
                return Poll::Ready(Ok(TwoWay { sending: Sending::new(sending)?, receiving }));
            }
            // Either is closed already, or is now.
            let _ = receiving.stop(code(Code::H3_REQUEST_REJECTED));
            let _ = sending.reset(code(Code::H3_REQUEST_REJECTED));
        }
    }

    fn opener(&self) -> Opener {
        Opener { connection: self.connection.clone(), opening: None }
    }
}

impl quic::OpenStreams<Bytes> for Quic {
    type BidiStream = TwoWay;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<TwoWay, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        self.opener.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens the streams of control and of QPACK. Requests come from clients only.
pub(super) struct Opener {
    connection: Connection,
    opening: Opening<quinn::SendStream>,
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = TwoWay;
    type SendStream = Sending;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<TwoWay, StreamErrorIncoming>> {
        Poll::Ready(Err(broken("a server opens no requests")))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Sending, StreamErrorIncoming>> {
        let connection = &self.connection;
        let opened = ready!(polled(&mut self.opening, cx, || {
            let connection = connection.clone();
            Box::pin(async move { connection.open_uni().await })
        }));
        let opened = opened.map_err(lost).and_then(Sending::new);
        Poll::Ready(
            opened.map_err(|connection_error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error }),
        )
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.connection.close(self::code(code), reason);
    }
}

/// What a client sends on one stream.
pub(super) struct Receiving {
    connection: Connection,
    stream: quinn::RecvStream,
    id: StreamId,
    frames: Frames,
    fault: Option<Code>,
    ended: bool,
}

impl Receiving {
    fn new(
        connection: &Connection,
        stream: quinn::RecvStream,
        frames: Frames,
    ) -> Result<Self, ConnectionErrorIncoming> {
        let id = id(stream.id())?;
        Ok(Self { connection: connection.clone(), stream, id, frames, fault: None, ended: false })
    }

    /// A message's fault costs its stream; one that leaves h3 and the client apart, the connection.
    fn fail(&mut self, fault: Fault) -> StreamErrorIncoming {
        let (is_of_message, code) = match fault {
            Fault::Malformed => (true, Code::H3_MESSAGE_ERROR),
            Fault::TooLarge => (self.id.is_request(), Code::H3_EXCESSIVE_LOAD),
            Fault::Truncated => (false, Code::H3_FRAME_ERROR),
        };
        if is_of_message {
            self.fault = Some(code);
            quic::RecvStream::stop_sending(self, code.value());
            return StreamErrorIncoming::StreamTerminated { error_code: code.value() };
        }
        self.connection.close(self::code(code), b"");
        broken("frames that cannot be")
    }
}

impl quic::RecvStream for Receiving {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(bytes) = self.frames.next() {
                return Poll::Ready(Ok(Some(bytes)));
            }
            if self.ended {
                return Poll::Ready(Ok(None));
            }
            let chunk = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx)).map_err(unread)?;
            self.ended = chunk.is_none();
            let taken = match chunk {
                Some(chunk) => self.frames.take(chunk.bytes),
                None => self.frames.finish(),
            };
            if let Err(fault) = taken {
                return Poll::Ready(Err(self.fail(fault)));
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        // It has ended when it cannot be stopped.
        let _ = self.stream.stop(VarInt::try_from(error_code).unwrap_or_default());
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

/// What a client is sent on one stream.
pub(super) struct Sending {
    stream: quinn::SendStream,
    id: StreamId,
    writing: Option<WriteBuf<Bytes>>,
    begun: bool,
}

impl Sending {
    fn new(stream: quinn::SendStream) -> Result<Self, ConnectionErrorIncoming> {
        let id = id(stream.id())?;
        Ok(Self { stream, id, writing: None, begun: false })
    }
}

impl quic::SendStream<Bytes> for Sending {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(writing) = self.writing.as_mut().filter(|writing| writing.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, writing.chunk())).map_err(unwritten)?;
            writing.advance(written);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(broken("written before the last was"));
        }
        self.begun = true;
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_ready(cx))?;
        self.begun = true;
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))))
    }

    fn reset(&mut self, reset_code: u64) {
        self.begun = true;
        // It has been reset when it cannot be.
        let _ = self.stream.reset(VarInt::try_from(reset_code).unwrap_or_default());
    }

    fn send_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for Sending {
    /// quinn would end it in good order, and a client see an answer of nothing.
    fn drop(&mut self) {
        if !self.begun {
            quic::SendStream::<Bytes>::reset(self, Code::H3_REQUEST_INCOMPLETE.value());
        }
    }
}

/// The stream of a request.
pub(super) struct TwoWay {
    sending: Sending,
    receiving: Receiving,
}

impl quic::RecvStream for TwoWay {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.receiving.poll_data(cx);
        if let Some(fault) = self.receiving.fault.take() {
            quic::SendStream::<Bytes>::reset(&mut self.sending, fault.value());
        }
        polled
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.receiving.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.receiving.id
    }
}

impl quic::SendStream<Bytes> for TwoWay {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.sending.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.sending.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        quic::SendStream::<Bytes>::reset(&mut self.sending, reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.sending.id
    }
}

impl quic::BidiStream<Bytes> for TwoWay {
    type SendStream = Sending;
    type RecvStream = Receiving;

    fn split(self) -> (Sending, Receiving) {
        (self.sending, self.receiving)
    }
}

/// Polls what is under way, or what `begin` begins.
fn polled<T>(
    under_way: &mut Opening<T>,
    cx: &mut Context<'_>,
    begin: impl FnOnce() -> Pin<Box<dyn Future<Output = Result<T, ConnectionError>>>>,
) -> Poll<Result<T, ConnectionError>> {
    let result = ready!(under_way.get_or_insert_with(begin).as_mut().poll(cx));
    *under_way = None;
    Poll::Ready(result)
}

pub(super) fn code(code: Code) -> VarInt {
    VarInt::try_from(code.value()).unwrap_or_default()
}

fn id(id: quinn::StreamId) -> Result<StreamId, ConnectionErrorIncoming> {
    StreamId::try_from(u64::from(id)).map_err(|error| ConnectionErrorIncoming::InternalError(error.to_string()))
}

/// The connection ends.
fn broken(why: &str) -> StreamErrorIncoming {
    let connection_error = ConnectionErrorIncoming::InternalError(why.to_owned());
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error }
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: closed.error_code.into() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_closed_only_what_had_come_is_taken_in() {
        let intake = Intake::default();
        assert!(intake.admits(0) && intake.admits(4));
        intake.close(2);
        assert!(intake.admits(8) && !intake.admits(12));
        intake.close(1);
        assert!(intake.admits(8) && !intake.admits(12) && !intake.admits(16));
        let unused = Intake::default();
        unused.close(100);
        assert!(!unused.admits(0));
    }
}

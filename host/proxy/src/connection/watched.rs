//! [`Watched`]: the client's side of a connection as hyper reads and writes it, HTTP/1 past the guard, and [`sniff`], which
//! tells HTTP/2 by prior knowledge from HTTP/1.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::farewell::Farewell;
use super::guard::{Fault, Guard, target};
use crate::context::ConnectionInfo;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most bytes that are read to tell: a usual head of HTTP/1 in one piece.
const PIECE: usize = 4096;
/// What hyper reads in place of a message that is refused: the service answers it with the refusal.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";
/// How hyper's own answers to heads begin, but for the date, and how long the date is with the end of the head.
const HYPERS_OWN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: ";
const DATE_AND_END: usize = "Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n".len();
/// Most bytes that are read after a request for an upgrade before its answer is known.
const MAX_HELD: usize = 64 * 1024;
/// How long a client may take to read the answer to a message that it is still sending. Envoy's delayed close.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes that a client of HTTP/2 may say meanwhile: those of frames that let more come, of thousands of them.
const MAX_LINGERED: usize = 64 * 1024;

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
    guard: Guard,
    /// What the guard wants to see more of: the beginning of a head, or what follows a request for an upgrade.
    held: BytesMut,
    /// How much at its start may go on.
    cleared: usize,
    end: End,
    /// hyper has answered a head by itself, and its answer was kept from the client.
    withheld: bool,
    linger: Option<Pin<Box<Sleep>>>,
    /// Bytes that were read since all was said.
    lingered: usize,
}

/// How a connection ends that the guard has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// A body is broken: hyper's next read fails.
    Broken,
    /// Nothing more is read.
    Told,
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, early: Bytes, protocol: Protocol, info: Arc<ConnectionInfo>) -> Self {
        let guard = if protocol == Protocol::Http1 { Guard::new() } else { Guard::off() };
        Self {
            socket,
            early,
            protocol,
            info,
            farewell: Farewell::default(),
            guard,
            held: BytesMut::new(),
            cleared: 0,
            end: End::Open,
            withheld: false,
            linger: None,
            lingered: 0,
        }
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if self.protocol == Protocol::Http1 {
            // Not before it is flushed.
            self.info.activity.wrote(false);
            if polled.is_ready() {
                self.info.activity.progress();
            }
        }
    }

    fn note(&self) {
        let activity = &self.info.activity;
        match self.protocol {
            Protocol::Http1 => activity.bytes_came(),
            // Frames that are no head come too. The first bytes are the preface: from there on the client may be idle.
            Protocol::Http2 => {
                if activity.has_begun() {
                    activity.await_head(false);
                }
            }
        }
    }

    /// How many of these bytes go on, after what has gone before. What is refused is replaced.
    fn check(&mut self, bytes: &[u8]) -> usize {
        match self.guard.check(bytes) {
            Ok(length) => length,
            Err((length, fault)) => {
                self.refuse(fault);
                length
            }
        }
    }

    fn refuse(&mut self, fault: Fault) {
        if self.guard.is_at_head() {
            self.info.activity.refuse(self.guard.heads() + 1, fault);
            self.end = End::Told;
        } else {
            self.info.activity.break_off();
            self.end = End::Broken;
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        self.info.activity.hold(true);
    }

    /// Checks what is held.
    fn check_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        self.cleared = self.check(&held);
        if self.end != End::Open {
            held.truncate(self.cleared);
        }
        let starts = self.guard.take_to_encode();
        self.held = held;
        if !starts.is_empty() {
            self.encode(&starts);
        }
        self.refuse_next();
    }

    /// Holds what has come, which has targets to encode in what may go on.
    fn hold_encoded(&mut self, came: &[u8], passed: usize, starts: &[usize]) {
        let kept = if self.end == End::Open { came.len() } else { passed };
        self.hold(&came[..kept]);
        self.cleared = passed;
        self.encode(starts);
        self.refuse_next();
    }

    /// Encodes targets in what may go on of what is held.
    fn encode(&mut self, starts: &[usize]) {
        let rest = self.held.split_off(self.cleared);
        self.held = target::encode(&self.held, starts);
        self.cleared = self.held.len();
        self.held.unsplit(rest);
    }

    /// Puts the stand-in after what may still go on.
    fn refuse_next(&mut self) {
        if self.end == End::Told {
            self.held.extend_from_slice(REFUSED);
            self.cleared = self.held.len();
        }
    }

    /// Whether the upgrade that was asked for has been decided. Its request's answer does.
    fn is_decided(&mut self, cx: &Context<'_>) -> bool {
        let activity = &self.info.activity;
        if activity.is_tunnel() {
            self.guard.turn_off();
        } else if activity.await_answer(self.guard.heads(), cx) {
            self.guard.go_on();
        } else {
            return false;
        }
        true
    }

    /// True for hyper's own answer to a head that it does not take, when nothing of another answer is before it: a head has gone
    /// on, and no request has come of it.
    fn is_hypers_own(&self, answer: &[u8]) -> bool {
        let activity = &self.info.activity;
        self.guard.heads() > activity.taken()
            && self.end == End::Open
            && !activity.is_unwritten()
            && answer.strip_prefix(HYPERS_OWN).is_some_and(|rest| rest.len() == DATE_AND_END)
    }

    /// Lets a new server of hyper's read the stand-in, so that the head is answered as all that are refused are. False when
    /// hyper's own answer has gone out.
    pub(super) fn refuse_withheld(&mut self) -> bool {
        if !std::mem::take(&mut self.withheld) {
            return false;
        }
        self.info.activity.refuse(self.info.activity.taken() + 1, Fault::Codec);
        self.end = End::Told;
        self.held.clear();
        self.refuse_next();
        true
    }

    /// True when the client has said all that it had to say, as far as is known.
    fn is_quiet(&self) -> bool {
        self.end == End::Open && self.held.is_empty() && (self.guard.is_at_head() || self.guard.is_off())
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

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Bytes as the client sends them.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        } else {
            let length = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early[..length]);
            self.early.advance(length);
        }
        if buf.filled().len() != before {
            self.note();
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that the guard has let pass. They stay where they were read, unless a head comes in pieces.
    fn poll_checked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.cleared > 0 {
                let length = self.cleared.min(buf.remaining());
                buf.put_slice(&self.held[..length]);
                self.held.advance(length);
                self.cleared -= length;
                if self.held.is_empty() {
                    // Heads in pieces are rare: an idle connection keeps no buffer for them.
                    self.held = BytesMut::new();
                    self.info.activity.hold(false);
                }
                return Poll::Ready(Ok(()));
            }
            match self.end {
                End::Open => {}
                End::Broken => {
                    self.end = End::Told;
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                End::Told => return Poll::Pending,
            }
            if self.guard.is_undecided() {
                if self.is_decided(cx) {
                    self.check_held();
                    continue;
                }
                return self.poll_undecided(cx, buf);
            }
            let before = buf.filled().len();
            ready!(self.poll_bytes(cx, buf))?;
            let came = &buf.filled()[before..];
            if came.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !self.held.is_empty() {
                self.hold(came);
                buf.set_filled(before);
                self.check_held();
                continue;
            }
            let passed = self.check(came);
            let starts = self.guard.take_to_encode();
            if !starts.is_empty() {
                self.hold_encoded(came, passed, &starts);
                buf.set_filled(before);
                continue;
            }
            if passed == came.len() {
                return Poll::Ready(Ok(()));
            }
            if self.end == End::Open {
                self.hold(&came[passed..]);
            }
            buf.set_filled(before + passed);
            self.refuse_next();
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads on only to see whether the client goes.
    fn poll_undecided(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        while self.held.len() < MAX_HELD {
            ready!(self.poll_bytes(cx, buf))?;
            let came = &buf.filled()[before..];
            if came.is_empty() {
                // With something held, hyper must have it before the end.
                return if self.held.is_empty() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            self.hold(came);
            buf.set_filled(before);
        }
        Poll::Pending
    }

    /// True when nothing of the client's is kept here, and its next bytes begin a head.
    pub(super) fn is_between_requests(&self) -> bool {
        self.early.is_empty() && self.guard.is_at_head() && self.is_quiet()
    }

    /// Waits for the client to say more, which is kept until it is read. False when it will not.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let read = ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer));
            self.early = Bytes::copy_from_slice(buffer.filled());
            Poll::Ready(read.is_ok() && !self.early.is_empty())
        })
    }

    /// Reads what the client is still sending, for a while. Closing with bytes unread would take the answer from it. A client
    /// of HTTP/2 that has parted says by frames that it goes on reading.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_parted = self.info.activity.has_parted();
        let timer = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                    Ok(()) if !buffer.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
                if has_parted {
                    self.lingered += buffer.filled().len();
                    if self.lingered > MAX_LINGERED {
                        return Poll::Ready(());
                    }
                    timer.as_mut().reset(Instant::now() + LINGER);
                }
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.info.activity.is_late() {
            let me = self.get_mut();
            if me.info.activity.is_unwritten() {
                // An earlier answer is not out yet, and nothing may be put into it.
                return Poll::Ready(Ok(()));
            }
            // The end is what hyper reads behind it.
            return me.farewell.poll(Pin::new(&mut me.socket), cx).map(Ok);
        }
        if self.guard.is_off() && self.held.is_empty() {
            return self.poll_bytes(cx, buf);
        }
        self.poll_checked(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_hypers_own(buf) {
            self.withheld = true;
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.info.activity.wrote(true);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.info.activity.is_parked() || self.withheld {
            return Poll::Ready(Ok(()));
        }
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        if !self.is_quiet() || self.info.activity.has_parted() {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [answer] = bufs
            && self.is_hypers_own(answer)
        {
            self.withheld = true;
            return Poll::Ready(Ok(answer.len()));
        }
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(&polled);
        polled
    }
}

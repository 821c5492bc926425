//! [`Guarded`]: a client's frames of HTTP/2 on their way into hyper. What h2 takes and must not (a preface without SETTINGS,
//! pseudo-fields in trailers, a fragment in `:path`, floods of frames that ask for work and carry nothing) is refused here.
//!
//! h2 itself says GOAWAY with the right code: in place of the frame that is too much it is given one that it answers so.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portolan_telemetry::{HttpMetrics, Metrics};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{FRAME_HEAD, Fault, FrameHead, FrameLimits, Kind};
use super::goaway::{self, Meaning};
use super::head_block;
use super::heads::{Heads, Written};
use super::parting::Parting;
use crate::context::ConnectionInfo;
use crate::local_reply::Refusal;

/// The length of the preface, which h2 compares by itself.
const PREFACE: usize = 24;

/// SETTINGS of a stream: PROTOCOL_ERROR.
const WRONG: &[u8] = b"\0\0\0\x04\0\0\0\0\x01";
/// DATA longer than any frame may be: FRAME_SIZE_ERROR.
const TOO_LONG: &[u8] = b"\x01\0\0\0\0\0\0\0\x01";
/// A head in more pieces than h2 takes: ENHANCE_YOUR_CALM.
const TOO_MUCH: &[u8] = b"\0\0\0\x01\0\0\0\0\x01\
    \0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01\
    \0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01\0\0\0\x09\0\0\0\0\x01";

/// The client's side of a connection of HTTP/2.
pub(super) struct Guarded<S> {
    socket: S,
    limits: FrameLimits,
    /// Bytes of a payload, or of the preface, that are still to come.
    skip: usize,
    /// A frame's head that has come in pieces.
    head: [u8; FRAME_HEAD],
    known: usize,
    /// Known, but not told to h2 yet: its frame's head had been passed on in part.
    fault: Option<Fault>,
    /// What is left of the frames that end the connection.
    ending: Option<&'static [u8]>,
    parting: Parting,
    /// What is left of a frame that was kept.
    late: &'static [u8],
    /// The frame that was begun last is one of DATA.
    in_data: bool,
    /// A head's end is still to come.
    in_head: bool,
    /// The frame that was begun last, or the preface, is hardly ever at fault.
    is_plain: bool,
    /// Of a PROTOCOL_ERROR that h2 finds next.
    meaning: Meaning,
    heads: Rc<Heads>,
    written: Written,
    /// Counts and logs a request that h2 has refused.
    tell: Box<dyn Fn(Refusal)>,
    info: Arc<ConnectionInfo>,
    metrics: Arc<Metrics>,
    http: Arc<HttpMetrics>,
}

impl<S> Guarded<S> {
    pub(super) fn new(
        socket: S,
        info: Arc<ConnectionInfo>,
        (metrics, http): (Arc<Metrics>, Arc<HttpMetrics>),
        heads: Rc<Heads>,
        tell: Box<dyn Fn(Refusal)>,
    ) -> Self {
        Self {
            socket,
            limits: FrameLimits::default(),
            skip: PREFACE,
            head: [0; FRAME_HEAD],
            known: 0,
            fault: None,
            ending: None,
            parting: Parting::default(),
            late: &[],
            in_data: false,
            in_head: false,
            is_plain: true,
            meaning: Meaning::default(),
            heads,
            written: Written::default(),
            tell,
            info,
            metrics,
            http,
        }
    }

    /// What of these bytes h2 may see, and what is wrong with the frame that follows. A frame that is kept is taken out.
    fn look(&mut self, mut bytes: &mut [u8]) -> (usize, Option<Fault>) {
        let mut at = 0;
        // h2 has taken all frames that it was given before, but for what is still to come of one.
        let mut is_alone = self.skip == 0 || self.is_plain;
        while at < bytes.len() {
            if self.skip > 0 {
                let part = self.skip.min(bytes.len() - at);
                self.skip -= part;
                at += part;
                continue;
            }
            let is_whole = self.known == 0;
            let part = (FRAME_HEAD - self.known).min(bytes.len() - at);
            self.head[self.known..self.known + part].copy_from_slice(&bytes[at..at + part]);
            self.known += part;
            if self.known < FRAME_HEAD {
                break;
            }
            self.known = 0;
            if FrameHead::parse(self.head).kind == Kind::PING
                && part == FRAME_HEAD
                && !self.in_head
                && let Some(length) = self.parting.keep(&bytes[at..])
            {
                bytes.copy_within(at + length.., at);
                let rest = bytes.len() - length;
                bytes = &mut bytes[..rest];
                continue;
            }
            if let Some(fault) = self.take(bytes, at + part, is_alone) {
                if is_whole && part == FRAME_HEAD {
                    return (at, Some(fault));
                }
                self.fault = Some(fault);
            }
            is_alone &= self.is_plain;
            at += part;
        }
        (bytes.len(), None)
    }

    /// Counts the frame whose payload begins at `at`, and looks into a head that is there as a whole.
    fn take(&mut self, bytes: &mut [u8], at: usize, is_alone: bool) -> Option<Fault> {
        let frame = FrameHead::parse(self.head);
        self.skip = frame.length;
        self.in_data = frame.kind == Kind::DATA;
        self.is_plain = frame.is_plain();
        let was_in_head = std::mem::replace(&mut self.in_head, frame.is_head_without_end());
        if !(was_in_head && frame.kind == Kind::CONTINUATION && self.limits.is_newest(frame.stream)) {
            self.meaning = Meaning::default();
        }
        let is_trailers = frame.kind == Kind::HEADERS && self.limits.is_known(frame.stream);
        if let Some(fault) = self.fault.take().or_else(|| self.limits.take(&frame).err()) {
            return Some(fault);
        }
        match frame.kind {
            Kind::RST_STREAM => {
                self.metrics.http2.rx_reset.inc();
                self.heads.taken_back(frame.stream);
            }
            Kind::DATA => self.heads.went_on(frame.stream),
            Kind::SETTINGS if is_alone => {
                self.meaning = Meaning::of_settings(&frame, bytes.get(at..at + frame.length).unwrap_or_default());
            }
            Kind::HEADERS => {
                let payload = bytes.get_mut(at..at + frame.length);
                let block = payload.and_then(|payload| frame.head_block(payload));
                if is_alone && !is_trailers {
                    self.meaning = Meaning::of_head(&frame, block.is_some());
                }
                match block {
                    Some(block) if !is_trailers => head_block::spoil_path(block),
                    Some(block) if head_block::has_pseudo_field(block) => return Some(Fault::Protocol),
                    _ => {}
                }
                if is_trailers {
                    self.heads.went_on(frame.stream);
                    self.metrics.http2.trailers.inc();
                } else {
                    self.heads.begun(frame.stream);
                }
            }
            _ => {}
        }
        None
    }

    /// True when something was begun that must come to its end soon. DATA may take its time.
    fn is_under_way(&self) -> bool {
        !self.limits.has_begun() || self.known > 0 || self.in_head || self.skip > 0 && !self.in_data
    }

    /// These bytes of h2's have gone to the client.
    fn look_at_written(&mut self, bytes: &[u8]) {
        let mut written = std::mem::take(&mut self.written);
        written.look(bytes, &self.heads, |refusal| self.refuse(refusal));
        self.written = written;
    }

    /// h2 has refused a request.
    fn refuse(&self, refusal: Refusal) {
        match refusal {
            Refusal::TooManyFields => self.metrics.http2.header_overflow.inc(),
            _ => self.metrics.http2.rx_messaging_error.inc(),
        }
        (self.tell)(refusal);
    }

    /// Which of its limits was met h2 tells only the client, in a GOAWAY that is the last of what it writes.
    fn note_goaway(&self, written: &[u8]) {
        match goaway::limit_named(written) {
            Some("too_many_resets") => self.http.downstream_rq_too_many_premature_resets.inc(),
            Some("too_many_internal_resets") => self.metrics.http2.outbound_control_flood.inc(),
            Some(_) => self.metrics.http2.inbound_empty_frames_flood.inc(),
            None => {}
        }
    }

    fn end(&mut self, fault: Fault) -> &'static [u8] {
        fault.count(&self.metrics.http2, &self.http);
        match fault {
            Fault::Protocol => WRONG,
            Fault::Length => TOO_LONG,
            Fault::Priorities | Fault::WindowUpdates | Fault::Control | Fault::Resets => TOO_MUCH,
        }
    }
}

/// Gives as much of the frames as there is room for.
fn give(ending: &mut &'static [u8], buf: &mut ReadBuf<'_>) {
    let (now, later) = ending.split_at(ending.len().min(buf.remaining()));
    buf.put_slice(now);
    *ending = later;
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.fault.is_some() && me.skip == 0 && me.known == 0 {
            let fault = me.fault.take();
            me.ending = fault.map(|fault| me.end(fault));
        }
        if let Some(ending) = &mut me.ending {
            give(ending, buf);
            return Poll::Ready(Ok(()));
        }
        let begin = buf.filled().len();
        for _ in 0..me.heads.settle(me.in_head) {
            me.refuse(Refusal::Messaging);
        }
        loop {
            if me.skip == 0 && me.known == 0 && !me.in_head {
                if let Poll::Ready(answer) = me.parting.poll(cx) {
                    me.info.activity.part();
                    me.late = answer;
                }
                if !me.late.is_empty() {
                    give(&mut me.late, buf);
                    return Poll::Ready(Ok(()));
                }
            }
            let read = Pin::new(&mut me.socket).poll_read(cx, buf);
            if me.heads.read(read.is_pending()) {
                cx.waker().wake_by_ref();
            }
            ready!(read)?;
            let came = buf.filled().len() - begin;
            let (good, fault) = me.look(&mut buf.filled_mut()[begin..]);
            me.info.activity.frame_under_way(me.is_under_way());
            buf.set_filled(begin + good);
            if let Some(fault) = fault {
                let mut ending = me.end(fault);
                give(&mut ending, buf);
                me.ending = Some(ending);
            } else if good == 0 && came > 0 {
                // Nothing would be the end.
                continue;
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        let last = bufs.iter().rposition(|buf| !buf.is_empty()).unwrap_or(0);
        let last_bytes = bufs.get(last).map_or(&[][..], |buf| buf);
        let written = match me.meaning.corrected(last_bytes) {
            None => ready!(Pin::new(&mut me.socket).poll_write_vectored(cx, bufs))?,
            Some(corrected) => {
                let mut bufs = bufs.to_vec();
                bufs[last] = io::IoSlice::new(&corrected);
                ready!(Pin::new(&mut me.socket).poll_write_vectored(cx, &bufs))?
            }
        };
        me.limits.sent(written);
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            me.look_at_written(&buf[..part]);
            left -= part;
        }
        me.note_goaway(last_bytes);
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::{Duration, Instant};

    use http::HeaderValue;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::connection::Activity;
    use crate::properties::ConnectionState;

    const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    /// What a client answers to the PING that goes with GOAWAY.
    const ANSWER: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";

    fn guarded() -> Guarded<()> {
        guarded_over(())
    }

    fn guarded_over<S>(socket: S) -> Guarded<S> {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let info = ConnectionInfo {
            peer: nowhere,
            direct: nowhere,
            local: nowhere,
            peer_value: HeaderValue::from_static("127.0.0.1"),
            id: 1,
            activity: Activity::default(),
            state: ConnectionState::default(),
        };
        let metrics = Metrics::new();
        let http = metrics.http("l");
        Guarded::new(socket, Arc::new(info), (metrics, http), Rc::default(), Box::new(|_| ()))
    }

    /// What h2 sees of it, read in pieces of this length.
    fn seen(bytes: &[u8], length: usize) -> (Vec<u8>, Option<Fault>) {
        let mut guarded = guarded();
        let mut seen = Vec::new();
        for piece in bytes.chunks(length) {
            let mut piece = piece.to_vec();
            let (good, fault) = guarded.look(&mut piece);
            seen.extend_from_slice(&piece[..good]);
            if fault.is_some() {
                return (seen, fault);
            }
        }
        let fault = guarded.fault;
        (seen, fault)
    }

    #[test]
    fn a_frame_that_is_too_much_is_not_seen_and_one_in_pieces_is_the_last() {
        let bytes = [SETTINGS, b"\0\0\x01\x06\0\0\0\0\0x", b"\0\0\0\x04\0\0\0\0\0"].concat();
        assert_eq!(seen(&bytes, 1000), (SETTINGS.to_vec(), Some(Fault::Length)));
        let (all, fault) = seen(&bytes, SETTINGS.len() + 4);
        assert!(all.len() > SETTINGS.len() && fault == Some(Fault::Length));
    }

    #[test]
    fn what_was_begun_is_under_way_until_its_end_and_data_may_take_its_time() {
        let mut guarded = guarded();
        let mut after = |bytes: &[u8]| {
            guarded.look(&mut bytes.to_vec());
            guarded.is_under_way()
        };
        assert!(after(&SETTINGS[..10]) && after(&SETTINGS[10..24]), "neither a whole preface nor SETTINGS");
        assert!(!after(&SETTINGS[24..]));
        assert!(after(b"\0\0\x02\x01\x01\0\0\0\x01\x82\x86"), "a head that goes on");
        assert!(after(b"\0\0\x02\x09\x04\0\0") && after(b"\0\x01\x84"), "its end, begun");
        assert!(!after(b"\x87"));
        assert!(!after(b"\0\0\x08\0\0\0\0\0\x01abc"), "DATA, begun");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_answer_to_the_ping_of_goaway_is_seen_late_and_once_and_all_else_at_once() {
        const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";
        const DATA: &[u8] = b"\0\0\x02\0\0\0\0\0\x01ab";
        let (mut client, socket) = tokio::io::duplex(1000);
        let mut guarded = guarded_over(socket);
        let mut seen = vec![0; 1000];
        let begin = Instant::now();
        client.write_all(&[SETTINGS, PING, ANSWER, DATA, &DATA[..4]].concat()).await.unwrap();
        let length = guarded.read(&mut seen).await.unwrap();
        assert_eq!(seen[..length], [SETTINGS, PING, DATA, &DATA[..4]].concat());
        // A frame that is under way comes to its end first.
        assert!(timeout(Duration::from_millis(1500), guarded.read(&mut seen)).await.is_err());
        client.write_all(&DATA[4..]).await.unwrap();
        let length = guarded.read(&mut seen).await.unwrap();
        assert_eq!(seen[..length], DATA[4..]);
        let length = guarded.read(&mut seen).await.unwrap();
        assert!(&seen[..length] == ANSWER && begin.elapsed() > Duration::from_secs(1));
        client.write_all(ANSWER).await.unwrap();
        assert_eq!(guarded.read(&mut seen).await.unwrap(), ANSWER.len(), "the first only");
        drop(client);
        assert_eq!(guarded.read(&mut seen).await.unwrap(), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_that_comes_alone_is_no_end() {
        let (mut client, socket) = tokio::io::duplex(1000);
        let mut guarded = guarded_over(socket);
        let mut seen = vec![0; 1000];
        client.write_all(SETTINGS).await.unwrap();
        assert_eq!(guarded.read(&mut seen).await.unwrap(), SETTINGS.len());
        client.write_all(ANSWER).await.unwrap();
        let length = guarded.read(&mut seen).await.unwrap();
        assert_eq!(&seen[..length], ANSWER);
    }

    proptest! {
        #[test]
        fn frames_in_pieces_of_any_length_are_seen_as_they_are(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            length in 1_usize..60,
        ) {
            let mut bytes = SETTINGS.to_vec();
            for payload in &payloads {
                // DATA: it is not looked into.
                bytes.extend_from_slice(&[0, 0, payload.len() as u8, 0, 0, 0, 0, 0, 1]);
                bytes.extend_from_slice(payload);
            }
            prop_assert_eq!(seen(&bytes, length), (bytes, None));
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400), length in 1_usize..60) {
            seen(&[SETTINGS, &bytes].concat(), length);
            seen(&bytes, length);
        }
    }
}

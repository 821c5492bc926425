//! [`FrameLimits`]: how many frames that ask for work and carry nothing a client may send, beside what it gets. The kinds and
//! their counters are Envoy's (`ProtocolConstraints`); where Envoy counts frames that it sends, bytes are counted here.

use portolan_telemetry::{Http2Metrics, HttpMetrics};

use crate::clock;

/// Bytes before a frame's payload.
pub(super) const FRAME_HEAD: usize = 9;

/// PRIORITY frames for each stream, as in Envoy.
const PRIORITIES: u64 = 100;
/// WINDOW_UPDATE frames without a reason.
const WINDOW_UPDATES: u64 = 100;
/// Two of them for each frame of DATA, which has a byte at least.
const BYTES_OF_A_WINDOW_UPDATE: u64 = 5;
/// PING, SETTINGS and unknown frames in a period without a reason.
const CONTROL: u64 = 500;
/// Clients that measure the line send a PING for what they have read.
const BYTES_OF_A_PING: u64 = 16;
/// More than any answer to one of them, so that answers are no reason for more.
const ANSWER: u64 = 20;
/// Streams reset in a period when they are more than half of those opened.
const RESETS: u64 = 200;
/// The least length of a period, in milliseconds.
const PERIOD: u64 = 10_000;

/// What a frame is, by its number (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(u8);

impl Kind {
    pub(super) const DATA: Self = Self(0);
    pub(super) const HEADERS: Self = Self(1);
    pub(super) const PRIORITY: Self = Self(2);
    pub(super) const RST_STREAM: Self = Self(3);
    pub(super) const SETTINGS: Self = Self(4);
    pub(super) const PING: Self = Self(6);
    pub(super) const GOAWAY: Self = Self(7);
    const WINDOW_UPDATE: Self = Self(8);
    pub(super) const CONTINUATION: Self = Self(9);
}

/// The first bytes of a frame.
pub(super) struct FrameHead {
    pub(super) length: usize,
    pub(super) kind: Kind,
    flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    const ACK: u8 = 1;
    const END_HEADERS: u8 = 4;
    const PADDED: u8 = 8;
    const HAS_PRIORITY: u8 = 32;

    pub(super) fn parse(bytes: [u8; FRAME_HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2),
            kind: Kind(kind),
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        }
    }

    /// True for what clients send of a connection in front of their requests.
    pub(super) fn is_plain(&self) -> bool {
        self.stream == 0 && matches!(self.kind, Kind::SETTINGS | Kind::PING | Kind::WINDOW_UPDATE)
    }

    #[cfg(test)]
    pub(super) const fn new(kind: Kind, flags: u8, stream: u32) -> Self {
        Self { length: 0, kind, flags, stream }
    }

    pub(super) fn is_padded(&self) -> bool {
        self.flags & Self::PADDED != 0
    }

    /// True when CONTINUATION must follow.
    pub(super) fn is_head_without_end(&self) -> bool {
        matches!(self.kind, Kind::HEADERS | Kind::CONTINUATION) && self.flags & Self::END_HEADERS == 0
    }

    /// The block of fields in the payload of HEADERS, when all of it is there.
    pub(super) fn head_block<'a>(&self, payload: &'a mut [u8]) -> Option<&'a mut [u8]> {
        if self.flags & Self::END_HEADERS == 0 {
            return None;
        }
        let (mut begin, mut end) = (0, payload.len());
        if self.flags & Self::PADDED != 0 {
            end = end.checked_sub(usize::from(*payload.first()?))?;
            begin = 1;
        }
        if self.flags & Self::HAS_PRIORITY != 0 {
            begin += 5;
        }
        payload.get_mut(begin..end)
    }

    /// RFC 9113 section 4.2: these have one length.
    fn has_wrong_length(&self) -> bool {
        match self.kind {
            Kind::PRIORITY => self.length != 5,
            Kind::RST_STREAM | Kind::WINDOW_UPDATE => self.length != 4,
            Kind::PING => self.length != 8,
            Kind::SETTINGS if self.flags & Self::ACK != 0 => self.length != 0,
            Kind::SETTINGS => !self.length.is_multiple_of(6),
            _ => false,
        }
    }
}

/// Why a client is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SETTINGS do not come first, or trailers have pseudo-fields.
    Protocol,
    /// A frame has a length that its kind cannot have.
    Length,
    Priorities,
    WindowUpdates,
    Control,
    Resets,
}

impl Fault {
    pub(super) fn count(self, http2: &Http2Metrics, http: &HttpMetrics) {
        match self {
            Self::Protocol | Self::Length => http2.rx_messaging_error.inc(),
            Self::Priorities => http2.inbound_priority_frames_flood.inc(),
            Self::WindowUpdates => http2.inbound_window_update_frames_flood.inc(),
            Self::Control => http2.outbound_control_flood.inc(),
            Self::Resets => http.downstream_rq_too_many_premature_resets.inc(),
        }
    }
}

/// What a client has sent and got.
#[derive(Default)]
pub(super) struct FrameLimits {
    begun: bool,
    /// The highest stream that the client has opened.
    highest: u32,
    opened: u64,
    sent: u64,
    priorities: u64,
    window_updates: u64,
    /// The others of a period, with what was at its begin.
    control: u64,
    resets: u64,
    since_ms: u64,
    opened_before: u64,
    sent_before: u64,
}

impl FrameLimits {
    /// True after the first frame.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Bytes have gone to the client.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// True when the client has opened the stream: HEADERS of it are trailers.
    pub(super) fn is_known(&self, stream: u32) -> bool {
        stream <= self.highest
    }

    /// True when the client has opened no stream after it.
    pub(super) fn is_newest(&self, stream: u32) -> bool {
        stream == self.highest
    }

    pub(super) fn take(&mut self, frame: &FrameHead) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.begun, true) {
            self.since_ms = clock::coarse_ms();
            if frame.kind != Kind::SETTINGS || frame.flags & FrameHead::ACK != 0 {
                return Err(Fault::Protocol);
            }
        }
        match frame.kind {
            // DATA, and what goes on a head: h2 has limits for them.
            Kind::DATA | Kind::CONTINUATION => return Ok(()),
            Kind::HEADERS => {
                if frame.stream > self.highest {
                    self.highest = frame.stream;
                    self.opened += 1;
                }
                return Ok(());
            }
            _ => {}
        }
        if frame.has_wrong_length() {
            return Err(Fault::Length);
        }
        match frame.kind {
            Kind::PRIORITY => {
                self.priorities += 1;
                exceeds(self.priorities > PRIORITIES * (1 + self.opened), Fault::Priorities)
            }
            Kind::WINDOW_UPDATE => {
                self.window_updates += 1;
                let reasons = 2 * self.opened + self.sent / BYTES_OF_A_WINDOW_UPDATE;
                exceeds(self.window_updates > WINDOW_UPDATES + reasons, Fault::WindowUpdates)
            }
            Kind::RST_STREAM => {
                self.resets += 1;
                let opened = self.opened - self.opened_before;
                let is_flood = self.resets > RESETS && self.resets * 2 > opened && !self.begin_period();
                exceeds(is_flood, Fault::Resets)
            }
            _ => {
                self.control += 1;
                let sent = (self.sent - self.sent_before).saturating_sub(self.control * ANSWER);
                let reasons = 4 * (self.opened - self.opened_before) + sent / BYTES_OF_A_PING;
                let is_flood = self.control > CONTROL + reasons && !self.begin_period();
                exceeds(is_flood, Fault::Control)
            }
        }
    }

    /// Counts anew, when the last period has been long enough.
    fn begin_period(&mut self) -> bool {
        let now_ms = clock::coarse_ms();
        if now_ms.saturating_sub(self.since_ms) < PERIOD {
            return false;
        }
        (self.since_ms, self.control, self.resets) = (now_ms, 0, 0);
        (self.opened_before, self.sent_before) = (self.opened, self.sent);
        true
    }
}

fn exceeds(is_flood: bool, fault: Fault) -> Result<(), Fault> {
    if is_flood { Err(fault) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn frame(kind: Kind, length: usize, stream: u32) -> FrameHead {
        FrameHead { length, kind, flags: 0, stream }
    }

    fn begun() -> FrameLimits {
        let mut limits = FrameLimits::default();
        limits.take(&frame(Kind::SETTINGS, 0, 0)).unwrap();
        limits
    }

    /// How many of them pass.
    fn passes(limits: &mut FrameLimits, frame: &FrameHead) -> usize {
        (0..100_000).take_while(|_| limits.take(frame).is_ok()).count()
    }

    #[test]
    fn settings_come_first_and_lengths_are_those_of_the_kind() {
        assert_eq!(FrameLimits::default().take(&frame(Kind::PING, 8, 0)), Err(Fault::Protocol));
        let answer = FrameHead { flags: FrameHead::ACK, ..frame(Kind::SETTINGS, 0, 0) };
        assert_eq!(FrameLimits::default().take(&answer), Err(Fault::Protocol));
        for (kind, good) in [(Kind::PING, 8), (Kind::RST_STREAM, 4), (Kind::WINDOW_UPDATE, 4), (Kind::PRIORITY, 5)] {
            assert_eq!(begun().take(&frame(kind, good, 1)), Ok(()));
            assert_eq!(begun().take(&frame(kind, good + 1, 1)), Err(Fault::Length));
        }
    }

    #[test]
    fn each_flood_ends_within_a_thousand_frames() {
        for (kind, length) in [(Kind::PING, 8), (Kind::PRIORITY, 5), (Kind::WINDOW_UPDATE, 4), (Kind(200), 7)] {
            assert!(passes(&mut begun(), &frame(kind, length, 0)) <= 500, "{kind:?}");
        }
        assert_eq!(passes(&mut begun(), &frame(Kind::RST_STREAM, 4, 1)), 200);
    }

    #[test]
    fn what_a_client_gets_is_a_reason_for_frames() {
        let mut limits = begun();
        for _ in 0..10_000 {
            limits.sent(100);
            limits.take(&frame(Kind::WINDOW_UPDATE, 4, 0)).unwrap();
            limits.take(&frame(Kind::WINDOW_UPDATE, 4, 1)).unwrap();
            limits.take(&frame(Kind::PING, 8, 0)).unwrap();
        }
        // Answers to them are none.
        let mut limits = begun();
        let pings = (0..100_000).take_while(|_| {
            limits.sent(17);
            limits.take(&frame(Kind::PING, 8, 0)).is_ok()
        });
        assert!(pings.count() <= 500);
    }

    #[test]
    fn resets_of_a_few_among_many_streams_are_no_flood() {
        let mut limits = begun();
        for number in 0..10_000 {
            limits.take(&frame(Kind::HEADERS, 10, 2 * number + 1)).unwrap();
            if number % 3 == 0 {
                limits.take(&frame(Kind::RST_STREAM, 4, 2 * number + 1)).unwrap();
            }
        }
    }

    #[test]
    fn a_block_is_found_behind_padding_and_priority() {
        let mut payload = *b"\x02ppppphead--";
        let mut head = FrameHead { length: 12, kind: Kind::HEADERS, flags: 4 | 8 | 32, stream: 1 };
        assert_eq!(head.head_block(&mut payload).unwrap(), b"head");
        head.flags = 8;
        assert!(head.head_block(&mut payload).is_none(), "it goes on");
        assert!(FrameHead { flags: 12, ..head }.head_block(&mut [9, 1]).is_none());
    }
}

//! [`Frames`]: a stream's frames on their way to h3, which trusts them more than it should: it keeps what is not DATA
//! without a bound, takes an empty DATA for the body's end, and a body that breaks off for a whole one.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::section::{self, Malformed};

/// Bytes of a frame that is kept until it is whole: heads, trailers and settings.
const MAX_FRAME: u64 = 64 * 1024;
/// The type of the one stream in one direction that has frames.
const CONTROL: u64 = 0;
const DATA: u64 = 0;
const HEADERS: u64 = 1;
/// The types of RFC 9114, with those of HTTP/2 that it reserves; h3 says where they may not be. Of the others nothing is
/// kept: they mean nothing.
const KNOWN: [u64; 10] = [DATA, HEADERS, 2, 3, 4, 5, 6, 7, 8, 9];
const MAX_PUSH_ID: u64 = 13;
/// Two numbers of RFC 9000 section 16.
const LONGEST_HEAD: usize = 16;

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its message.
    Malformed,
    /// A frame is larger than may be kept.
    TooLarge,
    /// It ends within a frame.
    Truncated,
}

impl From<Malformed> for Fault {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Where a stream is among its frames, and what of them h3 is to see.
pub(super) struct Frames {
    at: At,
    /// The numbers that the next frame begins with, as far as they have come.
    head: [u8; LONGEST_HEAD],
    known: usize,
    /// A head or trailers, as far as they have come.
    section: BytesMut,
    /// What its frame began with.
    section_head: Bytes,
    is_request: bool,
    has_head: bool,
    out: VecDeque<Bytes>,
}

enum At {
    /// The first number of a stream in one direction.
    StreamType,
    FrameHead,
    /// Payload that goes on as it comes, so many bytes.
    Passing(u64),
    /// A head or trailers.
    Section(u64),
    /// Payload that means nothing.
    Skipping(u64),
    /// There are no frames in it.
    Unframed,
}

impl Frames {
    pub(super) fn of_request() -> Self {
        Self::new(At::FrameHead, true)
    }

    pub(super) fn of_one_way() -> Self {
        Self::new(At::StreamType, false)
    }

    fn new(at: At, is_request: bool) -> Self {
        let (head, section, out) = ([0; LONGEST_HEAD], BytesMut::new(), VecDeque::new());
        Self { at, head, known: 0, section, section_head: Bytes::new(), is_request, has_head: false, out }
    }

    /// What h3 is to see next.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Looks at the next bytes.
    pub(super) fn take(&mut self, mut bytes: Bytes) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let part = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            match self.at {
                At::StreamType | At::FrameHead => self.take_head(bytes.get_u8())?,
                At::Passing(left) => {
                    let passed = bytes.split_to(part(left));
                    self.at = after(left, passed.len(), At::Passing);
                    self.out.push_back(passed);
                }
                At::Skipping(left) => {
                    let skipped = part(left);
                    bytes.advance(skipped);
                    self.at = after(left, skipped, At::Skipping);
                }
                At::Section(left) => {
                    let part = bytes.split_to(part(left));
                    self.at = after(left, part.len(), At::Section);
                    self.take_section(part)?;
                }
                At::Unframed => self.out.push_back(bytes.split_to(bytes.len())),
            }
        }
        Ok(())
    }

    /// The stream is at its end.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let between = matches!(self.at, At::FrameHead) && self.known == 0;
        if between || matches!(self.at, At::StreamType | At::Unframed) { Ok(()) } else { Err(Fault::Truncated) }
    }

    fn take_head(&mut self, byte: u8) -> Result<(), Fault> {
        self.head[self.known] = byte;
        self.known += 1;
        let mut head = &self.head[..self.known];
        let Some(kind) = number(&mut head) else { return Ok(()) };
        if matches!(self.at, At::StreamType) {
            self.pass_head();
            self.at = if kind == CONTROL { At::FrameHead } else { At::Unframed };
            return Ok(());
        }
        let Some(length) = number(&mut head) else { return Ok(()) };
        self.begin(kind, length)
    }

    /// A frame of this type and length begins.
    fn begin(&mut self, kind: u64, length: u64) -> Result<(), Fault> {
        if !KNOWN.contains(&kind) && kind != MAX_PUSH_ID {
            self.known = 0;
            self.at = after(length, 0, At::Skipping);
            return Ok(());
        }
        if kind != DATA && length > MAX_FRAME {
            return Err(Fault::TooLarge);
        }
        if kind == DATA && length == 0 && self.has_head {
            self.known = 0;
            self.at = At::FrameHead;
            return Ok(());
        }
        let is_section = kind == HEADERS && self.is_request;
        self.pass_head();
        if is_section && length > 0 {
            self.section_head = self.out.pop_back().unwrap_or_default();
        }
        self.at = after(length, 0, if is_section { At::Section } else { At::Passing });
        Ok(())
    }

    fn pass_head(&mut self) {
        self.out.push_back(Bytes::copy_from_slice(&self.head[..self.known]));
        self.known = 0;
    }

    /// The next part of a head or of trailers, which are looked at when they are whole.
    fn take_section(&mut self, part: Bytes) -> Result<(), Fault> {
        let is_whole = matches!(self.at, At::FrameHead);
        if !is_whole || !self.section.is_empty() {
            self.section.extend_from_slice(&part);
        }
        if !is_whole {
            return Ok(());
        }
        let section = if self.section.is_empty() { part } else { self.section.split().freeze() };
        match std::mem::replace(&mut self.has_head, true) {
            false => {
                if let Some(stood) = section::check_head(&section)? {
                    self.out.extend([headers(stood.len()), stood]);
                    return Ok(());
                }
            }
            true => section::check_trailers(&section)?,
        }
        self.out.extend([std::mem::take(&mut self.section_head), section]);
        Ok(())
    }
}

/// What a frame begins with that holds a head of this length. It is shorter than 2^30.
fn headers(length: usize) -> Bytes {
    let length = u32::try_from(length).unwrap_or_default() | 0x8000_0000;
    [&[1][..], &length.to_be_bytes()].concat().into()
}

/// With so many of the bytes that were left.
fn after(left: u64, taken: usize, at: impl Fn(u64) -> At) -> At {
    match left.saturating_sub(taken as u64) {
        0 => At::FrameHead,
        left => at(left),
    }
}

/// A number of RFC 9000 section 16; none before all of it has come.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (own, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(own[1..].iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What h3 sees of these bytes, which come in pieces of this length.
    fn seen(mut frames: Frames, bytes: &[u8], length: usize) -> Result<Vec<u8>, Fault> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(length) {
            frames.take(Bytes::copy_from_slice(piece))?;
            while let Some(bytes) = frames.next() {
                seen.extend_from_slice(&bytes);
            }
        }
        frames.finish().map(|()| seen)
    }

    /// `:method: GET`, `:scheme: https`, `:path: /`.
    const HEAD: &[u8] = &[1, 5, 0, 0, 0xd1, 0xd7, 0xc1];

    #[test]
    fn what_is_kept_has_a_bound_and_data_has_none() {
        let of = |frame: &[u8]| {
            let mut frames = Frames::of_request();
            frames.take(Bytes::from_static(HEAD)).and_then(|()| frames.take(Bytes::copy_from_slice(frame)))
        };
        assert_eq!(of(&[0, 0xbf, 0xff, 0xff, 0xff]), Ok(()), "DATA of 2^30 - 1 bytes");
        assert_eq!(of(&[1, 0x80, 1, 0, 1]), Err(Fault::TooLarge), "HEADERS of 65,537");
        assert_eq!(of(&[0x21, 0x80, 1, 0, 1]), Ok(()), "of a type that means nothing");
    }

    #[test]
    fn of_streams_in_one_direction_only_control_has_frames() {
        let settings = [4, 0xc0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(seen(Frames::of_one_way(), &[&[0][..], &settings].concat(), 3), Err(Fault::TooLarge));
        let encoder = [&[2][..], &settings].concat();
        assert_eq!(seen(Frames::of_one_way(), &encoder, 3), Ok(encoder));
    }

    #[test]
    fn empty_data_and_frames_that_mean_nothing_are_not_seen() {
        let bytes = [HEAD, &[0, 0], &[0x21, 2, 7, 7], &[0, 2, 1, 2], &[0, 0], &[0, 1, 3], &[0x40, 0x21, 0]].concat();
        for length in 1..bytes.len() {
            assert_eq!(seen(Frames::of_request(), &bytes, length), Ok([HEAD, &[0, 2, 1, 2, 0, 1, 3]].concat()));
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_not_whole() {
        for cut in [&[0][..], &[0, 3], &[0, 3, 1], &[0x40]] {
            assert_eq!(seen(Frames::of_request(), &[HEAD, cut].concat(), 4), Err(Fault::Truncated));
        }
        assert_eq!(seen(Frames::of_request(), &HEAD[..4], 1), Err(Fault::Truncated));
    }

    #[test]
    fn heads_and_trailers_are_looked_at_when_they_are_whole() {
        let twice = [1, 6, 0, 0, 0xd1, 0xd1, 0xd7, 0xc1];
        let pseudo = [1, 3, 0, 0, 0xd9];
        for length in 1..9 {
            assert_eq!(seen(Frames::of_request(), &twice, length), Err(Fault::Malformed));
            assert_eq!(seen(Frames::of_request(), &[HEAD, &pseudo].concat(), length), Err(Fault::Malformed));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_come_to_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            length in 1_usize..40,
        ) {
            prop_assert_eq!(seen(Frames::of_request(), &bytes, length), seen(Frames::of_request(), &bytes, 300));
            prop_assert_eq!(seen(Frames::of_one_way(), &bytes, length), seen(Frames::of_one_way(), &bytes, 300));
        }
    }
}

//! GOAWAY as h2 writes it. It says PROTOCOL_ERROR of mistakes that have codes of their own: a block that HPACK cannot decode
//! (RFC 9113 section 4.3), and a window beyond its bound in SETTINGS (section 6.5.2).

use super::frames::{FRAME_HEAD, FrameHead, Kind};

/// RFC 9113 section 7.
const PROTOCOL_ERROR: u8 = 1;
const FLOW_CONTROL_ERROR: u8 = 3;
const COMPRESSION_ERROR: u8 = 9;

/// The number of SETTINGS_INITIAL_WINDOW_SIZE.
const INITIAL_WINDOW_SIZE: u8 = 4;
/// A GOAWAY without words: its frame's head, the last stream, the code.
const WORDLESS: usize = FRAME_HEAD + 8;

/// What h2 means when it calls the frame that it has read last a PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning(u8);

impl Default for Meaning {
    fn default() -> Self {
        Self(PROTOCOL_ERROR)
    }
}

impl Meaning {
    /// Of a head that opens a stream: all but its block is right.
    pub(super) fn of_head(frame: &FrameHead, has_block: bool) -> Self {
        let is_right = frame.stream % 2 == 1 && (has_block || !frame.is_padded());
        Self(if is_right { COMPRESSION_ERROR } else { PROTOCOL_ERROR })
    }

    pub(super) fn of_settings(frame: &FrameHead, payload: &[u8]) -> Self {
        let is_too_large = |setting: &[u8]| setting[..2] == [0, INITIAL_WINDOW_SIZE] && setting[2] > 0x7f;
        let is_window = frame.stream == 0 && payload.chunks_exact(6).any(is_too_large);
        Self(if is_window { FLOW_CONTROL_ERROR } else { PROTOCOL_ERROR })
    }

    /// What h2 writes with the right code, where another is in it. GOAWAY is the last that it writes.
    pub(super) fn corrected(self, written: &[u8]) -> Option<Vec<u8>> {
        if self.0 == PROTOCOL_ERROR || written.last() != Some(&PROTOCOL_ERROR) {
            return None;
        }
        let frame = FrameHead::parse(*written.last_chunk::<WORDLESS>()?.first_chunk()?);
        if frame.kind != Kind::GOAWAY || frame.length != WORDLESS - FRAME_HEAD || frame.stream != 0 {
            return None;
        }
        let mut corrected = written.to_vec();
        *corrected.last_mut()? = self.0;
        Some(corrected)
    }
}

/// The limit that was met, which h2 names in words.
pub(super) fn limit_named(written: &[u8]) -> Option<&'static str> {
    const LIMITS: [&str; 3] = ["too_many_resets", "too_many_internal_resets", "too_many_data_frames"];
    if written.last() != Some(&b's') {
        return None;
    }
    let is_named = |word: &&str| {
        let head = written.strip_suffix(word.as_bytes()).and_then(|rest| rest.last_chunk::<WORDLESS>());
        head.and_then(|head| head.first_chunk()).is_some_and(|head| {
            let frame = FrameHead::parse(*head);
            frame.kind == Kind::GOAWAY && frame.length == 8 + word.len()
        })
    };
    LIMITS.into_iter().find(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: FrameHead = FrameHead::new(Kind::HEADERS, 0, 1);
    const PING: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0........";

    fn goaway(code: u8, words: &str) -> Vec<u8> {
        let length = 8 + words.len() as u8;
        [PING, &[0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, code], words.as_bytes()].concat()
    }

    fn corrected(meaning: Meaning, code: u8) -> Option<Vec<u8>> {
        meaning.corrected(&goaway(code, ""))
    }

    #[test]
    fn a_head_at_fault_is_one_of_compression_when_all_but_its_block_is_right() {
        let meaning = Meaning::of_head(&HEAD, false);
        assert_eq!(corrected(meaning, 1), Some(goaway(9, "")));
        assert_eq!(corrected(meaning, 0), None, "an end without a fault");
        assert_eq!(meaning.corrected(b"\x01"), None);
        assert_eq!(meaning.corrected(&[&goaway(1, "")[1..], b"\x01"].concat()), None, "no GOAWAY");
        let even = FrameHead::new(Kind::HEADERS, 0, 2);
        let padded = FrameHead::new(Kind::HEADERS, 8, 1);
        for other in [Meaning::default(), Meaning::of_head(&even, true), Meaning::of_head(&padded, false)] {
            assert_eq!(corrected(other, 1), None);
        }
    }

    #[test]
    fn a_window_beyond_its_bound_is_one_of_flow_control() {
        let settings = FrameHead::new(Kind::SETTINGS, 0, 0);
        let window = |first| [0, 3, 0, 0, 0, 9, 0, 4, first, 0xff, 0xff, 0xff];
        assert_eq!(corrected(Meaning::of_settings(&settings, &window(0x80)), 1), Some(goaway(3, "")));
        assert_eq!(corrected(Meaning::of_settings(&settings, &window(0x7f)), 1), None);
        assert_eq!(corrected(Meaning::of_settings(&FrameHead::new(Kind::SETTINGS, 0, 1), &window(0x80)), 1), None);
    }

    #[test]
    fn a_limit_is_named_at_the_end_of_a_goaway_only() {
        assert_eq!(limit_named(&goaway(11, "too_many_resets")), Some("too_many_resets"));
        assert_eq!(limit_named(&goaway(11, "too_many_internal_resets")), Some("too_many_internal_resets"));
        for other in [&goaway(11, "other_words")[..], &goaway(0, ""), b"too_many_resets", b""] {
            assert_eq!(limit_named(other), None);
        }
    }
}

//! [`Chunked`]: where a chunked body ends, and whether it is one (RFC 9112 section 7.1).

use super::Fault;

/// Bytes of a line with a chunk's size and extensions at most.
const MAX_SIZE_LINE: u32 = 4096;
/// Bytes of all trailers at most: hyper's own limit.
const MAX_TRAILERS: u32 = 16 * 1024;

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    Start,
    Size,
    /// Space after a size: an extension must follow.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer line, or the end.
    Line,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// A chunked body under way.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// Of the chunk under way: its size, then what is left of it.
    left: u64,
    /// Bytes of the size line or of the trailers so far.
    spent: u32,
}

impl Chunked {
    /// How many bytes belong to the body, and whether it has ended; with a fault, how many come before it.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(usize, bool), (usize, Fault)> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::End {
            if self.state == State::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.left -= length as u64;
                at += length;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.next(bytes[at]).map_err(|fault| (at, fault))?;
            at += 1;
        }
        Ok((at, self.state == State::End))
    }

    fn next(&mut self, byte: u8) -> Result<State, Fault> {
        let limit = match self.state {
            State::Start | State::Size | State::Space | State::Extension => MAX_SIZE_LINE,
            _ => MAX_TRAILERS,
        };
        self.spent += 1;
        if self.spent > limit {
            return Err(Fault::Chunk);
        }
        Ok(match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte)?,
            (State::Size | State::Extension, b'\r') => State::SizeLf,
            (State::Size | State::Space, b' ' | b'\t') => State::Space,
            (State::Size | State::Space, b';') => State::Extension,
            (State::Extension, b'\t' | 0x20..=0x7e | 0x80..) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.spent = 0;
                if self.left == 0 { State::Line } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.spent = 0;
                State::Start
            }
            (State::Line, b'\r') => State::EndLf,
            // No line begins with space: that would go on with the one before.
            (State::Line, 0x21..=0x7e) => State::Trailer,
            (State::Trailer, b'\t' | 0x20..=0x7e | 0x80..) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::Line,
            (State::EndLf, b'\n') => State::End,
            _ => return Err(Fault::Chunk),
        })
    }

    fn digit(&mut self, byte: u8) -> Result<State, Fault> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        let size = self.left.checked_mul(16).map(|size| size + u64::from(digit));
        self.left = size.filter(|size| i64::try_from(*size).is_ok()).ok_or(Fault::Chunk)?;
        Ok(State::Size)
    }
}

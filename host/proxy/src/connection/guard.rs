//! [`Guard`]: looks at what a client of HTTP/1 sends before hyper does. hyper and httparse take, and forget, some of what
//! another reader may see otherwise (lone line feeds, two lengths, a length beside an encoding); here such a message
//! ends the connection. It knows where each message ends, so that it sees every head whole and nothing else as one.

mod chunk;
pub(super) mod target;
#[cfg(test)]
mod tests;

use self::chunk::Chunked;

/// Bytes of a head at most, as in Envoy: 60 KiB.
pub(super) const MAX_HEAD: usize = 60 * 1024;
/// Fields of a head at most, as in Envoy and hyper.
const MAX_FIELDS: u32 = 100;

/// What is wrong with a message, in the words of Envoy's access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not HTTP/1, or could be read in two ways.
    #[error("http1.codec_error")]
    Codec,
    /// HTTP/1.0, which Istio's gateways do not take.
    #[error("low_version")]
    Version,
    /// A control byte within a line.
    #[error("http1.invalid_characters")]
    Characters,
    /// A length beside an encoding (RFC 9112 section 6.1).
    #[error("http1.content_length_and_chunked_not_allowed")]
    LengthAndEncoding,
    /// An encoding other than exactly `chunked`.
    #[error("http1.invalid_transfer_encoding")]
    Encoding,
    /// More than 60 KiB of head.
    #[error("http1.headers_too_large")]
    HeadTooLarge,
    /// More than 60 KiB of request line. Envoy's details; its status is 431.
    #[error("http1.headers_too_large")]
    TargetTooLarge,
    /// More than 100 fields.
    #[error("http1.too_many_headers")]
    TooManyFields,
    /// A `#` in the target. Istio's gateways refuse it as a path; a parsed URI has lost it.
    #[error("path_normalization_failed")]
    Fragment,
    /// A chunked body that is none.
    #[error("http1.codec_error")]
    Chunk,
}

/// What comes next.
#[derive(Debug)]
enum State {
    Head,
    /// As many bytes of a body.
    Length(u64),
    Chunked(Chunked),
    /// After a request for an upgrade: HTTP or something else, which its answer decides.
    Undecided,
    /// Not HTTP.
    Off,
}

/// What is known of the head under way. Places count from its start.
#[derive(Debug, Default)]
struct Head {
    /// Where the line under way begins.
    line: usize,
    /// Everything before has been looked at.
    seen: usize,
    /// Lines before have been read closely: only what comes in pieces is.
    read: usize,
    lines: u32,
    /// HTTP/1.0.
    is_old: bool,
    /// By how much its target grows when it is encoded.
    growth: usize,
    length: Option<u64>,
    encoding: Encoding,
    wants_upgrade: bool,
}

/// What `transfer-encoding` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    None,
    Chunked,
    Other,
}

/// Follows one client's bytes.
#[derive(Debug)]
pub struct Guard {
    state: State,
    head: Head,
    /// An upgrade was asked for by the message under way.
    wants_upgrade: bool,
    /// Whole heads so far.
    heads: u64,
    /// Where heads begin, among the bytes shown last, whose targets are to be encoded before hyper sees them.
    to_encode: Vec<usize>,
}

impl Guard {
    /// At the start of a connection.
    pub fn new() -> Self {
        Self { state: State::Head, head: Head::default(), wants_upgrade: false, heads: 0, to_encode: Vec::new() }
    }

    /// For what is not HTTP/1.
    pub(super) fn off() -> Self {
        Self { state: State::Off, ..Self::new() }
    }

    pub(super) fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// What follows is not HTTP.
    pub(super) fn turn_off(&mut self) {
        self.state = State::Off;
    }

    /// True after a request for an upgrade, until its answer has decided.
    pub fn is_undecided(&self) -> bool {
        matches!(self.state, State::Undecided)
    }

    /// The upgrade was refused: a request follows.
    pub fn go_on(&mut self) {
        self.state = State::Head;
    }

    /// True when a head is wanted: between messages, and within a head.
    pub(super) fn is_at_head(&self) -> bool {
        matches!(self.state, State::Head)
    }

    /// How many requests have come whole, or their heads have.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    /// Where heads begin, among the bytes that were shown last, whose targets are to be encoded. Empty but for odd clients.
    pub(super) fn take_to_encode(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.to_encode)
    }

    /// How many of these bytes may go on. The others are the beginning of a head, or undecided: they are to be shown again,
    /// first, together with what follows. With a fault comes how many may go on before it.
    pub fn check(&mut self, bytes: &[u8]) -> Result<usize, (usize, Fault)> {
        let mut at = 0;
        self.to_encode.clear();
        loop {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head => match self.check_head(rest).map_err(|fault| (at, fault))? {
                    Some((length, is_usual)) => {
                        if !is_usual {
                            self.to_encode.push(at);
                        }
                        at += length;
                    }
                    None => return Ok(at),
                },
                State::Length(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= length as u64;
                    at += length;
                    if *left > 0 {
                        return Ok(at);
                    }
                    self.end_message();
                }
                State::Chunked(chunked) => {
                    let (length, ended) = chunked.check(rest).map_err(|(before, fault)| (at + before, fault))?;
                    at += length;
                    if !ended {
                        return Ok(at);
                    }
                    self.end_message();
                }
                State::Undecided => return Ok(at),
                State::Off => return Ok(bytes.len()),
            }
            if at == bytes.len() {
                return Ok(at);
            }
        }
    }

    /// The length of the head that these bytes begin with, and whether its target may stay as it is; none while it is not
    /// whole.
    fn check_head(&mut self, bytes: &[u8]) -> Result<Option<(usize, bool)>, Fault> {
        let head = &mut self.head;
        while let Some(at) = control(bytes, head.seen) {
            match (bytes[at], bytes.get(at + 1)) {
                (b'\t', _) => head.seen = at + 1,
                (b'\r', Some(b'\n')) => {
                    let line = &bytes[head.line..at];
                    (head.line, head.seen) = (at + 2, at + 2);
                    if !line.is_empty() {
                        head.take(line)?;
                    } else if head.lines > 0 {
                        return self.end_head().map(Some);
                    } else {
                        // An empty line before a request (RFC 9112 section 2.2).
                        *head = Head::default();
                        return Ok(Some((at + 2, true)));
                    }
                }
                (b'\r', None) => break,
                (b'\r' | b'\n', _) => return Err(Fault::Codec),
                _ => return Err(Fault::Characters),
            }
        }
        head.seen = bytes.len() - usize::from(bytes.ends_with(b"\r"));
        // hyper will not see it until it is whole; what is wrong already is told now.
        head.read_closely(bytes)?;
        match head.lines {
            _ if bytes.len() <= MAX_HEAD => Ok(None),
            0 => Err(too_large(bytes)),
            1..=MAX_FIELDS => Err(Fault::HeadTooLarge),
            _ => Err(Fault::TooManyFields),
        }
    }

    fn end_head(&mut self) -> Result<(usize, bool), Fault> {
        let head = std::mem::take(&mut self.head);
        let (length, is_usual) = (head.line, head.growth == 0);
        let framing = head.framing()?;
        // hyper would answer in that version.
        if head.is_old {
            return Err(Fault::Version);
        }
        self.state = match framing {
            Framing::None => State::Head,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::default()),
        };
        self.wants_upgrade = head.wants_upgrade;
        self.heads += 1;
        if self.is_at_head() {
            self.end_message();
        }
        Ok((length, is_usual))
    }

    fn end_message(&mut self) {
        self.state = if std::mem::take(&mut self.wants_upgrade) { State::Undecided } else { State::Head };
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

/// What follows a head.
enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// Looks at a whole line.
    fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.lines += 1;
        if self.lines == 1 {
            return self.take_request_line(line);
        }
        match line[0] {
            b'c' | b'C' => {
                if let Some(value) = value_of(line, b"content-length") {
                    let length = decimal(value).filter(|_| self.length.is_none());
                    self.length = Some(length.ok_or(Fault::Codec)?);
                }
            }
            b't' | b'T' => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    let is_chunked = self.encoding == Encoding::None && value.eq_ignore_ascii_case(b"chunked");
                    self.encoding = if is_chunked { Encoding::Chunked } else { Encoding::Other };
                }
            }
            // It would go on with the line before (RFC 9112 section 5.2).
            b' ' | b'\t' => return Err(Fault::Codec),
            b'u' | b'U' => self.wants_upgrade |= value_of(line, b"upgrade").is_some(),
            _ => {}
        }
        Ok(())
    }

    fn take_request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.len() > MAX_HEAD {
            return Err(too_large(line));
        }
        // Its answer decides what follows, as for an upgrade.
        self.wants_upgrade = line.starts_with(b"CONNECT ");
        let target = match line.split_last_chunk::<9>() {
            Some((target, b" HTTP/1.1")) => target,
            Some((target, b" HTTP/1.0")) => {
                self.is_old = true;
                target
            }
            _ => return Err(Fault::Codec),
        };
        if !target::is_usual(target) {
            let target = target.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
            self.growth = target::growth(target)?;
        }
        Ok(())
    }

    /// Refuses whole lines that hyper would refuse.
    fn read_closely(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        while self.read < self.line {
            let rest = &bytes[self.read..self.line];
            let end = rest.iter().position(|byte| *byte == b'\r').unwrap_or(rest.len());
            let is_good = if self.read == 0 { is_request_line(&rest[..end]) } else { is_field(&rest[..end]) };
            if !is_good {
                return Err(Fault::Codec);
            }
            self.read += end + 2;
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Fault> {
        if self.line > MAX_HEAD {
            return Err(Fault::HeadTooLarge);
        }
        // hyper takes no more.
        if self.line + self.growth > MAX_HEAD {
            return Err(Fault::TargetTooLarge);
        }
        if self.lines > MAX_FIELDS + 1 {
            return Err(Fault::TooManyFields);
        }
        match (self.encoding, self.length) {
            (Encoding::None, None | Some(0)) => Ok(Framing::None),
            (Encoding::None, Some(length)) => Ok(Framing::Length(length)),
            (_, Some(_)) => Err(Fault::LengthAndEncoding),
            (_, None) if self.is_old => Err(Fault::Codec),
            (Encoding::Chunked, None) => Ok(Framing::Chunked),
            (Encoding::Other, None) => Err(Fault::Encoding),
        }
    }
}

/// What is wrong with a request line that is too long: a method that does not end is no target.
fn too_large(line: &[u8]) -> Fault {
    if line.iter().take(MAX_HEAD).any(|byte| *byte == b' ') { Fault::TargetTooLarge } else { Fault::HeadTooLarge }
}

fn is_request_line(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let has_target = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    is_token(method) && has_target && words.count() == 1
}

fn is_field(line: &[u8]) -> bool {
    line.iter().position(|byte| *byte == b':').is_some_and(|colon| is_token(&line[..colon])) && !line.contains(&0x7f)
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// The value of a line with this name. Space before the colon is left to hyper, which refuses it.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if line.get(name.len()) != Some(&b':') {
        return None;
    }
    let (start, value) = line.split_at(name.len());
    start.eq_ignore_ascii_case(name).then(|| value[1..].trim_ascii())
}

/// Digits and nothing else, up to what a signed number holds.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    i64::try_from(number).is_ok().then_some(number)
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);

/// Where the first control byte is, from a place on; eight bytes at a time.
fn control(bytes: &[u8], from: usize) -> Option<usize> {
    let (words, rest) = bytes.get(from..)?.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte below a space; a borrow may spoil the bytes above the first one only.
        let hits = word.wrapping_sub(ONES * 0x20) & !word & (ONES * 0x80);
        if hits != 0 {
            return Some(from + index * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|byte| *byte < 0x20)?;
    Some(from + words.len() * 8 + found)
}

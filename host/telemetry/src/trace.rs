//! [`TraceContext`]: the trace that a request belongs to, as W3C's `traceparent` tells it; and what `x-request-id` tells of
//! sampling. Semantics: Envoy's OpenTelemetry tracer and its UUID request ids.

mod b3;

pub use b3::{B3, B3Trace, MalformedB3};

/// A number of a trace.
pub type TraceId = [u8; 16];
/// A number of a span.
pub type SpanId = [u8; 8];

/// Length of a `traceparent`.
const LENGTH: usize = 55;

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The same for all spans of the trace.
    pub trace: TraceId,
    /// The span of whoever sent the request; none for the first one.
    pub parent: Option<SpanId>,
    /// Spans are recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` of any version; none for one that is malformed or has a number of zeros only.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; LENGTH] = text.try_into().ok()?;
        if [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let [_version] = bytes::<1>(&text[..2])?;
        let (trace, parent) = (bytes::<16>(&text[3..35])?, bytes::<8>(&text[36..52])?);
        let [flags] = bytes::<1>(&text[53..])?;
        let is_valid = trace != [0; 16] && parent != [0; 8];
        is_valid.then_some(Self { trace, parent: Some(parent), sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that tells of `span`.
    pub fn traceparent(&self, span: SpanId) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace, &mut text[3..35]);
        write_hex(&span, &mut text[36..52]);
        text[54] = b'0' + u8::from(self.sampled);
        text
    }
}

/// Why a request without a parent is sampled, as the 15th character of its `x-request-id` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceReason {
    /// By chance.
    Sampling,
    /// The client asked for it by `x-client-trace-id`.
    Client,
}

impl TraceReason {
    /// Where a UUID has its version, which tells the reason instead.
    pub const POSITION: usize = 14;

    /// What stands there for requests that are sampled: by chance, on a service's demand, or a client's.
    pub const TOLD: &[u8; 3] = b"9ab";

    /// What stands there.
    pub const fn digit(self) -> u8 {
        match self {
            Self::Sampling => b'9',
            Self::Client => b'b',
        }
    }
}

/// The number that a UUID gives a request among `of`, by its first eight digits: the same everywhere.
pub fn number_of(uuid: &[u8], of: u32) -> Option<u32> {
    Some(u32::from_be_bytes(bytes::<4>(uuid.get(..8)?)?) % of)
}

fn bytes<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let digit = |digit: u8| (digit as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    write_hex(bytes, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The answers are those of Envoy 1.40 for the same lines.
    #[test]
    fn parents_are_read_and_told_as_envoy_does() {
        let told = |text: &str| {
            let context = TraceContext::parse(text.as_bytes())?;
            Some(String::from_utf8(context.traceparent([0x11; 8]).to_vec()).unwrap())
        };
        let sampled = Some("00-0af7651916cd43dd8448eb211c80319c-1111111111111111-01".to_owned());
        let not = Some("00-0af7651916cd43dd8448eb211c80319c-1111111111111111-00".to_owned());
        assert_eq!(told("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), sampled);
        assert_eq!(told("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03"), sampled);
        assert_eq!(told("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), sampled);
        assert_eq!(told("00-0AF7651916CD43dd8448eb211c80319c-b7ad6b7169203331-01"), sampled);
        assert_eq!(told("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"), not);
        for bad in [
            "",
            "00-xyz-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(told(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_s_number_is_that_of_its_first_eight_digits() {
        assert_eq!(number_of(b"000003e7-0000-4000-8000-000000000000", 10_000), Some(999));
        assert_eq!(number_of(b"ffffffff-0000-4000-8000-000000000000", 10_000), Some(u32::MAX % 10_000));
        assert_eq!(number_of(b"zz", 10_000), None);
    }
}

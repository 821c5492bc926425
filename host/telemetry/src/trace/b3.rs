//! [`B3`]: the trace that a request belongs to, as Zipkin's headers tell it: `x-b3-traceid` and its kin, or `b3` alone.
//! Semantics: Envoy's Zipkin tracer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{SpanId, TraceId, hex};

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What a sender has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct B3 {
    /// The trace and the sender's span.
    pub ids: Option<(B3Trace, SpanId)>,
    /// Whether spans are recorded; none when the next one decides.
    pub sampled: Option<bool>,
    /// All in one header.
    pub single: bool,
}

/// A number of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct B3Trace {
    /// The number.
    pub id: TraceId,
    /// Of 64 bits, and told so.
    pub is_short: bool,
}

/// What was told is no B3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed B3 headers")]
pub struct MalformedB3;

impl B3 {
    /// Reads what a request's headers tell.
    ///
    /// # Errors
    /// When numbers are no hexadecimal ones of at most 128 or 64 bits.
    pub fn read(headers: &HeaderMap) -> Result<Self, MalformedB3> {
        if let Some(single) = headers.get(SINGLE) {
            return Self::parse(single.as_bytes());
        }
        let text = |name| headers.get(name).map(HeaderValue::as_bytes).filter(|text| !text.is_empty());
        let ids = match (text(TRACE), text(SPAN)) {
            (Some(trace), Some(span)) => Some((B3Trace::parse(trace)?, span_id(span)?)),
            _ => None,
        };
        let sampled = text(SAMPLED).map(|text| matches!(text, b"1" | b"true"));
        let is_debug = text(FLAGS) == Some(b"1");
        Ok(Self { ids, sampled: if is_debug { Some(true) } else { sampled }, single: false })
    }

    fn parse(text: &[u8]) -> Result<Self, MalformedB3> {
        let sampled = |word: &[u8]| match word {
            b"1" | b"d" => Ok(true),
            b"0" => Ok(false),
            _ => Err(MalformedB3),
        };
        let mut parts = text.split(|byte| *byte == b'-');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let Some(span) = second else { return Ok(Self { ids: None, sampled: Some(sampled(first)?), single: true }) };
        let ids = Some((B3Trace::parse(first)?, span_id(span)?));
        Ok(Self { ids, sampled: parts.next().map(sampled).transpose()?, single: true })
    }

    /// Tells of a span below another one, in the form of `self`.
    pub fn write(&self, trace: B3Trace, span: SpanId, parent: SpanId, sampled: bool, headers: &mut HeaderMap) {
        let trace = trace.text();
        let (span, parent, sampled) = (hex(&span), hex(&parent), if sampled { "1" } else { "0" });
        let mut put = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        if self.single {
            return put(SINGLE, &format!("{trace}-{span}-{sampled}-{parent}"));
        }
        put(TRACE, &trace);
        put(SPAN, &span);
        put(PARENT, &parent);
        put(SAMPLED, sampled);
    }
}

impl B3Trace {
    fn parse(text: &[u8]) -> Result<Self, MalformedB3> {
        let (high, low) = match text.len() {
            32 => (number(&text[..16])?, number(&text[16..])?),
            _ => (0, number(text)?),
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&high.to_be_bytes());
        id[8..].copy_from_slice(&low.to_be_bytes());
        Ok(Self { id, is_short: text.len() != 32 })
    }

    /// In as many digits as it has.
    pub fn text(self) -> String {
        hex(if self.is_short { &self.id[8..] } else { &self.id })
    }
}

fn span_id(text: &[u8]) -> Result<SpanId, MalformedB3> {
    number(text).map(u64::to_be_bytes)
}

fn number(text: &[u8]) -> Result<u64, MalformedB3> {
    let is_hex = (1..=16).contains(&text.len()) && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| is_hex).ok_or(MalformedB3)?;
    u64::from_str_radix(text, 16).map_err(|_| MalformedB3)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const LONG: &str = "463ac35c9f6413ad48485a3953bb6124";
    const ID: &str = "a2fb4a1d1a96d312";

    /// What goes on of what came, as from Envoy 1.40.
    #[test]
    fn b3_is_read_and_told_in_its_form() {
        let told = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            let b3 = B3::read(&headers).ok()?;
            let mut out = HeaderMap::new();
            let (trace, parent) = b3.ids.unwrap_or((B3Trace { id: [1; 16], is_short: false }, [1; 8]));
            b3.write(trace, [0x22; 8], parent, b3.sampled.unwrap_or(true), &mut out);
            let mut all: Vec<_> =
                out.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
            all.sort();
            Some(all.join(" "))
        };
        let multi = |trace: &str, sampled: &str| {
            Some(format!(
                "x-b3-parentspanid={ID} x-b3-sampled={sampled} x-b3-spanid=2222222222222222 x-b3-traceid={trace}"
            ))
        };
        assert_eq!(told(&[("x-b3-traceid", LONG), ("x-b3-spanid", ID), ("x-b3-sampled", "0")]), multi(LONG, "0"));
        assert_eq!(told(&[("x-b3-traceid", LONG), ("x-b3-spanid", ID)]), multi(LONG, "1"));
        let short = &LONG[..16];
        assert_eq!(told(&[("x-b3-traceid", short), ("x-b3-spanid", ID), ("x-b3-sampled", "true")]), multi(short, "1"));
        assert_eq!(
            told(&[("x-b3-traceid", LONG), ("x-b3-spanid", ID), ("x-b3-sampled", "0"), ("x-b3-flags", "1")]),
            multi(LONG, "1")
        );
        let single = |sampled: &str| Some(format!("b3={LONG}-2222222222222222-{sampled}-{ID}"));
        assert_eq!(told(&[("b3", &format!("{LONG}-{ID}-d"))]), single("1"));
        assert_eq!(told(&[("b3", &format!("{LONG}-{ID}-0-{ID}"))]), single("0"));
        assert!(told(&[("b3", "0")]).unwrap().contains("-2222222222222222-0-"));
        assert_eq!(told(&[("x-b3-traceid", "zz"), ("x-b3-spanid", ID)]), None);
        assert_eq!(told(&[("b3", "x")]), None);
    }
}

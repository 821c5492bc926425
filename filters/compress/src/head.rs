//! [`Head`]: what the head of a response says about compressing its body.

use portolan_sdk::Headers;

use crate::config::Config;

/// The lines that matter, found in one pass.
#[derive(Debug, Default)]
pub(crate) struct Head<'a> {
    status: &'a [u8],
    content_type: &'a [u8],
    content_length: Option<&'a [u8]>,
    pub(crate) etag: Option<&'a [u8]>,
    /// `vary` names `accept-encoding` already, or everything.
    varies: bool,
    /// The body is coded already, a part of one, bound to its bytes by a digest, or not to be touched.
    is_fixed: bool,
}

/// What becomes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its body is never compressed.
    Plain,
    /// It is, for a client that wants it; caches must be told, when they are not yet.
    Compressible {
        /// `vary` is missing.
        add_vary: bool,
    },
}

impl<'a> Head<'a> {
    pub(crate) fn read(headers: Headers<'a>) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            match name {
                b":status" => head.status = value,
                b"content-type" => head.content_type = value,
                b"content-length" => head.content_length = Some(value),
                b"etag" => head.etag = Some(value),
                b"vary" => head.varies |= names(value, b"*") || names(value, b"accept-encoding"),
                b"content-encoding" => head.is_fixed |= !value.trim_ascii().eq_ignore_ascii_case(b"identity"),
                b"cache-control" => head.is_fixed |= names(value, b"no-transform"),
                b"content-range" | b"content-digest" | b"repr-digest" | b"digest" | b"content-md5" => {
                    head.is_fixed = true;
                }
                _ => {}
            }
        }
        head
    }

    pub(crate) fn fate(&self, config: &Config) -> Fate {
        let has_body = !matches!(self.status, b"204" | b"205" | b"206" | b"304") && !self.status.starts_with(b"1");
        let is_large = self.content_length.is_none_or(|length| number(length) >= config.min_content_length);
        let is_kept = config.disable_on_etag_header && self.strong_etag().is_some();
        if has_body && is_large && !self.is_fixed && !is_kept && self.is_listed(config) {
            Fate::Compressible { add_vary: !self.varies }
        } else {
            Fate::Plain
        }
    }

    /// An `etag` that stands for these very bytes.
    pub(crate) fn strong_etag(&self) -> Option<&'a [u8]> {
        self.etag.filter(|etag| etag.starts_with(b"\""))
    }

    fn is_listed(&self, config: &Config) -> bool {
        let kind = self.content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        // Messages of gRPC have a coding of their own, frame by frame.
        let is_grpc = kind.get(..16).is_some_and(|start| start.eq_ignore_ascii_case(b"application/grpc"));
        !is_grpc && config.content_type.iter().any(|known| kind.eq_ignore_ascii_case(known.as_bytes()))
    }
}

/// True when the list has this entry.
fn names(list: &[u8], entry: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|known| known.trim_ascii().eq_ignore_ascii_case(entry))
}

/// Too long a number is a large one; none is 0.
fn number(digits: &[u8]) -> u64 {
    let digits = digits.trim_ascii();
    let add = |sum: u64, digit: &u8| match digit {
        b'0'..=b'9' => Some(sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
        _ => None,
    };
    digits.iter().try_fold(0, add).unwrap_or(0)
}

//! Targets with bytes that belong percent-encoded (RFC 3986) and that clients send as they are. The `http` crate takes no `<`,
//! `>` or `` ` `` in a path, nor `"`, `<` or `>` in a query; other proxies pass them on, so they are encoded in front of hyper.

use bytes::{BufMut, BytesMut};

use super::{Fault, ONES};

const HIGH_BITS: u64 = ONES * 0x80;

/// True when a request line has none of `"`, `#`, `<`, `>`, `` ` ``, and nothing beyond ASCII; eight bytes at a time.
pub(super) fn is_usual(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    // The first zero byte is found for certain.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH_BITS;
    let is_hit = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let quote_or_hash = (word ^ (ONES * 0x22)) & (ONES * 0xfe);
        let angle = (word ^ (ONES * 0x3c)) & (ONES * 0xfd);
        let tick = word ^ (ONES * 0x60);
        (word & HIGH_BITS) | has_zero(quote_or_hash) | has_zero(angle) | has_zero(tick) != 0
    };
    !words.iter().any(is_hit) && !rest.iter().any(|byte| matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`' | 0x80..))
}

/// By how much an unusual target grows when it is encoded.
pub(super) fn growth(target: &[u8]) -> Result<usize, Fault> {
    // As in Envoy, whose parser of HTTP/1 takes nothing beyond ASCII.
    if !target.is_ascii() {
        return Err(Fault::Codec);
    }
    if target.contains(&b'#') {
        return Err(Fault::Fragment);
    }
    Ok(2 * places(target).count())
}

/// Heads, those of which that begin at `starts` with encoded targets.
pub(in crate::connection) fn encode(bytes: &[u8], starts: &[usize]) -> BytesMut {
    let mut encoded = BytesMut::with_capacity(bytes.len() + 64);
    let mut done = 0;
    for start in starts {
        let line = &bytes[*start..];
        let begin = start + line.iter().position(|byte| *byte == b' ').map_or(0, |at| at + 1);
        let length = bytes[begin..].iter().position(|byte| *byte == b' ').unwrap_or(0);
        for place in places(&bytes[begin..begin + length]) {
            encoded.put_slice(&bytes[done..begin + place]);
            done = begin + place + 1;
            encoded.put_slice(match bytes[begin + place] {
                b'"' => b"%22",
                b'<' => b"%3C",
                b'>' => b"%3E",
                _ => b"%60",
            });
        }
    }
    encoded.put_slice(&bytes[done..]);
    encoded
}

/// Where the bytes are that are to be encoded. What is in the authority of an absolute target stays, and is refused.
fn places(target: &[u8]) -> impl Iterator<Item = usize> {
    let authority = target.windows(3).position(|bytes| bytes == b"://").filter(|_| !target.starts_with(b"/"));
    let is_end = |byte: &u8| matches!(byte, b'/' | b'?');
    let path = match authority.map(|at| at + 3) {
        _ if target.starts_with(b"/") => 0,
        Some(begin) => target[begin..].iter().position(is_end).map_or(target.len(), |at| begin + at),
        None => target.len(),
    };
    let query = target[path..].iter().position(|byte| *byte == b'?').map_or(target.len(), |at| path + at);
    let is_place = move |at: usize, byte: u8| match byte {
        b'<' | b'>' => true,
        b'`' => at < query,
        b'"' => at > query,
        _ => false,
    };
    target.iter().enumerate().skip(path).filter(move |(at, byte)| is_place(*at, **byte)).map(|(at, _)| at)
}

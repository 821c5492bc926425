//! Where a reply in RESP ends (versions 2 and 3): all that the gateway needs to know, since filters read replies
//! themselves.

/// Deepest nesting of arrays.
const MAX_DEPTH: u32 = 32;

/// What came is no RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Length of the whole reply at the front; none when more must come.
pub(super) fn reply_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    Ok(skip(bytes, &mut at, 0)?.then_some(at))
}

/// True for a reply that says an error.
pub(super) fn is_error(reply: &[u8]) -> bool {
    reply.first().is_some_and(|kind| matches!(kind, b'-' | b'!'))
}

/// Moves behind one value; false when more must come.
fn skip(bytes: &[u8], at: &mut usize, depth: u32) -> Result<bool, Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let Some(kind) = bytes.get(*at) else { return Ok(false) };
    let Some(line) = line(bytes, *at + 1)? else { return Ok(false) };
    *at = line.end + 2;
    let per_entry = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(true),
        b'$' | b'!' | b'=' => return skip_bulk(bytes, at, count(&bytes[line])?),
        b'*' | b'~' | b'>' => 1,
        b'%' => 2,
        // Attributes stand before the value that they belong to.
        b'|' => {
            let count = count(&bytes[line])?.unwrap_or(0);
            return skip_many(bytes, at, count.checked_mul(2).and_then(|n| n.checked_add(1)), depth);
        }
        _ => return Err(Malformed),
    };
    let count = count(&bytes[line])?.unwrap_or(0);
    skip_many(bytes, at, count.checked_mul(per_entry), depth)
}

fn skip_many(bytes: &[u8], at: &mut usize, count: Option<usize>, depth: u32) -> Result<bool, Malformed> {
    for _ in 0..count.ok_or(Malformed)? {
        if !skip(bytes, at, depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn skip_bulk(bytes: &[u8], at: &mut usize, length: Option<usize>) -> Result<bool, Malformed> {
    let Some(length) = length else { return Ok(true) };
    let end = at.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(Malformed)?;
    let Some(tail) = bytes.get(end.saturating_sub(2)..end) else { return Ok(false) };
    *at = end;
    if tail == b"\r\n" { Ok(true) } else { Err(Malformed) }
}

/// The line from `start` on, without its end.
fn line(bytes: &[u8], start: usize) -> Result<Option<std::ops::Range<usize>>, Malformed> {
    let rest = bytes.get(start..).unwrap_or_default();
    let Some(length) = rest.iter().position(|byte| *byte == b'\r') else { return Ok(None) };
    match rest.get(length + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some(start..start + length)),
        Some(_) => Err(Malformed),
    }
}

/// A length; none for -1, which is null.
fn count(line: &[u8]) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    let digits = std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn each_kind_of_reply_ends_where_it_ends() {
        for reply in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":-12\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$4\r\n\r\n\0x\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n:1\r\n*2\r\n+a\r\n$-1\r\n$1\r\nx\r\n",
            b"%1\r\n+k\r\n:1\r\n",
            b"|1\r\n+k\r\n:1\r\n+OK\r\n",
            b"_\r\n",
            b"#t\r\n",
        ] {
            let twice = [reply, reply].concat();
            assert_eq!(reply_length(&twice), Ok(Some(reply.len())), "{reply:?}");
            for cut in 0..reply.len() {
                assert_eq!(reply_length(&reply[..cut]), Ok(None), "{:?}", &reply[..cut]);
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_told() {
        for bad in [
            &b"HTTP/1.1 400 Bad\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"$1\r\nab\r\n",
            b"+a\rb\r\n",
            b"*99999999999999999999\r\n",
        ] {
            assert_eq!(reply_length(bad), Err(Malformed), "{bad:?}");
        }
        assert_eq!(reply_length(&b"*1\r\n".repeat(100)), Err(Malformed));
        assert!(is_error(b"-ERR\r\n") && !is_error(b"+OK\r\n"));
    }

    proptest! {
        #[test]
        fn reading_never_panics_nor_goes_beyond(bytes in vec(any::<u8>(), 0..60)) {
            if let Ok(Some(length)) = reply_length(&bytes) {
                assert!(length <= bytes.len());
            }
        }
    }
}

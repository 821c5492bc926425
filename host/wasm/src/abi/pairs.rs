//! The wire form of header maps: a count, then the lengths of each name and value, then name NUL value NUL for each;
//! all numbers 32-bit little-endian.

/// Longest list that is read from a guest, in bytes. The C++ host has the same limit.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Most pairs that are read from a guest. The C++ host has the same limit.
pub(crate) const MAX_PAIRS: usize = 1024;

/// Appends the list to `out`; nothing for no pairs, as hosts do.
pub(crate) fn encode<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone, out: &mut Vec<u8>) {
    let count = pairs.clone().count();
    if count == 0 {
        return;
    }
    out.extend_from_slice(&length(count));
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&length(name.len()));
        out.extend_from_slice(&length(value.len()));
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

/// The pairs in these bytes; none when the list is malformed or over a limit. No bytes, and one zero byte, are the
/// empty list.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.is_empty() || bytes == [0] {
        return Some(Vec::new());
    }
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let (count, rest) = number(bytes)?;
    if count > MAX_PAIRS || rest.len() < count * 8 {
        return None;
    }
    let (lengths, mut texts) = rest.split_at(count * 8);
    let mut pairs = Vec::with_capacity(count);
    for entry in lengths.chunks_exact(8) {
        let (name_length, entry) = number(entry)?;
        let (value_length, _) = number(entry)?;
        let name = text(&mut texts, name_length)?;
        let value = text(&mut texts, value_length)?;
        pairs.push((name, value));
    }
    texts.is_empty().then_some(pairs)
}

/// A length as it is written. Anything that fits in a guest's memory fits in 32 bits.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

/// Splits a number off the front.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// Takes a text and its NUL off the front of `rest`.
fn text<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let text = rest.get(..length)?;
    if *rest.get(length)? != 0 {
        return None;
    }
    *rest = &rest[length + 1..];
    Some(text)
}

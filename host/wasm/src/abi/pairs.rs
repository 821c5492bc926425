//! The wire form of header maps: a count, then the lengths of each name and value, then name NUL value NUL for each;
//! all numbers 32-bit little-endian.

/// Longest list that is read from a guest, in bytes. The C++ host has the same limit.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Most pairs that are read from a guest. The C++ host has the same limit.
pub(crate) const MAX_PAIRS: usize = 1024;

/// Appends the list to `out`; nothing for no pairs, as hosts do.
pub(crate) fn encode(pairs: &[(&[u8], &[u8])], out: &mut Vec<u8>) {
    if pairs.is_empty() {
        return;
    }
    let texts: usize = pairs.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    out.reserve(4 + texts);
    out.extend_from_slice(&length(pairs.len()));
    for (name, value) in pairs {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn the_wire_form_is_the_specification_s() {
        let mut bytes = Vec::new();
        encode(&[(b"a", b"xyz"), (b"bc", b"")], &mut bytes);
        let lengths = [2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes, [&lengths[..], b"a\0xyz\0bc\0\0"].concat());
    }

    #[test]
    fn the_empty_list_has_two_forms() {
        assert_eq!(decode(b""), Some(Vec::new()));
        assert_eq!(decode(b"\0"), Some(Vec::new()));
        let mut bytes = Vec::new();
        encode(&[], &mut bytes);
        assert!(bytes.is_empty());
    }

    #[test]
    fn lists_over_a_limit_are_refused() {
        let many = vec![(&b"a"[..], &b"b"[..]); MAX_PAIRS + 1];
        let mut bytes = Vec::new();
        encode(&many, &mut bytes);
        assert_eq!(decode(&bytes), None);
        bytes.clear();
        encode(&many[1..], &mut bytes);
        assert_eq!(decode(&bytes), Some(many[1..].to_vec()));
        let long = vec![b'x'; MAX_BYTES];
        bytes.clear();
        encode(&[(b"a", &long)], &mut bytes);
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn decoding_survives_small_counts_and_lengths(words in vec(0_u32..20, 0..20), text in vec(any::<u8>(), 0..60)) {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            bytes.extend_from_slice(&text);
            let _ = decode(&bytes);
        }

        #[test]
        fn what_is_encoded_is_decoded(pairs in vec((vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20)), 0..20)) {
            let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
            let mut bytes = Vec::new();
            encode(&pairs, &mut bytes);
            prop_assert_eq!(decode(&bytes).unwrap(), pairs);
        }
    }
}

//! What reads bytes from outside by itself, for the fuzzer.

use crate::proxy_header::{Read, read};

/// Reads the bytes as the begin of a connection, in pieces too: an answer stands whatever follows, and a header is not longer
/// than what is there.
///
/// # Panics
/// When it does not.
pub fn proxy_header(bytes: &[u8]) {
    let mut told = Read::More;
    // Nothing is decided by more bytes than the longest line and two lengths.
    for end in (0..=bytes.len().min(160)).chain([bytes.len()]) {
        let now = read(&bytes[..end]);
        assert!(told == Read::More || now == told, "{told:?} became {now:?}");
        if let Read::Whole(header) = now {
            assert!(header.length <= end, "{header:?} of {end} bytes");
        }
        told = now;
    }
}

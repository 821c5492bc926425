//! What heads get that nobody may guess.

use std::cell::RefCell;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

thread_local! {
    static RNG: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

/// Each byte in hexadecimal.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    table
};

/// A random UUID (version 4).
pub(super) fn request_id() -> HeaderValue {
    let mut bytes = [0_u8; 16];
    RNG.with_borrow_mut(|rng| rng.fill_bytes(&mut bytes));
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at..at + 2].copy_from_slice(&HEX[usize::from(byte)]);
        at += 2;
    }
    // Owned from the start: a copy would be made shareable by another allocation when it is cloned for a retry.
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).unwrap_or(HeaderValue::from_static("-"))
}

/// 16 random bytes in base64.
pub(super) fn websocket_key() -> HeaderValue {
    let mut bytes = [0_u8; 16];
    RNG.with_borrow_mut(|rng| rng.fill_bytes(&mut bytes));
    let key = HeaderValue::try_from(BASE64_STANDARD.encode(bytes));
    key.unwrap_or(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="))
}

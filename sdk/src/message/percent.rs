//! Percent-encoding of URLs.

use std::borrow::Cow;

/// Decodes `%XX`. What is no such escape stays as it is; so nothing is ever refused, and nothing is lost.
///
/// ```
/// use portolan_sdk::percent_decode;
///
/// assert_eq!(percent_decode(b"a%2Fb%zz%4"), b"a/b%zz%4".as_slice());
/// ```
pub fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    decode(bytes, false)
}

/// As [`percent_decode`], and `+` is a blank when `form` is set.
pub(super) fn decode(bytes: &[u8], form: bool) -> Cow<'_, [u8]> {
    let Some(first) = bytes.iter().position(|byte| *byte == b'%' || (form && *byte == b'+')) else {
        return Cow::Borrowed(bytes);
    };
    let mut decoded = bytes[..first].to_vec();
    let mut rest = &bytes[first..];
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        decoded.push(match byte {
            b'%' => match escape(after) {
                Some(escaped) => {
                    rest = &after[2..];
                    escaped
                }
                None => b'%',
            },
            b'+' if form => b' ',
            byte => *byte,
        });
    }
    Cow::Owned(decoded)
}

fn escape(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// Text of bytes; none when they are not UTF-8.
pub(super) fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    Some(match bytes {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect()
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_from_their_escapes(bytes: Vec<u8>) {
            let escaped = encode(&bytes);
            prop_assert_eq!(percent_decode(&escaped), bytes);
        }

        #[test]
        fn what_is_no_escape_stays(bytes: Vec<u8>) {
            let decoded = decode(&bytes, true);
            prop_assert!(decoded.len() <= bytes.len());
            if !bytes.contains(&b'%') {
                let blanks: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
                prop_assert_eq!(decoded, blanks);
            }
        }
    }
}

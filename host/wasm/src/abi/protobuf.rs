//! As much of protobuf's wire format as arguments of foreign functions and a few properties need.

/// The value of a field; groups, which nobody writes any more, are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed number of 4 or 8 bytes; no message of ours has one.
    Fixed,
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field; none for another kind, which protobuf then takes for unknown.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// The number of a varint field.
    pub(crate) fn number(self) -> Option<u64> {
        if let Self::Varint(number) = self { Some(number) } else { None }
    }
}

/// Calls `take` with number and value of each field. False when the bytes are no message.
pub(crate) fn read<'a>(mut message: &'a [u8], mut take: impl FnMut(u64, Field<'a>)) -> bool {
    while !message.is_empty() {
        let Some((number, field, rest)) = field(message) else { return false };
        take(number, field);
        message = rest;
    }
    true
}

fn field(message: &[u8]) -> Option<(u64, Field<'_>, &[u8])> {
    let (key, rest) = varint(message)?;
    let number = key >> 3;
    if number == 0 || number > 0x1fff_ffff {
        return None;
    }
    let (value, rest) = match key & 7 {
        0 => varint(rest).map(|(number, rest)| (Field::Varint(number), rest))?,
        1 => (Field::Fixed, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Field::Bytes(bytes), rest)
        }
        5 => (Field::Fixed, rest.get(4..)?),
        _ => return None,
    };
    Some((number, value, rest))
}

/// A number of at most ten bytes; bits beyond the 64th are dropped, as protobuf does it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

/// Appends a length-delimited field; nothing for an empty value, which is proto3's default.
pub(crate) fn put_bytes(number: u64, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        put_varint(number << 3 | 2, out);
        put_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

/// Appends a boolean field; nothing for false.
pub(crate) fn put_bool(number: u64, value: bool, out: &mut Vec<u8>) {
    if value {
        put_varint(number << 3, out);
        out.push(1);
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn fields(message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
        let mut fields = Vec::new();
        read(message, |number, field| fields.push((number, field))).then_some(fields)
    }

    #[test]
    fn the_examples_of_the_documentation_are_read() {
        assert_eq!(fields(&[0x08, 0x96, 0x01]), Some(vec![(1, Field::Varint(150))]));
        assert_eq!(fields(b"\x12\x07testing"), Some(vec![(2, Field::Bytes(b"testing"))]));
        assert_eq!(fields(&[0x0d, 0, 0, 0, 0, 0x10, 1]), Some(vec![(1, Field::Fixed), (2, Field::Varint(1))]));
        assert_eq!(fields(b""), Some(Vec::new()));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for message in [
            &b"\x12\x08testing"[..],
            b"\x00\x01",
            b"\x0b",
            b"\x08",
            b"\x09\0\0\0",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(fields(message), None, "{message:?}");
        }
        // A length that would wrap around.
        assert_eq!(fields(b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in vec(any::<u8>(), 0..100)) {
            fields(&bytes);
        }

        #[test]
        fn what_is_written_is_read(number in 1_u64..1000, value in vec(any::<u8>(), 1..300), flag in any::<bool>()) {
            let mut message = Vec::new();
            put_bytes(number, &value, &mut message);
            put_bool(number + 1, flag, &mut message);
            let read = fields(&message).unwrap();
            prop_assert_eq!(read[0], (number, Field::Bytes(&value)));
            prop_assert!(!flag || read[1] == (number + 1, Field::Varint(1)));
        }
    }
}

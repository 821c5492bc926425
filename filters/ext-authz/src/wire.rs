//! Protobuf's wire format, as far as two messages need it: derived code would weigh more than both.

/// A field's value. Fixed numbers of four bytes do not occur in what is read and are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number or boolean.
    Varint(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
    /// The bits of a double.
    Double(f64),
}

impl<'a> Value<'a> {
    /// Bytes; empty for a value of another kind.
    pub fn bytes(self) -> &'a [u8] {
        if let Self::Bytes(bytes) = self { bytes } else { b"" }
    }

    /// Text; invalid UTF-8 is replaced.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// A number; 0 for a value of another kind.
    pub fn number(self) -> u64 {
        if let Self::Varint(number) = self { number } else { 0 }
    }
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The fields of a message in their order.
pub fn fields(mut message: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), Malformed>> {
    std::iter::from_fn(move || {
        while !message.is_empty() {
            match field(message) {
                None => {
                    message = b"";
                    return Some(Err(Malformed));
                }
                Some((number, value, rest)) => {
                    message = rest;
                    if let Some(value) = value {
                        return Some(Ok((number, value)));
                    }
                }
            }
        }
        None
    })
}

type Field<'a> = (u64, Option<Value<'a>>, &'a [u8]);

fn field(message: &[u8]) -> Option<Field<'_>> {
    let (key, rest) = varint(message)?;
    let (value, rest) = match key & 7 {
        0 => varint(rest).map(|(number, rest)| (Some(Value::Varint(number)), rest))?,
        1 => {
            let (bits, rest) = rest.split_first_chunk::<8>()?;
            (Some(Value::Double(f64::from_le_bytes(*bits))), rest)
        }
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(Value::Bytes(bytes)), rest)
        }
        5 => (None, rest.get(4..)?),
        _ => return None,
    };
    Some((key >> 3, value, rest))
}

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

/// A message in the making. Empty texts and zeros are left out, as protobuf has it.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Adds text or bytes.
    pub fn bytes(&mut self, number: u64, value: &[u8]) {
        if !value.is_empty() {
            self.delimited(number, value);
        }
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64, value: u64) {
        if value != 0 {
            self.varint(number << 3);
            self.varint(value);
        }
    }

    /// Adds a message, also an empty one.
    pub fn message(&mut self, number: u64, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        fill(&mut inner);
        self.delimited(number, &inner.0);
    }

    /// Adds an entry of a map from text to text.
    pub fn entry(&mut self, number: u64, key: &[u8], value: &[u8]) {
        self.message(number, |entry| {
            entry.bytes(1, key);
            entry.bytes(2, value);
        });
    }

    fn delimited(&mut self, number: u64, value: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.bytes(1, b"text");
        writer.number(2, 300);
        writer.message(70, |inner| inner.number(1, u64::MAX));
        writer.bytes(3, b"");
        writer.number(4, 0);
        let bytes = writer.into_bytes();
        let read: Vec<_> = fields(&bytes).collect();
        let inner = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert_eq!(read, [Ok((1, Value::Bytes(b"text"))), Ok((2, Value::Varint(300))), Ok((70, Value::Bytes(&inner)))]);
    }

    #[test]
    fn a_cut_message_is_malformed_and_ends() {
        let mut writer = Writer::default();
        writer.bytes(1, b"text");
        let bytes = writer.into_bytes();
        for cut in 1..bytes.len() {
            assert_eq!(fields(&bytes[..cut]).collect::<Vec<_>>(), [Err(Malformed)], "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in any::<Vec<u8>>()) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}

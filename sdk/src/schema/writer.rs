//! [`Writer`]: JSON into an array whose length is known, or only counted, by a constant function.

/// Writes the first `N` bytes and counts all.
pub(super) struct Writer<const N: usize> {
    pub(super) bytes: [u8; N],
    pub(super) length: usize,
    last: u8,
}

impl<const N: usize> Writer<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], length: 0, last: 0 }
    }

    pub(super) const fn byte(&mut self, byte: u8) {
        if self.length < N {
            self.bytes[self.length] = byte;
        }
        self.length += 1;
        self.last = byte;
    }

    /// A value that is JSON already.
    pub(super) const fn json(&mut self, text: &str) {
        self.separate();
        self.copy(text.as_bytes());
    }

    /// A value: text.
    pub(super) const fn string(&mut self, text: &str) {
        self.separate();
        self.byte(b'"');
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                byte @ (b'"' | b'\\') => {
                    self.byte(b'\\');
                    self.byte(byte);
                }
                byte @ 0..0x20 => {
                    self.copy(b"\\u00");
                    self.byte(b'0' + (byte >> 4));
                    self.byte(b"0123456789abcdef"[(byte & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            at += 1;
        }
        self.byte(b'"');
    }

    /// A key, to be followed by a value.
    pub(super) const fn key(&mut self, key: &str) {
        self.string(key);
        self.byte(b':');
    }

    /// The start of an object or array.
    pub(super) const fn open(&mut self, bracket: u8) {
        self.separate();
        self.byte(bracket);
    }

    /// A value: a whole number.
    pub(super) const fn integer(&mut self, number: i128) {
        self.separate();
        if number < 0 {
            self.byte(b'-');
        }
        let number = number.unsigned_abs();
        let mut unit = 1;
        while number / unit > 9 {
            unit *= 10;
        }
        while unit > 0 {
            self.byte(b'0' + (number / unit % 10) as u8);
            unit /= 10;
        }
    }

    const fn copy(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() {
            self.byte(bytes[at]);
            at += 1;
        }
    }

    /// The comma after what was there before.
    const fn separate(&mut self) {
        if !matches!(self.last, 0 | b'{' | b'[' | b':') {
            self.byte(b',');
        }
    }
}

/// Equality of text for constant functions.
pub(super) const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_numbers_are_whole() {
        let mut out = Writer::<64>::new();
        out.open(b'[');
        out.string("a\"b\\c\u{1f}é");
        out.integer(i128::from(i64::MIN));
        out.integer(0);
        out.json("[1]");
        out.byte(b']');
        let text = r#"["a\"b\\c\u001fé",-9223372036854775808,0,[1]]"#;
        assert_eq!(str::from_utf8(&out.bytes[..out.length]), Ok(text));
    }

    #[test]
    fn counting_needs_no_room() {
        let mut out = Writer::<0>::new();
        out.key("abc");
        assert_eq!(out.length, 6);
    }
}

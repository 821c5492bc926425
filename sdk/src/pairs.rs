//! The ABI's form of a header map: count, lengths, then names and values, each with a NUL.

/// The name and value of each header line, lent from the host's answer. Bytes that make no sense end the list.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a> {
    lengths: &'a [u8],
    data: &'a [u8],
}

impl<'a> Headers<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let none = Self { lengths: b"", data: b"" };
        let Some((count, rest)) = bytes.split_at_checked(4) else { return none };
        let Some(size) = (number(count) as usize).checked_mul(8) else { return none };
        rest.split_at_checked(size).map_or(none, |(lengths, data)| Self { lengths, data })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (value, rest) = self.data.split_at_checked(length)?;
        self.data = rest.get(1..)?;
        Some(value)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (lengths, rest) = self.lengths.split_at_checked(8)?;
        self.lengths = rest;
        let name = self.take(number(&lengths[..4]) as usize)?;
        let value = self.take(number(&lengths[4..]) as usize)?;
        Some((name, value))
    }
}

/// The wire form of a list of headers.
pub(crate) fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(headers: &[(N, V)]) -> Vec<u8> {
    let mut bytes = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        bytes.extend_from_slice(&(name.as_ref().len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(value.as_ref().len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_ref());
        bytes.push(0);
        bytes.extend_from_slice(value.as_ref());
        bytes.push(0);
    }
    bytes
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_headers_come_back() {
        let headers = [("a", "1"), ("b", ""), ("a", "2")];
        let bytes = encode(&headers);
        let back: Vec<_> = Headers::new(&bytes).collect();
        assert_eq!(back, headers.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    }

    #[test]
    fn malformed_bytes_end_the_list() {
        let bytes = encode(&[("name", "value")]);
        for cut in 0..bytes.len() {
            assert_eq!(Headers::new(&bytes[..cut]).count(), 0, "{cut}");
        }
        assert_eq!(Headers::new(&[255; 40]).count(), 0);
        assert_eq!(Headers::new(&[0]).count(), 0, "Envoy's empty map");
    }
}

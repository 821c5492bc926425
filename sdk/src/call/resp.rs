//! Redis's wire format, RESP 2: commands written, replies read.

/// Deepest arrays in arrays.
const MAX_DEPTH: u32 = 8;

/// A reply of Redis. Bytes are lent from the host's answer.
///
/// ```
/// use portolan_sdk::RedisValue;
///
/// assert_eq!(RedisValue::parse(b":42\r\n"), Some(RedisValue::Integer(42)));
/// assert_eq!(RedisValue::parse(b"$2\r\nhi\r\n"), Some(RedisValue::Bytes(b"hi")));
/// assert_eq!(RedisValue::parse(b"-ERR no\r\n"), Some(RedisValue::Error(b"ERR no")));
/// assert_eq!(RedisValue::parse(b"$-1\r\n"), Some(RedisValue::Nil));
/// assert_eq!(RedisValue::parse(b"*1\r\n+OK\r\n"), Some(RedisValue::Array(vec![RedisValue::Status(b"OK")])));
/// assert_eq!(RedisValue::parse(b"$9\r\ncut"), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisValue<'a> {
    /// No such key.
    Nil,
    /// `OK` and its like.
    Status(&'a [u8]),
    /// What Redis has against the command.
    Error(&'a [u8]),
    /// A number.
    Integer(i64),
    /// A string of any bytes.
    Bytes(&'a [u8]),
    /// Several values.
    Array(Vec<RedisValue<'a>>),
}

impl<'a> RedisValue<'a> {
    /// Reads one reply; none when the bytes are not exactly one, or nest deeper than 8.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (value, rest) = read(bytes, 0)?;
        rest.is_empty().then_some(value)
    }

    /// The number, also when it is written as a string.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Bytes(digits) | Self::Status(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The bytes of a string.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) | Self::Status(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The values of an array.
    pub fn as_array(&self) -> Option<&[RedisValue<'a>]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

fn read(bytes: &[u8], depth: u32) -> Option<(RedisValue<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (line, rest) = line(rest)?;
    Some(match kind {
        b'+' => (RedisValue::Status(line), rest),
        b'-' => (RedisValue::Error(line), rest),
        b':' => (RedisValue::Integer(integer(line)?), rest),
        b'$' if line == b"-1" => (RedisValue::Nil, rest),
        b'*' if line == b"-1" => (RedisValue::Nil, rest),
        b'$' => {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(integer(line)?).ok()?)?;
            (RedisValue::Bytes(bytes), rest.strip_prefix(b"\r\n")?)
        }
        b'*' if depth < MAX_DEPTH => array(usize::try_from(integer(line)?).ok()?, rest, depth + 1)?,
        _ => return None,
    })
}

fn array(count: usize, mut rest: &[u8], depth: u32) -> Option<(RedisValue<'_>, &[u8])> {
    // Each value takes 3 bytes at least: a count that promises more is not believed.
    let mut values = Vec::with_capacity(count.min(rest.len() / 3));
    for _ in 0..count {
        let (value, after) = read(rest, depth)?;
        values.push(value);
        rest = after;
    }
    Some((RedisValue::Array(values), rest))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn integer(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Adds a word of a command.
pub(super) fn word(mut query: Vec<u8>, word: &[u8]) -> Vec<u8> {
    query.push(b'$');
    query.extend_from_slice(word.len().to_string().as_bytes());
    query.extend_from_slice(b"\r\n");
    query.extend_from_slice(word);
    query.extend_from_slice(b"\r\n");
    query
}

/// A command of so many words.
pub(super) fn command(words: usize, query: &[u8]) -> Vec<u8> {
    [b"*".as_slice(), words.to_string().as_bytes(), b"\r\n", query].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A value as Redis writes it.
    fn write(value: &RedisValue<'_>) -> Vec<u8> {
        match value {
            RedisValue::Nil => b"$-1\r\n".to_vec(),
            RedisValue::Status(text) => [b"+", *text, b"\r\n"].concat(),
            RedisValue::Error(text) => [b"-", *text, b"\r\n"].concat(),
            RedisValue::Integer(number) => format!(":{number}\r\n").into_bytes(),
            RedisValue::Bytes(bytes) => word(Vec::new(), bytes),
            RedisValue::Array(values) => command(values.len(), &values.iter().flat_map(write).collect::<Vec<_>>()),
        }
    }

    #[test]
    fn arrays_nest_eight_deep_and_no_deeper() {
        let nested = |depth| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        assert!(RedisValue::parse(&nested(8)).is_some());
        assert!(RedisValue::parse(&nested(9)).is_none());
        assert!(RedisValue::parse(&b"*1\r\n".repeat(100_000)).is_none());
        assert!(RedisValue::parse(b"*9999999999\r\n").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_none(bytes: Vec<u8>, kind in prop::sample::select(b"+-:$*".to_vec())) {
            let bytes = [&[kind], bytes.as_slice(), b"\r\n"].concat();
            let _ = RedisValue::parse(&bytes);
        }

        #[test]
        fn values_come_back_and_cut_ones_do_not(words: Vec<Vec<u8>>, number: i64) {
            let mut values: Vec<_> = words.iter().map(|word| RedisValue::Bytes(word)).collect();
            values.extend([RedisValue::Integer(number), RedisValue::Nil, RedisValue::Status(b"OK"), RedisValue::Error(b"ERR")]);
            let value = RedisValue::Array(values);
            let bytes = write(&value);
            prop_assert_eq!(RedisValue::parse(&bytes), Some(value));
            prop_assert_eq!(RedisValue::parse(&bytes[..bytes.len() - 1]), None);
        }
    }
}

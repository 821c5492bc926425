//! Redis commands in RESP, as filters hand them over: exactly one array of bulk strings, and none that would change the
//! connection, which many streams share.

/// Longest query, in bytes.
const MAX_QUERY: usize = 1024 * 1024;

/// Commands that change what the connection is, or what comes on it: the next user's replies would be lost or wrong.
/// Credentials and data base are given to `redis_init`.
const REFUSED: [&str; 22] = [
    "ASKING",
    "AUTH",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "WATCH",
];

/// True for a query that may be sent.
pub(crate) fn is_command(query: &[u8]) -> bool {
    if query.len() > MAX_QUERY {
        return false;
    }
    let mut rest = query;
    let Some(count) = number(&mut rest, b'*').filter(|count| *count > 0) else { return false };
    let Some(name) = bulk(&mut rest) else { return false };
    let whole = (1..count).all(|_| bulk(&mut rest).is_some()) && rest.is_empty();
    whole && !REFUSED.iter().any(|refused| refused.as_bytes().eq_ignore_ascii_case(name))
}

fn bulk<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest, b'$')?;
    let (text, back) = rest.split_at_checked(length)?;
    *rest = back.strip_prefix(b"\r\n")?;
    Some(text)
}

/// A line of this kind that holds a number.
fn number(rest: &mut &[u8], kind: u8) -> Option<usize> {
    let line = rest.strip_prefix(&[kind])?;
    let end = line.iter().take(11).position(|byte| *byte == b'\r')?;
    let digits = line[..end].iter().all(u8::is_ascii_digit).then_some(&line[..end])?;
    *rest = line[end..].strip_prefix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn one_array_of_bulk_strings_is_a_command() {
        assert!(is_command(b"*1\r\n$4\r\nPING\r\n"));
        assert!(is_command(b"*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\n\r\n\0x\r\n"));
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            &b""[..],
            b"PING\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n$4\r\nPING",
            b"*2\r\n$4\r\nPING\r\n",
            b"*1\r\n$4\r\nPING\r\n*1\r\n$8\r\nFLUSHALL\r\n",
            b"*1\r\n$5\r\nPING\r\n",
            b"*1\r\n:1\r\n",
            b"*99999999999\r\n$4\r\nPING\r\n",
        ] {
            assert!(!is_command(bad), "{bad:?}");
        }
    }

    #[test]
    fn commands_that_change_the_connection_are_refused() {
        assert!(!is_command(b"*2\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n"));
        assert!(!is_command(b"*1\r\n$5\r\nMULTI\r\n"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in vec(any::<u8>(), 0..60)) {
            let _ = is_command(&bytes);
        }
    }
}

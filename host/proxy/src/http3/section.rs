//! Field sections as QPACK writes them (RFC 9204), as far as RFC 9114 section 4.3 needs it and h3 does not look: which
//! pseudo-fields there are, how often, and where.

use std::ops::Range;

use bytes::Bytes;

use crate::connection::hpack::{Text, has_fragment, number, text};

/// Names of pseudo-fields of a request and of an answer, plain and by Huffman's code.
const NAMES: [(&[u8], &[u8]); 6] = [
    (b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]),
    (b":path", &[0xb9, 0x58, 0xd3, 0x3f]),
    (b":method", &[0xb9, 0x49, 0x53, 0x39, 0xe4]),
    (b":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b]),
    (b":protocol", &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f]),
    (b":status", &[0xb8, 0x84, 0x8d, 0x36, 0xa3]),
];
const PATH: usize = 1;
const PROTOCOL: usize = 4;
const STATUS: usize = 5;
/// The one protocol that extended CONNECT is taken for, plain and by Huffman's code, and what h3 takes in its place.
const WEBSOCKET: (&[u8], &[u8]) = (b"websocket", &[0xf0, 0x58, 0xd0, 0x72, 0x75, 0x2a, 0x7f]);
const STAND_IN: &[u8] = b"\x0bconnect-udp";

/// The message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field of whose value only this is of interest.
struct Field {
    name: Name,
    value: Option<Text>,
}

/// What names a field.
enum Name {
    /// By its place in [`NAMES`].
    Pseudo(usize),
    /// One that begins with `:` and is none of these.
    Unknown,
    Plain,
}

/// A request's head: each pseudo-field once, before all others, none of an answer, no fragment in the path, no protocol but
/// `websocket`. What cannot be read is left to h3. That of a WebSocket comes back with another protocol, which stands for it:
/// h3 knows two, and not this one.
pub(super) fn check_head(block: &[u8]) -> Result<Option<Bytes>, Malformed> {
    let protocol = look(block)?;
    let stood = |place: Range<usize>| [&block[..place.start], STAND_IN, &block[place.end..]].concat().into();
    Ok(protocol.map(stood))
}

/// Where the text is that names the protocol, with its length.
fn look(block: &[u8]) -> Result<Option<Range<usize>>, Malformed> {
    let mut protocol = None;
    let mut seen = [false; NAMES.len()];
    let mut has_plain = false;
    let mut at = prefix(block).unwrap_or(block.len());
    while let Some(field) = next(block, &mut at) {
        match field.name {
            Name::Pseudo(STATUS) | Name::Unknown => return Err(Malformed),
            Name::Pseudo(_) if has_plain => return Err(Malformed),
            Name::Pseudo(index) if std::mem::replace(&mut seen[index], true) => return Err(Malformed),
            Name::Pseudo(PATH) => {
                let spelled = field.value.as_ref().and_then(|value| Some((value, block.get(value.begin..value.end)?)));
                if spelled.is_some_and(|(value, path)| has_fragment(path, value.is_huffman)) {
                    return Err(Malformed);
                }
            }
            Name::Pseudo(PROTOCOL) => protocol = Some(websocket(block, field.value.as_ref()).ok_or(Malformed)?),
            Name::Pseudo(_) => {}
            Name::Plain => has_plain = true,
        }
    }
    Ok(protocol)
}

/// Where this text is, with its length of one byte, if it is `websocket`.
fn websocket(block: &[u8], value: Option<&Text>) -> Option<Range<usize>> {
    let value = value?;
    let text = if value.is_huffman { WEBSOCKET.1 } else { WEBSOCKET.0 };
    (block.get(value.begin..value.end)? == text).then(|| value.begin - 1..value.end)
}

/// Trailers: no pseudo-field, which h3 leaves out.
pub(super) fn check_trailers(block: &[u8]) -> Result<(), Malformed> {
    let mut at = prefix(block).unwrap_or(block.len());
    while let Some(field) = next(block, &mut at) {
        if matches!(field.name, Name::Pseudo(_) | Name::Unknown) {
            return Err(Malformed);
        }
    }
    Ok(())
}

/// Where the first field begins: after the insert count and the base of a table that is always empty.
fn prefix(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    number(block, &mut at, 8)?;
    number(block, &mut at, 7)?;
    Some(at)
}

/// The next field; none at the end, and where it is one that h3 refuses.
fn next(block: &[u8], at: &mut usize) -> Option<Field> {
    match *block.get(*at)? {
        0xc0.. => Some(Field { name: of_table(number(block, at, 6)?), value: None }),
        first @ 0x40..=0x7f if first & 0x10 != 0 => {
            let name = of_table(number(block, at, 4)?);
            Some(Field { name, value: Some(text(block, at)?) })
        }
        first @ 0x20..=0x3f => {
            let length = number(block, at, 3)?;
            let name = block.get(*at..at.checked_add(length)?)?;
            *at += length;
            let name = of_text(name, first & 0x08 != 0);
            Some(Field { name, value: Some(text(block, at)?) })
        }
        // The dynamic table, which has no entries.
        _ => None,
    }
}

/// RFC 9204, appendix A.
fn of_table(index: usize) -> Name {
    match index {
        0 => Name::Pseudo(0),
        1 => Name::Pseudo(PATH),
        15..=21 => Name::Pseudo(2),
        22 | 23 => Name::Pseudo(3),
        24..=28 | 63..=71 => Name::Pseudo(STATUS),
        _ => Name::Plain,
    }
}

fn of_text(name: &[u8], is_huffman: bool) -> Name {
    let is = |known: &(&[u8], &[u8])| name == if is_huffman { known.1 } else { known.0 };
    match NAMES.iter().position(is) {
        Some(index) => Name::Pseudo(index),
        // The code of `:` is 1011100.
        None if is_huffman && name.first().is_some_and(|first| first >> 1 == 0x5c) => Name::Unknown,
        None if !is_huffman && name.first() == Some(&b':') => Name::Unknown,
        None => Name::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `:method: GET`, `:scheme: https`, `:path: /` of the table, and `:authority` spelled.
    const HEAD: &[u8] = &[0, 0, 0xc0 | 17, 0xc0 | 23, 0xc0 | 1, 0x50, 3, b'a', b'.', b'b'];
    /// `a: b`.
    const PLAIN: &[u8] = &[0x21, b'a', 1, b'b'];

    fn head(after: &[&[u8]]) -> Result<(), Malformed> {
        check_head(&[HEAD, &after.concat()].concat()).map(|_| ())
    }

    fn literal(name: &[u8], is_huffman: bool, value: &[u8]) -> Vec<u8> {
        let mut field = vec![0x20 | u8::from(is_huffman) << 3 | name.len().min(7) as u8];
        if name.len() >= 7 {
            field.push(name.len() as u8 - 7);
        }
        field.extend_from_slice(name);
        field.push(value.len() as u8);
        field.extend_from_slice(value);
        field
    }

    #[test]
    fn pseudo_fields_come_once_and_first_and_none_is_of_an_answer() {
        assert_eq!(head(&[]), Ok(()));
        assert_eq!(head(&[PLAIN, PLAIN]), Ok(()));
        assert_eq!(head(&[&[0xc0 | 17]]), Err(Malformed), "a second method, of the table");
        assert_eq!(head(&[&literal(b":path", false, b"/b")]), Err(Malformed), "a second path, spelled");
        assert_eq!(head(&[&[0xc0 | 25]]), Err(Malformed), "a status");
        assert_eq!(head(&[&literal(b":other", false, b"x")]), Err(Malformed));
        let late = [&HEAD[..4], PLAIN, &[0xc0 | 1]].concat();
        assert_eq!(check_head(&late), Err(Malformed), "a path after a field");
    }

    #[test]
    fn names_by_huffmans_code_are_known() {
        for (name, code) in NAMES {
            assert!(
                matches!((of_text(name, false), of_text(code, true)), (Name::Pseudo(a), Name::Pseudo(b)) if a == b)
            );
            assert!(head(&[&literal(code, true, b"x")]).is_err() || name == b":protocol");
        }
        assert!(matches!(of_text(&[0xb9, 0xff], true), Name::Unknown));
    }

    #[test]
    fn a_path_with_a_fragment_is_malformed() {
        let with = |path: &[u8]| look(&[&[0, 0, 0xd1][..], &literal(b":path", false, path)].concat()).map(|_| ());
        assert_eq!(with(b"/a?b=c"), Ok(()));
        assert_eq!(with(b"/a#b"), Err(Malformed));
    }

    #[test]
    fn websocket_is_the_one_protocol_and_gets_a_stand_in() {
        let huffman = [&literal(b":protocol", false, b"")[..11], &[0x87], WEBSOCKET.1].concat();
        for field in [literal(b":protocol", false, b"websocket"), huffman] {
            let block = [HEAD, &field, PLAIN].concat();
            let stood = [HEAD, &literal(b":protocol", false, b"connect-udp"), PLAIN].concat();
            assert_eq!(check_head(&block), Ok(Some(stood.into())));
        }
        for other in [&b"connect-udp"[..], b"webtransport", b"WebSocket", b""] {
            assert_eq!(check_head(&[HEAD, &literal(b":protocol", false, other)].concat()), Err(Malformed));
        }
    }

    #[test]
    fn trailers_have_no_pseudo_field() {
        assert_eq!(check_trailers(&[&[0, 0][..], PLAIN].concat()), Ok(()));
        assert_eq!(check_trailers(&[&[0, 0][..], PLAIN, &[0xc0 | 25]].concat()), Err(Malformed));
        assert_eq!(check_trailers(&[&[0, 0][..], &literal(b":path", false, b"/")].concat()), Err(Malformed));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at(block in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = (check_head(&block), check_trailers(&block));
        }
    }
}

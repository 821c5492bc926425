//! Blocks of fields as HPACK writes them (RFC 7541), as far as two questions need it: no table is kept, and no string
//! decoded.

/// Fields that may be pseudo-fields: they come first, and there are no more.
const MOST_PSEUDO_FIELDS: usize = 5;
/// `:path` in the static table, with `/` and with `/index.html`.
const PATHS: [usize; 2] = [4, 5];
/// The last pseudo-field of the static table.
const LAST_PSEUDO: usize = 14;
/// `:path`, by Huffman's code.
const PATH: [u8; 4] = [0xb9, 0x58, 0xd3, 0x3f];

/// Where a string lies in its block.
pub(crate) struct Text {
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) is_huffman: bool,
}

/// What names a field.
enum Name {
    Index(usize),
    Literal(Text),
}

/// A field: its value is in the table when it is none.
struct Field {
    name: Name,
    value: Option<Text>,
}

/// Makes a `:path` with a fragment one that h2 refuses: it takes the fragment off, and Istio's gateways answer 400 to it. And
/// one that is not UTF-8: for that h2 ends the connection, with all that others ask on it. Neither is seen in a block that
/// comes in pieces, nor the latter in Huffman's code.
pub(super) fn spoil_path(block: &mut [u8]) {
    let Some(Text { begin, end, is_huffman }) = path(block) else { return };
    let value = &mut block[begin..end];
    if !is_huffman {
        let is_text = value.is_ascii() || std::str::from_utf8(value).is_ok();
        for odd in value.iter_mut().filter(|byte| **byte == b'#' || !is_text && !byte.is_ascii()) {
            *odd = b'>';
        }
    } else if let Some(last_bit) = huffman_hash(value) {
        // `>` has the next code.
        value[last_bit / 8] |= 0x80 >> (last_bit % 8);
    }
}

/// True when trailers name a pseudo-field, which h2 leaves out. A name that stands in the table for both is not seen.
pub(super) fn has_pseudo_field(block: &[u8]) -> bool {
    let mut at = 0;
    while let Some(field) = next(block, &mut at) {
        let is_pseudo = match field.name {
            Name::Index(index) => (1..=LAST_PSEUDO).contains(&index),
            Name::Literal(Text { begin, end, is_huffman }) => match block[begin..end].first() {
                Some(first) if is_huffman => first >> 1 == 0x5c,
                first => first == Some(&b':'),
            },
        };
        if is_pseudo {
            return true;
        }
    }
    false
}

/// The value of `:path`, when the block spells it.
fn path(block: &[u8]) -> Option<Text> {
    let mut at = 0;
    for _ in 0..MOST_PSEUDO_FIELDS {
        let field = next(block, &mut at)?;
        let is_path = match &field.name {
            Name::Index(index) => PATHS.contains(index),
            Name::Literal(Text { begin, end, is_huffman: true }) => block[*begin..*end] == PATH,
            Name::Literal(Text { begin, end, is_huffman: false }) => &block[*begin..*end] == b":path",
        };
        if is_path {
            return field.value;
        }
    }
    None
}

/// The next field; none at the end, and where a block is not well-formed.
fn next(block: &[u8], at: &mut usize) -> Option<Field> {
    loop {
        let first = *block.get(*at)?;
        let (bits, has_value) = match first {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => {
                // A new size of the table.
                number(block, at, 5)?;
                continue;
            }
            _ => (4, true),
        };
        let index = number(block, at, bits)?;
        let name = if index == 0 && has_value { Name::Literal(text(block, at)?) } else { Name::Index(index) };
        let value = if has_value { Some(text(block, at)?) } else { None };
        return Some(Field { name, value });
    }
}

/// True when a path that is so spelled has a fragment.
#[cfg(feature = "http3")]
pub(crate) fn has_fragment(path: &[u8], is_huffman: bool) -> bool {
    if is_huffman { huffman_hash(path).is_some() } else { path.contains(&b'#') }
}

/// RFC 7541 section 5.1; QPACK has the same.
pub(crate) fn number(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let most = (1_usize << bits) - 1;
    let mut number = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if number < most {
        return Some(number);
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(*at)?);
        *at += 1;
        number += (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// RFC 7541 section 5.2; QPACK has the same for values.
pub(crate) fn text(block: &[u8], at: &mut usize) -> Option<Text> {
    let is_huffman = block.get(*at)? & 0x80 != 0;
    let length = number(block, at, 7)?;
    let (begin, end) = (*at, at.checked_add(length)?);
    *at = end;
    (end <= block.len()).then_some(Text { begin, end, is_huffman })
}

/// The last bit of the first `#`.
fn huffman_hash(value: &[u8]) -> Option<usize> {
    // Its code begins with nine ones, which few texts have.
    let ones = |pair: &[u8]| pair[0].trailing_ones() + pair[1].leading_ones() >= 8;
    if !value.windows(2).any(ones) {
        return None;
    }
    let mut bit = 0;
    while bit + 12 <= value.len() * 8 {
        match code_length(next_bits(value, bit))? {
            Code::Hash => return Some(bit + 11),
            Code::Other(length) => bit += length,
        }
    }
    None
}

enum Code {
    Hash,
    Other(usize),
}

/// The length of the code that 15 bits begin with; none for the long ones of what no path has.
fn code_length(bits: u32) -> Option<Code> {
    const FIRST_LONGER: [(u32, usize); 10] = [
        (0xa, 5),
        (0x2e, 6),
        (0x7c, 7),
        (0xfe, 8),
        (0x3fd, 10),
        (0x7fd, 11),
        (0xffc, 12),
        (0x1ffe, 13),
        (0x3ffe, 14),
        (0x7fff, 15),
    ];
    if bits >> 3 == 0xffa {
        return Some(Code::Hash);
    }
    let (_, length) = FIRST_LONGER.into_iter().find(|(longer, length)| bits >> (15 - length) < *longer)?;
    Some(Code::Other(length))
}

/// 15 bits from here on; ones follow the end.
fn next_bits(value: &[u8], bit: usize) -> u32 {
    let byte = |at: usize| u32::from(value.get(at).copied().unwrap_or(0xff));
    let three = byte(bit / 8) << 16 | byte(bit / 8 + 1) << 8 | byte(bit / 8 + 2);
    three >> (24 - 15 - bit % 8) & 0x7fff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
        [&[0, name.len() as u8][..], name, &[value.len() as u8], value].concat()
    }

    #[test]
    fn a_fragment_is_spoiled_in_plain_text() {
        let head = |path: &[u8]| [&[0x82, 0x86][..], &literal(b":authority", b"h#"), &literal(b":path", path)].concat();
        for (path, after) in [
            (&b"/a#b"[..], &b"/a>b"[..]),
            (b"/a", b"/a"),
            (b"#", b">"),
            (b"/\xc3\xa9", b"/\xc3\xa9"),
            (b"/\xe9a\xc3", b"/>a>"),
        ] {
            let mut block = head(path);
            spoil_path(&mut block);
            assert_eq!(block, head(after));
        }
        // By the index of its name.
        let mut block = b"\x82\x04\x03/a#".to_vec();
        spoil_path(&mut block);
        assert_eq!(block, b"\x82\x04\x03/a>");
    }

    #[test]
    fn a_fragment_is_spoiled_in_huffman_s_code() {
        // `/a#b`: 011000 00011 111111111010 100011, padded; and `/a>b`.
        let (hash, greater) = ([0x60, 0x7f, 0xf5, 0x1f], [0x60, 0x7f, 0xf7, 0x1f]);
        for name in [&b"\x44"[..], b"\x00\x84\xb9\x58\xd3\x3f"] {
            let mut block = [name, b"\x84", &hash].concat();
            spoil_path(&mut block);
            assert_eq!(block, [name, b"\x84", &greater].concat());
        }
        // `XX` has more ones in a row than a `#`.
        assert!(huffman_hash(&[0xfc, 0xfc]).is_none() && huffman_hash(&[0xf3, 0xf9, 0xff]).is_none());
    }

    #[test]
    fn pseudo_fields_are_known_by_index_and_by_name() {
        for block in [&b"\x82"[..], b"\x04\x01/", b"\x48\x03200", b"\x20\x88", b"\x00\x84\xb9\x58\xd3\x3f\x01/"] {
            assert!(has_pseudo_field(block), "{block:?}");
        }
        assert!(has_pseudo_field(&[literal(b"x-a", b"1"), literal(b":foo", b"1")].concat()));
        let good = [&literal(b"x-a", b":b")[..], b"\x0f\x0b\x01:", b"\xbe"].concat();
        assert!(!has_pseudo_field(&good) && !has_pseudo_field(b"") && !has_pseudo_field(b"\xff\xff\xff\xff\xff\x82"));
    }
}

//! [`custom_section`]: what a module carries beside its code.

/// Contents of the first custom section of this name in a valid module.
pub(crate) fn custom_section<'a>(module: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = module.get(8..)?;
    while let Some((&id, after)) = rest.split_first() {
        let (size, after) = leb128(after)?;
        let (section, next) = after.split_at_checked(size)?;
        if id == 0 {
            let (length, section) = leb128(section)?;
            let (found, contents) = section.split_at_checked(length)?;
            if found == name.as_bytes() {
                return Some(contents);
            }
        }
        rest = next;
    }
    None
}

/// An unsigned number of at most 32 bits, seven in each byte, and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn sections_are_found_by_name_wherever_they_are() {
        let text = r#"(module (@custom "a" "one") (memory 1) (@custom "portolan.schema" "two"))"#;
        let module = wat::parse_str(text).unwrap();
        assert_eq!(custom_section(&module, "a"), Some(&b"one"[..]));
        assert_eq!(custom_section(&module, "portolan.schema"), Some(&b"two"[..]));
        assert_eq!(custom_section(&module, "b"), None);
    }

    #[test]
    fn bytes_that_are_no_module_hold_nothing() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\0\xff\xff\xff\xff\xff\xff", b"\0asm\x01\0\0\0\0\x05\x09a"] {
            assert_eq!(custom_section(bytes, "a"), None);
        }
    }
}

//! Protobuf messages that a few properties are made of: `google.protobuf.Struct` with text in it, and Envoy's metadata.

/// Fields of `envoy.config.core.v3.Metadata` under the one name that Istio uses.
pub(super) fn metadata(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut entry = Vec::new();
    put(1, b"istio", &mut entry);
    put(2, &structure(fields), &mut entry);
    let mut metadata = Vec::new();
    put(1, &entry, &mut metadata);
    metadata
}

/// `google.protobuf.Struct`: `map<string, Value> fields = 1`, each `Value` with `string_value = 3`.
pub(super) fn structure(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in fields {
        let (mut text, mut entry) = (Vec::new(), Vec::new());
        put(3, value.as_bytes(), &mut text);
        put(1, name.as_bytes(), &mut entry);
        put(2, &text, &mut entry);
        put(1, &entry, &mut all);
    }
    all
}

/// Appends a length-delimited field.
pub(super) fn put(number: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = value.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_structure_is_protobuf_s() {
        assert_eq!(structure(&[("a", "b")]), b"\x0a\x08\x0a\x01a\x12\x03\x1a\x01b");
        assert_eq!(metadata(&[]), b"\x0a\x09\x0a\x05istio\x12\x00");
        let long = "x".repeat(200);
        assert_eq!(structure(&[("a", &long)])[..3], [0x0a, 209, 0x01]);
    }
}

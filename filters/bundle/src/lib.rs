//! The bundled filters as WebAssembly: each sibling folder, compiled by the build script.

/// Name and module of each bundled filter, in the order in which they see a request.
pub const BUNDLED: &[(&str, &[u8])] = &[
    ("route-match", include_bytes!(concat!(env!("OUT_DIR"), "/route-match.wasm"))),
    ("traffic-split", include_bytes!(concat!(env!("OUT_DIR"), "/traffic-split.wasm"))),
    ("circuit-breaker", include_bytes!(concat!(env!("OUT_DIR"), "/circuit-breaker.wasm"))),
];

/// The module of the filter with this name; none when no such filter is bundled.
///
/// ```
/// assert!(portolan_filters::bundled("route-match").is_some());
/// assert!(portolan_filters::bundled("unheard-of").is_none());
/// ```
pub fn bundled(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(known, _)| *known == name).map(|(_, module)| *module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_filter_is_a_wasm_module() {
        for (name, module) in BUNDLED {
            assert_eq!(&module[..4], b"\0asm", "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (name, module) in BUNDLED {
            assert_eq!(bundled(name), Some(*module));
        }
    }
}

//! The bundled filters as WebAssembly: each sibling folder, compiled by the build script.

/// Name and module of each decision filter, in the order in which they see a request. They are in every chain.
pub const BUNDLED: &[(&str, &[u8])] = &[
    ("route-match", include_bytes!(concat!(env!("OUT_DIR"), "/route-match.wasm"))),
    ("traffic-split", include_bytes!(concat!(env!("OUT_DIR"), "/traffic-split.wasm"))),
    ("circuit-breaker", include_bytes!(concat!(env!("OUT_DIR"), "/circuit-breaker.wasm"))),
];

/// Name and module of each filter of the library: in a chain where a WasmPlugin says `url: bundled://NAME`, and nothing
/// but bytes of the binary elsewhere. The names are those of `portolan_model::LIBRARY`.
pub const LIBRARY: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/library.rs"));

/// The module of the filter with this name, of both lists; none when no such filter is bundled.
///
/// ```
/// assert!(portolan_filters::bundled("route-match").is_some());
/// assert!(portolan_filters::bundled("ip-allow").is_some());
/// assert!(portolan_filters::bundled("unheard-of").is_none());
/// ```
pub fn bundled(name: &str) -> Option<&'static [u8]> {
    all().find(|(known, _)| *known == name).map(|(_, module)| *module)
}

/// Decision filters, then the library.
pub fn all() -> impl Iterator<Item = &'static (&'static str, &'static [u8])> {
    BUNDLED.iter().chain(LIBRARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_filter_is_a_wasm_module() {
        for (name, module) in all() {
            assert_eq!(&module[..4], b"\0asm", "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (name, module) in all() {
            assert_eq!(bundled(name), Some(*module));
        }
    }
}

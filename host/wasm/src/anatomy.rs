//! [`Anatomy`]: what a module consists of, read without compiling it, so that what the host refuses can be looked at too.

use wasmparser::{BinaryReaderError, ExternalKind, FuncType, KnownCustom, Parser, Payload, TypeRef, ValType};

use crate::abi::AbiVersion;

/// A page of linear memory in bytes.
const PAGE: u64 = 64 * 1024;

/// What a module consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// Markers of ABI versions that it exports, each as `proxy_abi_version_0_2_1`.
    pub abi_markers: Vec<String>,
    /// In its order.
    pub imports: Vec<Import>,
    /// Callbacks that it exports: `proxy_on_` and what follows.
    pub callbacks: Vec<String>,
    /// All other exports.
    pub exports: Vec<String>,
    /// Linear memories, in bytes: one in nearly every module.
    pub memories: Vec<Limits>,
    /// Tables, in entries.
    pub tables: Vec<Limits>,
    /// Functions of its own.
    pub functions: usize,
    /// Size of the code in bytes.
    pub code_bytes: usize,
    /// Size of the initial contents of its memory in bytes.
    pub data_bytes: usize,
    /// Custom sections in order, with their sizes in bytes.
    pub sections: Vec<(String, usize)>,
    /// What made it: kind, name and version, as the section `producers` has them.
    pub producers: Vec<(String, String, String)>,
    /// The section `portolan.schema`.
    pub schema: Option<Vec<u8>>,
}

/// Something that a module wants of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// As `module.name`.
    pub name: String,
    /// `(i32, i32) -> i32`, or the kind of what is no function.
    pub signature: String,
}

/// How large something is at first, and how large it may become; none when the module leaves that to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// When an instance is made.
    pub initial: u64,
    /// At most.
    pub maximum: Option<u64>,
}

/// Bytes that are no module.
#[derive(Debug, thiserror::Error)]
#[error("not a WebAssembly module: {reason} at byte {offset}")]
pub struct AnatomyError {
    reason: String,
    offset: usize,
}

impl From<BinaryReaderError> for AnatomyError {
    fn from(error: BinaryReaderError) -> Self {
        let reason = error.message().split([':', '\n']).next().unwrap_or_default().to_owned();
        Self { reason, offset: error.offset() }
    }
}

impl Anatomy {
    /// Reads a module. Its code is not looked at.
    pub fn read(bytes: &[u8]) -> Result<Self, AnatomyError> {
        let mut anatomy = Self::default();
        let mut types = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            anatomy.take(payload?, &mut types)?;
        }
        Ok(anatomy)
    }

    fn take(&mut self, payload: Payload<'_>, types: &mut Vec<FuncType>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => {
                for kind in section.into_iter_err_on_gc_types() {
                    types.push(kind?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    let name = format!("{}.{}", import.module, import.name);
                    self.imports.push(Import { name, signature: signature(import.ty, types) });
                }
            }
            Payload::FunctionSection(section) => self.functions = section.count() as usize,
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?.ty;
                    self.tables.push(Limits { initial: table.initial, maximum: table.maximum });
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    let maximum = memory.maximum.map(|pages| pages.saturating_mul(PAGE));
                    self.memories.push(Limits { initial: memory.initial.saturating_mul(PAGE), maximum });
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.export(export.name, export.kind);
                }
            }
            Payload::CodeSectionStart { range, .. } => self.code_bytes = range.len(),
            Payload::DataSection(section) => self.data_bytes = section.range().len(),
            Payload::CustomSection(section) => {
                self.sections.push((section.name().to_owned(), section.data().len()));
                if section.name() == "portolan.schema" && self.schema.is_none() {
                    self.schema = Some(section.data().to_vec());
                }
                if let KnownCustom::Producers(fields) = section.as_known() {
                    // What a tool wrote into a section that nobody relies on is not worth an error.
                    let _ = self.produced(fields);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn export(&mut self, name: &str, kind: ExternalKind) {
        let list = match kind {
            ExternalKind::Func if name.starts_with(AbiVersion::MARKER) => &mut self.abi_markers,
            ExternalKind::Func if name.starts_with("proxy_on_") => &mut self.callbacks,
            _ => &mut self.exports,
        };
        list.push(name.to_owned());
    }

    fn produced(&mut self, fields: wasmparser::ProducersSectionReader<'_>) -> Result<(), BinaryReaderError> {
        for field in fields {
            let field = field?;
            for value in field.values {
                let value = value?;
                self.producers.push((field.name.to_owned(), value.name.to_owned(), value.version.to_owned()));
            }
        }
        Ok(())
    }
}

/// Whether Envoy 1.40 has no such function for modules of this version, so that it refuses them. Measured with a module for
/// each; the names of all others that this host serves are in its binary. It refuses 0.2.100 as a whole.
pub fn envoy_lacks(abi: AbiVersion, import: &str) -> bool {
    match import.rsplit_once('.').map_or(import, |(_, name)| name) {
        "proxy_redis_init" | "proxy_redis_call" | "proc_raise" => true,
        "proxy_get_configuration"
        | "proxy_continue_request"
        | "proxy_continue_response"
        | "proxy_clear_route_cache" => abi != AbiVersion::V0_1_0,
        "proxy_continue_stream" | "proxy_close_stream" => abi == AbiVersion::V0_1_0,
        "proxy_get_log_level" => matches!(abi, AbiVersion::V0_1_0 | AbiVersion::V0_2_0),
        _ => false,
    }
}

fn signature(kind: TypeRef, types: &[FuncType]) -> String {
    match kind {
        TypeRef::Func(index) | TypeRef::FuncExact(index) => {
            let Some(kind) = types.get(index as usize) else { return "function".to_owned() };
            let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            match kind.results() {
                [] => format!("({})", list(kind.params())),
                results => format!("({}) -> {}", list(kind.params()), list(results)),
            }
        }
        TypeRef::Table(_) => "table".to_owned(),
        TypeRef::Memory(_) => "memory".to_owned(),
        TypeRef::Global(_) => "global".to_owned(),
        TypeRef::Tag(_) => "tag".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_module_is_told_part_by_part() {
        let text = r#"(module
            (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
            (import "env" "proxy_redis_init" (func (param i64)))
            (memory (export "memory") 2 16) (table 3 funcref)
            (func (export "proxy_abi_version_0_2_1")) (func (export "proxy_on_tick") (param i32))
            (data (i32.const 0) "abcd") (@custom "portolan.schema" "{}"))"#;
        let anatomy = Anatomy::read(&wat::parse_str(text).unwrap()).unwrap();
        assert_eq!(anatomy.imports[0].name, "env.proxy_log");
        assert_eq!(anatomy.imports[0].signature, "(i32, i32, i32) -> i32");
        assert_eq!(anatomy.imports[1].signature, "(i64)");
        assert_eq!(anatomy.abi_markers, ["proxy_abi_version_0_2_1"]);
        assert_eq!((anatomy.callbacks, anatomy.exports), (vec!["proxy_on_tick".into()], vec!["memory".into()]));
        assert_eq!(anatomy.memories, [Limits { initial: 2 * PAGE, maximum: Some(16 * PAGE) }]);
        assert_eq!(anatomy.tables, [Limits { initial: 3, maximum: None }]);
        assert_eq!((anatomy.functions, anatomy.schema), (2, Some(b"{}".to_vec())));
        assert_eq!(anatomy.sections, [("portolan.schema".to_owned(), 2)]);
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        for bytes in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0\x02\xff", b"hello world"] {
            assert!(Anatomy::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn envoy_s_functions_depend_on_the_version() {
        assert!(envoy_lacks(AbiVersion::V0_2_1, "env.proxy_redis_call"));
        assert!(envoy_lacks(AbiVersion::V0_2_1, "env.proxy_get_configuration"));
        assert!(!envoy_lacks(AbiVersion::V0_1_0, "env.proxy_get_configuration"));
        assert!(envoy_lacks(AbiVersion::V0_2_0, "env.proxy_get_log_level"));
        assert!(!envoy_lacks(AbiVersion::V0_2_1, "wasi_snapshot_preview1.fd_write"));
    }
}

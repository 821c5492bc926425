//! Which modules are refused and what is said, and the disk cache.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use portolan_wasm::{AbiVersion, CompileError, CompilerProcess, Engine, EngineOptions, ModuleStore};

use crate::support::{compile, engine, guest};

fn refusal(text: &str) -> String {
    compile(text).err().unwrap().to_string()
}

#[test]
fn unknown_imports_are_all_named() {
    let text = r#"(module
        (import "env" "proxy_unknown_call" (func (param i32)))
        (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
        (import "other" "thing" (func))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#;
    assert_eq!(refusal(text), "the module imports what the host does not offer: env.proxy_unknown_call, other.thing");
}

#[test]
fn an_import_with_another_type_is_named() {
    let text = r#"(module (import "env" "proxy_log" (func (param i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#;
    let text = refusal(text);
    assert!(text.starts_with("`env.proxy_log` has the wrong type: "), "{text}");
}

#[test]
fn a_callback_with_another_type_is_named() {
    let text = r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_log") (param i32 i32)))"#;
    let text = refusal(text);
    assert!(
        text.starts_with("`proxy_on_log` has the wrong type: wanted 1 parameters and 0 results of type i32"),
        "{text}"
    );
}

#[test]
fn a_module_without_marker_is_told_what_is_supported() {
    let text = refusal(r#"(module (memory (export "memory") 1))"#);
    assert!(text.contains("exports no proxy_abi_version marker") && text.contains("0_2_1"), "{text}");
    let text = refusal(r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_3_0")))"#);
    assert!(text.starts_with("the module is built for proxy_abi_version_0_3_0; supported are "), "{text}");
}

#[test]
fn the_newest_marker_counts() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_0")) (func (export "proxy_abi_version_0_1_0")))"#;
    assert_eq!(compile(text).unwrap().abi(), AbiVersion::V0_2_0);
}

#[test]
fn a_module_without_usable_memory_is_refused() {
    let with = |memory: &str| refusal(&format!("(module {memory} (func (export \"proxy_abi_version_0_2_1\")))"));
    assert!(with("").contains("there is no such export"));
    assert!(with(r#"(memory (export "memory") i64 1)"#).contains("64-bit"));
}

#[test]
fn what_is_no_module_is_refused() {
    let store = ModuleStore::new(engine());
    assert!(matches!(store.load(b"not wasm"), Err(CompileError::Invalid(_))));
    assert!(matches!(store.load(b"\0asm\x0d\0\x01\0"), Err(CompileError::Component)));
}

#[test]
fn a_module_in_use_is_not_compiled_again() {
    let store = ModuleStore::new(engine());
    let bytes = wat::parse_str(guest("")).unwrap();
    let one = store.load(&bytes).unwrap();
    assert!(Arc::ptr_eq(&one, &store.load(&bytes).unwrap()));
    assert_eq!(one.digest().len(), 64);
}

/// Loads a module with a fresh engine; answers with the cache's hits and misses.
fn load(folder: &Path) -> Option<(usize, usize)> {
    let engine = Engine::new(&EngineOptions { cache_dir: Some(folder.to_path_buf()), compiler: None }).unwrap();
    ModuleStore::new(engine.clone()).load(&wat::parse_str(guest("")).unwrap()).unwrap();
    engine.cache_hits_and_misses()
}

#[test]
fn a_second_start_takes_compiled_code_from_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load(folder.path()), Some((0, 1)));
    assert_eq!(load(folder.path()), Some((1, 0)));
}

#[test]
fn damaged_compiled_code_is_compiled_anew() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path());
    let mut damaged = 0;
    for entry in fs::read_dir(folder.path().join("modules")).unwrap() {
        for file in fs::read_dir(entry.unwrap().path()).unwrap() {
            fs::write(file.unwrap().path(), b"damaged").unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let (hits, _) = load(folder.path()).unwrap();
    assert_eq!(hits, 0);
}

#[test]
fn a_cache_folder_that_cannot_be_used_costs_only_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(load(&file.join("below a file")), None);
}

/// A compiler of these words, whose input is the module.
fn compiler(folder: &Path, script: &str) -> CompilerProcess {
    let command = ["sh", "-c", script].map(Into::into).to_vec();
    CompilerProcess { command, known: folder.join("known") }
}

fn load_with(folder: &Path, compiler: CompilerProcess) {
    let options = EngineOptions { cache_dir: Some(folder.join("compiled")), compiler: Some(compiler) };
    ModuleStore::new(Engine::new(&options).unwrap()).load(&wat::parse_str(guest("")).unwrap()).unwrap();
}

#[test]
fn a_module_is_compiled_by_another_process_once() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    for _ in 0..2 {
        load_with(folder.path(), compiler(folder.path(), &format!("cat >> {}", input.display())));
    }
    assert_eq!(fs::read(input).unwrap(), wat::parse_str(guest("")).unwrap());
}

#[test]
fn a_compiler_that_fails_is_asked_again_and_harms_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let times = folder.path().join("times");
    for _ in 0..2 {
        load_with(folder.path(), compiler(folder.path(), &format!("echo >> {}; exit 1", times.display())));
    }
    let none = CompilerProcess { command: vec!["/nowhere".into()], known: folder.path().join("known") };
    load_with(folder.path(), none);
    assert_eq!(fs::read(times).unwrap(), b"\n\n");
}

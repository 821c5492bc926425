//! WASI as toolchains use it: what is answered, and what a guest cannot do by it.

use portolan_wasm::VmSettings;

use crate::support::{notes, on_request, run, start_with, stream};

/// The answer of a call written in the text format, with its import.
fn answer(name: &str, params: &str, arguments: &[i64]) -> u8 {
    ["wasi_snapshot_preview1", "wasi_unstable"].map(|module| answer_of(module, name, params, arguments))[0]
}

fn answer_of(module: &str, name: &str, params: &str, arguments: &[i64]) -> u8 {
    let types: Vec<_> = params.chars().map(|param| if param == 'I' { "i64" } else { "i32" }).collect();
    let values: Vec<_> = types.iter().zip(arguments).map(|(ty, value)| format!("({ty}.const {value})")).collect();
    let text = on_request(&format!("(call $note (call $wasi {}))", values.join(" ")));
    let import = format!(r#"(import "{module}" "{name}" (func $wasi (param {}) (result i32)))"#, types.join(" "));
    notes(&run(&text.replacen("(module", &format!("(module {import}"), 1)))[0]
}

#[test]
fn there_are_no_files_no_arguments_and_no_sockets() {
    assert_eq!(answer("args_sizes_get", "ii", &[16, 20]), 0);
    assert_eq!(answer("args_get", "ii", &[16, 20]), 0);
    assert_eq!(answer("fd_prestat_get", "ii", &[3, 16]), 8);
    assert_eq!(answer("fd_prestat_dir_name", "iii", &[3, 16, 4]), 52);
    assert_eq!(answer("path_open", "iiiiiIIii", &[3, 0, 16, 4, 0, 0, 0, 0, 32]), 44);
    assert_eq!(answer("path_filestat_get", "iiiii", &[3, 0, 16, 4, 32]), 58);
    assert_eq!(answer("fd_read", "iiii", &[0, 16, 0, 64]), 52);
    assert_eq!(answer("fd_seek", "iIii", &[1, 0, 0, 64]), 0);
    assert_eq!(answer("fd_close", "i", &[1]), 0);
    assert_eq!(answer("fd_fdstat_set_flags", "ii", &[1, 0]), 52);
    assert_eq!(answer("sock_send", "iiiii", &[1, 0, 0, 0, 0]), 52);
    assert_eq!(answer("sched_yield", "", &[]), 0);
    assert_eq!(answer("poll_oneoff", "iiii", &[16, 32, 1, 64]), 0);
}

#[test]
fn clocks_and_descriptors_are_the_two_known_ones() {
    for clock in [0, 1] {
        assert_eq!(answer("clock_time_get", "iIi", &[clock, 0, 16]), 0);
        assert_eq!(answer("clock_res_get", "ii", &[clock, 16]), 0);
        assert_eq!(answer("fd_fdstat_get", "ii", &[clock + 1, 16]), 0);
    }
    assert_eq!(answer("clock_time_get", "iIi", &[2, 0, 16]), 58);
    assert_eq!(answer("clock_res_get", "ii", &[3, 16]), 58);
    assert_eq!(answer("fd_fdstat_get", "ii", &[0, 16]), 8);
    assert_eq!(answer("fd_write", "iiii", &[0, 16, 0, 64]), 8);
    assert_eq!(answer("fd_write", "iiii", &[3, 16, 0, 64]), 8);
}

#[test]
fn random_bytes_are_limited_and_stay_in_memory() {
    assert_eq!(answer("random_get", "ii", &[70_000, 64 * 1024]), 0);
    assert_eq!(answer("random_get", "ii", &[70_000, 64 * 1024 + 1]), 28);
    assert_eq!(answer("random_get", "ii", &[-8, 16]), 21);
}

#[test]
fn wild_pointers_are_faults() {
    assert_eq!(answer("environ_sizes_get", "ii", &[-4, 16]), 21);
    assert_eq!(answer("clock_time_get", "iIi", &[0, 0, -1]), 21);
    assert_eq!(answer("fd_write", "iiii", &[1, -4, 1, 64]), 21);
    assert_eq!(answer("fd_write", "iiii", &[1, 16, 0, -2]), 21);
    assert_eq!(answer("fd_write", "iiii", &[1, 16, 4096, 64]), 28, "more pieces than any libc writes");
}

#[test]
fn a_write_says_how_much_it_has_taken() {
    let stream = run(&on_request(
        r#"(i32.store (i32.const 40) (i32.const 2048)) (i32.store (i32.const 44) (i32.const 5))
           (i32.store (i32.const 48) (i32.const -1)) (i32.store (i32.const 52) (i32.const 0))
           (call $note (call $fd_write (i32.const 1) (i32.const 40) (i32.const 2) (i32.const 64)))
           (call $note (call $u32 (i32.const 64)))
           (i32.store (i32.const 44) (i32.const 100000))
           (call $note (call $fd_write (i32.const 2) (i32.const 40) (i32.const 2) (i32.const 64)))
           (call $note (i32.eq (call $u32 (i32.const 64)) (i32.const 65536)))
           (i32.store (i32.const 52) (i32.const 1))
           (call $note (call $fd_write (i32.const 2) (i32.const 40) (i32.const 2) (i32.const 64)))"#,
    ));
    assert_eq!(notes(&stream), [0, 5, 0, 1, 21], "an empty piece may point anywhere, a long write is taken in parts");
}

#[test]
fn the_environment_is_the_plugin_s() {
    let text = on_request(
        r#"(call $note (call $environ_sizes (i32.const 40) (i32.const 44)))
           (call $note (call $u32 (i32.const 40))) (call $note (call $u32 (i32.const 44)))
           (call $note (call $environ (i32.const 48) (i32.const 64)))
           (call $note (i32.sub (call $u32 (i32.const 52)) (call $u32 (i32.const 48))))
           (drop (call $set_property @"env" (i32.const 64) (call $u32 (i32.const 44))))"#,
    );
    let env = vec![("A".to_owned(), "1".to_owned()), ("LONG".to_owned(), String::new())];
    let mut vm = start_with(&text, VmSettings { env, ..VmSettings::default() }).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [0, 2, 10, 0, 4]);
    assert_eq!(crate::support::property(&stream, "env"), Some(&b"A=1\0LONG=\0"[..]));
}

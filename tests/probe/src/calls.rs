//! The host functions, by name.
#![allow(unsafe_code, reason = "the ABI's functions are declared here; all take numbers, so that calling them is safe")]

use std::sync::atomic::{AtomicI64, Ordering};

use crate::memory;

static LAST: AtomicI64 = AtomicI64::new(0);

macro_rules! imports {
    ($($module:literal { $(fn $name:ident($($argument:ident: $kind:ty),*);)* })*) => {
        $(
            #[cfg(target_arch = "wasm32")]
            #[link(wasm_import_module = $module)]
            unsafe extern "C" {
                $(safe fn $name($($argument: $kind),*) -> i32;)*
            }

            $(
                #[cfg(not(target_arch = "wasm32"))]
                #[allow(clippy::too_many_arguments, reason = "the ABI's own signature")]
                fn $name($(_: $kind),*) -> i32 { 12 }
            )*
        )*

        /// Calls a host function; none when there is no such name, which may leave out `proxy_`.
        pub(crate) fn call(name: &str, arguments: &[i64]) -> Option<i32> {
            let mut arguments = arguments.iter().copied();
            let mut next = || arguments.next().unwrap_or(0);
            let _ = &mut next;
            $($(
                if name == stringify!($name) || stringify!($name).strip_prefix("proxy_") == Some(name) {
                    return Some($name($(next() as $kind),*));
                }
            )*)*
            None
        }
    };
}

imports! {
    "env" {
        fn proxy_log(level: i32, text: i32, length: i32);
        fn proxy_get_log_level(out: i32);
        fn proxy_get_current_time_nanoseconds(out: i32);
        fn proxy_set_tick_period_milliseconds(period: i32);
        fn proxy_set_effective_context(id: i32);
        fn proxy_done();
        fn proxy_get_buffer_bytes(kind: i32, start: i32, max: i32, pointer: i32, length: i32);
        fn proxy_set_buffer_bytes(kind: i32, start: i32, size: i32, data: i32, length: i32);
        fn proxy_get_buffer_status(kind: i32, length: i32, flags: i32);
        fn proxy_get_header_map_size(kind: i32, out: i32);
        fn proxy_get_header_map_pairs(kind: i32, pointer: i32, length: i32);
        fn proxy_set_header_map_pairs(kind: i32, pairs: i32, length: i32);
        fn proxy_get_header_map_value(kind: i32, name: i32, nl: i32, pointer: i32, length: i32);
        fn proxy_add_header_map_value(kind: i32, name: i32, nl: i32, value: i32, vl: i32);
        fn proxy_replace_header_map_value(kind: i32, name: i32, nl: i32, value: i32, vl: i32);
        fn proxy_remove_header_map_value(kind: i32, name: i32, nl: i32);
        fn proxy_continue_stream(kind: i32);
        fn proxy_close_stream(kind: i32);
        fn proxy_send_local_response(code: i32, details: i32, dl: i32, body: i32, bl: i32, headers: i32, hl: i32, grpc: i32);
        fn proxy_get_status(code: i32, pointer: i32, length: i32);
        fn proxy_http_call(upstream: i32, ul: i32, headers: i32, hl: i32, body: i32, bl: i32, trailers: i32, tl: i32, timeout: i32, id: i32);
        fn proxy_grpc_call(upstream: i32, ul: i32, service: i32, sl: i32, method: i32, ml: i32, metadata: i32, dl: i32, message: i32, gl: i32, timeout: i32, id: i32);
        fn proxy_grpc_stream(upstream: i32, ul: i32, service: i32, sl: i32, method: i32, ml: i32, metadata: i32, dl: i32, id: i32);
        fn proxy_grpc_send(id: i32, message: i32, length: i32, end: i32);
        fn proxy_grpc_cancel(id: i32);
        fn proxy_grpc_close(id: i32);
        fn proxy_get_shared_data(key: i32, kl: i32, pointer: i32, length: i32, cas: i32);
        fn proxy_set_shared_data(key: i32, kl: i32, value: i32, vl: i32, cas: i32);
        fn proxy_register_shared_queue(name: i32, length: i32, out: i32);
        fn proxy_resolve_shared_queue(vm: i32, vl: i32, name: i32, nl: i32, out: i32);
        fn proxy_enqueue_shared_queue(id: i32, value: i32, length: i32);
        fn proxy_dequeue_shared_queue(id: i32, pointer: i32, length: i32);
        fn proxy_define_metric(kind: i32, name: i32, length: i32, out: i32);
        fn proxy_record_metric(id: i32, value: i64);
        fn proxy_increment_metric(id: i32, offset: i64);
        fn proxy_get_metric(id: i32, out: i32);
        fn proxy_get_property(path: i32, pl: i32, pointer: i32, length: i32);
        fn proxy_set_property(path: i32, pl: i32, value: i32, vl: i32);
        fn proxy_call_foreign_function(name: i32, nl: i32, arguments: i32, al: i32, pointer: i32, length: i32);
    }
    "wasi_snapshot_preview1" {
        fn args_get(pointers: i32, texts: i32);
        fn args_sizes_get(count: i32, size: i32);
        fn environ_get(pointers: i32, texts: i32);
        fn environ_sizes_get(count: i32, size: i32);
        fn clock_time_get(clock: i32, precision: i64, out: i32);
        fn clock_res_get(clock: i32, out: i32);
        fn fd_close(descriptor: i32);
        fn fd_fdstat_get(descriptor: i32, out: i32);
        fn fd_fdstat_set_flags(descriptor: i32, flags: i32);
        fn fd_prestat_get(descriptor: i32, out: i32);
        fn fd_prestat_dir_name(descriptor: i32, path: i32, length: i32);
        fn fd_read(descriptor: i32, pieces: i32, count: i32, out: i32);
        fn fd_seek(descriptor: i32, offset: i64, whence: i32, out: i32);
        fn fd_write(descriptor: i32, pieces: i32, count: i32, out: i32);
        fn path_filestat_get(descriptor: i32, flags: i32, path: i32, length: i32, out: i32);
        fn path_open(descriptor: i32, dirflags: i32, path: i32, length: i32, oflags: i32, base: i64, inheriting: i64, flags: i32, out: i32);
        fn poll_oneoff(wanted: i32, events: i32, count: i32, out: i32);
        fn random_get(address: i32, length: i32);
        fn sched_yield();
    }
}

/// The number that the host has written last.
pub(crate) fn last_number() -> i64 {
    LAST.load(Ordering::SeqCst)
}

pub(crate) fn set_last_number(number: i64) {
    LAST.store(number, Ordering::SeqCst);
}

/// A header's first value.
pub(crate) fn header(map: i32, name: &str) -> Option<String> {
    let (pointer, length) = (memory::place(0), memory::place(1));
    let status = proxy_get_header_map_value(map, name.as_ptr() as usize as i32, name.len() as i32, pointer, length);
    (status == 0).then(|| memory::read(memory::at(0) as u32, memory::at(1) as u32))
}

/// Adds a header.
pub(crate) fn add_header(map: i32, name: &str, value: &str) {
    let (name_at, value_at) = (name.as_ptr() as usize as i32, value.as_ptr() as usize as i32);
    let _ = proxy_add_header_map_value(map, name_at, name.len() as i32, value_at, value.len() as i32);
}

/// A buffer as text.
pub(crate) fn buffer(kind: i32, length: u32) -> String {
    let (pointer, size) = (memory::place(0), memory::place(1));
    let _ = proxy_get_buffer_bytes(kind, 0, length as i32, pointer, size);
    memory::read(memory::at(0) as u32, memory::at(1) as u32)
}

/// A line of the log, at info.
pub(crate) fn log(text: &str) {
    let _ = proxy_log(2, text.as_ptr() as usize as i32, text.len() as i32);
}

//! Declarations of the host's functions. Outside of Wasm they come from the test host, or do nothing.

#[cfg(all(not(target_arch = "wasm32"), feature = "testing"))]
pub(crate) use crate::testing::imports::*;

macro_rules! imports {
    ($(fn $name:ident($($argument:ident: $kind:ty),* $(,)?);)*) => {
        #[cfg(target_arch = "wasm32")]
        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            $(pub(crate) fn $name($($argument: $kind),*) -> i32;)*
        }

        $(
            /// A native build without the test host: a filter's `cdylib` links, and every call is unimplemented.
            #[cfg(all(not(target_arch = "wasm32"), not(feature = "testing")))]
            #[allow(clippy::too_many_arguments, reason = "the ABI's own signature")]
            pub(crate) unsafe fn $name($($argument: $kind),*) -> i32 {
                $(let _ = $argument;)*
                crate::Status::Unimplemented as i32
            }
        )*
    };
}

imports! {
    fn proxy_log(level: i32, message: *const u8, length: usize);
    fn proxy_get_current_time_nanoseconds(time: *mut u64);
    fn proxy_get_buffer_bytes(kind: i32, start: usize, max: usize, bytes: *mut *mut u8, length: *mut usize);
    fn proxy_set_buffer_bytes(kind: i32, start: usize, size: usize, bytes: *const u8, length: usize);
    fn proxy_get_header_map_pairs(kind: i32, bytes: *mut *mut u8, length: *mut usize);
    fn proxy_get_header_map_value(
        kind: i32,
        key: *const u8,
        key_length: usize,
        bytes: *mut *mut u8,
        length: *mut usize,
    );
    fn proxy_add_header_map_value(kind: i32, key: *const u8, key_length: usize, value: *const u8, value_length: usize);
    fn proxy_replace_header_map_value(
        kind: i32,
        key: *const u8,
        key_length: usize,
        value: *const u8,
        value_length: usize,
    );
    fn proxy_remove_header_map_value(kind: i32, key: *const u8, key_length: usize);
    fn proxy_get_property(path: *const u8, path_length: usize, bytes: *mut *mut u8, length: *mut usize);
    fn proxy_set_property(path: *const u8, path_length: usize, value: *const u8, value_length: usize);
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_length: usize,
        body: *const u8,
        body_length: usize,
        headers: *const u8,
        headers_length: usize,
        grpc_status: i32,
    );
    fn proxy_continue_stream(stream: i32);
    fn proxy_set_effective_context(context: u32);
    fn proxy_set_tick_period_milliseconds(period: u32);
    fn proxy_http_call(
        upstream: *const u8,
        upstream_length: usize,
        headers: *const u8,
        headers_length: usize,
        body: *const u8,
        body_length: usize,
        trailers: *const u8,
        trailers_length: usize,
        timeout: u32,
        id: *mut u32,
    );
    fn proxy_grpc_call(
        upstream: *const u8,
        upstream_length: usize,
        service: *const u8,
        service_length: usize,
        method: *const u8,
        method_length: usize,
        metadata: *const u8,
        metadata_length: usize,
        message: *const u8,
        message_length: usize,
        timeout: u32,
        id: *mut u32,
    );
    fn proxy_get_status(status: *mut u32, bytes: *mut *mut u8, length: *mut usize);
    fn proxy_redis_init(
        upstream: *const u8,
        upstream_length: usize,
        username: *const u8,
        username_length: usize,
        password: *const u8,
        password_length: usize,
        timeout: u32,
    );
    fn proxy_redis_call(
        upstream: *const u8,
        upstream_length: usize,
        query: *const u8,
        query_length: usize,
        id: *mut u32,
    );
    fn proxy_call_foreign_function(
        name: *const u8,
        name_length: usize,
        arguments: *const u8,
        arguments_length: usize,
        bytes: *mut *mut u8,
        length: *mut usize,
    );
    fn proxy_get_shared_data(
        key: *const u8,
        key_length: usize,
        bytes: *mut *mut u8,
        length: *mut usize,
        version: *mut u32,
    );
    fn proxy_set_shared_data(key: *const u8, key_length: usize, value: *const u8, value_length: usize, version: u32);
    fn proxy_register_shared_queue(name: *const u8, name_length: usize, id: *mut u32);
    fn proxy_resolve_shared_queue(
        vm: *const u8,
        vm_length: usize,
        name: *const u8,
        name_length: usize,
        id: *mut u32,
    );
    fn proxy_enqueue_shared_queue(id: u32, value: *const u8, value_length: usize);
    fn proxy_dequeue_shared_queue(id: u32, bytes: *mut *mut u8, length: *mut usize);
    fn proxy_define_metric(kind: i32, name: *const u8, name_length: usize, id: *mut u32);
    fn proxy_increment_metric(id: u32, offset: i64);
    fn proxy_record_metric(id: u32, value: u64);
    fn proxy_get_metric(id: u32, value: *mut u64);
}

//! `Exports`: typed handles on the guest's callbacks, looked up once.

use wasmtime::{AsContextMut, Instance, TypedFunc, WasmParams, WasmResults};

/// Callbacks `(context, number, end of stream) -> action`; ABI 0.1.0 has no end of stream.
pub(crate) enum HeadersCallback {
    WithEnd(TypedFunc<(u32, u32, u32), u32>),
    WithoutEnd(TypedFunc<(u32, u32), u32>),
}

/// Context, call, and how many headers, bytes and trailers there are.
type HttpCallResponse = (u32, u32, u32, u32, u32);

/// What a guest exports; absent callbacks are never called.
pub(crate) struct Exports {
    pub(crate) context_create: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) vm_start: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) configure: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) request_headers: Option<HeadersCallback>,
    pub(crate) request_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) request_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) response_headers: Option<HeadersCallback>,
    pub(crate) response_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) response_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) foreign_function: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) log: Option<TypedFunc<u32, ()>>,
    pub(crate) done: Option<TypedFunc<u32, u32>>,
    pub(crate) delete: Option<TypedFunc<u32, ()>>,
    pub(crate) new_connection: Option<TypedFunc<u32, u32>>,
    pub(crate) downstream_data: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) upstream_data: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) downstream_close: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) upstream_close: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) tick: Option<TypedFunc<u32, ()>>,
    pub(crate) queue_ready: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) http_call_response: Option<TypedFunc<HttpCallResponse, ()>>,
    pub(crate) grpc_initial: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_receive: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_trailing: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_close: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) redis_call_response: Option<TypedFunc<(u32, u32, u32, u32), ()>>,
}

impl Exports {
    /// Looks everything up. Types were checked when the module was compiled.
    pub(crate) fn find(instance: &Instance, store: &mut impl AsContextMut) -> Self {
        Self {
            context_create: find(instance, store, "proxy_on_context_create"),
            vm_start: find(instance, store, "proxy_on_vm_start"),
            configure: find(instance, store, "proxy_on_configure"),
            request_headers: find_headers(instance, store, "proxy_on_request_headers"),
            request_body: find(instance, store, "proxy_on_request_body"),
            request_trailers: find(instance, store, "proxy_on_request_trailers"),
            response_headers: find_headers(instance, store, "proxy_on_response_headers"),
            response_body: find(instance, store, "proxy_on_response_body"),
            response_trailers: find(instance, store, "proxy_on_response_trailers"),
            foreign_function: find(instance, store, "proxy_on_foreign_function"),
            log: find(instance, store, "proxy_on_log"),
            done: find(instance, store, "proxy_on_done"),
            delete: find(instance, store, "proxy_on_delete"),
            new_connection: find(instance, store, "proxy_on_new_connection"),
            downstream_data: find(instance, store, "proxy_on_downstream_data"),
            upstream_data: find(instance, store, "proxy_on_upstream_data"),
            downstream_close: find(instance, store, "proxy_on_downstream_connection_close"),
            upstream_close: find(instance, store, "proxy_on_upstream_connection_close"),
            tick: find(instance, store, "proxy_on_tick"),
            queue_ready: find(instance, store, "proxy_on_queue_ready"),
            http_call_response: find(instance, store, "proxy_on_http_call_response"),
            grpc_initial: find(instance, store, "proxy_on_grpc_receive_initial_metadata"),
            grpc_receive: find(instance, store, "proxy_on_grpc_receive"),
            grpc_trailing: find(instance, store, "proxy_on_grpc_receive_trailing_metadata"),
            grpc_close: find(instance, store, "proxy_on_grpc_close"),
            redis_call_response: find(instance, store, "proxy_on_redis_call_response"),
        }
    }
}

/// `malloc`, else `proxy_on_memory_allocate`, as the C++ host looks.
pub(crate) fn find_malloc(instance: &Instance, store: &mut impl AsContextMut) -> Option<TypedFunc<u32, u32>> {
    find(instance, store, "malloc").or_else(|| find(instance, store, "proxy_on_memory_allocate"))
}

impl HeadersCallback {
    /// Calls it; `end` is left out where the guest does not take it.
    pub(crate) fn call(&self, store: impl AsContextMut, id: u32, count: u32, end: bool) -> wasmtime::Result<u32> {
        match self {
            Self::WithEnd(callback) => callback.call(store, (id, count, u32::from(end))),
            Self::WithoutEnd(callback) => callback.call(store, (id, count)),
        }
    }
}

/// A function of the guest, with the type that the caller wants.
pub(crate) fn find<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut impl AsContextMut,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_typed_func(store, name).ok()
}

fn find_headers(instance: &Instance, store: &mut impl AsContextMut, name: &str) -> Option<HeadersCallback> {
    find(instance, store, name)
        .map(HeadersCallback::WithEnd)
        .or_else(|| find(instance, store, name).map(HeadersCallback::WithoutEnd))
}

//! `Exports`: typed handles on the guest's callbacks, looked up once.

use wasmtime::{AsContextMut, Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::host_state::HostState;
use crate::trace::{Recorder, Words};

/// A function of the guest that the host calls, with its name for the trace.
pub(crate) struct Export<P, R> {
    name: &'static str,
    function: TypedFunc<P, R>,
}

/// What a callback answers, for the trace.
pub(crate) trait Answered {
    /// The number; none where there is none.
    fn answer(&self) -> Option<u32>;
}

/// Callbacks `(context, number, end of stream) -> action`; ABI 0.1.0 has no end of stream.
pub(crate) enum HeadersCallback {
    WithEnd(Export<(u32, u32, u32), u32>),
    WithoutEnd(Export<(u32, u32), u32>),
}

/// Context, call, and how many headers, bytes and trailers there are.
type HttpCallResponse = (u32, u32, u32, u32, u32);

/// What a guest exports; absent callbacks are never called.
pub(crate) struct Exports {
    pub(crate) context_create: Option<Export<(u32, u32), ()>>,
    pub(crate) vm_start: Option<Export<(u32, u32), u32>>,
    pub(crate) configure: Option<Export<(u32, u32), u32>>,
    pub(crate) request_headers: Option<HeadersCallback>,
    pub(crate) request_body: Option<Export<(u32, u32, u32), u32>>,
    pub(crate) request_trailers: Option<Export<(u32, u32), u32>>,
    pub(crate) response_headers: Option<HeadersCallback>,
    pub(crate) response_body: Option<Export<(u32, u32, u32), u32>>,
    pub(crate) response_trailers: Option<Export<(u32, u32), u32>>,
    pub(crate) foreign_function: Option<Export<(u32, u32, u32), ()>>,
    pub(crate) log: Option<Export<u32, ()>>,
    pub(crate) done: Option<Export<u32, u32>>,
    pub(crate) delete: Option<Export<u32, ()>>,
    pub(crate) new_connection: Option<Export<u32, u32>>,
    pub(crate) downstream_data: Option<Export<(u32, u32, u32), u32>>,
    pub(crate) upstream_data: Option<Export<(u32, u32, u32), u32>>,
    pub(crate) downstream_close: Option<Export<(u32, u32), ()>>,
    pub(crate) upstream_close: Option<Export<(u32, u32), ()>>,
    pub(crate) tick: Option<Export<u32, ()>>,
    pub(crate) queue_ready: Option<Export<(u32, u32), ()>>,
    pub(crate) http_call_response: Option<Export<HttpCallResponse, ()>>,
    pub(crate) grpc_initial: Option<Export<(u32, u32, u32), ()>>,
    pub(crate) grpc_receive: Option<Export<(u32, u32, u32), ()>>,
    pub(crate) grpc_trailing: Option<Export<(u32, u32, u32), ()>>,
    pub(crate) grpc_close: Option<Export<(u32, u32, u32), ()>>,
    pub(crate) redis_call_response: Option<Export<(u32, u32, u32, u32), ()>>,
}

impl Exports {
    /// Looks everything up. Types were checked when the module was compiled.
    pub(crate) fn find(instance: &Instance, store: &mut impl AsContextMut) -> Self {
        Self {
            context_create: export(instance, store, "proxy_on_context_create"),
            vm_start: export(instance, store, "proxy_on_vm_start"),
            configure: export(instance, store, "proxy_on_configure"),
            request_headers: find_headers(instance, store, "proxy_on_request_headers"),
            request_body: export(instance, store, "proxy_on_request_body"),
            request_trailers: export(instance, store, "proxy_on_request_trailers"),
            response_headers: find_headers(instance, store, "proxy_on_response_headers"),
            response_body: export(instance, store, "proxy_on_response_body"),
            response_trailers: export(instance, store, "proxy_on_response_trailers"),
            foreign_function: export(instance, store, "proxy_on_foreign_function"),
            log: export(instance, store, "proxy_on_log"),
            done: export(instance, store, "proxy_on_done"),
            delete: export(instance, store, "proxy_on_delete"),
            new_connection: export(instance, store, "proxy_on_new_connection"),
            downstream_data: export(instance, store, "proxy_on_downstream_data"),
            upstream_data: export(instance, store, "proxy_on_upstream_data"),
            downstream_close: export(instance, store, "proxy_on_downstream_connection_close"),
            upstream_close: export(instance, store, "proxy_on_upstream_connection_close"),
            tick: export(instance, store, "proxy_on_tick"),
            queue_ready: export(instance, store, "proxy_on_queue_ready"),
            http_call_response: export(instance, store, "proxy_on_http_call_response"),
            grpc_initial: export(instance, store, "proxy_on_grpc_receive_initial_metadata"),
            grpc_receive: export(instance, store, "proxy_on_grpc_receive"),
            grpc_trailing: export(instance, store, "proxy_on_grpc_receive_trailing_metadata"),
            grpc_close: export(instance, store, "proxy_on_grpc_close"),
            redis_call_response: export(instance, store, "proxy_on_redis_call_response"),
        }
    }
}

/// `malloc`, else `proxy_on_memory_allocate`, as the C++ host looks.
pub(crate) fn find_malloc(instance: &Instance, store: &mut impl AsContextMut) -> Option<TypedFunc<u32, u32>> {
    find(instance, store, "malloc").or_else(|| find(instance, store, "proxy_on_memory_allocate"))
}

impl HeadersCallback {
    /// Calls it; `end` is left out where the guest does not take it.
    pub(crate) fn call<H>(
        &self,
        store: &mut Store<HostState<H>>,
        id: u32,
        count: u32,
        end: bool,
    ) -> wasmtime::Result<u32> {
        match self {
            Self::WithEnd(callback) => callback.call(store, (id, count, u32::from(end))),
            Self::WithoutEnd(callback) => callback.call(store, (id, count)),
        }
    }
}

impl<P: WasmParams + Words, R: WasmResults + Answered> Export<P, R> {
    /// Calls it, and tells the trace when there is one.
    #[inline]
    pub(crate) fn call<H>(&self, store: &mut Store<HostState<H>>, params: P) -> wasmtime::Result<R> {
        if store.data().trace.is_some() {
            return self.call_traced(store, params);
        }
        self.function.call(store, params)
    }

    #[cold]
    fn call_traced<H>(&self, store: &mut Store<HostState<H>>, params: P) -> wasmtime::Result<R> {
        Recorder::enter(store.data_mut(), self.name, &params.words());
        let result = self.function.call(&mut *store, params);
        Recorder::leave(store.data_mut(), result.as_ref().map(R::answer));
        result
    }
}

impl Answered for () {
    fn answer(&self) -> Option<u32> {
        None
    }
}

impl Answered for u32 {
    fn answer(&self) -> Option<u32> {
        Some(*self)
    }
}

/// A callback of the guest, with the type that the caller wants.
pub(crate) fn export<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut impl AsContextMut,
    name: &'static str,
) -> Option<Export<P, R>> {
    find(instance, store, name).map(|function| Export { name, function })
}

/// A function of the guest, with the type that the caller wants.
pub(crate) fn find<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut impl AsContextMut,
    name: &str,
) -> Option<TypedFunc<P, R>> {
    instance.get_typed_func(store, name).ok()
}

fn find_headers(instance: &Instance, store: &mut impl AsContextMut, name: &'static str) -> Option<HeadersCallback> {
    export(instance, store, name)
        .map(HeadersCallback::WithEnd)
        .or_else(|| export(instance, store, name).map(HeadersCallback::WithoutEnd))
}

//! `Callbacks`: which callbacks a module exports.

use wasmtime::{ExternType, FuncType, Module};

use crate::module::CompileError;

/// Which callbacks a module exports. The proxy need not call, nor prepare a stream for, the absent ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Callbacks {
    /// `proxy_on_context_create`.
    pub context_create: bool,
    /// `proxy_on_request_headers`.
    pub request_headers: bool,
    /// `proxy_on_request_body`.
    pub request_body: bool,
    /// `proxy_on_request_trailers`.
    pub request_trailers: bool,
    /// `proxy_on_response_headers`.
    pub response_headers: bool,
    /// `proxy_on_response_body`.
    pub response_body: bool,
    /// `proxy_on_response_trailers`.
    pub response_trailers: bool,
    /// `proxy_on_foreign_function`.
    pub foreign_function: bool,
    /// `proxy_on_log`.
    pub log: bool,
    /// `proxy_on_done`.
    pub done: bool,
    /// `proxy_on_delete`.
    pub delete: bool,
    /// `proxy_on_new_connection`.
    pub new_connection: bool,
    /// `proxy_on_downstream_data`.
    pub downstream_data: bool,
    /// `proxy_on_upstream_data`.
    pub upstream_data: bool,
    /// `proxy_on_downstream_connection_close`.
    pub downstream_close: bool,
    /// `proxy_on_upstream_connection_close`.
    pub upstream_close: bool,
    /// `proxy_on_tick`.
    pub tick: bool,
    /// `proxy_on_queue_ready`.
    pub queue_ready: bool,
    /// No callback: the module imports `proxy_set_effective_context`, so a callback of one context may reach into
    /// another's stream.
    pub effective_context: bool,
    /// No callback: the module imports a function by which it can read a head after that head has gone on.
    pub reads_heads: bool,
    /// No callback: the module imports a function by which it can read properties.
    pub reads_properties: bool,
}

impl Callbacks {
    /// What the module exports, each with the right type.
    pub(crate) fn of(module: &Module) -> Result<Self, CompileError> {
        for (name, forms) in SIGNATURES {
            match module.get_export(name) {
                Some(ExternType::Func(found)) if !forms.iter().any(|form| form.fits(&found)) => {
                    return Err(wrong_type(name, forms, &found.to_string()));
                }
                Some(ExternType::Func(_)) | None => {}
                Some(_) => return Err(wrong_type(name, forms, "something else than a function")),
            }
        }
        let has = |name| module.get_export(name).is_some();
        Ok(Self {
            context_create: has("proxy_on_context_create"),
            request_headers: has("proxy_on_request_headers"),
            request_body: has("proxy_on_request_body"),
            request_trailers: has("proxy_on_request_trailers"),
            response_headers: has("proxy_on_response_headers"),
            response_body: has("proxy_on_response_body"),
            response_trailers: has("proxy_on_response_trailers"),
            foreign_function: has("proxy_on_foreign_function"),
            log: has("proxy_on_log"),
            done: has("proxy_on_done"),
            delete: has("proxy_on_delete"),
            new_connection: has("proxy_on_new_connection"),
            downstream_data: has("proxy_on_downstream_data"),
            upstream_data: has("proxy_on_upstream_data"),
            downstream_close: has("proxy_on_downstream_connection_close"),
            upstream_close: has("proxy_on_upstream_connection_close"),
            tick: has("proxy_on_tick"),
            queue_ready: has("proxy_on_queue_ready"),
            effective_context: imports(module, &["proxy_set_effective_context"]),
            reads_heads: imports(module, &HEAD_READERS) || imports(module, &PROPERTY_READERS),
            reads_properties: imports(module, &PROPERTY_READERS),
        })
    }

    /// True when a stream's end is of interest: `on_log`, `on_done` or `on_delete` is there.
    pub fn end(&self) -> bool {
        self.log || self.done || self.delete
    }
}

/// Host functions that read header maps.
const HEAD_READERS: [&str; 3] =
    ["proxy_get_header_map_value", "proxy_get_header_map_pairs", "proxy_get_header_map_size"];

/// Host functions that read properties: CEL expressions among the foreign ones do.
const PROPERTY_READERS: [&str; 2] = ["proxy_get_property", "proxy_call_foreign_function"];

fn imports(module: &Module, names: &[&str]) -> bool {
    module.imports().any(|import| names.contains(&import.name()))
}

/// Numbers of parameters and results; all are i32 in this ABI.
struct Form(usize, usize);

/// The functions that the host calls, with the forms that the ABI's versions give them.
const SIGNATURES: &[(&str, &[Form])] = &[
    ("malloc", &[Form(1, 1)]),
    ("proxy_on_memory_allocate", &[Form(1, 1)]),
    ("proxy_on_context_create", &[Form(2, 0)]),
    ("proxy_on_vm_start", &[Form(2, 1)]),
    ("proxy_on_configure", &[Form(2, 1)]),
    ("proxy_on_request_headers", &[Form(3, 1), Form(2, 1)]),
    ("proxy_on_request_body", &[Form(3, 1)]),
    ("proxy_on_request_trailers", &[Form(2, 1)]),
    ("proxy_on_response_headers", &[Form(3, 1), Form(2, 1)]),
    ("proxy_on_response_body", &[Form(3, 1)]),
    ("proxy_on_response_trailers", &[Form(2, 1)]),
    ("proxy_on_foreign_function", &[Form(3, 0)]),
    ("proxy_on_new_connection", &[Form(1, 1)]),
    ("proxy_on_downstream_data", &[Form(3, 1)]),
    ("proxy_on_upstream_data", &[Form(3, 1)]),
    ("proxy_on_downstream_connection_close", &[Form(2, 0)]),
    ("proxy_on_upstream_connection_close", &[Form(2, 0)]),
    ("proxy_on_log", &[Form(1, 0)]),
    ("proxy_on_done", &[Form(1, 1)]),
    ("proxy_on_delete", &[Form(1, 0)]),
    ("proxy_on_tick", &[Form(1, 0)]),
    ("proxy_on_queue_ready", &[Form(2, 0)]),
    // Known and never called: HTTP/2 METADATA frames do not exist here, and Envoy does not call the last one either.
    ("proxy_on_request_metadata", &[Form(2, 1)]),
    ("proxy_on_response_metadata", &[Form(2, 1)]),
    ("proxy_validate_configuration", &[Form(2, 1)]),
    ("proxy_on_http_call_response", &[Form(5, 0)]),
    ("proxy_on_grpc_receive_initial_metadata", &[Form(3, 0)]),
    ("proxy_on_grpc_receive", &[Form(3, 0)]),
    ("proxy_on_grpc_receive_trailing_metadata", &[Form(3, 0)]),
    ("proxy_on_grpc_close", &[Form(3, 0)]),
    ("proxy_on_redis_call_response", &[Form(4, 0)]),
];

impl Form {
    fn fits(&self, found: &FuncType) -> bool {
        let all_i32 = found.params().chain(found.results()).all(|value| value.is_i32());
        all_i32 && (found.params().len(), found.results().len()) == (self.0, self.1)
    }
}

fn wrong_type(name: &str, forms: &[Form], found: &str) -> CompileError {
    let form = |Form(params, results): &Form| format!("{params} parameters and {results} results");
    let wanted: Vec<_> = forms.iter().map(form).collect();
    let reason = format!("wanted {} of type i32, found {found}", wanted.join(" or "));
    CompileError::WrongType { name: name.to_owned(), reason }
}

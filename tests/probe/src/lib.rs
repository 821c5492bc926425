//! A filter that does what each request asks of it, in any callback, and tells what the host answered.
//!
//! The request header `x-do` holds scripts, one for each callback: `request_headers { get_header_map_value 0 'x-a' && }`.
//! What a script saw goes into the response header `x-saw` and, when the stream ends, into a log line that starts
//! with the request header `x-id`. Scripts for callbacks without a stream come in the header `x-do-root` and in the
//! plugin's configuration, as `{"do": "tick { .. }"}`; what they saw is logged at once. The language: `script.rs`.

mod calls;
mod memory;
mod script;
mod state;

use state::{Context, with_context};

/// Defines a callback of the guest: its name, parameters, and what it answers when no script says.
macro_rules! callbacks {
    ($($export:ident as $phase:literal ($($argument:ident),*) $(-> $answer:literal)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $export(id: i32 $(, $argument: i32)*) $(-> callbacks!(@result $answer))? {
                let _answer = enter(id, $phase, &[$($argument),*]);
                $(_answer.unwrap_or($answer))?
            }
        )*
    };
    (@result $answer:literal) => { i32 };
}

callbacks! {
    proxy_on_vm_start as "vm_start" (size) -> 1;
    proxy_on_tick as "tick" ();
    proxy_on_queue_ready as "queue_ready" (queue);
    proxy_on_request_body as "request_body" (size, end) -> 0;
    proxy_on_request_trailers as "request_trailers" (count) -> 0;
    proxy_on_response_body as "response_body" (size, end) -> 0;
    proxy_on_response_trailers as "response_trailers" (count) -> 0;
    proxy_on_log as "log" ();
    proxy_on_done as "done" () -> 1;
    proxy_on_http_call_response as "http_call_response" (call, headers, body, trailers);
    proxy_on_grpc_receive_initial_metadata as "grpc_receive_initial_metadata" (call, count);
    proxy_on_grpc_receive as "grpc_receive" (call, size);
    proxy_on_grpc_receive_trailing_metadata as "grpc_receive_trailing_metadata" (call, count);
    proxy_on_grpc_close as "grpc_close" (call, status);
    proxy_on_foreign_function as "foreign_function" (function, size);
    proxy_on_new_connection as "new_connection" () -> 0;
    proxy_on_downstream_data as "downstream_data" (size, end) -> 0;
    proxy_on_upstream_data as "upstream_data" (size, end) -> 0;
    proxy_on_downstream_connection_close as "downstream_connection_close" (peer);
    proxy_on_upstream_connection_close as "upstream_connection_close" (peer);
}

/// The marker; a test that wants another version renames it in the module's bytes.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: i32) -> i32 {
    if let Some(script) = state::take_allocator_script() {
        let _ = script::run(&script, 0);
    }
    memory::allocate(size as u32 as usize)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_context_create(id: i32, parent: i32) {
    if parent != 0 {
        state::open(id, parent);
    } else {
        state::open_root(id);
    }
    let _ = enter(id, "context_create", &[parent]);
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(id: i32, size: i32) -> i32 {
    let config = calls::buffer(7, size as u32);
    if let Some((_, rest)) = config.split_once("\"do\":") {
        let text = rest.trim_start().trim_start_matches('"').split('"').next().unwrap_or_default();
        state::add_root_script(text);
    }
    enter(id, "configure", &[size]).unwrap_or(1)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(id: i32, count: i32, end: i32) -> i32 {
    let (script, name) = (calls::header(0, "x-do"), calls::header(0, "x-id"));
    if let Some(root) = calls::header(0, "x-do-root") {
        state::add_root_script(&root);
    }
    with_context(id, |context| {
        context.script = script.unwrap_or_default();
        context.name = name.unwrap_or_default();
    });
    state::set_last(id);
    enter(id, "request_headers", &[count, end]).unwrap_or(0)
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_response_headers(id: i32, count: i32, end: i32) -> i32 {
    let action = enter(id, "response_headers", &[count, end]).unwrap_or(0);
    let saw = with_context(id, |context| context.saw.clone()).unwrap_or_default();
    if !saw.is_empty() {
        calls::add_header(2, "x-saw", &saw);
    }
    action
}

#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_delete(id: i32) {
    let _ = enter(id, "delete", &[]);
    if let Some(Context { name, saw, .. }) = state::close(id)
        && !name.is_empty()
    {
        calls::log(&format!("probe {name} | {saw} ||"));
    }
}

/// Runs what this callback is asked for; what a script returns.
fn enter(id: i32, phase: &str, arguments: &[i32]) -> Option<i32> {
    let text = state::script_of(id, phase)?;
    let arguments = arguments.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let (saw, answer) = script::run(&text, id);
    state::told(id, &format!("{phase}({arguments}): {saw}"));
    answer
}

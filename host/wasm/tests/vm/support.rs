//! Guests to run: a prelude of imports and helpers, and texts written in place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use http::{Request, Response};
use portolan_wasm::{
    CompileError, ContextId, Engine, EngineOptions, ModuleStore, PluginModule, PluginVm, Shared, StartError, Status,
    StreamHost, StreamParts, StreamState, VmSettings, VmToken,
};

/// What every guest has: the marker, a memory, an allocator that never frees, and helpers.
///
/// `$note` appends a number (below 256) to a list that is kept as property `notes`, `$mark` appends without keeping yet; `$keep NAME` keeps the value whose
/// address and length are at 16 and 20 as property NAME; `$u32 ADDRESS` reads.
const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_size" (func $size (param i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_status" (func $buffer_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register_queue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define_metric (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment_metric (param i32 i64) (result i32)))
  (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
  (import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
  (import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_init" (func $redis_init (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_call" (func $redis_call (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 4)
  (global $heap (mut i32) (i32.const 131072))
  (global $notes (mut i32) (i32.const 0))
  (data (i32.const 1024) "notes")
  (func (export "proxy_abi_version_0_2_1"))
  (func $malloc (export "malloc") (param i32) (result i32)
    global.get $heap
    (global.set $heap (i32.add (global.get $heap) (local.get 0))))
  (func $u32 (param i32) (result i32) (i32.load (local.get 0)))
  (func $mark (param i32)
    (i32.store8 (i32.add (i32.const 2048) (global.get $notes)) (local.get 0))
    (global.set $notes (i32.add (global.get $notes) (i32.const 1))))
  (func $note (param i32)
    (call $mark (local.get 0))
    (drop (call $set_property (i32.const 1024) (i32.const 5) (i32.const 2048) (global.get $notes))))
  (func $keep (param i32 i32)
    (drop (call $set_property (local.get 0) (local.get 1) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
"#;

/// First address of the texts written in place.
const TEXTS: usize = 32768;

/// A guest with the prelude, in the text format. `@"text"` becomes the text's address and length.
pub(crate) fn guest(body: &str) -> String {
    let (mut code, mut data, mut rest) = (String::new(), String::new(), body);
    let mut address = TEXTS;
    while let Some((before, after)) = rest.split_once("@\"") {
        let (text, after) = after.split_once('"').unwrap();
        let length = text.len() - 2 * text.matches('\\').count();
        code.push_str(&format!("{before}(i32.const {address}) (i32.const {length})"));
        data.push_str(&format!("(data (i32.const {address}) \"{text}\")\n"));
        address += length;
        rest = after;
    }
    format!("(module {PRELUDE}\n{code}{rest}\n{data})")
}

/// A guest which runs `body` in `on_request_headers` and answers Continue.
pub(crate) fn on_request(body: &str) -> String {
    guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {body} (i32.const 0))"#
    ))
}

/// A host that knows a property, takes another, and has a foreign function.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) taken: Vec<u8>,
    pub(crate) for_connection: Vec<(Vec<u8>, Vec<u8>)>,
}

thread_local! {
    /// Streams outside their VM, by context: what a host lends.
    static LENT: RefCell<HashMap<ContextId, Stream>> = RefCell::default();
}

/// Puts a stream where other contexts' callbacks can reach it.
pub(crate) fn park(id: ContextId, stream: Stream) {
    LENT.with_borrow_mut(|lent| lent.insert(id, stream));
}

/// Takes a parked stream out again.
pub(crate) fn unpark(id: ContextId) -> Option<Stream> {
    LENT.with_borrow_mut(|lent| lent.remove(&id))
}

impl StreamHost for Host {
    fn lend(_: VmToken, id: ContextId) -> Option<Stream> {
        unpark(id)
    }

    fn take_back(_: VmToken, id: ContextId, stream: Stream) {
        park(id, stream);
    }

    fn property(&self, path: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
        match path {
            b"request\0method" => out.extend_from_slice(parts.request.method.as_str().as_bytes()),
            b"portolan.route" if !self.taken.is_empty() => out.extend_from_slice(&self.taken),
            _ => return false,
        }
        true
    }

    fn set_property(&mut self, path: &[u8], value: &[u8]) -> bool {
        let takes = path == b"portolan.route";
        if takes {
            self.taken = value.to_vec();
        }
        takes
    }

    fn keep_for_connection(&mut self, path: &[u8], value: &[u8]) {
        self.for_connection.push((path.to_vec(), value.to_vec()));
    }

    fn call_foreign(&mut self, name: &[u8], args: &[u8], out: &mut Vec<u8>) -> Status {
        if name != b"reverse" {
            return Status::NotFound;
        }
        out.extend(args.iter().rev());
        Status::Ok
    }
}

pub(crate) type Vm = PluginVm<Host>;
pub(crate) type Stream = Box<StreamState<Host>>;

pub(crate) fn engine() -> Engine {
    Engine::new(&EngineOptions::default()).unwrap()
}

pub(crate) fn compile(text: &str) -> Result<Arc<PluginModule>, CompileError> {
    ModuleStore::new(engine()).load(&wat::parse_str(text).unwrap())
}

pub(crate) fn start_with(text: &str, settings: VmSettings) -> Result<Vm, StartError> {
    PluginVm::start(&compile(text).unwrap(), &Arc::new(settings), &Shared::new())
}

pub(crate) fn start(text: &str) -> Vm {
    start_with(text, VmSettings::default()).unwrap()
}

/// `GET http://example.com/a?b` with a few headers.
pub(crate) fn stream() -> Stream {
    let request = Request::get("/a?b=c").header("host", "example.com").header("x-one", "1").header("x-one", "2");
    let (parts, ()) = request.header("content-length", "0").body(()).unwrap().into_parts();
    Box::new(StreamState::new(parts, "http", Host::default()))
}

/// The same with a response of 200.
pub(crate) fn answered_stream() -> Stream {
    let mut stream = stream();
    stream.response = Some(Response::builder().header("x-two", "2").body(()).unwrap().into_parts().0);
    stream
}

/// Runs a guest's `on_request_headers` on a fresh stream.
pub(crate) fn run(text: &str) -> Stream {
    let mut vm = start(text);
    let (stream, id) = vm.new_stream(stream());
    let (stream, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    stream
}

/// A property that a guest has kept.
pub(crate) fn property<'a>(stream: &'a Stream, name: &str) -> Option<&'a [u8]> {
    stream.properties.iter().find(|(kept, _)| **kept == *name.as_bytes()).map(|(_, value)| &**value)
}

/// The numbers that a guest has noted.
pub(crate) fn notes(stream: &Stream) -> &[u8] {
    property(stream, "notes").unwrap_or_default()
}

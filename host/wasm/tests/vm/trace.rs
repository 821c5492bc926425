//! The trace: callbacks and calls in words, to the sink that asked for them, within its limits.

use std::sync::{Arc, Mutex};

use portolan_wasm::{CallbackTrace, Outcome, TraceLimits, TraceSink, Tracer, Value, VmSettings};

use crate::support::{Vm, answered_stream, guest, on_request, park, start_with, stream, unpark};

#[derive(Default)]
struct Kept(Mutex<Vec<CallbackTrace>>);

impl TraceSink for Kept {
    fn callback(&self, trace: CallbackTrace) {
        self.0.lock().unwrap().push(trace);
    }
}

impl Kept {
    fn take(&self) -> Vec<CallbackTrace> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// What was told since the last time, a line each.
    fn lines(&self) -> Vec<String> {
        let lines = |trace: &CallbackTrace| {
            let calls = trace.calls.iter().map(|call| format!("{}{call}", "  ".repeat(1 + call.depth as usize)));
            std::iter::once(trace.to_string()).chain(calls).collect::<Vec<_>>()
        };
        self.take().iter().flat_map(lines).collect()
    }
}

/// A VM of this guest, and what it told after its start.
fn traced(text: &str, limits: TraceLimits) -> (Vm, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let tracer = Tracer { sink: kept.clone(), limits };
    let settings = VmSettings {
        trace: Some(tracer),
        plugin_name: "ns.traced".to_owned(),
        configuration: b"{\"a\":1}".to_vec(),
        ..VmSettings::default()
    };
    let vm = start_with(text, settings).unwrap();
    (vm, kept)
}

/// The lines of one `on_request_headers` with this body.
fn of_request(body: &str) -> Vec<String> {
    let (mut vm, kept) = traced(&on_request(body), TraceLimits::default());
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    kept.lines()
}

#[test]
fn a_callback_is_told_with_its_calls_arguments_and_answers() {
    let lines = of_request(
        r#"(drop (call $get (i32.const 0) @"authorization" (i32.const 16) (i32.const 20)))
           (drop (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))
           (drop (call $replace (i32.const 0) @"x-stamp" @"a1"))
           (drop (call $add (i32.const 2) @"x" @"y"))
           (drop (call $pairs (i32.const 0) (i32.const 16) (i32.const 20)))
           (drop (call $get_property @"request\00method" (i32.const 16) (i32.const 20)))
           (drop (call $set_property @"a\00b" @"\00\ff"))
           (drop (call $log (i32.const 2) @"say \22hi\22"))
           (drop (call $get_buffer (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 16) (i32.const 20)))"#,
    );
    let wanted = [
        "on_request_headers(7, end=true) -> Continue",
        "  get_header(\"authorization\") = none",
        "  get_header(\":path\") = \"/a?b=c\"",
        "  set_header(\"x-stamp\", \"a1\")",
        "  add_response_header(\"x\", \"y\") -> BAD_ARGUMENT",
        "  get_headers() = [:authority: example.com, :path: /a?b=c, :method: GET, :scheme: http, x-one: 1, x-one: 2, and \
         2 more]",
        "  get_property(\"request.method\") = \"GET\"",
        "  set_property(\"a.b\", 0x00ff)",
        "  log(info, \"say \\\"hi\\\"\")",
        "  get_body() = \"\"",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn metrics_have_names_and_passwords_are_hidden() {
    let lines = of_request(
        r#"(drop (call $define_metric (i32.const 0) @"hits" (i32.const 24)))
           (drop (call $increment_metric (call $u32 (i32.const 24)) (i64.const 1)))
           (drop (call $redis_init @"redis" @"user" @"sesame" (i32.const 5)))
           (drop (call $reply (i32.const 403) @"" @"no" @"" (i32.const -1)))
           (drop (call $tick_period (i32.const 250)))
           (i32.store (i32.const 64) (i32.const 1024)) (i32.store (i32.const 68) (i32.const 5))
           (drop (call $fd_write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 72)))
           (drop (call $fd_write (i32.const 9) (i32.const 64) (i32.const 1) (i32.const 72)))"#,
    );
    let wanted = [
        "on_request_headers(7, end=true) -> Reply",
        "  define_metric(counter, \"hits\") = metric=1",
        "  increment_metric(\"hits\", 1)",
        "  redis_init(\"redis\", username=\"user\", password=(hidden), timeout=5 ms) -> BAD_ARGUMENT",
        "  send_local_response(403, body=\"no\")",
        "  set_tick_period(250 ms)",
        "  write(1, \"notes\")",
        "  write(9, \"notes\") -> errno 8",
    ];
    assert_eq!(lines, wanted);
}

#[test]
fn values_and_calls_beyond_the_limits_are_cut_and_counted() {
    let text = on_request(
        r#"(drop (call $replace (i32.const 0) @"x-long" @"0123456789"))
           (drop (call $replace (i32.const 0) @"a" @"b")) (drop (call $replace (i32.const 0) @"a" @"b"))"#,
    );
    let (mut vm, kept) = traced(&text, TraceLimits { calls: 2, bytes: 6, pairs: 1 });
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    let trace = kept.take().pop().unwrap();
    assert_eq!((trace.calls.len(), trace.left_out), (2, 1));
    assert_eq!(trace.calls[0].to_string(), "set_header(\"x-long\", \"012345\"… (10 bytes))");
    assert!(matches!(&trace.calls[0].arguments[1].value, value @ Value::Text { bytes: 10, .. } if value.is_cut()));
}

#[test]
fn the_start_and_the_end_are_told_callback_by_callback() {
    let text = guest(
        r#"(func (export "_initialize") (drop (call $random (i32.const 16) (i32.const 8))))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $get_buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 16) (i32.const 20))) i32.const 1)
           (func (export "proxy_on_context_create") (param i32 i32))
           (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
             (drop (call $get (i32.const 0) @"x-one" (i32.const 16) (i32.const 20)))
             (drop (call $get (i32.const 2) @"x-two" (i32.const 16) (i32.const 20))) i32.const 1)
           (func (export "proxy_on_log") (param i32))
           (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)
           (func (export "proxy_on_delete") (param i32))"#,
    );
    let (mut vm, kept) = traced(&text, TraceLimits::default());
    let (stream, id) = vm.new_stream(answered_stream());
    let id = id.unwrap();
    let (stream, _) = vm.on_response_headers(id, stream, false);
    let _ = vm.end_stream(id, stream);
    let wanted = [
        "_initialize()",
        "  random_get(16, 8)",
        "on_context_create(parent=0)",
        "on_configure(7) -> true",
        "  get_configuration(0, 7) = \"{\\\"a\\\":1}\"",
        "on_context_create(parent=1)",
        "on_response_headers(2, end=false) -> Pause",
        "  get_request_header(\"x-one\") -> BAD_ARGUMENT",
        "  get_header(\"x-two\") = \"2\"",
        "on_log()",
        "on_done() -> true",
        "on_delete()",
    ];
    assert_eq!(kept.lines(), wanted);
}

#[test]
fn a_stream_has_one_number_in_all_its_callbacks_and_those_that_name_it() {
    let text = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
           (func (export "proxy_on_tick") (param i32)
             (drop (call $effective (i32.const 2)))
             (drop (call $get (i32.const 0) @"x-one" (i32.const 16) (i32.const 20))))"#,
    );
    let (mut vm, kept) = traced(&text, TraceLimits::default());
    let (mut stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    stream.request.headers.insert("x-request-id", "id-1".parse().unwrap());
    let (stream, _) = vm.on_request_headers(id, stream, true);
    park(id, stream);
    vm.on_tick().unwrap();
    let mut stream = unpark(id).unwrap();
    let traces = kept.take();
    let numbers: Vec<_> = traces.iter().map(|trace| trace.stream.as_ref().map(|stream| stream.number)).collect();
    assert_eq!(numbers, [Some(stream.number()), Some(stream.number())]);
    let traced = traces[0].stream.clone().unwrap();
    assert_eq!((&*traced.method, &*traced.path, traced.request_id.as_deref()), ("GET", "/a?b=c", Some("id-1")));
    assert_eq!((traces[1].context, traces[1].calls[1].context), (1, Some(2)));
    assert_eq!((traces[0].vm, &*traces[0].plugin), (vm.token(), "ns.traced"));
}

#[test]
fn a_trap_is_the_outcome_with_the_guests_backtrace_and_the_call_before_it_is_there() {
    let text = on_request(r#"(drop (call $log (i32.const 2) @"before")) unreachable"#);
    let (mut vm, kept) = traced(&text, TraceLimits::default());
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    assert!(action.is_err());
    let trace = kept.take().pop().unwrap();
    let Outcome::Failed(reason) = &trace.outcome else { panic!("{trace}") };
    assert!(reason.contains("unreachable") && reason.contains('\n') && trace.has_failed(), "{reason}");
    assert_eq!(trace.calls[0].to_string(), "log(info, \"before\")");
}

#[test]
fn calls_of_the_guests_allocator_are_nested_in_the_call_that_needed_it() {
    let text = r#"(module
      (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
      (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
      (memory (export "memory") 1) (data (i32.const 0) ":path")
      (func (export "proxy_abi_version_0_2_1"))
      (func (export "malloc") (param i32) (result i32)
        (drop (call $log (i32.const 0) (i32.const 1) (i32.const 4))) (i32.const 1024))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 16) (i32.const 20)))
        (drop (call $get (i32.const 0) (i32.const 70000) (i32.const 5) (i32.const 16) (i32.const 20)))
        i32.const 0))"#;
    let (mut vm, kept) = traced(text, TraceLimits::default());
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    let wanted = [
        "on_request_headers(7, end=true) -> Continue",
        "  get_header(\":path\") = \"/a?b=c\"",
        "    log(trace, \"path\")",
        "  get_header((unreadable)) -> INVALID_MEMORY_ACCESS",
    ];
    assert_eq!(kept.lines(), wanted);
}

//! Guests that make callouts, in WebAssembly's text format.

use std::fmt::Write as _;

/// Writes guests.
pub(super) struct Guest {
    code: String,
    data: String,
    next: usize,
}

/// Where texts begin; below are results, above 65536 is a table of contexts by call id, above 262144 the heap.
const TEXTS: usize = 4096;

const IMPORTS: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_grpc_call"
    (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
  (import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_init" (func $redis_init (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_redis_call" (func $redis_call (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (global $heap (mut i32) (i32.const 262144))
  (func $malloc (export "malloc") (param i32) (result i32)
    ;; Answers are read at once, so the heap may start again.
    (if (i32.gt_u (i32.add (global.get $heap) (local.get 0)) (i32.const 4194304))
      (then (global.set $heap (i32.const 262144))))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get 0))))
  ;; Remembers which context has made a call.
  (func $remember (param $call i32) (param $context i32)
    (i32.store (i32.add (i32.const 65536) (i32.rem_u (i32.mul (local.get $call) (i32.const 4)) (i32.const 131072)))
      (local.get $context)))
  ;; Goes back to the context of a call.
  (func $recall (param $call i32)
    (drop (call $effective (i32.load
      (i32.add (i32.const 65536) (i32.rem_u (i32.mul (local.get $call) (i32.const 4)) (i32.const 131072)))))))
  ;; The three digits at the address in 16.
  (func $digits (result i32) (local $at i32)
    (local.set $at (i32.load (i32.const 16)))
    (i32.add
      (i32.add
        (i32.mul (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)) (i32.const 100))
        (i32.mul (i32.sub (i32.load8_u offset=1 (local.get $at)) (i32.const 48)) (i32.const 10)))
      (i32.sub (i32.load8_u offset=2 (local.get $at)) (i32.const 48))))
  ;; Answers with a status, and with a number below 100,000 as the body.
  (func $reply_number (param $status i32) (param $number i32) (local $at i32)
    (local.set $at (i32.const 64))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $more (local.get $number)))
    (drop (call $reply (local.get $status) (i32.const 0) (i32.const 0)
      (local.get $at) (i32.sub (i32.const 64) (local.get $at)) (i32.const 0) (i32.const 0) (i32.const -1))))
  ;; Answers with what was read last.
  (func $reply_read (param $status i32)
    (drop (call $reply (local.get $status) (i32.const 0) (i32.const 0)
      (i32.load (i32.const 16)) (i32.load (i32.const 20)) (i32.const 0) (i32.const 0) (i32.const -1))))
"#;

impl Guest {
    pub(super) fn new() -> Self {
        Self { code: IMPORTS.to_owned(), data: String::new(), next: TEXTS }
    }

    /// Address and length of a text, as two operands.
    pub(super) fn text(&mut self, text: &[u8]) -> String {
        let escaped = text.iter().fold(String::new(), |mut escaped, byte| {
            let _ = write!(escaped, "\\{byte:02x}");
            escaped
        });
        let address = self.next;
        self.next += text.len();
        let _ = writeln!(self.data, "(data (i32.const {address}) \"{escaped}\")");
        format!("(i32.const {address}) (i32.const {})", text.len())
    }

    /// Address and length of pairs in the wire form.
    pub(super) fn pairs(&mut self, pairs: &[(&str, &str)]) -> String {
        let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let mut bytes = number(pairs.len()).to_vec();
        for (name, value) in pairs {
            bytes.extend(number(name.len()));
            bytes.extend(number(value.len()));
        }
        for (name, value) in pairs {
            bytes.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        self.text(&bytes)
    }

    pub(super) fn add(&mut self, code: &str) {
        self.code.push_str(code);
    }

    pub(super) fn finish(self) -> String {
        self.code + &self.data
    }

    /// An expression that makes the call `POST /check` with the body `hello`; its id is at 300.
    fn http_call(&mut self, upstream: &str, timeout_ms: u32) -> String {
        let head = [(":method", "POST"), (":path", "/check"), (":authority", "auth.test"), ("content-length", "99")];
        let (upstream, head, body) = (self.text(upstream.as_bytes()), self.pairs(&head), self.text(b"hello"));
        format!(
            "(call $http_call {upstream} {head} {body} (i32.const 0) (i32.const 0) (i32.const {timeout_ms}) (i32.const 300))"
        )
    }

    /// Holds each request until the upstream has answered. 200 lets it go on with the answer's `x-upstream` as `x-auth`;
    /// any other answer is the client's. A call that is refused answers 500 and the status.
    pub(super) fn asking(upstream: &str, timeout_ms: u32) -> String {
        let mut guest = Self::new();
        let call = guest.http_call(upstream, timeout_ms);
        let (status, name, header) = (guest.text(b":status"), guest.text(b"x-upstream"), guest.text(b"x-auth"));
        guest.add(&format!(
            r#"(func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
                 (local $refused i32)
                 (local.set $refused {call})
                 (if (local.get $refused)
                   (then (call $reply_number (i32.const 500) (local.get $refused)))
                   (else (call $remember (i32.load (i32.const 300)) (local.get $context))))
                 (i32.const 1))
               (func (export "proxy_on_http_call_response") (param $root i32) (param $call i32) (param i32 i32 i32)
                 (local $status i32)
                 (call $recall (local.get $call))
                 (drop (call $get (i32.const 6) {status} (i32.const 16) (i32.const 20)))
                 (local.set $status (call $digits))
                 (if (i32.eq (local.get $status) (i32.const 200))
                   (then
                     (drop (call $get (i32.const 6) {name} (i32.const 16) (i32.const 20)))
                     (drop (call $add (i32.const 0) {header} (i32.load (i32.const 16)) (i32.load (i32.const 20))))
                     (drop (call $continue (i32.const 0))))
                   (else
                     (drop (call $get_buffer (i32.const 4) (i32.const 0) (i32.const -1) (i32.const 16) (i32.const 20)))
                     (call $reply_read (local.get $status)))))"#
        ));
        guest.finish()
    }

    /// Makes many calls in one callback and answers with the number of those that were taken.
    pub(super) fn flooding(upstream: &str, calls: u32) -> String {
        let mut guest = Self::new();
        let call = guest.http_call(upstream, 10_000);
        guest.add(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (local $left i32) (local $taken i32)
                 (local.set $left (i32.const {calls}))
                 (loop $more
                   (local.set $taken (i32.add (local.get $taken) (i32.eqz {call})))
                   (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                   (br_if $more (local.get $left)))
                 (call $reply_number (i32.const 200) (local.get $taken))
                 (i32.const 1))"#
        ));
        guest.finish()
    }

    /// Makes a call when it is configured and one at each tick, and logs the status of each answer.
    pub(super) fn ticking(upstream: &str) -> String {
        let mut guest = Self::new();
        let call = guest.http_call(upstream, 1_000);
        let (status, line) = (guest.text(b":status"), guest.text(b"answered 200"));
        guest.add(&format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (drop (call $tick_period (i32.const 20)))
                 (i32.eqz {call}))
               (func (export "proxy_on_tick") (param i32) (drop {call}))
               (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
                 (drop (call $get (i32.const 6) {status} (i32.const 16) (i32.const 20)))
                 (if (i32.eq (call $digits) (i32.const 200)) (then (drop (call $log (i32.const 3) {line})))))"#
        ));
        guest.finish()
    }

    /// Holds each request, makes two calls, and traps when the first is answered.
    pub(super) fn trapping_on_answers(upstream: &str) -> String {
        let mut guest = Self::new();
        let call = guest.http_call(upstream, 1_000);
        guest.add(&format!(
            r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
                 (drop {call}) (drop {call}) (i32.const 1))
               (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)"#
        ));
        guest.finish()
    }

    /// Holds each request until a gRPC call has ended. A message is the client's with 200; a failure is 400 plus gRPC's
    /// status, with its message; a call that is refused answers 500 and the status.
    pub(super) fn grpc_asking(upstream: &[u8], method: &str, timeout_ms: u32) -> String {
        let mut guest = Self::new();
        let (upstream, service, method) =
            (guest.text(upstream), guest.text(b"test.Echo"), guest.text(method.as_bytes()));
        let (metadata, message) = (guest.pairs(&[("x-meta", "data"), ("te", "gzip")]), guest.text(b"hello"));
        guest.add(&format!(
            r#"(func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
                 (local $refused i32)
                 (local.set $refused (call $grpc_call
                   {upstream} {service} {method} {metadata} {message} (i32.const {timeout_ms}) (i32.const 300)))
                 (if (local.get $refused)
                   (then (call $reply_number (i32.const 500) (local.get $refused)))
                   (else (call $remember (i32.load (i32.const 300)) (local.get $context))))
                 (i32.const 1))
               (func (export "proxy_on_grpc_receive") (param $root i32) (param $call i32) (param i32)
                 (call $recall (local.get $call))
                 (drop (call $get_buffer (i32.const 5) (i32.const 0) (i32.const -1) (i32.const 16) (i32.const 20)))
                 (call $reply_read (i32.const 200)))
               (func (export "proxy_on_grpc_close") (param $root i32) (param $call i32) (param $status i32)
                 (call $recall (local.get $call))
                 (drop (call $get_status (i32.const 24) (i32.const 16) (i32.const 20)))
                 (call $reply_read (i32.add (i32.const 400) (i32.load (i32.const 24)))))"#
        ));
        guest.finish()
    }

    /// Holds each request until a gRPC stream has ended, on which it sends two messages, and its end when both have come
    /// back. The answer is a number: messages times 1,000, initial metadata times 100, trailing times 10, plus the status.
    pub(super) fn grpc_streaming(upstream: &str) -> String {
        let mut guest = Self::new();
        let (upstream, service, method) =
            (guest.text(upstream.as_bytes()), guest.text(b"test.Echo"), guest.text(b"Say"));
        let (one, two) = (guest.text(b"one"), guest.text(b"two"));
        guest.add(&format!(
            r#"(global $seen (mut i32) (i32.const 0))
               (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
                 (global.set $seen (i32.const 0))
                 (drop (call $grpc_stream {upstream} {service} {method} (i32.const 0) (i32.const 0) (i32.const 300)))
                 (call $remember (i32.load (i32.const 300)) (local.get $context))
                 (drop (call $grpc_send (i32.load (i32.const 300)) {one} (i32.const 0)))
                 (drop (call $grpc_send (i32.load (i32.const 300)) {two} (i32.const 0)))
                 (i32.const 1))
               (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
                 (global.set $seen (i32.add (global.get $seen) (i32.const 100))))
               (func (export "proxy_on_grpc_receive") (param $root i32) (param $call i32) (param $size i32)
                 (if (i32.eq (local.get $size) (i32.const 3))
                   (then (global.set $seen (i32.add (global.get $seen) (i32.const 1000)))))
                 (if (i32.ge_u (global.get $seen) (i32.const 2000))
                   (then (drop (call $grpc_close (local.get $call))))))
               (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
                 (global.set $seen (i32.add (global.get $seen) (i32.const 10))))
               (func (export "proxy_on_grpc_close") (param $root i32) (param $call i32) (param $status i32)
                 (call $recall (local.get $call))
                 (call $reply_number (i32.const 200) (i32.add (global.get $seen) (local.get $status))))"#
        ));
        guest.finish()
    }

    /// Holds each request until a Redis server has answered this command. The reply is the client's with 200; a server
    /// that cannot be asked is a 503, a call that is refused a 500 with the status.
    pub(super) fn redis_asking(
        cluster: &str,
        parameters: &str,
        password: &str,
        timeout_ms: u32,
        words: &[&str],
    ) -> String {
        let mut guest = Self::new();
        let (init, name) = (guest.text(format!("{cluster}{parameters}").as_bytes()), guest.text(cluster.as_bytes()));
        let mut query = format!("*{}\r\n", words.len());
        for word in words {
            let _ = write!(query, "${}\r\n{word}\r\n", word.len());
        }
        let (password, query) = (guest.text(password.as_bytes()), guest.text(query.as_bytes()));
        guest.add(&format!(
            r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
                 (i32.eqz (call $redis_init {init} (i32.const 0) (i32.const 0) {password} (i32.const {timeout_ms}))))
               (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
                 (local $refused i32)
                 (local.set $refused (call $redis_call {name} {query} (i32.const 300)))
                 (if (local.get $refused)
                   (then (call $reply_number (i32.const 500) (local.get $refused)))
                   (else (call $remember (i32.load (i32.const 300)) (local.get $context))))
                 (i32.const 1))
               (func (export "proxy_on_redis_call_response")
                 (param $root i32) (param $call i32) (param $status i32) (param i32)
                 (call $recall (local.get $call))
                 (if (local.get $status)
                   (then (call $reply_number (i32.const 503) (local.get $status)))
                   (else
                     (drop (call $get_buffer (i32.const 9) (i32.const 0) (i32.const -1) (i32.const 16) (i32.const 20)))
                     (call $reply_read (i32.const 200)))))"#
        ));
        guest.finish()
    }
}

//! Envoy's and Higress's foreign functions, from inside a guest.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use portolan_wasm::{FilterAction, VmSettings};

use crate::support::{Stream, answered_stream, guest, notes, on_request, property, run, start, start_with, stream};

/// Bytes as the text format writes them.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// A length-delimited field of a message.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        field.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [field.as_slice(), value].concat()
}

/// A varint field below 128.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// Notes the status of a call and keeps its result under `key`.
fn call(name: &str, args: &[u8], key: &str) -> String {
    format!(
        r#"(i32.store (i32.const 20) (i32.const 0))
           (call $note (call $foreign @"{name}" @"{}" (i32.const 16) (i32.const 20))) (call $keep @"{key}")"#,
        text(args)
    )
}

fn called(name: &str, args: &[u8]) -> (u8, Vec<u8>) {
    let stream = run(&on_request(&call(name, args, "result")));
    (notes(&stream)[0], property(&stream, "result").unwrap_or_default().to_vec())
}

#[test]
fn what_is_compressed_is_uncompressed() {
    let (status, packed) = called("compress", &b"hello ".repeat(20));
    assert_eq!((status, &packed[..2]), (0, &b"\x78\x9c"[..]));
    assert!(packed.len() < 40);
    assert_eq!(called("uncompress", &packed), (0, b"hello ".repeat(20)));
    assert_eq!(called("uncompress", &packed[..packed.len() - 1]).0, 3);
    assert_eq!(called("uncompress", b"not zlib").0, 3);
    assert_eq!(called("uncompress", b"").0, 3);
}

#[test]
fn a_root_context_has_the_functions_that_need_no_stream() {
    let args = text(b"abc");
    let mut vm = start(&guest(&format!(
        r#"(func (export "proxy_on_tick") (param i32)
             (call $mark (call $foreign @"compress" @"{args}" (i32.const 16) (i32.const 20)))
             (call $mark (call $foreign @"get_log_level" @"" (i32.const 16) (i32.const 20)))
             (call $mark (call $u32 (i32.const 20)))
             (call $mark (call $foreign @"expr_create" @"1 + 1" (i32.const 16) (i32.const 20)))
             (call $mark (call $foreign @"clear_route_cache" @"" (i32.const 16) (i32.const 20)))
             (call $mark (call $foreign @"unknown" @"" (i32.const 16) (i32.const 20))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $note (i32.const 77)) (i32.const 0))"#
    )));
    vm.on_tick().unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [0, 0, 4, 0, 1, 1, 77]);
}

/// Makes an expression and evaluates it: the statuses of both and the value.
fn evaluated(expression: &str) -> (Vec<u8>, Vec<u8>) {
    let stream = run(&on_request(&format!(
        "{} {}",
        call("expr_create", expression.as_bytes(), "token"),
        call("expr_evaluate", &[0; 4], "value")
    )));
    (notes(&stream).to_vec(), property(&stream, "value").unwrap_or_default().to_vec())
}

#[test]
fn expressions_see_the_attributes_and_answer_as_properties_do() {
    assert_eq!(evaluated("request.method == 'GET'"), (vec![0, 0], vec![1]));
    assert_eq!(evaluated("request.method + '!'"), (vec![0, 0], b"GET!".to_vec()));
    assert_eq!(evaluated("20 + 22").1, 42_i64.to_le_bytes());
    assert_eq!(evaluated("1.5").1, 1.5_f64.to_le_bytes());
    assert_eq!(evaluated("duration('2s')").1, 2_000_000_000_i64.to_le_bytes());
    assert_eq!(evaluated("timestamp('1970-01-01T00:00:01Z')").1, 1_000_000_000_i64.to_le_bytes());
    let pairs = b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0";
    assert_eq!(evaluated("{'a': 'b'}").1, pairs);
    assert_eq!(evaluated("has(request.absent)"), (vec![0, 0], vec![0]));
    assert_eq!(evaluated("plugin_name == '' ? 'none' : plugin_name").1, b"none");
    assert_eq!(evaluated("request.absent == 'x'").0, [0, 10], "an attribute that is not there fails, as in Envoy");
    assert_eq!(evaluated("nobody == 'x'").0, [0, 10]);
}

#[test]
fn what_is_no_expression_or_costs_too_much_is_refused() {
    for bad in ["1 +", "", "a.all(x, a.all(y, a.all(z, x == y)))", "'x'.matches(request.path)"] {
        assert_eq!(evaluated(bad).0, [2, 1], "{bad}");
    }
    assert_eq!(called("expr_create", b"\xff").0, 2);
    assert_eq!(called("expr_evaluate", b"abc").0, 2);
    assert_eq!(called("expr_evaluate", &[9, 0, 0, 0]).0, 1);
    assert_eq!(called("expr_delete", &[9, 0, 0, 0]).0, 0);
    assert_eq!(called("expr_delete", b"").0, 2);
}

#[test]
fn a_deleted_expression_is_gone_and_its_token_is_used_again() {
    let stream = run(&on_request(
        &[
            call("expr_create", b"1", "a"),
            call("expr_create", b"2", "b"),
            call("expr_delete", &[0; 4], "c"),
            call("expr_evaluate", &[0; 4], "d"),
            call("expr_create", b"3", "e"),
            call("expr_evaluate", &[0; 4], "f"),
            call("expr_evaluate", &[1, 0, 0, 0], "g"),
        ]
        .join("\n"),
    ));
    assert_eq!(notes(&stream), [0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(property(&stream, "b"), Some(&[1, 0, 0, 0][..]));
    assert_eq!(property(&stream, "e"), Some(&[0; 4][..]));
    assert_eq!(property(&stream, "f"), Some(&3_i64.to_le_bytes()[..]));
    assert_eq!(property(&stream, "g"), Some(&2_i64.to_le_bytes()[..]));
}

#[test]
fn a_vm_keeps_a_bounded_number_of_expressions() {
    let create = r#"(local $n i32) (local $last i32)
        (loop $again
          (local.set $last (call $foreign @"expr_create" @"1" (i32.const 16) (i32.const 20)))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $again (i32.and (i32.eqz (local.get $last)) (i32.lt_u (local.get $n) (i32.const 1000)))))
        (call $note (local.get $last))
        (call $note (i32.eq (local.get $n) (i32.const 257)))"#;
    let mut settings = VmSettings::default();
    settings.limits.callback_deadline = std::time::Duration::from_secs(60);
    let mut vm = start_with(&on_request(create), settings).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [10, 1]);
}

#[test]
fn a_declared_property_has_a_type_and_can_be_read_only() {
    let once = [field(1, b"once"), number(2, 1), number(3, 1), number(5, 1)].concat();
    let stream = run(&on_request(&format!(
        r#"{} {}
           (call $note (call $set_property @"once" @"first"))
           (call $note (call $set_property @"once" @"second"))
           (call $note (call $get_property @"once" (i32.const 16) (i32.const 20))) (call $keep @"seen")
           {} {} {}"#,
        call("declare_property", &once, "a"),
        call("declare_property", &once, "a"),
        call("expr_create", b"once == 'first' && filter_state['wasm.once'] == 'first'", "b"),
        call("expr_evaluate", &[0; 4], "value"),
        call("declare_property", b"\xff", "c"),
    )));
    assert_eq!(notes(&stream), [0, 2, 0, 2, 0, 0, 0, 2]);
    assert_eq!(property(&stream, "seen"), Some(&b"first"[..]));
    assert_eq!(property(&stream, "value"), Some(&[1][..]));
}

#[test]
fn a_property_for_the_connection_is_given_to_the_host() {
    let declared = [field(1, b"user"), number(5, 2)].concat();
    let stream = run(&on_request(&format!(
        r#"{} (call $note (call $set_property @"user" @"ann")) (call $note (call $set_property @"other" @"x"))"#,
        call("declare_property", &declared, "a")
    )));
    assert_eq!(notes(&stream), [0, 0, 0]);
    assert_eq!(stream.host.for_connection, [(b"user".to_vec(), b"ann".to_vec())]);
}

#[test]
fn envoy_s_filter_state_takes_what_envoy_knows() {
    let set = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
    assert_eq!(called("set_envoy_filter_state", &set("envoy.unheard.of", "x")).0, 1);
    assert_eq!(called("set_envoy_filter_state", &set("envoy.upstream.dynamic_port", "x")).0, 2);
    assert_eq!(called("set_envoy_filter_state", &set("envoy.upstream.dynamic_port", "65536")).0, 2);
    assert_eq!(called("set_envoy_filter_state", b"\xff").0, 2);
    let stream = run(&on_request(&format!(
        r#"{} (call $note (call $get_property @"filter_state\00envoy.string" (i32.const 16) (i32.const 20)))
           (call $keep @"seen")"#,
        call("set_envoy_filter_state", &set("envoy.string", "blocked"), "a")
    )));
    assert_eq!(notes(&stream), [0, 0]);
    assert_eq!(property(&stream, "seen"), Some(&b"blocked"[..]));
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let lines: Vec<_> =
        STANDARD.encode(der).as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

/// Signs with a private key and checks with the public one, in both forms.
fn signs_and_verifies(private: &[u8], public: &[u8], hash: &[u8]) {
    let signed = |key: Vec<u8>| {
        let (status, result) = called("sign", &[field(1, hash), key, field(3, b"some text")].concat());
        assert_eq!((status, &result[..3]), (0, &b"\x08\x01\x12"[..]), "{result:?}");
        // The signature is the rest behind its length, which takes one or two bytes.
        let start = if result[3] & 0x80 == 0 { 4 } else { 5 };
        result[start..].to_vec()
    };
    let verified = |key: Vec<u8>, signature: &[u8], text: &[u8]| {
        called("verify_signature", &[field(1, hash), key, field(3, signature), field(4, text)].concat())
    };
    for signature in [signed(field(2, private)), signed(field(4, &pem("PRIVATE KEY", private)))] {
        for key in [field(2, public), field(5, &pem("PUBLIC KEY", public))] {
            assert_eq!(verified(key.clone(), &signature, b"some text"), (0, b"\x08\x01".to_vec()));
            let (status, result) = verified(key, &signature, b"other text");
            assert_eq!((status, result[0]), (0, 0x12));
            assert!(result.ends_with(b"Failed to verify digest. Error code: 0"));
        }
    }
}

#[test]
fn signatures_of_rsa_and_ecdsa_keys_are_made_and_checked() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    signs_and_verifies(private.as_ref(), public.as_ref(), b"SHA256");
    signs_and_verifies(private.as_ref(), public.as_ref(), b"sha512");
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    signs_and_verifies(document.as_ref(), public.as_ref(), b"sha256");
    let with = |hash: &[u8]| called("sign", &[field(1, hash), field(2, document.as_ref()), field(3, b"x")].concat());
    let (status, result) = with(b"md5");
    assert_eq!((status, result), (0, field(3, b"md5 is not supported.")));
    assert_eq!(with(b"sha224").0, 0, "what we cannot do is said in the result");
}

#[test]
fn keys_that_cannot_be_read_are_bad_arguments() {
    for key in [vec![], field(2, b"no key"), field(4, b"no key"), [field(2, b"a"), field(4, b"b")].concat()] {
        assert_eq!(called("sign", &[field(1, b"sha256"), key, field(3, b"x")].concat()).0, 2);
    }
    assert_eq!(called("verify_signature", &[field(1, b"sha256"), field(2, b"no key")].concat()).0, 2);
    assert_eq!(called("verify_signature", b"\xff").0, 2);
}

#[test]
fn signatures_by_pss_and_ed25519_are_checked_by_names_of_our_own() {
    let verified = |scheme: &[u8], key: &[u8], signature: &[u8], text: &[u8]| {
        called("verify_signature", &[field(1, scheme), field(2, key), field(3, signature), field(4, text)].concat())
    };
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = rsa.public_key().as_der().unwrap();
    let mut signature = vec![0; rsa.public_modulus_len()];
    rsa.sign(&aws_lc_rs::signature::RSA_PSS_SHA256, &SystemRandom::new(), b"text", &mut signature).unwrap();
    assert_eq!(verified(b"pss-sha256", public.as_ref(), &signature, b"text"), (0, b"\x08\x01".to_vec()));
    assert_eq!(verified(b"pss-sha256", public.as_ref(), &signature, b"other").1[0], 0x12);
    assert_eq!(verified(b"sha256", public.as_ref(), &signature, b"text").1[0], 0x12);
    assert_eq!(verified(b"ed25519", public.as_ref(), &signature, b"text").1[0], 0x12);
    let ed = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let public = [&head[..], ed.public_key().as_ref()].concat();
    let signature = ed.sign(b"text");
    assert_eq!(verified(b"ed25519", &public, signature.as_ref(), b"text"), (0, b"\x08\x01".to_vec()));
    assert_eq!(verified(b"ed25519", &public, signature.as_ref(), b"other").1[0], 0x12);
    assert_eq!(verified(b"sha256", &public, signature.as_ref(), b"text").1[0], 0x12);
}

fn inject(on: &str, args: &[u8]) -> (Stream, FilterAction) {
    let name = "inject_encoded_data_to_filter_chain_on_header";
    let body = format!(r#"(call $note (call $foreign @"{name}" @"{}" (i32.const 0) (i32.const 0)))"#, text(args));
    let mut vm = start(&guest(&format!(
        r#"(func (export "proxy_on_{on}_headers") (param i32 i32 i32) (result i32) {body} (i32.const 1))"#
    )));
    let (stream, id) = vm.new_stream(answered_stream());
    let (stream, action) = if on == "request" {
        vm.on_request_headers(id.unwrap(), stream, true)
    } else {
        vm.on_response_headers(id.unwrap(), stream, true)
    };
    (stream, action.unwrap())
}

#[test]
fn a_response_without_a_body_is_given_one() {
    let whole = [field(1, b"hello"), number(2, 1)].concat();
    let (mut stream, action) = inject("response", &whole);
    assert_eq!((notes(&stream), action), (&[0][..], FilterAction::Reply));
    let reply = stream.local_reply.take().unwrap();
    assert_eq!(
        (reply.status.as_u16(), reply.body, &reply.headers["x-two"]),
        (200, Bytes::from("hello"), &"2".parse().unwrap())
    );
    assert_eq!(notes(&inject("request", &whole).0), [2], "only in `on_response_headers`");
    assert_eq!(notes(&inject("response", &field(1, b"hello")).0), [2], "only a whole body");
}

#[test]
fn data_is_appended_to_a_response_body_that_waits() {
    let args = |body: &[u8], end: u8| text(&[field(1, body), number(2, end)].concat());
    let mut vm = start(&guest(&format!(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (call $note (call $foreign @"inject_encoded_data_to_filter_chain" @"{}" (i32.const 0) (i32.const 0)))
             (call $note (call $foreign @"inject_encoded_data_to_filter_chain" @"{}" (i32.const 0) (i32.const 0)))
             (i32.const 1))"#,
        args(b"b", 0),
        args(b"c", 1)
    )));
    let (mut stream, id) = vm.new_stream(answered_stream());
    stream.response_body.push(Bytes::from_static(b"a"));
    let (stream, _) = vm.on_response_body(id.unwrap(), stream, 1, false);
    assert_eq!(notes(&stream), [0, 0]);
    assert_eq!(stream.response_body.as_slice(), b"abc");
    assert!(stream.resumed.response);
}

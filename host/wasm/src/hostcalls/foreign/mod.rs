//! `call_foreign_function`: Envoy's functions and Higress's, one file for each family, and the host's own.

mod crypto;
mod expressions;
mod filter_state;
mod higress;
mod zlib;

pub use expressions::Condition;
pub(crate) use expressions::Expressions;
pub(crate) use filter_state::Declared;
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{Answer, Out, answer, bytes};
use crate::host_state::HostState;
use crate::stream::StreamHost;

/// What names of the host's own functions begin with.
const OWN: &[u8] = b"portolan_";

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |mut caller: Caller<'_, HostState<H>>, name: u32, nl: u32, args: u32, al: u32, pointer: u32, length: u32| {
            answer(&mut caller, Out { pointer, length }, |memory, state, value| {
                call(state, bytes(memory, name, nl)?, bytes(memory, args, al)?, value)
            })
        },
    )?;
    Ok(())
}

/// Functions that mean no stream work on the root context too.
fn call<H: StreamHost>(state: &mut HostState<H>, name: &[u8], args: &[u8], value: &mut Vec<u8>) -> Answer {
    if name.starts_with(OWN) {
        return call_host(state, name, args, value);
    }
    match name {
        b"clear_route_cache" => {
            state.stream_mut().ok_or(Status::NotFound)?.route_cleared = true;
            Ok(())
        }
        b"compress" => zlib::compress(args, value),
        b"uncompress" => zlib::uncompress(args, value),
        b"sign" => crypto::sign(args, value),
        b"verify_signature" => crypto::verify_signature(args, value),
        b"declare_property" => filter_state::declare_property(state, args),
        b"set_envoy_filter_state" => filter_state::set_envoy_filter_state(state, args),
        b"expr_create" => expressions::create(state, args, value),
        b"expr_evaluate" => expressions::evaluate(state, args, value),
        b"expr_delete" => expressions::delete(state, args),
        b"get_log_level" => higress::log_level(value),
        b"inject_encoded_data_to_filter_chain_on_header" => higress::inject_on_header(state, args),
        b"inject_encoded_data_to_filter_chain" => higress::inject(state, args),
        _ => call_host(state, name, args, value),
    }
}

/// For the fuzzer: the arguments of the functions that parse theirs.
pub(crate) fn decode_arguments(args: &[u8]) {
    let mut value = Vec::new();
    let _ = zlib::uncompress(args, &mut value);
    let _ = crypto::verify_signature(args, &mut value);
    let _ = crypto::sign(args, &mut value);
    filter_state::declaration(args);
    let _ = higress::arguments(args);
    if let Ok(text) = std::str::from_utf8(args) {
        expressions::compile(text);
    }
}

fn call_host<H: StreamHost>(state: &mut HostState<H>, name: &[u8], args: &[u8], value: &mut Vec<u8>) -> Answer {
    let stream = state.stream_mut().ok_or(Status::NotFound)?;
    stream.host.call_foreign(name, args, value).into_answer()
}

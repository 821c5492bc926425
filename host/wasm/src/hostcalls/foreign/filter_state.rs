//! `declare_property` and `set_envoy_filter_state`: filter state with a type, a life span, or a meaning to the proxy.

use crate::abi::{Status, protobuf};
use crate::guest::Answer;
use crate::host_state::HostState;
use crate::hostcalls::properties;
use crate::stream::StreamHost;

/// Most properties that one plugin may declare.
const MAX_DECLARED: usize = 256;

/// What Envoy knows how to make from bytes, and what must hold for the bytes. Others are NOT_FOUND, as in Envoy.
const OBJECTS: &[(&str, Content)] = &[
    ("envoy.string", Content::Any),
    ("envoy.hashable_string", Content::Any),
    ("envoy.tcp_proxy.cluster", Content::Any),
    ("envoy.tcp_proxy.per_connection_idle_timeout_ms", Content::Number(u64::MAX)),
    ("envoy.network.upstream_server_name", Content::Any),
    ("envoy.network.upstream_subject_alt_names", Content::Any),
    ("envoy.network.application_protocols", Content::Any),
    ("envoy.upstream.dynamic_host", Content::Any),
    ("envoy.upstream.dynamic_port", Content::Number(65_535)),
    ("envoy.ratelimit.hits_addend", Content::Number(u32::MAX as u64)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Any,
    /// A decimal number up to this.
    Number(u64),
}

/// What a plugin has said of a property before it sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: Box<[u8]>,
    /// Set once, then refused.
    pub(crate) read_only: bool,
    /// Text in expressions; else bytes. Protobuf and FlatBuffers are bytes here: nothing reads their fields.
    pub(crate) is_text: bool,
    /// Stays with the client's connection, for its later requests.
    pub(crate) for_connection: bool,
}

/// `declare_property`. Once for each name and plugin: again is BAD_ARGUMENT, as in Envoy. More than 256: INTERNAL_FAILURE.
pub(super) fn declare_property<H: StreamHost>(state: &mut HostState<H>, args: &[u8]) -> Answer {
    let declared = declaration(args).ok_or(Status::BadArgument)?;
    if state.declared.iter().any(|known| known.name == declared.name) {
        return Err(Status::BadArgument);
    }
    if state.declared.len() == MAX_DECLARED {
        return Err(Status::InternalFailure);
    }
    state.declared.push(declared);
    Ok(())
}

/// `string name = 1; bool readonly = 2; WasmType type = 3; bytes schema = 4; LifeSpan span = 5`.
pub(super) fn declaration(args: &[u8]) -> Option<Declared> {
    let (mut name, mut read_only, mut kind, mut span) = (&b""[..], 0, 0, 0);
    let read = protobuf::read(args, |number, field| match number {
        1 => name = field.bytes().unwrap_or(name),
        2 => read_only = field.number().unwrap_or(read_only),
        3 => kind = field.number().unwrap_or(kind),
        5 => span = field.number().unwrap_or(span),
        _ => {}
    });
    let valid = read && std::str::from_utf8(name).is_ok();
    valid.then(|| Declared {
        name: name.into(),
        read_only: read_only != 0,
        is_text: kind == 1,
        for_connection: span == 2,
    })
}

/// `set_envoy_filter_state`: kept under Envoy's own key, without the `wasm.` of properties. An unknown key is NOT_FOUND, a
/// value that the key cannot take BAD_ARGUMENT.
pub(super) fn set_envoy_filter_state<H: StreamHost>(state: &mut HostState<H>, args: &[u8]) -> Answer {
    let (mut key, mut value, mut span) = (&b""[..], &b""[..], 0);
    let read = protobuf::read(args, |number, field| match number {
        1 => key = field.bytes().unwrap_or(key),
        2 => value = field.bytes().unwrap_or(value),
        3 => span = field.number().unwrap_or(span),
        _ => {}
    });
    if !read {
        return Err(Status::BadArgument);
    }
    let known = OBJECTS.iter().find(|(name, _)| name.as_bytes() == key).ok_or(Status::NotFound)?;
    if !known.1.takes(value) {
        return Err(Status::BadArgument);
    }
    let path = [b"filter_state\0", key].concat();
    let stream = state.stream_mut().ok_or(Status::NotFound)?;
    if span == 2 {
        stream.host.keep_for_connection(&path, value);
    }
    properties::keep(stream, &path, value)
}

impl Content {
    fn takes(self, value: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(value) else { return false };
        match self {
            Self::Any => true,
            Self::Number(most) => text.parse::<u64>().is_ok_and(|number| number <= most),
        }
    }
}

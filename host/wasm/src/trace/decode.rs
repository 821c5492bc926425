//! Arguments and results in words, read from the guest's memory. Pointers are the guest's: one that leads nowhere is shown as
//! such.

use std::collections::HashMap;

use wasmtime::Val;

use super::functions::{Function, Part};
use super::{Argument, TraceLimits, Value};
use crate::abi::pairs;
use crate::attributes;
use crate::context::Direction;
use crate::host_state::HostState;

/// From here on a size means the whole.
const WHOLE: u32 = i32::MAX as u32;

/// Labels of the callbacks' arguments after the context; what is not here has none but the context.
const CALLBACKS: &[(&str, &[&str])] = &[
    ("proxy_on_context_create", &["parent"]),
    ("proxy_on_vm_start", &[""]),
    ("proxy_on_configure", &[""]),
    ("proxy_on_request_headers", &["", END]),
    ("proxy_on_request_body", &["", END]),
    ("proxy_on_request_trailers", &[""]),
    ("proxy_on_response_headers", &["", END]),
    ("proxy_on_response_body", &["", END]),
    ("proxy_on_response_trailers", &[""]),
    ("proxy_on_foreign_function", &["function", "size"]),
    ("proxy_on_downstream_data", &["", END]),
    ("proxy_on_upstream_data", &["", END]),
    ("proxy_on_downstream_connection_close", &[PEER]),
    ("proxy_on_upstream_connection_close", &[PEER]),
    ("proxy_on_queue_ready", &["queue"]),
    ("proxy_on_http_call_response", &["call", "headers", "body", "trailers"]),
    ("proxy_on_grpc_receive_initial_metadata", &["call", "headers"]),
    ("proxy_on_grpc_receive", &["call", "size"]),
    ("proxy_on_grpc_receive_trailing_metadata", &["call", "trailers"]),
    ("proxy_on_grpc_close", &["call", "status"]),
    ("proxy_on_redis_call_response", &["call", "status", "size"]),
];

/// A flag.
const END: &str = "end";

/// Who has closed a connection.
const PEER: &str = "peer";

/// The arguments of a callback.
pub(super) fn callback_arguments(function: &str, words: &[u32]) -> Vec<Argument> {
    let labels = CALLBACKS.iter().find(|(name, _)| *name == function).map_or(&[][..], |(_, labels)| labels);
    let argument = |(label, word): (&&'static str, &u32)| {
        let value = match *label {
            END => Value::Flag(*word != 0),
            PEER => word_of(&["unknown", "local", "remote"], *word),
            _ => Value::Number((*word).into()),
        };
        Argument::new(label, value)
    };
    labels.iter().zip(words.iter().skip(1)).map(argument).collect()
}

/// Word and arguments of a host call.
pub(super) fn call<H>(
    function: &Function,
    memory: &[u8],
    params: &[Val],
    state: &HostState<H>,
    metrics: &HashMap<u32, String>,
    limits: &TraceLimits,
) -> (String, Vec<Argument>) {
    let own = state.phase.direction().filter(|_| state.effective == state.current);
    let (mut word, mut arguments, mut at) = (function.word.to_owned(), Vec::new(), 0);
    for part in function.parts {
        let number = number(params, at);
        let text = |label| Argument::new(label, text_value(memory, params, at, limits));
        match *part {
            Part::Map => word = word.replace("{map}", &map_noun(number, own)),
            Part::Buffer => word = word.replace("{buffer}", &buffer_noun(number, own)),
            Part::Range => arguments.extend(range(number, self::number(params, at + 1))),
            Part::Text(label) => arguments.push(text(label)),
            Part::Path => arguments.push(Argument::new("", path_value(memory, params, at, limits))),
            Part::Secret(label) => arguments.push(Argument::new(label, Value::Hidden)),
            Part::Pairs(label) => {
                arguments.push(Argument::new(label, pairs_value(self::text(memory, params, at), limits)))
            }
            Part::Number(label) => arguments.push(Argument::new(label, Value::Number(number.into()))),
            Part::Signed(label) => {
                arguments.push(Argument::new(label, Value::Number(number.cast_signed().into())));
            }
            Part::Long(label) => arguments.push(Argument::new(label, Value::Number(long(params, at)))),
            Part::Millis(label) => arguments.push(Argument::new(label, Value::Millis(number))),
            Part::Flag(label) => arguments.push(Argument::new(label, Value::Flag(number != 0))),
            Part::Level => arguments.push(Argument::new("", word_of(&LEVELS, number))),
            Part::MetricKind => arguments.push(Argument::new("", word_of(&METRICS, number))),
            Part::Metric => arguments.push(Argument::new("", metric(metrics, number))),
            Part::Stream => arguments.push(Argument::new("", word_of(&STREAMS, number))),
            Part::Pieces => {
                arguments.push(Argument::new("", pieces(memory, number, self::number(params, at + 1), limits)))
            }
            Part::Skip | Part::OutText(_) | Part::OutProperty | Part::OutPairs => {}
            Part::OutNumber(_) | Part::OutLong | Part::OutLevel => {}
        }
        at += part.width();
    }
    arguments.retain(says_something);
    (word, arguments)
}

/// What was handed to the guest.
pub(super) fn results(function: &Function, memory: &[u8], params: &[Val], limits: &TraceLimits) -> Vec<Argument> {
    let (mut results, mut at) = (Vec::new(), 0);
    for part in function.parts {
        let here = number(params, at);
        let found = || indirect(memory, here, number(params, at + 1));
        let (label, value) = match *part {
            Part::OutText(label) => (label, found().map(|found| bytes_value(found, limits))),
            Part::OutProperty => {
                ("", found().map(|found| property_value(self::text(memory, params, 0), found, limits)))
            }
            Part::OutPairs => ("", found().map(|found| pairs_value(found, limits))),
            Part::OutNumber(label) => (label, read(memory, here).map(|number| Value::Number(number.into()))),
            Part::OutLevel => ("", read(memory, here).map(|number| word_of(&LEVELS, number))),
            Part::OutLong => ("", read_long(memory, here).map(|number| Value::Number(number.into()))),
            _ => ("", None),
        };
        results.extend(value.map(|value| Argument::new(label, value)));
        at += part.width();
    }
    results
}

/// Parameters that nothing is known of.
pub(super) fn numbers(params: &[Val]) -> Vec<Argument> {
    (0..params.len()).map(|at| Argument::new("", Value::Number(long(params, at)))).collect()
}

/// The text that two parameters point to.
pub(super) fn text<'a>(memory: &'a [u8], params: &[Val], at: usize) -> Option<&'a [u8]> {
    slice(memory, number(params, at), number(params, at + 1))
}

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "critical"];
const METRICS: [&str; 3] = ["counter", "gauge", "histogram"];
const STREAMS: [&str; 4] = ["request", "response", "downstream", "upstream"];

/// Labelled texts and lists that are empty were not meant.
fn says_something(argument: &Argument) -> bool {
    match &argument.value {
        Value::Text { bytes: 0, .. } | Value::Pairs { count: 0, .. } => argument.label.is_empty(),
        Value::Number(-1) => argument.label != "grpc_status",
        _ => true,
    }
}

/// A header map's noun, with the direction unless it is the callback's own.
fn map_noun(kind: u32, own: Option<Direction>) -> String {
    let (direction, noun) = match kind {
        0 => (Some(Direction::Request), "header"),
        1 => (Some(Direction::Request), "trailer"),
        2 => (Some(Direction::Response), "header"),
        3 => (Some(Direction::Response), "trailer"),
        4 => (None, "grpc_header"),
        5 => (None, "grpc_trailer"),
        6 => (None, "call_header"),
        7 => (None, "call_trailer"),
        other => return format!("map_{other}_value"),
    };
    directed(direction, own, noun)
}

fn buffer_noun(kind: u32, own: Option<Direction>) -> String {
    let (direction, noun) = match kind {
        0 => (Some(Direction::Request), "body"),
        1 => (Some(Direction::Response), "body"),
        2 => (None, "downstream_data"),
        3 => (None, "upstream_data"),
        4 => (None, "call_body"),
        5 => (None, "grpc_message"),
        6 => (None, "vm_configuration"),
        7 => (None, "configuration"),
        8 => (None, "arguments"),
        9 => (None, "redis_reply"),
        other => return format!("buffer_{other}"),
    };
    directed(direction, own, noun)
}

fn directed(direction: Option<Direction>, own: Option<Direction>, noun: &str) -> String {
    match direction {
        Some(Direction::Request) if own != direction => format!("request_{noun}"),
        Some(Direction::Response) if own != direction => format!("response_{noun}"),
        _ => noun.to_owned(),
    }
}

fn range(start: u32, size: u32) -> Vec<Argument> {
    if start == 0 && size >= WHOLE {
        return Vec::new();
    }
    [start, size].map(|number| Argument::new("", Value::Number(number.into()))).into()
}

fn metric(metrics: &HashMap<u32, String>, number: u32) -> Value {
    match metrics.get(&number) {
        Some(name) => Value::Text { text: name.clone(), bytes: name.len() },
        None => Value::Number(number.into()),
    }
}

fn word_of(words: &[&str], number: u32) -> Value {
    match words.get(number as usize) {
        Some(word) => Value::Word((*word).to_owned()),
        None => Value::Number(number.into()),
    }
}

fn text_value(memory: &[u8], params: &[Val], at: usize, limits: &TraceLimits) -> Value {
    bytes_value(text(memory, params, at), limits)
}

fn bytes_value(found: Option<&[u8]>, limits: &TraceLimits) -> Value {
    found.map_or(Value::Unreadable, |bytes| Value::of_bytes(bytes, limits))
}

/// Pieces beyond what a value may be long are not looked at.
fn pieces(memory: &[u8], list: u32, count: u32, limits: &TraceLimits) -> Value {
    let mut whole = Vec::new();
    for piece in 0..count {
        let entry = list.wrapping_add(piece.wrapping_mul(8));
        let found = read(memory, entry).zip(read(memory, entry.wrapping_add(4)));
        let Some(bytes) = found.and_then(|(address, length)| slice(memory, address, length)) else {
            return Value::Unreadable;
        };
        whole.extend_from_slice(bytes);
        if whole.len() > limits.bytes {
            break;
        }
    }
    Value::of_bytes(&whole, limits)
}

/// The parts of a path are joined with NUL; people write dots.
fn path_value(memory: &[u8], params: &[Val], at: usize, limits: &TraceLimits) -> Value {
    let Some(path) = text(memory, params, at) else { return Value::Unreadable };
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    let dotted: Vec<u8> = path.iter().map(|byte| if *byte == 0 { b'.' } else { *byte }).collect();
    Value::of_bytes(&dotted, limits)
}

fn pairs_value(found: Option<&[u8]>, limits: &TraceLimits) -> Value {
    found.and_then(pairs::decode).map_or(Value::Unreadable, |pairs| Value::of_pairs(&pairs, limits))
}

/// By the type that the attribute has.
fn property_value(path: Option<&[u8]>, found: Option<&[u8]>, limits: &TraceLimits) -> Value {
    let Some(found) = found else { return Value::Unreadable };
    let kind = path.and_then(attributes::kind);
    let eight = || <[u8; 8]>::try_from(found).ok();
    let typed = match kind {
        Some(attributes::Kind::Int | attributes::Kind::Duration | attributes::Kind::Timestamp) => {
            eight().map(|bytes| Value::Number(i64::from_le_bytes(bytes).into()))
        }
        Some(attributes::Kind::Uint) => eight().map(|bytes| Value::Number(u64::from_le_bytes(bytes).into())),
        Some(attributes::Kind::Bool) => found.first().map(|byte| Value::Flag(*byte != 0)),
        Some(attributes::Kind::Map) => Some(pairs_value(Some(found), limits)),
        Some(attributes::Kind::Text | attributes::Kind::Message) | None => None,
    };
    typed.unwrap_or_else(|| Value::of_bytes(found, limits))
}

fn number(params: &[Val], at: usize) -> u32 {
    params.get(at).and_then(Val::i32).unwrap_or_default().cast_unsigned()
}

fn long(params: &[Val], at: usize) -> i128 {
    match params.get(at) {
        Some(Val::I64(number)) => (*number).into(),
        Some(Val::I32(number)) => number.cast_unsigned().into(),
        _ => 0,
    }
}

fn slice(memory: &[u8], address: u32, length: u32) -> Option<&[u8]> {
    memory.get(address as usize..)?.get(..length as usize)
}

/// The outer one is none when the guest did not want the value, the inner one when the pointer leads nowhere.
fn indirect(memory: &[u8], pointer: u32, length: u32) -> Option<Option<&[u8]>> {
    let wanted = pointer != 0 || length != 0;
    wanted.then(|| slice(memory, read(memory, pointer)?, read(memory, length)?))
}

fn read(memory: &[u8], address: u32) -> Option<u32> {
    slice(memory, address, 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
}

fn read_long(memory: &[u8], address: u32) -> Option<u64> {
    slice(memory, address, 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
}

//! Higress's functions: `get_log_level`, and data put into a response that its filter holds.

use crate::abi::{Status, protobuf};
use crate::context::Phase;
use crate::filter_log::least_level;
use crate::guest::Answer;
use crate::headers;
use crate::host_state::HostState;
use crate::stream::{LocalReply, StreamHost};

/// `get_log_level`: the level as a little-endian number.
pub(super) fn log_level(value: &mut Vec<u8>) -> Answer {
    value.extend_from_slice(&(least_level() as u32).to_le_bytes());
    Ok(())
}

/// `inject_encoded_data_to_filter_chain_on_header`: gives a response without a body one. Only in `on_response_headers`,
/// and only a whole body: Higress asks for both, and crashes otherwise.
pub(super) fn inject_on_header<H: StreamHost>(state: &mut HostState<H>, args: &[u8]) -> Answer {
    let (body, end) = arguments(args)?;
    let is_headers = state.phase == Phase::ResponseHeaders;
    let stream = state.stream_mut().filter(|_| is_headers && end).ok_or(Status::BadArgument)?;
    let head = stream.response.as_ref().ok_or(Status::BadArgument)?;
    let list: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let reply = LocalReply {
        status: head.status,
        details: "injected_by_filter".to_owned(),
        body: bytes::Bytes::copy_from_slice(body),
        headers: headers::reply_headers(&list)?,
        grpc_status: None,
    };
    stream.local_reply.get_or_insert(reply);
    Ok(())
}

/// `inject_encoded_data_to_filter_chain`: appends to the response's body, which the filter holds; with `endstream` the
/// body goes on its way. What is appended before waits with it, where Higress sends it at once.
pub(super) fn inject<H: StreamHost>(state: &mut HostState<H>, args: &[u8]) -> Answer {
    let (body, end) = arguments(args)?;
    let stream = state.stream_mut().filter(|stream| stream.response.is_some()).ok_or(Status::BadArgument)?;
    if !stream.response_body.splice(usize::MAX, 0, body) {
        return Err(Status::InternalFailure);
    }
    stream.resumed.response |= end;
    Ok(())
}

/// `InjectEncodedDataToFilterChainArguments`: `string body = 1; bool endstream = 2`.
pub(super) fn arguments(args: &[u8]) -> Result<(&[u8], bool), Status> {
    let (mut body, mut end) = (&b""[..], false);
    let read = protobuf::read(args, |number, field| match number {
        1 => body = field.bytes().unwrap_or(body),
        2 => end = field.number().map_or(end, |number| number != 0),
        _ => {}
    });
    if read { Ok((body, end)) } else { Err(Status::BadArgument) }
}

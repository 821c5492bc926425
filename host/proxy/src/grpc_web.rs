//! gRPC-Web: what browsers can speak of gRPC, turned into gRPC for the upstream, as Envoy's filter does it
//! (`envoy.filters.http.grpc_web`, after PROTOCOL-WEB.md): trailers come as a last frame in the body, and the text form is
//! base64.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};
use http_body::{Body, Frame};
use hyper::body::Incoming;

use crate::body::{BodyError, RequestBody};
use crate::deadline::{Deadline, within};
use crate::grpc_reply;
use crate::local_reply::Reply;
use crate::stream::Stream;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const BINARY: HeaderValue = HeaderValue::from_static("application/grpc-web+proto");
const TEXT: HeaderValue = HeaderValue::from_static("application/grpc-web-text+proto");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Most bytes of an answer that is no gRPC which go into `grpc-message`.
const MAX_MESSAGE: usize = 16 * 1024;
/// Bytes before a message: flags and its length.
const MESSAGE_HEAD: usize = 5;
/// The flag of the frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// What a client speaks, each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcWeb {
    text_request: bool,
    text_response: bool,
}

impl GrpcWeb {
    /// Turns a request's head into one of gRPC; none when it is no request of gRPC-Web.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let is = |name: HeaderName| headers.get(name).and_then(|kind| is_text(kind.as_bytes()));
        let text_request = is(header::CONTENT_TYPE)?;
        let text_response = is(header::ACCEPT).unwrap_or(false);
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, GRPC);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity,deflate,gzip"));
        Some(Self { text_request, text_response })
    }

    /// The body as the upstream gets it.
    pub(crate) fn request(self, body: RequestBody, stream: &Rc<Stream>) -> RequestBody {
        if self.text_request && !matches!(body, RequestBody::Empty) {
            return RequestBody::Text(Box::new(TextBody {
                body,
                held: Vec::new(),
                ended: false,
                stream: stream.clone(),
            }));
        }
        body
    }

    /// Turns an answer's head; its body goes through the encoder.
    pub(crate) fn answer(self, headers: &mut HeaderMap) -> Encoder {
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, if self.text_response { TEXT } else { BINARY });
        Encoder { is_text: self.text_response, head: Vec::new(), left: 0, carry: Vec::new() }
    }

    /// Turns an answer with a body that is no gRPC: the body becomes its message.
    pub(crate) fn reply(self, parts: &mut response::Parts, body: &[u8]) {
        self.answer(&mut parts.headers);
        if !body.is_empty() {
            let status = grpc_reply::status_of(parts.status);
            parts.headers.insert("grpc-status", HeaderValue::from(status));
            if let Some(message) = grpc_reply::message(&body[..body.len().min(MAX_MESSAGE)]) {
                parts.headers.insert("grpc-message", message);
            }
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
    }
}

/// True for the text form, false for the binary one; none for anything else.
fn is_text(kind: &[u8]) -> Option<bool> {
    match kind.strip_prefix(b"application/grpc-web")? {
        b"" | b"+proto" => Some(false),
        b"-text" | b"-text+proto" => Some(true),
        _ => None,
    }
}

/// True when an answer with a body is one of gRPC, or of gRPC-Web already.
pub(crate) fn is_grpc_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    status == StatusCode::OK && (grpc_reply::is_grpc(headers) || is_text(&kind.to_ascii_lowercase()) == Some(false))
}

/// An answer's body as far as it makes a message; none when it does not come in time.
pub(crate) async fn message(body: Incoming, mut deadline: Option<Deadline>) -> Vec<u8> {
    within(deadline.as_mut(), pin!(read(body))).await.unwrap_or_default()
}

async fn read(mut body: Incoming) -> Vec<u8> {
    let mut message = Vec::new();
    while message.len() < MAX_MESSAGE
        && let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
    {
        message.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
    }
    message
}

/// An answer's frames on their way to the client.
pub(crate) struct Encoder {
    is_text: bool,
    /// The head of the message that is under way.
    head: Vec<u8>,
    /// Bytes of it that are still to come.
    left: usize,
    /// One or two bytes that make no four digits yet.
    carry: Vec<u8>,
}

impl Encoder {
    pub(crate) fn encode(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) if self.is_text => Frame::data(self.text(&data).into()),
            Ok(data) => Frame::data(data),
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => Frame::data(self.trailers(&trailers)),
                Err(frame) => frame,
            },
        }
    }

    /// Each message by itself, padded at its end.
    fn text(&mut self, mut data: &[u8]) -> String {
        let mut text = String::with_capacity(data.len() / 3 * 4 + 16);
        while !data.is_empty() {
            if self.head.len() < MESSAGE_HEAD {
                let (head, rest) = data.split_at(data.len().min(MESSAGE_HEAD - self.head.len()));
                self.head.extend_from_slice(head);
                data = rest;
                let Some(length) = self.head.get(1..MESSAGE_HEAD).and_then(|length| length.try_into().ok()) else {
                    break;
                };
                self.left = u32::from_be_bytes(length) as usize;
                let head = std::mem::take(&mut self.head);
                self.feed(&head, &mut text);
                self.head = head;
            }
            let (payload, rest) = data.split_at(data.len().min(self.left));
            self.feed(payload, &mut text);
            self.left -= payload.len();
            data = rest;
            if self.left == 0 {
                BASE64_STANDARD.encode_string(&self.carry, &mut text);
                self.carry.clear();
                self.head.clear();
            }
        }
        text
    }

    fn feed(&mut self, bytes: &[u8], text: &mut String) {
        self.carry.extend_from_slice(bytes);
        let whole = self.carry.len() / 3 * 3;
        BASE64_STANDARD.encode_string(&self.carry[..whole], text);
        self.carry.drain(..whole);
    }

    fn trailers(&mut self, trailers: &HeaderMap) -> Bytes {
        let mut lines = Vec::new();
        for (name, value) in trailers {
            lines.extend_from_slice(&[name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat());
        }
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX).to_be_bytes();
        let frame = [&[TRAILERS][..], &length, &lines].concat();
        if self.is_text { BASE64_STANDARD.encode(frame).into() } else { frame.into() }
    }
}

/// A request's body in the text form, decoded four digits at a time.
pub(crate) struct TextBody {
    body: RequestBody,
    /// Digits that are not four yet.
    held: Vec<u8>,
    ended: bool,
    stream: Rc<Stream>,
}

impl TextBody {
    /// The body as the client sent it.
    pub(crate) fn into_inner(self) -> RequestBody {
        self.body
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => {
                    let Some(decoded) = decode(&mut self.held, &data) else {
                        return Poll::Ready(Some(Err(self.refuse("grpc_base_64_decode_failed"))));
                    };
                    if !decoded.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(decoded.into()))));
                    }
                }
                // The end, or trailers, which this form has none of.
                Some(Err(_)) | None if self.held.is_empty() => self.ended = true,
                Some(Err(_)) | None => {
                    return Poll::Ready(Some(Err(self.refuse("grpc_base_64_decode_failed_bad_size"))));
                }
            }
        }
    }

    fn refuse(&mut self, details: &'static str) -> BodyError {
        self.ended = true;
        let text = "Bad gRPC-web request, invalid base64 data.";
        self.stream.answer_body_with(Reply::text(StatusCode::BAD_REQUEST, details, text));
        BodyError::Filter
    }
}

/// What whole groups of four digits mean; the rest is held. A message may have its own padding.
fn decode(held: &mut Vec<u8>, data: &[u8]) -> Option<Vec<u8>> {
    held.extend_from_slice(data);
    let whole = held.len() / 4 * 4;
    let mut decoded = Vec::with_capacity(whole / 4 * 3);
    let mut begin = 0;
    for end in (4..=whole).step_by(4) {
        if end == whole || held[end - 1] == b'=' {
            BASE64_STANDARD.decode_vec(&held[begin..end], &mut decoded).ok()?;
            begin = end;
        }
    }
    held.drain(..whole);
    Some(decoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn taken(kind: &str, accept: &str) -> (Option<GrpcWeb>, HeaderMap) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("8"));
        (GrpcWeb::take(&mut headers), headers)
    }

    #[test]
    fn four_content_types_are_turned_and_accept_says_how_to_answer() {
        let (web, headers) = taken("application/grpc-web-text", "application/grpc-web-text+proto");
        assert_eq!(web, Some(GrpcWeb { text_request: true, text_response: true }));
        assert_eq!((&headers[header::CONTENT_TYPE], &headers[header::TE]), (&GRPC, &"trailers".parse().unwrap()));
        assert!(!headers.contains_key(header::CONTENT_LENGTH));
        let (web, _) = taken("application/grpc-web+proto", "*/*");
        assert_eq!(web, Some(GrpcWeb { text_request: false, text_response: false }));
        for other in ["application/grpc", "application/grpc-web+json", "text/plain"] {
            assert_eq!(taken(other, "*/*").0, None, "{other}");
        }
    }

    fn message(text: &[u8]) -> Vec<u8> {
        [&[0][..], &(text.len() as u32).to_be_bytes(), text].concat()
    }

    fn encoder(is_text: bool) -> Encoder {
        GrpcWeb { text_request: false, text_response: is_text }.answer(&mut HeaderMap::new())
    }

    #[test]
    fn trailers_become_the_last_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frame = encoder(false).encode(Frame::trailers(trailers)).into_data().unwrap();
        assert_eq!(&frame[..], b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    }

    proptest! {
        #[test]
        fn each_message_is_encoded_by_itself_however_it_comes(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 1_usize..17,
        ) {
            let messages: Vec<_> = texts.iter().map(|text| message(text)).collect();
            let mut encoder = encoder(true);
            let encoded: String = messages.concat().chunks(cut).map(|part| encoder.text(part)).collect();
            let wanted: String = messages.iter().map(|message| BASE64_STANDARD.encode(message)).collect();
            prop_assert_eq!(&encoded, &wanted);
            // And back.
            let mut held = Vec::new();
            let decoded: Vec<_> = encoded.as_bytes().chunks(cut).flat_map(|part| decode(&mut held, part).unwrap()).collect();
            prop_assert_eq!((decoded, held.len()), (messages.concat(), 0));
        }
    }

    #[test]
    fn what_is_no_base64_is_none() {
        assert_eq!(decode(&mut Vec::new(), b"!!!!"), None);
        assert_eq!(decode(&mut Vec::new(), b"AA=A"), None);
    }
}

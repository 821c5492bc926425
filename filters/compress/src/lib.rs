//! The bundled filter `compress`: compresses responses with gzip or brotli as they stream, and gives requests to the
//! upstream uncompressed if that is wanted.

mod accept;
pub mod config;
mod counts;
mod decoder;
mod encoder;
mod head;

use std::cell::Cell;
use std::rc::Rc;

use config::{Coding, Config};
use counts::Counts;
use decoder::{DecodeError, Decoder};
use encoder::Encoder;
use head::{Fate, Head};
use portolan_filter_conditions::CpuBudget;
use portolan_sdk::prelude::*;
use portolan_sdk::{Headers, Status};

/// Bytes that are compressed between two looks at the clock.
const PIECE: usize = 32 * 1024;

/// Bytes of one callback that are compressed however long it takes: even slow machines do that within the host's 50 ms.
const SURE: usize = 128 * 1024;

/// Longest time of one callback that has more, nanoseconds.
const CALLBACK: u64 = 15_000_000;

/// The filter.
pub struct Compress {
    config: Config,
    budget: CpuBudget,
    /// Bodies that are being compressed.
    active: Rc<Cell<u32>>,
    counts: Counts,
}

/// What a stream keeps.
#[derive(Default)]
pub struct Bodies {
    /// What the client wants; none also for HEAD.
    wanted: Option<Coding>,
    response: Option<Active>,
    request: Option<Decoder>,
}

/// A response's body, and its place among the active ones.
struct Active {
    encoder: Encoder,
    is_stored: bool,
    _place: Place,
}

/// Counts one active body as long as it lives.
struct Place(Rc<Cell<u32>>);

impl Place {
    fn take(active: &Rc<Cell<u32>>) -> Self {
        active.set(active.get() + 1);
        Self(Rc::clone(active))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Filter for Compress {
    type Config = Config;
    type Stream = Bodies;

    /// Bytes that go on as they are would be garbage under a `content-encoding`.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let budget = CpuBudget::new(config::read(&config)?);
        Ok(Self { config, budget, active: Rc::default(), counts: Counts::new()? })
    }

    fn stream(&self) -> Bodies {
        Bodies::default()
    }

    fn on_request_headers(&self, bodies: &mut Bodies, request: &Request<'_>) -> Result<Action, HostError> {
        let headers = request.headers()?;
        if line(&headers, b":method") != Some(b"HEAD") {
            let lines = headers.clone().filter(|(name, _)| *name == b"accept-encoding").map(|(_, value)| value);
            bodies.wanted = accept::choose(lines, &self.config.encodings);
        }
        if self.config.remove_accept_encoding_header {
            request.remove_header("accept-encoding")?;
        }
        if let Some(config) = &self.config.decompress_requests
            && !request.end_of_stream()
            && let Some(coding) = line(&headers, b"content-encoding")
            && let Some(decoder) = Decoder::new(coding, config.max_bytes)
        {
            request.remove_header("content-encoding")?;
            request.remove_header("content-length")?;
            bodies.request = Some(decoder);
            self.counts.decompressed.increment()?;
        }
        Ok(Action::Continue)
    }

    fn on_request_body(&self, bodies: &mut Bodies, request: &Request<'_>) -> Result<Action, HostError> {
        let Some(decoder) = &mut bodies.request else { return Ok(Action::Continue) };
        let mut plain = decoder.write(request.body()?);
        if request.end_of_stream() {
            plain = plain.and_then(|mut plain| {
                plain.append(&mut decoder.finish()?);
                Ok(plain)
            });
        }
        match plain {
            Ok(plain) => request.set_body(&plain).map(|()| Action::Continue),
            Err(error) => self.refuse(error, request),
        }
    }

    fn on_request_trailers(&self, bodies: &mut Bodies, request: &Request<'_>) -> Result<Action, HostError> {
        let Some(decoder) = &mut bodies.request else { return Ok(Action::Continue) };
        match decoder.finish() {
            Ok(plain) if plain.is_empty() => Ok(Action::Continue),
            Ok(plain) => request.append_body(&plain).map(|()| Action::Continue),
            Err(error) => self.refuse(error, request),
        }
    }

    fn on_response_headers(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        if response.end_of_stream() && bodies.wanted.is_some() {
            return Ok(Action::Continue);
        }
        let head = Head::read(response.headers()?);
        let Fate::Compressible { add_vary } = head.fate(&self.config) else { return Ok(Action::Continue) };
        if add_vary {
            response.add_header("vary", b"Accept-Encoding")?;
        }
        let Some(coding) = bodies.wanted else { return Ok(Action::Continue) };
        if self.active.get() >= self.config.max_active_streams || self.budget.is_spent(portolan_sdk::now()?) {
            self.counts.busy.increment()?;
            return Ok(Action::Continue);
        }
        response.set_header("content-encoding", coding.token().as_bytes())?;
        response.remove_header("content-length")?;
        response.remove_header("accept-ranges")?;
        if let Some(etag) = head.strong_etag() {
            response.set_header("etag", &[b"W/", etag].concat())?;
        }
        let encoder = Encoder::new(coding, &self.config);
        bodies.response = Some(Active { encoder, is_stored: false, _place: Place::take(&self.active) });
        self.counts.compressed.increment()?;
        Ok(Action::Continue)
    }

    fn on_response_body(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        let Some(active) = &mut bodies.response else { return Ok(Action::Continue) };
        let mut out = Vec::new();
        self.encode(active, response.body()?, &mut out)?;
        if response.end_of_stream()
            && let Some(active) = bodies.response.take()
        {
            finish(active, &mut out)?;
        }
        self.counts.bytes_in.add(response.body_size() as u64)?;
        self.counts.bytes_out.add(out.len() as u64)?;
        response.set_body(&out)?;
        Ok(Action::Continue)
    }

    fn on_response_trailers(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        let Some(active) = bodies.response.take() else { return Ok(Action::Continue) };
        let mut out = Vec::new();
        finish(active, &mut out)?;
        self.counts.bytes_out.add(out.len() as u64)?;
        response.append_body(&out)?;
        Ok(Action::Continue)
    }
}

impl Compress {
    /// A part of the body, within what a callback and a second may take.
    fn encode(&self, active: &mut Active, body: &[u8], out: &mut Vec<u8>) -> Result<(), HostError> {
        let start = portolan_sdk::now()?;
        let mut last = start;
        for (number, piece) in body.chunks(PIECE).enumerate() {
            let is_long = number * PIECE >= SURE && last.saturating_sub(start) > CALLBACK;
            let is_late = is_long || self.budget.is_spent(last);
            if is_late && !active.is_stored {
                active.encoder.store();
                active.is_stored = true;
                self.counts.stored.increment()?;
            }
            active.encoder.write(piece, out).map_err(|_| BROKEN)?;
            let now = portolan_sdk::now()?;
            self.budget.spend(last, now);
            last = now;
        }
        Ok(())
    }

    fn refuse(&self, error: DecodeError, request: &Request<'_>) -> Result<Action, HostError> {
        self.counts.refused.increment()?;
        let reply = match error {
            DecodeError::TooLarge => LocalReply::new(413).body(b"payload too large").details("decompressed_too_large"),
            DecodeError::Malformed => LocalReply::new(400).body(b"bad request").details("content_encoding_malformed"),
        };
        request.reply(&reply)
    }
}

/// Writing to memory does not fail; if it does, the body ends here.
const BROKEN: HostError = HostError { call: "compress", status: Status::InternalFailure };

fn finish(active: Active, out: &mut Vec<u8>) -> Result<(), HostError> {
    active.encoder.finish(out).map_err(|_| BROKEN)
}

fn line<'a>(headers: &Headers<'a>, name: &[u8]) -> Option<&'a [u8]> {
    headers.clone().find(|(known, _)| *known == name).map(|(_, value)| value)
}

portolan_sdk::filter! {
    Compress: schema, stream, on_request_headers, on_request_body, on_request_trailers, on_response_headers, on_response_body,
    on_response_trailers
}

#[cfg(test)]
mod tests;

//! What operators can count.

use portolan_sdk::HostError;
use portolan_sdk::metrics::Counter;

/// The filter's metrics.
pub(crate) struct Counts {
    /// Responses that were compressed.
    pub(crate) compressed: Counter,
    /// ... that were left alone since the worker was busy.
    pub(crate) busy: Counter,
    /// ... whose rest went on uncompressed inside their coding.
    pub(crate) stored: Counter,
    /// Bytes before and after.
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    /// Requests that were unpacked, or could not be.
    pub(crate) decompressed: Counter,
    pub(crate) refused: Counter,
}

impl Counts {
    pub(crate) fn new() -> Result<Self, HostError> {
        let responses = Counter::named("compress_responses");
        let response = |outcome| responses.with(&[("outcome", outcome)]);
        let requests = Counter::named("compress_requests");
        let request = |outcome| requests.with(&[("outcome", outcome)]);
        Ok(Self {
            compressed: response("compressed")?,
            busy: response("busy")?,
            stored: response("cut_short")?,
            bytes_in: Counter::define("compress_uncompressed_bytes")?,
            bytes_out: Counter::define("compress_compressed_bytes")?,
            decompressed: request("decompressed")?,
            refused: request("refused")?,
        })
    }
}

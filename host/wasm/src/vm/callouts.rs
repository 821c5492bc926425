//! Callbacks about callouts: what the proxy tells a VM of the answers of other hosts.
//!
//! They run on the root context; SDKs find the stream by the id and name it with `set_effective_context`. The answer can
//! be read while the callback runs, and not later. An answer to a callout that is not in flight any more is dropped.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use wasmtime::Store;

use super::PluginVm;
use super::running::Running;
use crate::callout::{CallResponse, Callout};
use crate::callouts::Answer;
use crate::context::{ContextId, Phase};
use crate::host_state::HostState;
use crate::stream::StreamHost;
use crate::trap::VmError;

const ROOT: u32 = ContextId::ROOT.number();

impl<H: StreamHost> PluginVm<H> {
    /// What the filter has asked of other hosts since the last call. Each is to be answered by one of the functions
    /// below, or the callout counts as in flight for ever.
    pub fn take_callouts(&mut self) -> Vec<Callout> {
        self.running.store.data_mut().callouts.take()
    }

    /// Callouts that wait for their answer.
    pub fn callouts_in_flight(&self) -> usize {
        self.running.store.data().callouts.in_flight()
    }

    /// Runs `on_http_call_response`.
    pub fn on_http_call_response(&mut self, id: u32, response: CallResponse) -> Result<(), VmError> {
        if !self.close(id) {
            return Ok(());
        }
        let Some(callback) = &self.exports.http_call_response else { return Ok(()) };
        let counts = (response.headers.len() as u32 + 1, response.body.len() as u32, response.trailers.len() as u32);
        answered(&mut self.running, Answer::Http(response), |store| {
            callback.call(store, (ROOT, id, counts.0, counts.1, counts.2))
        })
    }

    /// Runs `on_grpc_receive_initial_metadata`, of a stream.
    pub fn on_grpc_initial_metadata(&mut self, id: u32, status: StatusCode, map: HeaderMap) -> Result<(), VmError> {
        let Some(callback) = &self.exports.grpc_initial else { return Ok(()) };
        if !self.running.store.data().callouts.is_in_flight(id) {
            return Ok(());
        }
        let count = map.len() as u32 + 1;
        answered(&mut self.running, Answer::GrpcInitial(status, map), |store| callback.call(store, (ROOT, id, count)))
    }

    /// Runs `on_grpc_receive`. `last` for the one message of a call, after which nothing more is told, as in Envoy.
    pub fn on_grpc_message(&mut self, id: u32, message: Bytes, last: bool) -> Result<(), VmError> {
        let callouts = &mut self.running.store.data_mut().callouts;
        let known = if last { callouts.close(id) } else { callouts.is_in_flight(id) };
        let Some(callback) = self.exports.grpc_receive.as_ref().filter(|_| known) else { return Ok(()) };
        let size = message.len() as u32;
        answered(&mut self.running, Answer::GrpcMessage(message), |store| callback.call(store, (ROOT, id, size)))
    }

    /// Runs `on_grpc_receive_trailing_metadata`, of a stream.
    pub fn on_grpc_trailing_metadata(&mut self, id: u32, map: HeaderMap) -> Result<(), VmError> {
        let Some(callback) = &self.exports.grpc_trailing else { return Ok(()) };
        if !self.running.store.data().callouts.is_in_flight(id) {
            return Ok(());
        }
        let count = map.len() as u32;
        answered(&mut self.running, Answer::GrpcTrailing(map), |store| callback.call(store, (ROOT, id, count)))
    }

    /// Runs `on_grpc_close`: a stream has ended, or a call has failed. `status` is gRPC's; both can be had by `get_status`
    /// during the callback.
    pub fn on_grpc_close(&mut self, id: u32, status: u32, message: Bytes) -> Result<(), VmError> {
        if !self.close(id) {
            return Ok(());
        }
        let Some(callback) = &self.exports.grpc_close else { return Ok(()) };
        self.running.store.data_mut().callouts.status = (status, message);
        let result = answered(&mut self.running, Answer::None, |store| callback.call(store, (ROOT, id, status)));
        self.running.store.data_mut().callouts.status = (0, Bytes::new());
        result
    }

    /// Runs `on_redis_call_response` with the reply in RESP; none when the server could not be asked (status 1).
    pub fn on_redis_response(&mut self, id: u32, reply: Option<Bytes>) -> Result<(), VmError> {
        if !self.close(id) {
            return Ok(());
        }
        let Some(callback) = &self.exports.redis_call_response else { return Ok(()) };
        let status = u32::from(reply.is_none());
        let reply = reply.unwrap_or_default();
        let size = reply.len() as u32;
        answered(&mut self.running, Answer::Redis(reply), |store| callback.call(store, (ROOT, id, status, size)))
    }

    fn close(&mut self, id: u32) -> bool {
        self.running.store.data_mut().callouts.close(id)
    }
}

/// Calls the guest on its root context, with an answer to read.
fn answered<H: StreamHost>(
    running: &mut Running<H>,
    answer: Answer,
    call: impl FnOnce(&mut Store<HostState<H>>) -> wasmtime::Result<()>,
) -> Result<(), VmError> {
    running.store.data_mut().callouts.answer = answer;
    let result = running.with_root(Phase::Other, call);
    running.store.data_mut().callouts.answer = Answer::None;
    result
}

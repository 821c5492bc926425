//! Callbacks of TCP connections. A connection is a stream without heads ([`StreamState::connection`]); its context is opened
//! with [`PluginVm::new_stream`]. Semantics and order are Envoy's.

use super::running::Called;
use super::{FilterAction, PluginVm, guest_size};
use crate::context::{ContextId, Phase};
use crate::exports::Exports;
use crate::stream::{StreamHost, StreamState};

/// Who has closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Peer {
    /// Nobody knows.
    Unknown = 0,
    /// The gateway.
    Local = 1,
    /// The other side.
    Remote = 2,
}

impl<H: StreamHost> PluginVm<H> {
    /// Runs `on_new_connection`.
    pub fn on_new_connection(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.new_connection else { return (stream, Ok(FilterAction::Continue)) };
        self.running.act(id, stream, Phase::NewConnection, |store| callback.call(store, id.number()))
    }

    /// Runs `on_downstream_data` on [`StreamState::request_body`]: all that the filter holds. `end_of_stream` when the
    /// client has ended its direction.
    pub fn on_downstream_data(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.downstream_data else { return (stream, Ok(FilterAction::Continue)) };
        let (size, end) = (guest_size(stream.request_body.len()), u32::from(end_of_stream));
        self.running.act(id, stream, Phase::DownstreamData, |store| callback.call(store, (id.number(), size, end)))
    }

    /// Runs `on_upstream_data` on [`StreamState::response_body`], as for the other direction.
    pub fn on_upstream_data(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.upstream_data else { return (stream, Ok(FilterAction::Continue)) };
        let (size, end) = (guest_size(stream.response_body.len()), u32::from(end_of_stream));
        self.running.act(id, stream, Phase::UpstreamData, |store| callback.call(store, (id.number(), size, end)))
    }

    /// Runs `on_upstream_connection_close`: the upstream sends no more, or the gateway has closed. Envoy tells it when the
    /// upstream ends its direction, and never who did.
    pub fn on_upstream_connection_close(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        peer: Peer,
    ) -> Called<H, ()> {
        let Some(callback) = &self.exports.upstream_close else { return (stream, Ok(())) };
        self.running
            .with_stream(id, stream, Phase::ConnectionEnd, |store| callback.call(store, (id.number(), peer as u32)))
    }

    /// Ends a connection: runs `on_downstream_connection_close`, then `on_done`, `on_log`, `on_delete` (Envoy's order for
    /// connections, which is not that for requests), and closes the context.
    pub fn end_connection(&mut self, id: ContextId, stream: Box<StreamState<H>>, peer: Peer) -> Called<H, ()> {
        let Exports { downstream_close, done, log, delete, .. } = &self.exports;
        let called = self.running.with_stream(id, stream, Phase::ConnectionEnd, |store| {
            if let Some(close) = downstream_close {
                close.call(&mut *store, (id.number(), peer as u32))?;
            }
            if let Some(done) = done {
                done.call(&mut *store, id.number())?;
            }
            if let Some(log) = log {
                log.call(&mut *store, id.number())?;
            }
            if let Some(delete) = delete {
                delete.call(&mut *store, id.number())?;
            }
            Ok(())
        });
        self.running.store.data_mut().contexts.close(id);
        called
    }
}

//! [`Bench`]: what one plugin's callbacks cost on a made-up request, in the VM, with the context and the properties that
//! serve. Sockets and the rest of the chain are left out; callouts are answered on the spot.

mod round;
mod samples;

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, request, response};
use portolan_model::RouteId;
use portolan_wasm::{CallResponse, HttpCall, VmError};

use self::round::Round;
pub use self::samples::{Samples, clock_overhead};
use crate::connection::Activity;
use crate::context::{Choice, ConnectionInfo, StreamContext};
use crate::edge::{Edge, EdgeLimits};
use crate::head;
use crate::listener::ListenerSlot;
use crate::properties::{ConnectionState, Course};
use crate::snapshot::Snapshot;
use crate::stream::Stream;
use crate::worker::Worker;
use crate::worker_plugin::WorkerPlugin;

/// A request that nobody sent, and what the world answers to it.
pub struct BenchRequest<'a> {
    /// Its head; Host is required.
    pub request: request::Parts,
    /// Whole; it comes in one piece.
    pub request_body: Bytes,
    /// None when there are none.
    pub request_trailers: Option<HeaderMap>,
    /// The upstream's answer.
    pub response: response::Parts,
    /// As for the request.
    pub response_body: Bytes,
    /// As for the request.
    pub response_trailers: Option<HeaderMap>,
    /// The answers to HTTP callouts. gRPC calls end with status 14, Redis cannot be reached.
    pub callout: &'a dyn Fn(&HttpCall) -> CallResponse,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The snapshot has no such plugin that could start.
    #[error("no filter `{0}` has started")]
    NoPlugin(String),
    /// The snapshot has no listener.
    #[error("nothing listens")]
    NoListener,
    /// The gateway itself would refuse the request.
    #[error("the gateway refuses this request before any filter sees it")]
    Refused,
    /// The filter failed.
    #[error("the filter failed: {0}")]
    Failed(#[from] VmError),
}

/// One plugin on a worker of its own, and one request as it comes to the filter again and again.
pub struct Bench {
    worker: Rc<Worker>,
    plugin: Rc<WorkerPlugin>,
    /// The plugin's place in the chain.
    at: usize,
    slot: Rc<ListenerSlot>,
    connection: Arc<ConnectionInfo>,
}

/// A request after the parts of the chain that come before the plugin.
struct Prepared {
    request: request::Parts,
    route: Option<RouteId>,
    choice: Option<Choice>,
}

impl Bench {
    /// For a plugin of this snapshot, by its name in the model.
    pub fn new(snapshot: &Arc<Snapshot>, plugin: &str) -> Result<Self, BenchError> {
        let entry = snapshot.listeners.first().ok_or(BenchError::NoListener)?;
        let slot = ListenerSlot::new(entry);
        let worker = Worker::new(0, snapshot.clone(), Edge::new(EdgeLimits::default()));
        let view = worker.view();
        let at = view.plugins.iter().position(|known| *known.name == *plugin && known.metrics.is_some());
        let at = at.ok_or_else(|| BenchError::NoPlugin(plugin.to_owned()))?;
        let plugin = view.plugins[at].clone();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let connection = Arc::new(ConnectionInfo {
            peer,
            direct: peer,
            local: entry.address,
            peer_value: HeaderValue::from_static("127.0.0.1"),
            id: 0,
            activity: Activity::default(),
            state: ConnectionState::default(),
        });
        Ok(Self { worker, plugin, at, slot, connection })
    }

    /// Bytes of the VM's memory.
    pub fn memory_bytes(&self) -> usize {
        self.plugin.with_vm(|vm| vm.memory_bytes()).unwrap_or_default()
    }

    /// Sends the request through the filter as long as `go_on` says, and notes what each callback takes.
    pub fn run(
        &self,
        request: &BenchRequest<'_>,
        samples: &mut Samples,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<(), BenchError> {
        let prepared = self.prepare(request)?;
        let none = || BenchError::NoPlugin(self.plugin.name.to_string());
        self.plugin
            .with_vm(|vm| {
                while go_on() {
                    let mut round = Round::new(self, vm, samples, request, &prepared);
                    round.run()?;
                    samples.end_request();
                }
                Ok(())
            })
            .unwrap_or_else(|| Err(none()))
    }

    /// What the gateway does before the filter sees the request: once, for it is not what is measured.
    fn prepare(&self, request: &BenchRequest<'_>) -> Result<Prepared, BenchError> {
        let mut parts = request.request.clone();
        let paths = self.worker.view().snapshot.model.paths.normalization;
        head::check(&mut parts, paths, true, false).map_err(|_| BenchError::Refused)?;
        let stream = Stream::new(self.worker.clone(), self.slot.clone(), self.connection.clone(), parts, None);
        if stream.with_state(|state| head::prepare(state, &stream).is_err()) {
            return Err(BenchError::Refused);
        }
        stream.decide();
        stream.end_contexts();
        let prepared = stream.with_state(|state| {
            Some(Prepared { request: state.request.clone(), route: state.host.route, choice: state.host.choice })
        });
        prepared.ok_or(BenchError::Refused)
    }

    fn context(&self, prepared: &Prepared) -> StreamContext {
        let view = self.worker.view();
        let mut context = StreamContext::new(view.snapshot.clone(), self.connection.clone(), self.slot.route_table());
        context.course = view.wants.course.then(|| Box::new(Course::begin()));
        (context.route, context.choice) = (prepared.route, prepared.choice);
        context
    }
}

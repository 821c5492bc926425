//! From the ABI's callbacks to the filter's: finds filter and stream, and does what an error asks for.

mod answers;
mod callbacks;
mod flow;

use std::cell::{Cell, RefCell};

pub(crate) use answers::{Pending, Then, expect, hold, let_go};
pub use answers::{grpc_answer, grpc_failure, http_answer, redis_answer};
pub use callbacks::*;
pub(crate) use flow::Flow;
use flow::Flows;

use crate::call::{Grpc, Hold, Http, Redis};
use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::table::Table;
use crate::{Action, BufferType, Exchange, Filter, HostError, LocalReply, OnError, Status, config, log};

/// A filter that [`filter!`](crate::filter) registered.
pub trait Registered: Filter {
    /// True when `stream` is listed: each request has a context of its own.
    const PER_STREAM: bool;

    /// True when a kind of calls is listed: answers may come for its streams.
    const CALLS: bool;

    /// Gives the filter's place in this VM (natively: in this thread) to `f`.
    fn with_plugin<R>(f: impl FnOnce(&Plugin<Self>) -> R) -> R;
}

/// A filter that may make calls of kind `K`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not list what it waits for",
    label = "this needs one more name in `filter!`",
    note = "list `http_calls`, `grpc_calls`, `redis_calls` or `holds` in `filter!`"
)]
pub trait Makes<K>: Registered {}

/// A filter whose streams have contexts.
#[diagnostic::on_unimplemented(
    message = "`{Self}` lets its streams wait, and would not hear when one ends",
    label = "`stream` is not listed in `filter!`",
    note = "list `stream` in `filter!`, or make the call with `root::call`"
)]
pub trait PerStream: Registered {}

/// The filter's place in a VM.
///
/// A filter is made once for each configuration and stays for good, as the VM's memory goes with the VM: so callbacks
/// borrow it without any count or check.
pub struct Plugin<F: Filter> {
    latest: Cell<Option<&'static F>>,
    /// By root context, for hosts that run several configurations in one VM.
    roots: RefCell<Vec<(u32, &'static F)>>,
    streams: RefCell<Table<Stream<F>>>,
    /// Context and root context of the running callback; kept for filters that make calls.
    context: Cell<u32>,
    root: Cell<u32>,
    pub(crate) holds: Pending<F, Hold>,
    last_hold: Cell<u32>,
    pub(crate) http: Pending<F, Http>,
    pub(crate) grpc: Pending<F, Grpc>,
    pub(crate) redis: Pending<F, Redis>,
}

struct Stream<F: Filter> {
    filter: &'static F,
    root: u32,
    flows: Flows,
    state: F::Stream,
}

impl<F: Filter> Plugin<F> {
    /// Nothing configured yet.
    #[expect(clippy::new_without_default, reason = "`Default` cannot be called in a constant")]
    pub const fn new() -> Self {
        Self {
            latest: Cell::new(None),
            roots: RefCell::new(Vec::new()),
            streams: RefCell::new(Table::new()),
            context: Cell::new(0),
            root: Cell::new(0),
            holds: Pending::new(),
            last_hold: Cell::new(0),
            http: Pending::new(),
            grpc: Pending::new(),
            redis: Pending::new(),
        }
    }

    /// Forgets everything: a native test starts like a new VM.
    #[cfg(all(not(target_arch = "wasm32"), feature = "testing"))]
    pub(crate) fn clear(&self) {
        self.latest.set(None);
        self.roots.borrow_mut().clear();
        self.holds.clear();
        self.http.clear();
        self.grpc.clear();
        self.redis.clear();
        // Dropped with the table free: a stream's end may look at the plugin.
        let streams = self.streams.replace(Table::new());
        drop(streams);
    }

    /// A callback of the plugin itself begins.
    fn enter_root(&self, root: u32) -> Option<&'static F> {
        self.context.set(root);
        self.root.set(root);
        self.of_root(root)
    }

    fn of_root(&self, root: u32) -> Option<&'static F> {
        let roots = self.roots.borrow();
        roots.iter().rev().find(|(id, _)| *id == root).map(|(_, filter)| *filter).or(self.latest.get())
    }

    fn install(&self, root: u32, filter: F) {
        let filter: &'static F = Box::leak(Box::new(filter));
        self.latest.set(Some(filter));
        let mut roots = self.roots.borrow_mut();
        roots.retain(|(id, _)| *id != root);
        roots.push((root, filter));
    }
}

/// `proxy_on_configure`.
pub fn configure<F: Registered>(root: u32, size: usize) -> bool {
    const { assert!(F::PER_STREAM || size_of::<F::Stream>() == 0, "list `stream` in `filter!`: it has state") };
    let _callback = Callback::enter();
    if F::CALLS {
        F::with_plugin(|plugin| plugin.enter_root(root));
    }
    match read_configuration::<F>(size) {
        Ok(filter) => {
            F::with_plugin(|plugin| plugin.install(root, filter));
            true
        }
        Err(message) => {
            log::error(&message);
            false
        }
    }
}

fn read_configuration<F: Filter>(size: usize) -> Result<F, String> {
    let read = |kind| calls::buffer(kind, 0, size).map_err(|error| error.to_string());
    let json = if size == 0 { None } else { read(BufferType::PluginConfiguration)? };
    let parsed = config::parse(json.unwrap_or_default()).and_then(F::configure);
    parsed.map_err(|error| format!("invalid configuration: {error}"))
}

/// `proxy_on_context_create`.
pub fn create<F: Registered>(context: u32, parent: u32) {
    if parent == 0 {
        return;
    }
    let _callback = Callback::enter();
    F::with_plugin(|plugin| {
        if let Some(filter) = plugin.of_root(parent) {
            let stream = Stream { filter, root: parent, flows: Flows::default(), state: filter.stream() };
            plugin.streams.borrow_mut().put(context, stream);
        }
    });
}

/// `proxy_on_delete`.
pub fn delete<F: Registered>(context: u32) {
    let stream = F::with_plugin(|plugin| {
        plugin.roots.borrow_mut().retain(|(id, _)| *id != context);
        if F::CALLS {
            plugin.forget(context);
        }
        plugin.streams.borrow_mut().take(context)
    });
    drop(stream);
}

/// Runs `f` on the filter, the stream's state, and what is known of its flow (without `stream` nothing is); none when
/// the host names a stream that it never created.
fn with_stream<F: Registered, R>(
    context: u32,
    f: impl FnOnce(&F, &mut F::Stream, Option<&mut Flows>) -> R,
) -> Option<R> {
    F::with_plugin(|plugin| {
        if !F::PER_STREAM {
            let filter = plugin.latest.get()?;
            return Some(f(filter, &mut filter.stream(), None));
        }
        // Taken out meanwhile: a host that calls back from inside a host function finds the table free.
        let mut stream = plugin.streams.borrow_mut().take(context)?;
        let before =
            if F::CALLS { (plugin.context.replace(context), plugin.root.replace(stream.root)) } else { (0, 0) };
        let answer = f(stream.filter, &mut stream.state, Some(&mut stream.flows));
        if F::CALLS {
            plugin.context.set(before.0);
            plugin.root.set(before.1);
        }
        plugin.streams.borrow_mut().put(context, stream);
        Some(answer)
    })
}

/// What a callback, or a continuation, comes to.
struct Said {
    action: Action,
    /// It has answered the request: nothing goes on any more.
    answered: bool,
}

/// What a callback's answer means.
fn settle<F: Filter>(exchange: &Exchange<'_>, answer: Result<Action, HostError>) -> Said {
    let action = match answer {
        Ok(action) => action,
        Err(error) => recover::<F>(exchange, error),
    };
    Said { action, answered: exchange.is_answered() }
}

#[cold]
fn recover<F: Filter>(exchange: &Exchange<'_>, error: HostError) -> Action {
    complain(error);
    if F::ON_ERROR == OnError::Continue {
        return Action::Continue;
    }
    exchange.reply(&LocalReply::new(500).details("filter_error")).unwrap_or(Action::Pause)
}

/// The host named a stream that it never created.
const NO_CONTEXT: HostError = HostError { call: "stream context", status: Status::NotFound };

#[cold]
fn complain(error: HostError) {
    log::error(&[error.call, ": ", error.status.as_str()].concat());
}

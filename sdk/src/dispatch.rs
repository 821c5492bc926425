//! From the ABI's callbacks to the filter's: finds filter and stream, and does what an error asks for.

use std::cell::{Cell, RefCell};

use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::table::Table;
use crate::{
    Action, BufferType, Exchange, Filter, HostError, LocalReply, OnError, Request, Response, Status, config, log,
};

/// A filter that [`filter!`](crate::filter) registered.
pub trait Registered: Filter {
    /// True when `stream` is listed: each request has a context of its own.
    const PER_STREAM: bool;

    /// Gives the filter's place in this VM (natively: in this thread) to `f`.
    fn with_plugin<R>(f: impl FnOnce(&Plugin<Self>) -> R) -> R;
}

/// The filter's place in a VM.
///
/// A filter is made once for each configuration and stays for good, as the VM's memory goes with the VM: so callbacks
/// borrow it without any count or check.
pub struct Plugin<F: Filter> {
    latest: Cell<Option<&'static F>>,
    /// By root context, for hosts that run several configurations in one VM.
    roots: RefCell<Vec<(u32, &'static F)>>,
    streams: RefCell<Table<Stream<F>>>,
}

struct Stream<F: Filter> {
    filter: &'static F,
    state: F::Stream,
}

impl<F: Filter> Plugin<F> {
    /// Nothing configured yet.
    #[expect(clippy::new_without_default, reason = "`Default` cannot be called in a constant")]
    pub const fn new() -> Self {
        Self { latest: Cell::new(None), roots: RefCell::new(Vec::new()), streams: RefCell::new(Table::new()) }
    }

    /// Forgets everything: a native test starts like a new VM.
    #[cfg(all(not(target_arch = "wasm32"), feature = "testing"))]
    pub(crate) fn clear(&self) {
        self.latest.set(None);
        self.roots.borrow_mut().clear();
        *self.streams.borrow_mut() = Table::new();
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
            let stream = Stream { filter, state: filter.stream() };
            plugin.streams.borrow_mut().put(context, stream);
        }
    });
}

/// `proxy_on_delete`.
pub fn delete<F: Registered>(context: u32) {
    let stream = F::with_plugin(|plugin| {
        plugin.roots.borrow_mut().retain(|(id, _)| *id != context);
        plugin.streams.borrow_mut().take(context)
    });
    drop(stream);
}

/// Runs `f` on the filter and the stream's state; none when the host names a stream that it never created.
fn with_stream<F: Registered, R>(context: u32, f: impl FnOnce(&F, &mut F::Stream) -> R) -> Option<R> {
    F::with_plugin(|plugin| {
        if !F::PER_STREAM {
            let filter = plugin.latest.get()?;
            return Some(f(filter, &mut filter.stream()));
        }
        // Taken out meanwhile: a host that calls back from inside a host function finds the table free.
        let mut stream = plugin.streams.borrow_mut().take(context)?;
        let answer = f(stream.filter, &mut stream.state);
        plugin.streams.borrow_mut().put(context, stream);
        Some(answer)
    })
}

fn finish<F: Filter>(exchange: &Exchange<'_>, answer: Option<Result<Action, HostError>>) -> u32 {
    let action = match answer {
        Some(Ok(action)) => action,
        Some(Err(error)) => recover::<F>(exchange, error),
        None => recover::<F>(exchange, HostError { call: "stream context", status: Status::NotFound }),
    };
    action as u32
}

#[cold]
fn recover<F: Filter>(exchange: &Exchange<'_>, error: HostError) -> Action {
    complain(error);
    if F::ON_ERROR == OnError::Continue {
        return Action::Continue;
    }
    exchange.reply(&LocalReply::new(500).details("filter_error")).unwrap_or(Action::Pause)
}

#[cold]
fn complain(error: HostError) {
    log::error(&[error.call, ": ", error.status.as_str()].concat());
}

macro_rules! message_callback {
    ($name:ident, $method:ident, $message:ident :: $map:ident, $abi:literal, |$size:ident, $end:ident| $exchange:expr) => {
        #[doc = concat!("`", $abi, "`.")]
        pub fn $name<F: Registered>(context: u32, $size: usize, $end: bool) -> u32 {
            let callback = Callback::enter();
            let (body_size, end_of_stream) = $exchange;
            let message = $message::$map(Exchange::new(&callback, body_size, end_of_stream));
            let answer = with_stream::<F, _>(context, |filter, stream| filter.$method(stream, &message));
            finish::<F>(&message, answer)
        }
    };
}

message_callback!(
    request_headers,
    on_request_headers,
    Request::headers_of,
    "proxy_on_request_headers",
    |_count, end| (0, end)
);
message_callback!(request_body, on_request_body, Request::headers_of, "proxy_on_request_body", |size, end| (size, end));
message_callback!(
    request_trailers,
    on_request_trailers,
    Request::trailers_of,
    "proxy_on_request_trailers",
    |_count, _end| (0, true)
);
message_callback!(
    response_headers,
    on_response_headers,
    Response::headers_of,
    "proxy_on_response_headers",
    |_count, end| (0, end)
);
message_callback!(response_body, on_response_body, Response::headers_of, "proxy_on_response_body", |size, end| (
    size, end
));
message_callback!(
    response_trailers,
    on_response_trailers,
    Response::trailers_of,
    "proxy_on_response_trailers",
    |_count, _end| (0, true)
);

/// `proxy_on_foreign_function`.
pub fn foreign_function<F: Registered>(context: u32, function: u32, size: usize) {
    let callback = Callback::enter();
    let exchange = Exchange::with_call_data(&callback, size);
    let answer = with_stream::<F, _>(context, |filter, stream| filter.on_foreign_function(stream, function, &exchange));
    if let Some(Err(error)) = answer {
        complain(error);
    }
}

/// `proxy_on_log`.
pub fn log<F: Registered>(context: u32) {
    let callback = Callback::enter();
    let exchange = Exchange::new(&callback, 0, true);
    let answer = with_stream::<F, _>(context, |filter, stream| filter.on_log(stream, &exchange));
    if let Some(Err(error)) = answer {
        complain(error);
    }
}

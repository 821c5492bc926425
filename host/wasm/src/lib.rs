//! `portolan-wasm`: the proxy-wasm ABI 0.1.0, 0.2.0, 0.2.1 and Higress's 0.2.100 on wasmtime.
//!
//! An [`Engine`] compiles modules ([`ModuleStore`]), a [`PluginVm`] runs one of them, and a [`StreamState`] is what a
//! filter sees and changes of one request and its response. This crate knows no HTTP server and no configuration:
//! the proxy moves a stream in for each callback and acts on what it finds in it afterwards.

mod abi;
mod anatomy;
mod attributes;
mod body;
mod call_head;
mod callbacks;
mod callout;
mod callouts;
mod compiler_process;
mod context;
mod custom_section;
mod engine;
mod exports;
mod filter_log;
mod grpc_service;
mod guest;
mod headers;
mod host_state;
mod hostcalls;
mod limiter;
mod meter;
mod module;
mod module_store;
mod resp;
mod settings;
mod shared;
mod stream;
mod strict;
mod trace;
mod trap;
#[doc(hidden)]
pub mod untrusted;
mod vm;
mod watched;

pub use abi::{AbiVersion, Status};
pub use anatomy::{Anatomy, AnatomyError, Import, Limits, envoy_lacks};
pub use body::BodyBuffer;
pub use callbacks::Callbacks;
pub use callout::{
    CallResponse, Callout, GrpcCall, GrpcSend, Held, HttpCall, MAX_CALL_BODY, MAX_GRPC_MESSAGE, RedisCall, RedisServer,
    Upstream,
};
pub use compiler_process::CompilerProcess;
pub use context::{ContextId, VmToken};
pub use engine::{Engine, EngineError, EngineOptions};
pub use hostcalls::Condition;
pub use meter::{Callback, CostObserver};
pub use module::{CompileError, PluginModule};
pub use module_store::ModuleStore;
pub use settings::{VmLimits, VmSettings};
pub use shared::{FilterHistogram, FilterMetric, MetricKind, Shared};
pub use stream::{LocalReply, Resumed, StreamHost, StreamParts, StreamState};
pub use trace::{
    Argument, CallStatus, CallbackTrace, HostCall, Outcome, TraceLimits, TraceSink, TracedStream, Tracer, Value,
};
pub use trap::VmError;
pub use vm::{FilterAction, LogTail, Peer, PluginVm, StartError};

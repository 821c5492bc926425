//! Callouts of filters: requests, gRPC calls and Redis commands to other hosts, each in a task of its own on the worker
//! that the filter runs on, over the worker's pools. The answer enters the VM like any other callback.

mod frames;
mod grpc;
mod http;
mod http2;
mod in_flight;
mod reach;
mod redis;
mod resp;
mod traces;

use std::rc::{Rc, Weak};

use portolan_wasm::{Callout, PluginVm, VmError};
use tokio::task::spawn_local;

use crate::context::StreamContext;
use crate::worker::Worker;
use crate::worker_plugin::WorkerPlugin;

pub(crate) use in_flight::InFlight;
pub(crate) use reach::{MADE_UP, Reach};
pub(crate) use traces::send_spans;

/// Carries out what the plugin's VM has asked for since the last time.
pub(crate) fn carry_out(worker: &Rc<Worker>, plugin: &Rc<WorkerPlugin>) {
    let Some(callouts) = plugin.with_vm(PluginVm::take_callouts) else { return };
    for callout in callouts {
        begin(worker, plugin, callout);
    }
}

fn begin(worker: &Rc<Worker>, plugin: &Rc<WorkerPlugin>, callout: Callout) {
    let teller = Teller { plugin: Rc::downgrade(plugin), incarnation: plugin.incarnation() };
    let worker = worker.clone();
    match callout {
        Callout::Http(call) => {
            let id = call.id;
            let task = spawn_local(async move {
                // The share of the VM's bytes is held until the filter has seen the answer.
                let (response, _held) = http::call(&worker, call).await;
                teller.end(id, |vm| vm.on_http_call_response(id, response));
            });
            plugin.callouts.add(id, plugin.incarnation(), task.abort_handle(), None);
        }
        Callout::Grpc(call) => {
            let id = call.id;
            let (sends, queue) = frames::queue(call.message.clone());
            let task = spawn_local(async move { grpc::run(&worker, call, queue, teller).await });
            plugin.callouts.add(id, plugin.incarnation(), task.abort_handle(), sends);
        }
        Callout::GrpcSend(send) => plugin.callouts.send(send),
        Callout::GrpcClose(id) => plugin.callouts.close(id),
        Callout::GrpcCancel(id) => plugin.callouts.cancel(id),
        Callout::Redis(call) => {
            let id = call.id;
            let task = spawn_local(async move {
                let (reply, _held) = redis::call(&worker, call).await;
                teller.end(id, |vm| vm.on_redis_response(id, reply));
            });
            plugin.callouts.add(id, plugin.incarnation(), task.abort_handle(), None);
        }
    }
}

/// The way back to the VM that has asked. Nothing is told when that VM is gone.
pub(crate) struct Teller {
    plugin: Weak<WorkerPlugin>,
    incarnation: u32,
}

impl Teller {
    /// Runs a callback about a callout that goes on.
    fn tell(&self, call: impl FnOnce(&mut PluginVm<StreamContext>) -> Result<(), VmError>) {
        let Some(plugin) = self.plugin.upgrade() else { return };
        if plugin.incarnation() == self.incarnation {
            plugin.enter(call);
        }
    }

    /// Runs the last callback of a callout.
    fn end(&self, id: u32, call: impl FnOnce(&mut PluginVm<StreamContext>) -> Result<(), VmError>) {
        if let Some(plugin) = self.plugin.upgrade() {
            plugin.callouts.remove(id, self.incarnation);
        }
        self.tell(call);
    }
}

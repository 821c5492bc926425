//! `define_metric`, `record_metric`, `increment_metric`, `get_metric`.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::guest::{bytes, serve, write_u32, write_u64};
use crate::host_state::HostState;
use crate::shared::{Metric, MetricKind};
use crate::stream::StreamHost;

/// Longest name in bytes.
const MAX_NAME: usize = 1024;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_define_metric",
        |mut caller: Caller<'_, HostState<H>>, kind: u32, name: u32, length: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                let id = define(state, kind, bytes(memory, name, length)?)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_record_metric", |mut caller: Caller<'_, HostState<H>>, id: u32, value: u64| {
        serve(&mut caller, |_, state| metric(state, id)?.record(value).into_answer())
    })?;
    linker.func_wrap(ENV, "proxy_increment_metric", |mut caller: Caller<'_, HostState<H>>, id: u32, offset: i64| {
        serve(&mut caller, |_, state| metric(state, id)?.increment(offset).into_answer())
    })?;
    linker.func_wrap(ENV, "proxy_get_metric", |mut caller: Caller<'_, HostState<H>>, id: u32, out: u32| {
        serve(&mut caller, |memory, state| {
            let value = metric(state, id)?.value().ok_or(Status::BadArgument)?;
            write_u64(memory, out, value)
        })
    })?;
    Ok(())
}

/// The guest's number of a metric: its place in this VM's list plus 1.
fn define<H>(state: &mut HostState<H>, kind: u32, name: &[u8]) -> Result<u32, Status> {
    let kind = MetricKind::new(kind).ok_or(Status::BadArgument)?;
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME);
    let name = name.ok_or(Status::BadArgument)?;
    let metric = state.shared.metrics.define(&state.settings.plugin_name, kind, name);
    let metric = metric.ok_or(Status::InternalFailure)?;
    let known = state.metrics.iter().position(|known| Arc::ptr_eq(known, &metric));
    let index = known.unwrap_or_else(|| {
        state.metrics.push(metric);
        state.metrics.len() - 1
    });
    Ok(index as u32 + 1)
}

fn metric<H>(state: &HostState<H>, id: u32) -> Result<&Metric, Status> {
    let index = id.checked_sub(1).ok_or(Status::NotFound)? as usize;
    state.metrics.get(index).map(Arc::as_ref).ok_or(Status::NotFound)
}

//! `redis_init` and `redis_call`, as Higress's host has them; the reply comes by `on_redis_call_response`, in buffer 9.
//!
//! `redis_init(cluster, username, password, timeout_ms)` makes a server known: the cluster's name (or `HOST:PORT`), to
//! which Higress's SDK appends `?db=N`; further parameters tune the buffers of Higress's own client and mean nothing here.
//! `redis_call(cluster, query, id*)` sends one command in RESP, under the name without parameters. BAD_ARGUMENT for an
//! unknown cluster, a server that was not made known, and a query that is not one command (or changes the connection that
//! all streams share: see [`crate::resp`]).

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::Status;
use crate::callout::{Callout, RedisCall, RedisServer, timeout};
use crate::callouts::Kind;
use crate::guest::{Answer, bytes, serve, write_u32};
use crate::host_state::HostState;
use crate::resp;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_redis_init",
        |mut caller: Caller<'_, HostState<H>>,
         cluster: u32,
         cl: u32,
         username: u32,
         ul: u32,
         password: u32,
         pl: u32,
         timeout_ms: u32| {
            serve(&mut caller, |memory, state| {
                let text = |address, length| {
                    std::str::from_utf8(bytes(memory, address, length)?).map_err(|_| Status::BadArgument)
                };
                let (cluster, username) = (text(cluster, cl)?, text(username, ul)?);
                init(state, cluster, username, text(password, pl)?, timeout_ms)
            })
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_redis_call",
        |mut caller: Caller<'_, HostState<H>>, cluster: u32, cl: u32, query: u32, ql: u32, out: u32| {
            serve(&mut caller, |memory, state| {
                bytes(memory, out, 4)?;
                let id = call(state, bytes(memory, cluster, cl)?, bytes(memory, query, ql)?)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    Ok(())
}

fn init<H>(state: &mut HostState<H>, cluster: &str, username: &str, password: &str, timeout_ms: u32) -> Answer {
    let (name, parameters) = cluster.split_once('?').unwrap_or((cluster, ""));
    let upstream = state.shared.upstream(name).ok_or(Status::BadArgument)?;
    let database = parameters.split('&').find_map(|parameter| parameter.strip_prefix("db="));
    let server = RedisServer {
        upstream,
        username: username.to_owned(),
        password: password.to_owned(),
        database: database.map_or(Ok(0), str::parse).map_err(|_| Status::BadArgument)?,
        timeout: timeout(timeout_ms),
    };
    state.callouts.set_server(name, server)
}

fn call<H>(state: &mut HostState<H>, cluster: &[u8], query: &[u8]) -> Result<u32, Status> {
    let cluster = std::str::from_utf8(cluster).map_err(|_| Status::BadArgument)?;
    let name = cluster.split_once('?').map_or(cluster, |(name, _)| name);
    let server = state.callouts.server(name).ok_or(Status::BadArgument)?.clone();
    if !resp::is_command(query) {
        return Err(Status::BadArgument);
    }
    let (id, held) = state.callouts.open(Kind::Redis, query.len(), state.settings.limits.callouts_in_flight)?;
    state.ask(Callout::Redis(RedisCall { id, server, query: Bytes::copy_from_slice(query), held }));
    Ok(id)
}

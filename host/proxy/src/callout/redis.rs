//! Redis callouts: one connection of the worker to each server, on which commands follow each other without waiting.
//!
//! The filter gives a command in RESP and wants the reply in RESP, so nothing of it is parsed but where it ends. A Redis
//! client crate would parse each reply into values that would have to be written down again, and could not give back what
//! its own types leave out (simple or bulk string, null bulk or null array).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use portolan_telemetry::UpstreamAddress;
use portolan_wasm::{Held, RedisCall, RedisServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::reach::{Reach, Target};
use super::resp;
use crate::clock;
use crate::cluster::Permit;
use crate::router::Upstream;
use crate::worker::Worker;

/// Longest reply, in bytes. A longer one ends the connection, with all that waits on it.
const MAX_REPLY: usize = 4 * 1024 * 1024;

/// What a connection is made for: the same credentials and data base may be shared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    address: UpstreamAddress,
    server: Arc<RedisServer>,
}

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Servers {
    connections: RefCell<HashMap<Key, Rc<Connection>>>,
}

struct Connection {
    commands: mpsc::UnboundedSender<Command>,
    /// When something was last read from it.
    read_ms: Rc<Cell<u64>>,
    used_ms: Cell<u64>,
    task: RefCell<Option<AbortHandle>>,
}

/// A command and who waits for its reply. Bounded by the share that each callout holds.
struct Command {
    query: Bytes,
    reply: oneshot::Sender<Bytes>,
}

/// Sends a command and waits for the reply; none when the server cannot be asked, breaks off or takes too long.
pub(super) async fn call(worker: &Rc<Worker>, call: RedisCall) -> (Option<Bytes>, Held) {
    let RedisCall { server, query, mut held, .. } = call;
    let limit = server.timeout;
    let reply = timeout(limit, exchange(worker, &server, query)).await.ok().flatten();
    let reply = reply.filter(|reply| held.grow(reply.len()));
    (reply, held)
}

async fn exchange(worker: &Rc<Worker>, server: &Arc<RedisServer>, query: Bytes) -> Option<Bytes> {
    let target = Reach::find(worker, &server.upstream).await?;
    target.resolved().await;
    let cluster = target.cluster()?;
    let endpoint = target.pick(worker, None)?;
    let key = Key { address: endpoint.endpoint.address, server: server.clone() };
    let connection = worker.reach.redis.connection(&target, &key);
    let mut upstream = Upstream::new(cluster, &endpoint.endpoint);
    let (sender, receiver) = oneshot::channel();
    connection.commands.send(Command { query, reply: sender }).ok()?;
    let waiting = Waiting { connection: &connection, since_ms: clock::now_ms(), over: Cell::new(false) };
    let reply = receiver.await.ok();
    waiting.over.set(true);
    if reply.is_some() {
        upstream.complete();
    }
    reply
}

/// Ends a connection from which nothing has come since a command was sent whose time has run out: nothing says that it
/// lives. A connection that still brings replies stays, with the late one dropped when it comes.
struct Waiting<'a> {
    connection: &'a Connection,
    since_ms: u64,
    over: Cell<bool>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over.get() && self.connection.read_ms.get() <= self.since_ms {
            self.connection.end();
        }
    }
}

impl Servers {
    fn connection(&self, target: &Target, key: &Key) -> Rc<Connection> {
        let mut all = self.connections.borrow_mut();
        if let Some(known) = all.get(key).filter(|known| !known.commands.is_closed()) {
            known.used_ms.set(clock::now_ms());
            return known.clone();
        }
        let (commands, queue) = mpsc::unbounded_channel();
        let now = clock::now_ms();
        let connection = Rc::new(Connection {
            commands,
            read_ms: Rc::new(Cell::new(0)),
            used_ms: Cell::new(now),
            task: RefCell::default(),
        });
        let task = spawn_local(run(target.clone(), key.clone(), queue, connection.read_ms.clone()));
        connection.task.replace(Some(task.abort_handle()));
        all.insert(key.clone(), connection.clone());
        connection
    }

    /// Closes connections that were not used for long, and forgets those that have ended.
    pub(super) fn sweep(&self, now_ms: u64, kept_ms: u64) {
        self.connections.borrow_mut().retain(|_, connection| {
            let in_use = Rc::strong_count(connection) > 1;
            let recent = now_ms.saturating_sub(connection.used_ms.get()) < kept_ms;
            !connection.commands.is_closed() && (in_use || recent)
        });
    }
}

impl Connection {
    fn end(&self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Connects and serves until either side is done. Who waits sees the sender of the reply go away.
async fn run(target: Target, key: Key, queue: mpsc::UnboundedReceiver<Command>, read_ms: Rc<Cell<u64>>) {
    let Some(cluster) = target.cluster() else { return };
    let name = cluster.state.name.clone();
    let Some(place) = cluster.state.open_connection(u32::MAX) else { return };
    let connecting = async {
        // Redis over Unix sockets is not served.
        let address = key.address.socket().ok_or(io::ErrorKind::Unsupported)?;
        TcpStream::connect(address).await
    };
    let connected = timeout(cluster.limits.connect_timeout, connecting).await;
    let stream = match connected.map_err(io::Error::from).flatten() {
        Ok(stream) => stream,
        Err(error) => {
            cluster.state.metrics.upstream_cx_connect_fail.inc();
            tracing::debug!(cluster = %name, address = %key.address, %error, "no connection to Redis");
            return;
        }
    };
    // The cluster may leave the configuration while the connection lives.
    drop(target);
    if let Err(error) = serve(stream, &key.server, queue, &read_ms, place).await {
        tracing::warn!(cluster = %name, address = %key.address, %error, "the connection to Redis has ended");
    }
}

async fn serve(
    mut stream: TcpStream,
    server: &RedisServer,
    mut queue: mpsc::UnboundedReceiver<Command>,
    read_ms: &Cell<u64>,
    _place: Permit,
) -> io::Result<()> {
    // A socket that refuses the option still works, only slower.
    let _ = stream.set_nodelay(true);
    let (mut waiting, mut input) = (VecDeque::new(), BytesMut::new());
    let mut output = BytesMut::from(greeting(server).as_slice());
    let mut greetings = usize::from(!server.password.is_empty()) + usize::from(server.database != 0);
    let (mut reader, mut writer) = stream.split();
    loop {
        tokio::select! {
            read = reader.read_buf(&mut input) => {
                if read? == 0 {
                    return if waiting.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
                }
                read_ms.set(clock::now_ms());
                while let Some(reply) = next_reply(&mut input)? {
                    match greetings.checked_sub(1) {
                        Some(left) => {
                            greetings = left;
                            greeted(&reply, left == 0 && server.database != 0)?;
                        }
                        None => deliver(&mut waiting, reply)?,
                    }
                }
            }
            written = writer.write_buf(&mut output), if output.has_remaining() => {
                if written? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
            command = queue.recv(), if !queue.is_closed() || !queue.is_empty() => match command {
                Some(Command { query, reply }) => {
                    output.extend_from_slice(&query);
                    waiting.push_back(reply);
                }
                None if waiting.is_empty() => return Ok(()),
                None => {}
            },
            // Nobody sends any more, and replies are still to come: they are for nobody.
            () = sleep(server.timeout), if queue.is_closed() && queue.is_empty() => return Ok(()),
        }
    }
}

/// What is sent first: `AUTH` and `SELECT`, as far as they are wanted.
fn greeting(server: &RedisServer) -> Vec<u8> {
    let mut out = Vec::new();
    if !server.password.is_empty() {
        let parts = ["AUTH", server.username.as_str(), server.password.as_str()];
        out.extend(command(parts.iter().filter(|part| !part.is_empty())));
    }
    if server.database != 0 {
        out.extend(command(["SELECT", server.database.to_string().as_str()].iter()));
    }
    out
}

fn command<'a>(parts: impl Iterator<Item = &'a &'a str> + Clone) -> Vec<u8> {
    let mut out = format!("*{}\r\n", parts.clone().count()).into_bytes();
    for part in parts {
        out.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
    }
    out
}

/// The answer to `AUTH` or `SELECT`. A wrong password is not our business: the server answers `NOAUTH` to each command,
/// which filters know how to read. The wrong data base must not be used.
fn greeted(reply: &[u8], is_select: bool) -> io::Result<()> {
    if !resp::is_error(reply) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(reply).trim_end().to_owned();
    if is_select {
        return Err(io::Error::other(text));
    }
    tracing::warn!(reply = text, "Redis refuses the credentials that a filter has given");
    Ok(())
}

fn next_reply(input: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let length = resp::reply_length(input).map_err(|_| io::Error::other("malformed reply"))?;
    if length.unwrap_or(input.len()) > MAX_REPLY {
        return Err(io::Error::other("the reply is too long"));
    }
    Ok(length.map(|length| input.split_to(length).freeze()))
}

fn deliver(waiting: &mut VecDeque<oneshot::Sender<Bytes>>, reply: Bytes) -> io::Result<()> {
    let next = waiting.pop_front().ok_or_else(|| io::Error::other("a reply that nobody waits for"))?;
    // The callout may have run out of time.
    let _ = next.send(reply);
    Ok(())
}

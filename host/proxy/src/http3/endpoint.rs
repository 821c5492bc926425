//! [`serve`]: the UDP socket of an address and the clients that come to it, from the first to the last.

use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, Incoming, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::client;
use super::settings::{self, QuicError};
use crate::connection::OpenSocket;
use crate::listener::ListenerSlot;
use crate::tls::FilterChains;
use crate::worker::Worker;

/// With so many handshakes under way on the worker, clients prove first that they are where they say (Retry, RFC 9000
/// section 8.1).
const VALIDATE_FROM: usize = 64;
/// How long the address is left to whoever else has it before it is asked for again: a process that drains.
const ADDRESS_PAUSE: Duration = Duration::from_secs(1);
/// How long the last packets may take to go out.
const LAST_PACKETS: Duration = Duration::from_secs(1);

/// The socket, and what it is served with.
struct Opened {
    endpoint: Endpoint,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
}

/// Serves until nobody hands on chains any more, and the last client has gone.
pub(super) async fn serve(worker: Rc<Worker>, slot: Rc<ListenerSlot>, mut chains: watch::Receiver<Arc<FilterChains>>) {
    let Some(socket) = bind_at_last(slot.address, &mut chains).await else { return };
    let now = chains.borrow_and_update().clone();
    let opened = match open(&slot, socket, &now) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(address = %slot.address, %error, "HTTP/3 cannot be served");
            return;
        }
    };
    let open = worker.open_tunnel();
    let (going, goes) = watch::channel(false);
    let mut clients = JoinSet::new();
    slot.sockets().set_http3(true);
    tracing::info!(address = %slot.address, "HTTP/3 is served");
    loop {
        tokio::select! {
            changed = chains.changed() => match changed {
                Ok(()) => renew(&opened, &slot, &chains.borrow_and_update().clone()),
                Err(_) => break,
            },
            incoming = opened.endpoint.accept() => match incoming {
                Some(incoming) => take_in(&worker, &slot, incoming, &mut clients, &goes),
                None => break,
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
    slot.sockets().set_http3(false);
    going.send_replace(true);
    loop {
        tokio::select! {
            gone = clients.join_next() => if gone.is_none() { break },
            // At once, so that it turns to TCP.
            Some(incoming) = opened.endpoint.accept() => incoming.refuse(),
        }
    }
    let _ = timeout(LAST_PACKETS, opened.endpoint.wait_idle()).await;
    drop(open);
}

/// None when it is not wanted any more.
async fn bind_at_last(address: SocketAddr, chains: &mut watch::Receiver<Arc<FilterChains>>) -> Option<UdpSocket> {
    let mut is_told = false;
    loop {
        let error = match bind(address) {
            Ok(socket) => return Some(socket),
            Err(error) => error,
        };
        if !is_told {
            is_told = true;
            tracing::warn!(%address, %error, "HTTP/3 is not served until its UDP address is free");
        }
        tokio::select! {
            () = sleep(ADDRESS_PAUSE) => {}
            gone = gone(chains) => gone,
        }
        if chains.has_changed().is_err() {
            return None;
        }
    }
}

/// Resolves when nobody hands on chains any more.
async fn gone(chains: &mut watch::Receiver<Arc<FilterChains>>) {
    while chains.changed().await.is_ok() {}
}

/// Of one process alone: packets of its clients must come to it.
fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open(slot: &ListenerSlot, socket: UdpSocket, chains: &Arc<FilterChains>) -> Result<Opened, QuicError> {
    let tickets = settings::tickets()?;
    let config = settings::server_config(chains, slot.metrics(), &tickets)?;
    let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))?;
    Ok(Opened { endpoint, tickets })
}

/// New clients get the new chains' certificates.
fn renew(opened: &Opened, slot: &ListenerSlot, chains: &Arc<FilterChains>) {
    match settings::server_config(chains, slot.metrics(), &opened.tickets) {
        Ok(config) => opened.endpoint.set_server_config(Some(config)),
        Err(error) => tracing::error!(address = %slot.address, %error, "HTTP/3 is served with the last certificates"),
    }
}

fn take_in(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    incoming: Incoming,
    clients: &mut JoinSet<()>,
    goes: &watch::Receiver<bool>,
) {
    if worker.is_draining() {
        // It turns to TCP at once, where it is still served.
        incoming.refuse();
        return;
    }
    if worker.handshakes.len() >= VALIDATE_FROM && !incoming.remote_address_validated() {
        // It has answered none before: it may be asked.
        let _ = incoming.retry();
        return;
    }
    match OpenSocket::admit(worker, slot) {
        Some(open) => {
            _ = clients.spawn_local(client::serve(worker.clone(), slot.clone(), incoming, open, goes.clone()))
        }
        None => incoming.refuse(),
    }
}

//! Connections that begin with a header of the PROXY protocol: it is read before anything else, in pieces as it may come,
//! for a bounded time, and the connection goes on as that of the client that it names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use portolan_model::ProxyHeaders;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::connection::OpenSocket;
use crate::listener::{self, ListenerSlot};
use crate::proxy_header::{Header, Read, read};
use crate::tls::Handshakes;
use crate::worker::Worker;

/// From the accept to the end of the header.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is read at once, at least.
const PIECE: usize = 512;

/// How a connection begins.
enum Beginning {
    /// As its header says, and with what came behind it.
    Header(Header, Bytes),
    /// Without one.
    None(Bytes),
    /// With a malformed one of this version.
    Bad(usize),
    /// It has ended.
    Gone,
}

/// Serves an accepted socket once its header is read, in a task of its own.
pub(crate) fn serve(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    headers: &ProxyHeaders,
    (mut socket, direct): (TcpStream, SocketAddr),
    open: OpenSocket,
) {
    let required = headers.required;
    if !trusts(headers, direct.ip()) {
        return match required {
            true => not_found(worker),
            false => listener::hand_over(worker, slot, (socket, Bytes::new()), (direct, None), open),
        };
    }
    let place = Handshakes::begin(worker, slot);
    let (worker, slot) = (worker.clone(), slot.clone());
    spawn_local(async move {
        let mut bytes = BytesMut::new();
        let begun = tokio::select! {
            biased;
            () = place.ended() => return,
            begun = tokio::time::timeout(TIMEOUT, begin(&mut socket, &mut bytes)) => begun,
        };
        let metrics = &worker.view().snapshot.metrics.edge;
        match begun {
            Ok(Ok(Beginning::Header(header, rest))) => {
                metrics.proxy_proto_found.inc(header.version);
                listener::hand_over(&worker, &slot, (socket, rest), (direct, header.addresses), open);
            }
            Ok(Ok(Beginning::None(rest))) if !required => {
                metrics.proxy_proto_not_found_allowed.inc();
                listener::hand_over(&worker, &slot, (socket, rest), (direct, None), open);
            }
            Ok(Ok(Beginning::None(_))) => not_found(&worker),
            Ok(Ok(Beginning::Bad(version))) => {
                metrics.proxy_proto_error.inc(version);
                metrics.downstream_cx_proxy_proto_error.inc();
            }
            // Whoever has nothing to say before the upstream has spoken has no header either.
            Err(_) if !required && bytes.is_empty() => {
                metrics.proxy_proto_not_found_allowed.inc();
                listener::hand_over(&worker, &slot, (socket, Bytes::new()), (direct, None), open);
            }
            Err(_) => slot.metrics().downstream_pre_cx_timeout.inc(),
            Ok(Ok(Beginning::Gone) | Err(_)) => {}
        }
        drop(place);
    });
}

/// True when a header from this address counts.
fn trusts(headers: &ProxyHeaders, address: IpAddr) -> bool {
    headers.trusted.is_empty() || headers.trusted.iter().any(|network| network.contains(address))
}

fn not_found(worker: &Worker) {
    let metrics = &worker.view().snapshot.metrics.edge;
    metrics.proxy_proto_not_found_disallowed.inc();
    metrics.downstream_cx_proxy_proto_error.inc();
}

/// Reads until it is clear how the connection begins. No header is longer than 64 KiB and 16 bytes, so no more is kept.
async fn begin(socket: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<Beginning> {
    loop {
        bytes.reserve(PIECE);
        if socket.read_buf(bytes).await? == 0 {
            return Ok(Beginning::Gone);
        }
        match read(bytes) {
            Read::More => {}
            Read::Absent => return Ok(Beginning::None(bytes.split().freeze())),
            Read::Bad(version) => return Ok(Beginning::Bad(version)),
            Read::Whole(header) => {
                let rest = bytes.split_off(header.length).freeze();
                return Ok(Beginning::Header(header, rest));
            }
        }
    }
}

//! Serves a router on a listener: at most so many connections, none of them for ever.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::guard::Peer;

/// Connections at a time; further ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 64;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;

/// A request's head must be there within this time; a connection that waits for its next request ends by it too.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection is ended after this time, at the end of a request if there is one.
const MAX_LIFE: Duration = Duration::from_secs(300);

/// A request in flight at that time, or at shutdown, gets this long to finish, and the next one of an idle connection to come.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// Accepts until `shutdown` is done, then lets requests in flight finish.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (ending, ended) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, peer, slot)) = accepted else { continue };
        let (router, ended) = (router.clone().layer(Extension(Peer(peer.ip()))), ended.clone());
        tokio::spawn(async move {
            serve_connection(stream, router, ended).await;
            drop(slot);
        });
    }
    drop(ended);
    drop(listener);
    // The sender's end tells every connection; each of them drops its receiver when it is done.
    ending.send_replace(());
    ending.closed().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(%error, "the admin port cannot accept");
            // Out of file descriptors, most likely: trying again at once would only burn the processor.
            sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut ended: watch::Receiver<()>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let ends = Arc::<AtomicBool>::default();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        let (answer, ends) = (router.call(request), ends.clone());
        async move {
            let mut answer = answer.await;
            if let Ok(answer) = &mut answer
                && ends.load(Relaxed)
            {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let result = tokio::select! {
        result = &mut connection => result,
        () = until_end(&mut ended) => {
            // The answer that says so is the last: a request may be on its way already.
            ends.store(true, Relaxed);
            let Ok(result) = timeout(LAST_ANSWER, connection).await else { return };
            result
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an admin connection ended");
    }
}

async fn until_end(ended: &mut watch::Receiver<()>) {
    tokio::select! {
        _ = ended.changed() => {}
        () = sleep(MAX_LIFE) => {}
    }
}

//! How a running gateway comes to its end: by a signal, or by another process that takes over, or by both.

use std::cell::Cell;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::Context;
use portolan_admin::State;
use portolan_proxy::HandedOver;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Running;
use crate::signals::{Signal, Signals};
use crate::takeover::{Offer, Successor};

/// Why the gateway ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Signal(Signal),
    /// Another process serves from these sockets.
    Replaced(HandedOver),
    /// Another process has these sockets, and does not serve yet: its clients wait until then.
    Left(HandedOver),
}

/// That it ends.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) how: End,
    /// The drain's beginning.
    pub(super) since: Instant,
    /// A signal has asked for it.
    pub(super) signalled: bool,
}

/// A takeover, as far as a signal must know of it.
#[derive(Default)]
struct UnderWay {
    /// What the other process has by now.
    has: Cell<Option<HandedOver>>,
    failed: Notify,
}

impl Running {
    /// Serves until a signal, or until another process has taken over. One that is about to is waited for after SIGTERM, for
    /// as long as `patience` says: between the two nobody would serve.
    pub(super) async fn until_end(
        &self,
        signals: &mut Signals,
        offer: Option<&mut Offer>,
        patience: Duration,
    ) -> Ending {
        let under_way = UnderWay::default();
        let mut replaced = pin!(self.until_replaced(offer, &under_way));
        let signal = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Hangup => self.control.reload(),
                    signal => break signal,
                },
                what = &mut replaced => {
                    return Ending { how: End::Replaced(what), since: Instant::now(), signalled: false };
                }
            }
        };
        let ends = |how| Ending { how, since: Instant::now(), signalled: true };
        let Some(has) = under_way.has.get() else { return ends(End::Signal(signal)) };
        if signal != Signal::Terminate {
            return ends(End::Left(has));
        }
        let mut ending = ends(End::Left(has));
        tracing::info!("drain    the process that takes over is waited for, at most {patience:?}");
        self.readiness.set(State::Draining);
        self.workers.announce_drain();
        tokio::select! {
            what = &mut replaced => ending.how = End::Replaced(what),
            () = under_way.failed.notified() => ending.how = End::Signal(signal),
            () = sleep(patience) => {}
            _ = signals.end() => {}
        }
        ending
    }

    async fn until_replaced(&self, offer: Option<&mut Offer>, under_way: &UnderWay) -> HandedOver {
        let Some(offer) = offer else { return std::future::pending().await };
        loop {
            let successor = offer.asked().await;
            tracing::info!("takeover another process asks for the sockets");
            // What is handed on must be what is served when the other one begins.
            self.control.hold().await;
            under_way.has.set(Some(successor.asks()));
            match self.hand_on(&successor).await {
                Ok(what) => return what,
                Err(error) => tracing::error!("takeover this process serves on: {error:#}"),
            }
            if let Err(error) = offer.place_again() {
                tracing::error!("takeover this process cannot be found any more: {error:#}");
            }
            under_way.has.set(None);
            under_way.failed.notify_waiters();
            self.control.release();
        }
    }

    async fn hand_on(&self, successor: &Successor) -> anyhow::Result<HandedOver> {
        let mut sockets = self.cell.load().handles().context("no handles on the sockets")?;
        for socket in &self.ports.handles {
            sockets.tcp.push(socket.try_clone().context("no handles on the sockets")?);
        }
        successor.serves(&sockets).await
    }
}

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
    Signal,
    /// Another process serves from these sockets.
    Replaced(HandedOver),
    /// Another process has these sockets, and does not serve yet: its clients wait until then.
    Left(HandedOver),
    /// A second signal has come: with this exit code.
    AtOnce(i32),
}

/// That it ends.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) how: End,
    /// The drain's beginning.
    pub(super) since: Instant,
    /// A signal has asked for it.
    pub(super) signalled: bool,
    /// All but the workers know of it.
    pub(super) announced: bool,
}

/// How long the drain takes at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainTimes {
    pub(super) whole: Duration,
    /// So long clients are still taken in, after SIGTERM.
    pub(super) notice: Duration,
}

/// A takeover, as far as a signal must know of it.
#[derive(Default)]
struct UnderWay {
    /// What the other process has by now.
    has: Cell<Option<HandedOver>>,
    changed: Notify,
}

impl UnderWay {
    fn set(&self, has: Option<HandedOver>) {
        self.has.set(has);
        self.changed.notify_waiters();
    }
}

impl Running {
    /// Serves until a signal, or until another process has taken over.
    ///
    /// After SIGTERM clients are still taken in for a while, and told to close: load balancers need it to notice. Another
    /// process may still take over; one that is about to is waited for, for half of the drain's time at most: between the two
    /// nobody would serve.
    pub(super) async fn until_end(
        &self,
        signals: &mut Signals,
        offer: Option<&mut Offer>,
        times: impl Fn() -> DrainTimes,
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
                    return Ending { how: End::Replaced(what), since: Instant::now(), signalled: false, announced: false };
                }
            }
        };
        let (since, times) = (Instant::now(), times());
        let is_patient = signal == Signal::Terminate;
        if is_patient {
            self.announce_end(times.whole);
            self.workers.announce_drain();
        }
        let how = loop {
            let changed = under_way.changed.notified();
            let (limit, late) = match under_way.has.get() {
                Some(has) => (times.whole / 2, End::Left(has)),
                None => (times.notice, End::Signal),
            };
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() || !is_patient {
                break late;
            }
            tokio::select! {
                what = &mut replaced => break End::Replaced(what),
                () = changed => {}
                () = sleep(left) => {}
                code = second(signals, true) => break End::AtOnce(code),
            }
        };
        Ending { how, since, signalled: true, announced: is_patient }
    }

    /// Says to all but the workers that it ends.
    pub(super) fn announce_end(&self, drain_time: Duration) {
        self.readiness.set(State::Draining);
        self.control.end();
        let listeners = i64::try_from(self.cell.load().model.listeners.len()).unwrap_or(i64::MAX);
        self.metrics.server.total_listeners_draining.set(listeners);
        if !drain_time.is_zero() {
            tracing::info!("drain    at most {drain_time:?}; a second signal ends at once");
        }
    }

    async fn until_replaced(&self, offer: Option<&mut Offer>, under_way: &UnderWay) -> HandedOver {
        let Some(offer) = offer else { return std::future::pending().await };
        loop {
            let successor = offer.asked().await;
            tracing::info!("takeover another process asks for the sockets");
            // What is handed on must be what is served when the other one begins.
            self.control.hold().await;
            under_way.set(Some(successor.asks()));
            match self.hand_on(&successor).await {
                Ok(what) => return what,
                Err(error) => tracing::error!("takeover this process serves on: {error:#}"),
            }
            if let Err(error) = offer.place_again() {
                tracing::error!("takeover this process cannot be found any more: {error:#}");
            }
            self.control.release();
            under_way.set(None);
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

/// The exit code that shells expect of a process that a signal ended. SIGTERM does so when it was `signalled` before: one that
/// was replaced drains already.
pub(super) async fn second(signals: &mut Signals, mut signalled: bool) -> i32 {
    loop {
        match signals.next().await {
            Signal::Interrupt => return 130,
            Signal::Terminate if signalled => return 143,
            Signal::Terminate => {
                signalled = true;
                tracing::info!("signal   it drains already; another one ends at once");
            }
            Signal::Hangup => {}
        }
    }
}

//! [`Deadline`]: the route's timeout. Envoy starts it when the request has come in whole. Here it also runs while an
//! upstream does not take the body, which could hold the client for ever otherwise; it does not run while the client is
//! waited for.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::stream::Stream;

/// A limit on how long an upstream is waited for.
pub(crate) struct Deadline {
    stream: Rc<Stream>,
    limit: Duration,
    at: Instant,
    /// For [`Self::poll`].
    sleep: Option<Pin<Box<Sleep>>>,
}

/// How the request's body comes in.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    waits_for_client: Cell<bool>,
    /// When a part of it, or its end, came in last.
    last: Cell<Option<Instant>>,
}

impl Upload {
    /// The client has been asked for more and has not sent it.
    pub(crate) fn waits(&self) {
        self.waits_for_client.set(true);
    }

    /// True while the client owes a part.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waits_for_client.get()
    }

    /// When a part of it, or its end, came in last; none when there is none.
    pub(crate) fn last(&self) -> Option<std::time::Instant> {
        self.last.get().map(Instant::into_std)
    }

    /// A part has come, or the end.
    pub(crate) fn came(&self) {
        self.waits_for_client.set(false);
        self.last.set(Some(Instant::now()));
    }
}

/// The future's output; none when the time, where there is a limit, ran out before. It is pinned by the caller: one that is
/// moved in here is kept twice, and what a request keeps is moved with it.
pub(crate) async fn within<F: Future>(deadline: Option<&mut Deadline>, future: Pin<&mut F>) -> Option<F::Output> {
    match deadline {
        Some(deadline) => deadline.within(future).await,
        None => Some(future.await),
    }
}

impl Deadline {
    /// `limit` from now; none for a limit beyond the clock's end.
    pub(crate) fn new(stream: &Rc<Stream>, limit: Duration) -> Option<Self> {
        let at = Instant::now().checked_add(limit)?;
        Some(Self { stream: stream.clone(), limit, at, sleep: None })
    }

    /// When it runs out, as it stands now.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    async fn within<F: Future>(&mut self, mut future: Pin<&mut F>) -> Option<F::Output> {
        loop {
            match timeout_at(self.at, future.as_mut()).await {
                Ok(output) => return Some(output),
                Err(_) if self.put_off() => {}
                Err(_) => return None,
            }
        }
    }

    /// Ready when the time ran out.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let at = self.at;
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if !self.put_off() {
                return Poll::Ready(());
            }
            self.sleep = None;
        }
    }

    /// True when the upstream has not had its time yet, as the client was waited for meanwhile.
    fn put_off(&mut self) -> bool {
        let upload = self.stream.upload();
        let since = if upload.waits_for_client.get() { Some(Instant::now()) } else { upload.last.get() };
        let Some(at) = since.and_then(|since| since.checked_add(self.limit)) else { return false };
        let later = at > Instant::now();
        if later {
            self.at = at;
        }
        later
    }
}

/// A deadline `timeout` from now; none when there is no timeout.
pub(crate) fn after(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

//! [`Parting`]: what a client has sent before it knew of GOAWAY, and after it had answered the PING that goes with it.
//!
//! h2 says GOAWAY with the highest stream there is and a PING, and with the answer to that says which stream was the last. Clients
//! write the answer before what waits to be written: requests that were begun before they read GOAWAY come behind it, and h2 would
//! not look at them any more. So it is given the answer later than it came. Envoy waits 5 s in its place (`drain_timeout`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// PING with ACK, and what h2 says in that PING (`Ping::SHUTDOWN`).
const ANSWER: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0\x0b\x7b\xa2\xf0\x8b\x9b\xfe\x54";
/// How long it is kept from h2.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far the client has been told.
#[derive(Default)]
pub(super) enum Parting {
    /// The answer has not come.
    #[default]
    Open,
    /// It is kept, from the time on when h2 asks for more.
    Answered(Option<Pin<Box<Sleep>>>),
    /// h2 has it.
    Told,
}

impl Parting {
    /// The length of the answer, where these bytes begin with it, and it is kept from now on.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Option<usize> {
        if !matches!(self, Self::Open) || !bytes.starts_with(ANSWER) {
            return None;
        }
        *self = Self::Answered(None);
        Some(ANSWER.len())
    }

    /// Ready with the answer when it is time for it, once.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<&'static [u8]> {
        let Self::Answered(timer) = self else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(timer.as_mut().poll(cx));
        *self = Self::Told;
        Poll::Ready(ANSWER)
    }
}

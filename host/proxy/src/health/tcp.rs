//! A check by a connection, and by what comes back on it. Each check makes a new one: that it can be made is what counts.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::probe::{failure, socket};
use super::tally::{FailureKind, Outcome};
use super::target::Target;
use crate::upstream::Application;

/// Most bytes that are looked through.
const MAX_RECEIVED: usize = 64 * 1024;

pub(super) async fn ask(target: &Target, send: &[u8], receive: &[Vec<u8>]) -> Outcome {
    let mut socket = match socket(target, Application::Tcp).await {
        Ok(socket) => socket,
        Err(outcome) => return outcome,
    };
    let broken = |error: std::io::Error| failure(FailureKind::Network, &format!("the connection broke: {error}"));
    if !send.is_empty()
        && let Err(error) = socket.write_all(send).await
    {
        return broken(error);
    }
    let mut received = Vec::new();
    while !matches(&received, receive) {
        match socket.read_buf(&mut received).await {
            Ok(0) => return failure(FailureKind::Network, "the connection ended before the answer"),
            Ok(_) if received.len() > MAX_RECEIVED => {
                return failure(FailureKind::Active, "the answer is not in what came");
            }
            Ok(_) => {}
            Err(error) => return broken(error),
        }
    }
    Outcome::Success
}

/// Envoy's fuzzy match: all parts in their order, with anything between them.
fn matches(mut received: &[u8], parts: &[Vec<u8>]) -> bool {
    parts.iter().all(|part| {
        let found = received.windows(part.len().max(1)).position(|window| window == part);
        found.is_some_and(|at| {
            received = &received[at + part.len()..];
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn parts_come_in_their_order_with_anything_between() {
        let parts = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>();
        assert!(matches(b"", &[]));
        assert!(matches(b"xxPONGyyOK", &parts(&["PONG", "OK"])));
        assert!(!matches(b"OK PONG", &parts(&["PONG", "OK"])));
        assert!(!matches(b"PO", &parts(&["PONG"])));
        assert!(!matches(b"PONG", &parts(&["PONG", "PONG"])));
    }
}

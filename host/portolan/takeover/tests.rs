//! What two processes come to, played by two tasks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::net::UdpSocket;

use super::*;

fn sockets(count: usize) -> ClientSockets {
    let tcp = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let udp = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    ClientSockets { tcp, udp }
}

#[tokio::test(flavor = "current_thread")]
async fn every_socket_comes_over_and_the_path_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let mut offer = Offer::new(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
    let sockets = sockets(100);
    let old = async {
        let successor = offer.asked().await;
        assert_eq!(successor.serves(&sockets).await.unwrap(), HandedOver::All);
    };
    let new = async {
        let mut predecessor = Predecessor::at(&path).await.unwrap().unwrap();
        let first = sockets.tcp[0].local_addr().unwrap();
        assert!(predecessor.take(first).is_some() && predecessor.take(first).is_none());
        let rest = predecessor.take_rest();
        assert_eq!((rest.tcp.len(), rest.udp.len()), (99, 100));
        assert_eq!(rest.udp[7].local_addr().unwrap(), sockets.udp[7].local_addr().unwrap());
        predecessor.replace().await.unwrap();
    };
    tokio::join!(old, new);
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_knows_no_udp_is_given_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let mut offer = Offer::new(&path).unwrap();
    let sockets = sockets(1);
    let old = async {
        let successor = offer.asked().await;
        assert_eq!(successor.serves(&sockets).await.unwrap(), HandedOver::Tcp);
    };
    let new = async {
        let socket = UnixSeqpacket::connect(&path).await.unwrap();
        wire::say(&socket, Word::Take).await.unwrap();
        let given = wire::receive(&socket).await.unwrap();
        assert_eq!((given.tcp.len(), given.udp.len()), (1, 0));
        wire::say(&socket, Word::Serving).await.unwrap();
        assert_eq!(wire::hear(&socket).await.unwrap(), Some(Word::Go));
    };
    tokio::join!(old, new);
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_knows_no_udp_is_asked_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let offer = Offer::new(&path).unwrap();
    let old = async {
        let mut listener = offer.listener;
        let socket = listener.accept().await.unwrap();
        // It reads a byte.
        assert_eq!(wire::hear(&socket).await.unwrap(), Some(Word::Take));
        wire::send(&socket, &sockets(1), HandedOver::Tcp).await.unwrap();
        assert_eq!(wire::hear(&socket).await.unwrap(), Some(Word::Serving));
        wire::say(&socket, Word::Go).await.unwrap();
    };
    let new = async {
        let mut predecessor = Predecessor::at(&path).await.unwrap().unwrap();
        assert_eq!(predecessor.take_rest().tcp.len(), 1);
        predecessor.replace().await.unwrap();
    };
    tokio::join!(old, new);
}

#[tokio::test(flavor = "current_thread")]
async fn a_new_process_that_ends_early_is_an_error_for_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let mut offer = Offer::new(&path).unwrap();
    let sockets = sockets(1);
    let old = async { offer.asked().await.serves(&sockets).await.unwrap_err().to_string() };
    let new = async { drop(Predecessor::at(&path).await.unwrap().unwrap()) };
    let (said, ()) = tokio::join!(old, new);
    assert_eq!(said, "the other process has ended");
    let old = async { offer.asked().await.serves(&sockets).await.unwrap_err().to_string() };
    let new = async {
        let predecessor = Predecessor::at(&path).await.unwrap().unwrap();
        // With its last word not yet heard.
        wire::say(&predecessor.socket, Word::Serving).await.unwrap();
    };
    let (said, ()) = tokio::join!(old, new);
    assert_eq!(said, "the other process has ended");
}

#[tokio::test(flavor = "current_thread")]
async fn whoever_waits_for_a_process_that_is_replaced_is_given_the_sockets_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    let first = Offer::new(&path).unwrap();
    let new = async { Predecessor::at(&path).await.unwrap().unwrap().take_rest().tcp.len() };
    let old = async {
        // It has connected.
        tokio::task::yield_now().await;
        let mut second = Offer::new(&path).unwrap();
        first.withdraw();
        drop(first);
        // The error that the new one's end is.
        let _ = second.asked().await.serves(&sockets(3)).await;
    };
    assert_eq!(tokio::join!(new, old).0, 3);
}

#[tokio::test(flavor = "current_thread")]
async fn where_nobody_listens_there_is_no_predecessor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("takeover");
    assert!(Predecessor::at(&path).await.unwrap().is_none());
    drop(Offer::new(&path).unwrap());
    assert!(path.exists(), "what a killed process leaves");
    assert!(Predecessor::at(&path).await.unwrap().is_none());
    Offer::new(&path).unwrap().withdraw();
    assert!(!path.exists());
}

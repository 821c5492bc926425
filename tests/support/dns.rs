//! A DNS server on loopback that says what the test wants.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const TYPE_A: [u8; 2] = [0, 1];

/// Answers questions for names without their last dot; unknown ones do not exist.
pub(crate) struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<HashMap<String, Answer>>,
    stopped: std::sync::atomic::AtomicBool,
}

#[derive(Clone)]
enum Answer {
    Addresses(Vec<Ipv4Addr>, u32),
    Failure,
}

impl DnsServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket for DNS");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let (address, shared) = (socket.local_addr().expect("its address"), Arc::new(Shared::default()));
        let served = shared.clone();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while !served.stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = served.answer(&question[..length]) {
                    // A client that went away asks again.
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the name has these addresses, for so many seconds.
    pub(crate) fn set(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an IPv4 address")).collect();
        self.shared.answers.lock().unwrap().insert(name.to_owned(), Answer::Addresses(addresses, ttl));
    }

    /// From now on the server fails for this name.
    pub(crate) fn fail(&self, name: &str) {
        self.shared.answers.lock().unwrap().insert(name.to_owned(), Answer::Failure);
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Shared {
    /// The answer to a message with one question; none for what is no question.
    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8(message.get(at..at + length)?.to_ascii_lowercase()).ok()?);
            at += length;
        }
        let question = message.get(12..at + 4)?;
        let wants_v4 = question[question.len() - 4..question.len() - 2] == TYPE_A;
        let known = self.answers.lock().unwrap().get(&labels.join(".")).cloned();
        let (code, addresses, ttl) = match known {
            Some(Answer::Addresses(addresses, ttl)) if wants_v4 => (NO_ERROR, addresses, ttl),
            Some(Answer::Addresses(..)) => (NO_ERROR, Vec::new(), 0),
            Some(Answer::Failure) => (SERVER_FAILURE, Vec::new(), 0),
            None => (NO_SUCH_NAME, Vec::new(), 0),
        };
        let mut out = message.get(..2)?.to_vec();
        out.extend_from_slice(&[0x85, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).ok()?, 0, 0, 0, 0]);
        out.extend_from_slice(question);
        for address in addresses {
            out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
            out.extend_from_slice(&ttl.to_be_bytes());
            out.extend_from_slice(&[0, 4]);
            out.extend_from_slice(&address.octets());
        }
        Some(out)
    }
}

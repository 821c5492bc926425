//! [`read`]: the header of the PROXY protocol that a proxy in front of the gateway sends before anything else (haproxy's
//! proxy-protocol.txt, versions 1 and 2). What is refused is what Envoy refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// Longest line of version 1, with its end.
const MAX_LINE: usize = 107;
/// Signature, command, family and length.
const FIXED: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// It takes more to tell.
    More,
    /// They are no header.
    Absent,
    /// They begin as one of this version and are none.
    Bad(usize),
    /// A header.
    Whole(Header),
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: usize,
    /// What follows belongs to the connection.
    pub(crate) length: usize,
    /// Client, and whom it has called; none for a connection of the proxy's own.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Reads as much as is there.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let begins_as = |start: &[u8]| {
        let common = bytes.len().min(start.len());
        bytes[..common] == start[..common]
    };
    if begins_as(SIGNATURE) {
        return if bytes.len() < FIXED { Read::More } else { binary(bytes) };
    }
    if begins_as(WORD) {
        return if bytes.len() < WORD.len() { Read::More } else { text(bytes) };
    }
    Read::Absent
}

fn text(bytes: &[u8]) -> Read {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_LINE { Read::More } else { Read::Bad(1) };
    };
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(line_addresses) {
        Some(addresses) => Read::Whole(Header { version: 1, length: end + 1, addresses }),
        None => Read::Bad(1),
    }
}

/// None for a line that is wrong.
fn line_addresses(line: &str) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Some(None);
    }
    let mut ip = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (from, to) = (ip()?, ip()?);
    let (from_port, to_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    believable(SocketAddr::new(from, from_port), SocketAddr::new(to, to_port)).map(Some)
}

fn port(word: &str) -> Option<u16> {
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

/// Nobody connects from an address that is nobody's or many's.
fn believable(from: SocketAddr, to: SocketAddr) -> Option<(SocketAddr, SocketAddr)> {
    let is_one = match from.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    is_one.then_some((from, to))
}

fn binary(bytes: &[u8]) -> Read {
    let (command, family) = (bytes[12], bytes[13]);
    let rest = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let length = FIXED + rest;
    // Told before all of it is there: nobody waits for 64 KiB of what is wrong anyway.
    let of_addresses = match (command, family) {
        (0x20, _) => 0,
        (0x21, 0x11 | 0x12) => 12,
        (0x21, 0x21 | 0x22) => 36,
        _ => return Read::Bad(2),
    };
    if rest < of_addresses {
        return Read::Bad(2);
    }
    let Some(payload) = bytes.get(FIXED..length) else { return Read::More };
    if command == 0x20 {
        return Read::Whole(Header { version: 2, length, addresses: None });
    }
    let (addresses, values) = payload.split_at(of_addresses);
    match binary_addresses(addresses).filter(|_| are_whole(values)) {
        Some(addresses) => Read::Whole(Header { version: 2, length, addresses: Some(addresses) }),
        None => Read::Bad(2),
    }
}

fn binary_addresses(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let v4 = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok().map(IpAddr::from);
    let v6 = |at: usize| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok().map(IpAddr::from);
    let (from, to, ports) = match bytes.len() {
        12 => (v4(0)?, v4(4)?, 8),
        _ => (v6(0)?, v6(16)?, 32),
    };
    believable(SocketAddr::new(from, number(ports)?), SocketAddr::new(to, number(ports + 2)?))
}

/// True when the values behind the addresses, each with its own length, fill what is there exactly.
fn are_whole(mut values: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = values {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        values = next;
    }
    values.is_empty()
}

#[cfg(test)]
mod tests;

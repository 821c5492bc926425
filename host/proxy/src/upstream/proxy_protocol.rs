//! The header of the PROXY protocol that an endpoint gets before anything else (haproxy's proxy-protocol.txt, versions 1
//! and 2, without TLVs).

use std::net::{IpAddr, SocketAddr};

use portolan_model::ProxyProtocol;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The header for a connection from `client` to `local`; none for one of the gateway's own.
pub(super) fn header(version: ProxyProtocol, addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let addresses = addresses.map(|(client, local)| same_family(client, local));
    match version {
        ProxyProtocol::V1 => text(addresses),
        ProxyProtocol::V2 => binary(addresses),
    }
}

/// An IPv4 address on an IPv6 socket is IPv4, unless the other end is not.
fn same_family(client: SocketAddr, local: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (plain_client, plain_local) = (client.ip().to_canonical(), local.ip().to_canonical());
    let (client_ip, local_ip) = match (plain_client, plain_local) {
        (IpAddr::V4(client), IpAddr::V6(_)) => (IpAddr::V6(client.to_ipv6_mapped()), plain_local),
        (IpAddr::V6(_), IpAddr::V4(local)) => (plain_client, IpAddr::V6(local.to_ipv6_mapped())),
        same => same,
    };
    (SocketAddr::new(client_ip, client.port()), SocketAddr::new(local_ip, local.port()))
}

fn text(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let Some((client, local)) = addresses else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", client.ip(), local.ip(), client.port(), local.port()).into_bytes()
}

fn binary(addresses: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    let Some((client, local)) = addresses else {
        // Version 2, command LOCAL, no family, no addresses.
        out.extend([0x20, 0x00, 0x00, 0x00]);
        return out;
    };
    match (client.ip(), local.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend([0x21, 0x11, 0x00, 12]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        (from, to) => {
            out.extend([0x21, 0x21, 0x00, 36]);
            for ip in [from, to] {
                match ip {
                    IpAddr::V6(ip) => out.extend(ip.octets()),
                    IpAddr::V4(ip) => out.extend(ip.to_ipv6_mapped().octets()),
                }
            }
        }
    }
    out.extend(client.port().to_be_bytes());
    out.extend(local.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |pair| String::from_utf8(header(ProxyProtocol::V1, pair)).unwrap();
        assert_eq!(
            line(Some((at("192.0.2.1:40000"), at("198.51.100.2:80")))),
            "PROXY TCP4 192.0.2.1 198.51.100.2 40000 80\r\n"
        );
        assert_eq!(
            line(Some((at("[2001:db8::1]:1"), at("[2001:db8::2]:2")))),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"
        );
        assert_eq!(
            line(Some((at("[::ffff:192.0.2.1]:1"), at("[::ffff:192.0.2.2]:2")))),
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
        );
        assert_eq!(line(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_has_signature_command_family_length_and_addresses() {
        let bytes = header(ProxyProtocol::V2, Some((at("192.0.2.1:258"), at("198.51.100.2:80"))));
        assert_eq!(&bytes[..12], SIGNATURE);
        assert_eq!(&bytes[12..], [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 2, 1, 2, 0, 80]);
        let bytes = header(ProxyProtocol::V2, Some((at("[2001:db8::1]:1"), at("[2001:db8::2]:2"))));
        assert_eq!((bytes.len(), bytes[13], bytes[15]), (16 + 36, 0x21, 36));
        assert_eq!(header(ProxyProtocol::V2, None)[12..], [0x20, 0, 0, 0]);
    }
}

//! Addresses as proxies and people write them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
/// An IPv4 address that is mapped into IPv6 is the IPv4 address. None for anything else, zones included.
///
/// ```
/// use portolan_filter_conditions::address;
///
/// let address = address::read(b"[::ffff:192.0.2.1]:80").expect("an address");
/// assert_eq!(address.to_string(), "192.0.2.1");
/// assert!(address::read(b"unknown").is_none());
/// ```
pub fn read(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().filter(|_| !text.contains('%')).map(|socket| socket.ip());
    text.parse::<IpAddr>().ok().or_else(with_port).or_else(bare).map(|address| address.to_canonical())
}

/// The first bits of an address, all others 0: 4 bytes of an IPv4 address, 16 of an IPv6 one.
///
/// ```
/// let address = "10.1.255.7".parse().expect("an address");
/// assert_eq!(portolan_filter_conditions::address::network(address, 20, 64), [10, 1, 240, 0]);
/// ```
pub fn network(address: IpAddr, ipv4_bits: u8, ipv6_bits: u8) -> Vec<u8> {
    let (mut bytes, bits) = match address {
        IpAddr::V4(address) => (address.octets().to_vec(), ipv4_bits),
        IpAddr::V6(address) => (address.octets().to_vec(), ipv6_bits),
    };
    for (place, byte) in bytes.iter_mut().enumerate() {
        let kept = usize::from(bits).saturating_sub(place * 8).min(8);
        *byte &= !(0xff_u16 >> kept) as u8;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{network, read};

    #[test]
    fn addresses_are_read_with_and_without_port() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1:8080 ", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(read(text.as_bytes()).map(|ip| ip.to_string()).as_deref(), Some(address), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in
            ["", "unknown", "_hidden", "10.0.0.256", "010.0.0.1", "10.0.0.1:port", "fe80::1%eth0", "[fe80::1%1]:80"]
        {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read(b"\xff"), None);
    }

    #[test]
    fn a_network_is_what_an_address_begins_with() {
        let of = |text: &str, ipv4_bits| network(text.parse().expect("an address"), ipv4_bits, 64);
        assert_eq!(of("10.1.255.7", 20), [10, 1, 240, 0]);
        assert_eq!((of("10.1.2.3", 32), of("10.1.2.3", 0)), (vec![10, 1, 2, 3], vec![0; 4]));
        assert_eq!(of("2001:db8:1:2:3:4:5:6", 0), of("2001:db8:1:2::", 0));
        assert_ne!(of("2001:db8:1:2::", 0), of("2001:db8:1:3::", 0));
    }
}

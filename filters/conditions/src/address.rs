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

#[cfg(test)]
mod tests {
    use super::read;

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
}

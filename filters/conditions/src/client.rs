//! [`ClientAddress`]: whose address a request has.

use std::net::IpAddr;

use portolan_sdk::schema::Node;
use portolan_sdk::{ConfigSchema, HostError, Request};
use serde::{Deserialize, Deserializer, de};

use crate::address;

/// Most proxies that may be trusted; nobody has more in a row.
const MAX_HOPS: usize = 16;

/// Where the client's address is read, written as the number of trusted proxies in front of the gateway (Envoy's
/// `xff_num_trusted_hops`). 0, the default, is the address of the connection. With n it is the n-th entry from the right
/// of `x-forwarded-for` as it came to the gateway, which appends the connection's own behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAddress {
    trusted_hops: usize,
}

impl ClientAddress {
    /// The client's address; none when the request came over fewer proxies than are trusted, or when what stands there
    /// is no address. Envoy takes the connection's address then: a proxy's, which lists tend to trust.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn of(self, request: &Request<'_>) -> Result<Option<IpAddr>, HostError> {
        if self.trusted_hops == 0 {
            return Ok(request.property("source\0address")?.and_then(address::read));
        }
        let forwarded = request.header("x-forwarded-for")?.unwrap_or_default();
        Ok(self.entry(forwarded))
    }

    fn entry(self, forwarded: &[u8]) -> Option<IpAddr> {
        forwarded.rsplit(|byte| *byte == b',').nth(self.trusted_hops).and_then(address::read)
    }
}

impl<'de> Deserialize<'de> for ClientAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            trusted_hops if trusted_hops <= MAX_HOPS => Ok(Self { trusted_hops }),
            hops => Err(de::Error::custom(format!("{hops} trusted proxies are too many: at most {MAX_HOPS}"))),
        }
    }
}

impl ConfigSchema for ClientAddress {
    const SCHEMA: Node = Node::Integer { min: 0, max: MAX_HOPS as i128 };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn entry(trusted_hops: usize, forwarded: &str) -> Option<String> {
        ClientAddress { trusted_hops }.entry(forwarded.as_bytes()).map(|address| address.to_string())
    }

    #[test]
    fn entries_are_counted_from_the_right_without_the_gateway_s_own() {
        let forwarded = "6.6.6.6, 198.51.100.1, 10.0.0.2,10.0.0.1";
        assert_eq!(entry(1, forwarded).as_deref(), Some("10.0.0.2"));
        assert_eq!(entry(2, forwarded).as_deref(), Some("198.51.100.1"));
        assert_eq!(entry(3, forwarded).as_deref(), Some("6.6.6.6"));
    }

    #[test]
    fn fewer_proxies_than_trusted_and_words_are_nobody() {
        assert_eq!(entry(4, "6.6.6.6, 198.51.100.1, 10.0.0.2,10.0.0.1"), None);
        assert_eq!(entry(1, "10.0.0.1"), None);
        assert_eq!(entry(1, ""), None);
        assert_eq!(entry(1, "unknown, 10.0.0.1"), None);
    }

    #[test]
    fn the_number_of_proxies_is_bounded() {
        assert_eq!(serde_json::from_str::<ClientAddress>("2").unwrap(), ClientAddress { trusted_hops: 2 });
        assert!(serde_json::from_str::<ClientAddress>("17").unwrap_err().to_string().contains("at most 16"));
        assert!(serde_json::from_str::<ClientAddress>("-1").is_err());
    }
}

//! [`Descriptor`]: what a rule counts by, read from a request.

use std::borrow::Cow;

use portolan_filter_conditions::{ClientAddress, Head, address};
use portolan_sdk::{ConfigError, HostError, Request};

use crate::config::DescriptorConfig;

/// One value that requests have or lack.
#[derive(Debug)]
pub(crate) enum Descriptor {
    Header(String),
    Cookie(String),
    Query(String),
    Path(Option<usize>),
    Method,
    Host,
    RemoteAddress {
        client: ClientAddress,
        ipv4_bits: u8,
        ipv6_bits: u8,
    },
    /// Parts are joined with NUL.
    Property(String),
}

impl Descriptor {
    pub(crate) fn read(config: DescriptorConfig) -> Result<Self, ConfigError> {
        Ok(match config {
            DescriptorConfig::Header(name) => Self::Header(named("header", name)?.to_ascii_lowercase()),
            DescriptorConfig::Cookie(name) => Self::Cookie(named("cookie", name)?),
            DescriptorConfig::Query(name) => Self::Query(named("query", name)?),
            DescriptorConfig::Property(name) => Self::Property(named("property", name)?.replace('.', "\0")),
            DescriptorConfig::Method(_) => Self::Method,
            DescriptorConfig::Host(_) => Self::Host,
            DescriptorConfig::Path(path) => match path.segments {
                Some(0) | Some(33..) => return Err(ConfigError::new("`path.segments` must be 1 to 32")),
                segments => Self::Path(segments.map(usize::from)),
            },
            DescriptorConfig::RemoteAddress(config) => {
                if config.ipv4_prefix_length > 32 || config.ipv6_prefix_length > 128 {
                    return Err(ConfigError::new("a prefix has at most 32 bits of IPv4 and 128 of IPv6"));
                }
                Self::RemoteAddress {
                    client: config.trusted_hops,
                    ipv4_bits: config.ipv4_prefix_length,
                    ipv6_bits: config.ipv6_prefix_length,
                }
            }
        })
    }

    /// The request's value; none when it lacks it.
    pub(crate) fn value<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, [u8]>>, HostError> {
        Ok(match self {
            Self::Header(name) => request.header(name)?.map(Cow::Borrowed),
            Self::Cookie(name) => Head::cookie(request, name)?.map(Cow::Borrowed),
            Self::Query(name) => Head::query(request, name)?.map(Cow::Borrowed),
            Self::Path(segments) => {
                let path = request.path()?;
                Some(Cow::Borrowed(segments.map_or(path, |count| first_segments(path, count))))
            }
            Self::Method => Some(Cow::Borrowed(request.method()?)),
            Self::Host => Some(Cow::Owned(request.host()?.to_ascii_lowercase())),
            Self::RemoteAddress { client, ipv4_bits, ipv6_bits } => {
                // Who came past the trusted proxies is counted by the connection's address: never not at all.
                let trusted = client.of(request)?;
                let address = if trusted.is_some() { trusted } else { ClientAddress::default().of(request)? };
                address.map(|address| Cow::Owned(address::network(address, *ipv4_bits, *ipv6_bits)))
            }
            Self::Property(key) => request.property(key)?.map(Cow::Borrowed),
        })
    }
}

fn named(kind: &str, name: String) -> Result<String, ConfigError> {
    if name.is_empty() || name.len() > 256 {
        return Err(ConfigError::new(format!("`{kind}` needs a name of 1 to 256 bytes")));
    }
    Ok(name)
}

/// `/a/b` of `/a/b/c` for 2.
fn first_segments(path: &[u8], count: usize) -> &[u8] {
    let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
    slashes.map(|(place, _)| place).nth(count - 1).map_or(path, |end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_from_the_first_slash() {
        for (path, count, expected) in
            [("/a/b/c", 1, "/a"), ("/a/b/c", 2, "/a/b"), ("/a/b/c", 9, "/a/b/c"), ("/", 1, "/"), ("/a/", 1, "/a")]
        {
            assert_eq!(first_segments(path.as_bytes(), count), expected.as_bytes(), "{path} {count}");
        }
    }
}

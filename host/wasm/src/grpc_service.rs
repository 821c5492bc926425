//! `GrpcService`: where a gRPC callout goes, out of a serialised `envoy.config.core.v3.GrpcService`.
//!
//! Two of its fields are read: `envoy_grpc { cluster_name, authority }` and `google_grpc { target_uri }`. All others are
//! passed over; credentials of `google_grpc` other than insecure ones are noted, since the gateway speaks plain TCP.

/// The fields that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrpcService {
    /// `envoy_grpc.cluster_name`, or `google_grpc.target_uri` without a resolver's scheme.
    pub(crate) target: String,
    /// `envoy_grpc.authority`.
    pub(crate) authority: Option<String>,
    /// `google_grpc` wants credentials that need TLS.
    pub(crate) needs_tls: bool,
}

/// Field numbers: <https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/grpc_service.proto>.
const ENVOY_GRPC: u64 = 1;
const GOOGLE_GRPC: u64 = 2;
const NAME: u64 = 1;
const AUTHORITY: u64 = 2;
const CHANNEL_CREDENTIALS: u64 = 2;
const LOCAL_CREDENTIALS: u64 = 3;

impl GrpcService {
    /// Reads a message; none when it is malformed or names no target.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut service = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            match field(&mut rest)? {
                (ENVOY_GRPC, Some(part)) => service.read_envoy(part)?,
                (GOOGLE_GRPC, Some(part)) => service.read_google(part)?,
                _ => {}
            }
        }
        (!service.target.is_empty()).then_some(service)
    }

    fn read_envoy(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            match field(&mut rest)? {
                (NAME, Some(name)) => self.target = text(name)?,
                (AUTHORITY, Some(name)) => self.authority = Some(text(name)?).filter(|name| !name.is_empty()),
                _ => {}
            }
        }
        Some(())
    }

    fn read_google(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            match field(&mut rest)? {
                (NAME, Some(uri)) => self.target = without_scheme(&text(uri)?).to_owned(),
                (CHANNEL_CREDENTIALS, Some(mut part)) => {
                    while !part.is_empty() {
                        self.needs_tls |= field(&mut part)?.0 != LOCAL_CREDENTIALS;
                    }
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// `dns:///host:80`, `dns:host:80`, `ipv4:1.2.3.4:80`: what follows the resolver's name.
fn without_scheme(uri: &str) -> &str {
    let found = ["dns:", "ipv4:", "ipv6:"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let rest = found.unwrap_or(uri);
    match rest.strip_prefix("//") {
        // An authority of DNS may stand there: the gateway has its own resolver.
        Some(rest) if found.is_some() => rest.split_once('/').map_or(rest, |(_, name)| name),
        _ => rest,
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Takes a field off the front: its number, and its bytes when it has a length.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(rest)?;
    let (number, wire_type) = (tag >> 3, tag & 7);
    let value = match wire_type {
        0 => {
            varint(rest)?;
            None
        }
        1 => {
            take(rest, 8)?;
            None
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Some(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            None
        }
        _ => return None,
    };
    (number != 0).then_some((number, value))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, back) = rest.split_at_checked(length)?;
    *rest = back;
    Some(front)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, back) = rest.split_first()?;
        *rest = back;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    fn message(number: u8, value: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(value.len()).unwrap_or(0)], value].concat()
    }

    #[test]
    fn both_forms_name_their_target() {
        let timeout = [3 << 3 | 2, 2, 8, 5];
        let envoy = [message(1, &[message(1, b"auth"), message(2, b"a.test")].concat()), timeout.to_vec()].concat();
        let wanted = GrpcService { target: "auth".to_owned(), authority: Some("a.test".to_owned()), needs_tls: false };
        assert_eq!(GrpcService::decode(&envoy), Some(wanted));
        for (uri, target) in [
            (&b"dns:///auth:50051"[..], "auth:50051"),
            (b"dns://8.8.8.8/auth:50051", "auth:50051"),
            (b"auth:50051", "auth:50051"),
            (b"ipv4:127.0.0.1:1", "127.0.0.1:1"),
        ] {
            let google = message(2, &[message(1, uri), message(4, b"prefix")].concat());
            let found = GrpcService::decode(&google);
            assert_eq!(found.map(|service| service.target).as_deref(), Some(target));
        }
    }

    #[test]
    fn credentials_that_need_tls_are_noted() {
        let with = |kind| message(2, &[message(1, b"a:1"), message(2, &message(kind, b""))].concat());
        assert_eq!(GrpcService::decode(&with(1)).map(|service| service.needs_tls), Some(true));
        assert_eq!(GrpcService::decode(&with(3)).map(|service| service.needs_tls), Some(false));
    }

    #[test]
    fn what_is_no_message_or_names_nothing_is_none() {
        for bad in [&b""[..], b"auth_cluster", b"\x0a", b"\x0a\x05ab", b"\x0a\x00", b"\xff\xff\xff"] {
            assert_eq!(GrpcService::decode(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in vec(any::<u8>(), 0..100)) {
            let _ = GrpcService::decode(&bytes);
        }
    }
}

//! [`ResponseFlags`]: Envoy's short codes for what went wrong with a request.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What happened beside the status code: a set of Envoy's response flags, printed as `URX,UF`, or `-` when empty.
///
/// Spelling is Envoy's (`CoreResponseFlag` in `stream_info.h`), and so is the order, in which they came to be: faults,
/// then that there are no more tries, then what became of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($(#[doc = $doc:literal])+ $name:ident = $bit:literal;)+) => {
        impl ResponseFlags {
            $($(#[doc = $doc])+ pub const $name: Self = Self(1 << $bit);)+

            /// Each flag with its short name, in the order in which they are printed.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, stringify!($name))),+];
        }
    };
}

flags! {
    /// The local health check failed.
    LH = 0;
    /// No healthy upstream host in the cluster.
    UH = 1;
    /// The request timed out at the upstream.
    UT = 2;
    /// The connection was reset by the gateway.
    LR = 3;
    /// The upstream reset the stream.
    UR = 4;
    /// Connecting to the upstream failed.
    UF = 5;
    /// The upstream ended the connection.
    UC = 6;
    /// The circuit breaker's limits were met.
    UO = 7;
    /// No route matched.
    NR = 8;
    /// Delayed by fault injection.
    DI = 9;
    /// Aborted by fault injection.
    FI = 10;
    /// Refused by a rate limit.
    RL = 11;
    /// Refused by the external authorisation service.
    UAEX = 12;
    /// The rate limit service failed.
    RLSE = 13;
    /// The client ended the connection.
    DC = 14;
    /// The limit of retries or connection attempts was reached.
    URX = 15;
    /// The stream's idle timeout ended it.
    SI = 16;
    /// A strictly checked `x-envoy-*` request header was invalid.
    IH = 17;
    /// The client violated the protocol.
    DPE = 18;
    /// The maximal duration of the upstream stream was reached.
    UMSDR = 19;
    /// Answered from a cache.
    RFCF = 20;
    /// A filter has no configuration, or could not be started.
    NFCF = 21;
    /// The request or connection lived longer than allowed.
    DT = 22;
    /// The upstream violated the protocol.
    UPE = 23;
    /// The route's cluster does not exist.
    NC = 24;
    /// Refused under overload of the gateway.
    OM = 25;
    /// The upstream's name did not resolve.
    DF = 26;
    /// The client reset the stream.
    DR = 28;
}

/// Printed before the others.
const FIRST: [(ResponseFlags, &str); 3] =
    [(ResponseFlags::DI, "DI"), (ResponseFlags::FI, "FI"), (ResponseFlags::URX, "URX")];

/// No flag: `URX` came after the failure of the last try, as with connections of TCP.
const URX_LAST: u32 = 1 << 31;

impl ResponseFlags {
    /// No connection of TCP could be made, in as many tries as there may be.
    pub const UF_URX: Self = Self(Self::UF.0 | Self::URX.0 | URX_LAST);

    /// The set as a number, for attribute `response.flags`.
    pub const fn bits(self) -> u32 {
        self.0 & !URX_LAST
    }

    /// The set with its order as a number.
    pub const fn key(self) -> u32 {
        self.0
    }

    /// The set of such a number.
    pub const fn from_key(key: u32) -> Self {
        Self(key)
    }

    /// No flag.
    pub const NONE: Self = Self(0);

    /// True when every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True when no flag is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for ResponseFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut separator = "";
        let first = &FIRST[..if self.0 & URX_LAST == 0 { 3 } else { 2 }];
        let others = Self::ALL.iter().filter(|(flag, _)| !first.iter().any(|(before, _)| before == flag));
        for (flag, name) in first.iter().chain(others) {
            if self.contains(*flag) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ResponseFlags;

    #[test]
    fn prints_a_dash_for_none() {
        assert_eq!(ResponseFlags::default().to_string(), "-");
    }

    #[test]
    fn prints_flags_in_envoys_order() {
        let mut flags = ResponseFlags::URX;
        flags |= ResponseFlags::UF;
        assert_eq!(flags.to_string(), "URX,UF");
        assert_eq!((flags | ResponseFlags::DI).to_string(), "DI,URX,UF");
        assert_eq!((ResponseFlags::UC | ResponseFlags::DC | ResponseFlags::FI).to_string(), "FI,UC,DC");
        assert_eq!(ResponseFlags::UF_URX.to_string(), "UF,URX");
        assert_eq!(ResponseFlags::UF_URX.bits(), (ResponseFlags::UF | ResponseFlags::URX).bits());
        assert!(flags.contains(ResponseFlags::UF));
        assert!(!flags.contains(ResponseFlags::UF | ResponseFlags::NR));
    }

    #[test]
    fn no_two_flags_share_a_bit() {
        let mut seen = ResponseFlags::NONE;
        for (flag, name) in ResponseFlags::ALL {
            assert!(seen.0 & flag.0 == 0, "{name} shares its bit");
            seen |= *flag;
        }
    }
}

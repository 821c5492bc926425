//! [`Gate`]: who may come in.

use std::net::IpAddr;

use portolan_filter_conditions::IpRanges;

/// Two lists of addresses.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Empty stands for everybody.
    pub allow: IpRanges,
    /// Beats `allow`.
    pub deny: IpRanges,
}

impl Gate {
    /// True when this client may come in. Whose address is not known may not.
    pub fn admits(&self, client: Option<IpAddr>) -> bool {
        client
            .is_some_and(|client| !self.deny.contains(client) && (self.allow.is_empty() || self.allow.contains(client)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn admits(allow: &[&str], deny: &[&str], client: &str) -> bool {
        let ranges = |list: &[&str]| IpRanges::read(list.iter().copied()).unwrap();
        Gate { allow: ranges(allow), deny: ranges(deny) }.admits(client.parse().ok())
    }

    #[test]
    fn deny_beats_allow_whichever_is_narrower() {
        assert!(admits(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.0.1"));
        assert!(!admits(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.0.1"));
        assert!(!admits(&["10.1.0.1"], &["10.0.0.0/8"], "10.1.0.1"));
    }

    #[test]
    fn without_allow_everybody_else_comes_in_and_with_it_nobody_else() {
        assert!(admits(&[], &["10.0.0.0/8"], "192.0.2.1") && admits(&[], &["10.0.0.0/8"], "2001:db8::1"));
        assert!(!admits(&["10.0.0.0/8"], &[], "192.0.2.1") && !admits(&["10.0.0.0/8"], &[], "2001:db8::1"));
    }

    #[test]
    fn who_has_no_address_stays_out() {
        assert!(!admits(&[], &["10.0.0.0/8"], "nobody"));
    }
}

//! [`Identity`]: what users are known by: the value of the cookie, and the place of a user.

use std::hash::{BuildHasher, Hasher, RandomState};

use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use siphasher::sip128::{self, Hash128};

use crate::share::ALL;

/// Longest value of a cookie that needs no signature.
const MAX_ID: usize = 64;

/// Digits of an id and of a signature.
const ID: usize = 16;
const SIGNATURE: usize = 32;

/// The keys, and where new ids come from.
pub(crate) struct Identity {
    signs: bool,
    cookie_key: [u8; 16],
    place_key: [u8; 16],
    /// Seeded by the host's random numbers.
    random: RandomState,
    made: std::cell::Cell<u64>,
}

impl Identity {
    /// `salt` makes the choice of one experiment independent of the choice of another.
    pub(crate) fn new(secret: &str, salt: &str) -> Self {
        let digest = Sha256::digest([secret.as_bytes(), b"\0", salt.as_bytes()].concat());
        let half = |start: usize| digest[start..start + 16].try_into().unwrap_or_default();
        Self {
            signs: !secret.is_empty(),
            cookie_key: half(0),
            place_key: half(16),
            random: RandomState::new(),
            made: std::cell::Cell::new(0),
        }
    }

    /// The place of a user, below [`ALL`]: always the same one.
    pub(crate) fn place(&self, id: &[u8]) -> u32 {
        let mut hasher = SipHasher24::new_with_key(&self.place_key);
        hasher.write(id);
        (hasher.finish() % u64::from(ALL)) as u32
    }

    /// A value for the cookie of a new user.
    pub(crate) fn issue(&self) -> String {
        let number = self.made.get();
        self.made.set(number.wrapping_add(1));
        let id = format!("{:016x}", self.random.hash_one(number));
        if !self.signs {
            return id;
        }
        let signature = u128::from(self.sign(id.as_bytes()));
        format!("{id}.{signature:032x}")
    }

    /// The id in a cookie's value; none when it is not one of ours.
    pub(crate) fn id<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        if !self.signs {
            return (1..=MAX_ID).contains(&value.len()).then_some(value);
        }
        let (id, rest) = value.split_at_checked(ID)?;
        let digits = rest.strip_prefix(b".").filter(|digits| digits.len() == SIGNATURE)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        let signature = u128::from_str_radix(digits, 16).ok()?;
        // This comparison takes the same time whatever differs.
        (Hash128::from(signature) == self.sign(id)).then_some(id)
    }

    fn sign(&self, id: &[u8]) -> Hash128 {
        sip128::SipHasher24::new_with_key(&self.cookie_key).hash(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    #[test]
    fn what_was_issued_is_known_again_by_every_gateway_with_the_secret() {
        let (one, two) = (Identity::new(SECRET, "x"), Identity::new(SECRET, "x"));
        let value = one.issue();
        assert_eq!(value.len(), ID + 1 + SIGNATURE);
        let id = two.id(value.as_bytes()).expect("signed with the same secret");
        assert_eq!(one.place(id), two.place(id));
        assert_eq!(Identity::new("another secret..", "x").id(value.as_bytes()), None);
        assert_eq!(Identity::new(SECRET, "y").id(value.as_bytes()), None);
    }

    #[test]
    fn ids_differ() {
        let identity = Identity::new(SECRET, "x");
        let ids: HashSet<String> = (0..1_000).map(|_| identity.issue()).collect();
        assert_eq!(ids.len(), 1_000);
    }

    #[test]
    fn places_are_spread_evenly() {
        let identity = Identity::new(SECRET, "x");
        let below = (0..20_000_u32).filter(|user| identity.place(&user.to_le_bytes()) < ALL / 10).count();
        assert!((1_800..2_200).contains(&below), "{below} of 20,000 for a tenth");
    }

    #[test]
    fn a_signature_cannot_be_changed() {
        let identity = Identity::new(SECRET, "x");
        let value = identity.issue().into_bytes();
        for place in 0..value.len() {
            let mut other = value.clone();
            other[place] = if other[place] == b'0' { b'1' } else { b'0' };
            assert_eq!(identity.id(&other), None, "{place}");
        }
        for other in [&value[..value.len() - 1], &[&value[..], b"0"].concat(), b"", b"."] {
            assert_eq!(identity.id(other), None);
        }
    }

    #[test]
    fn without_a_secret_any_short_value_is_an_id() {
        let identity = Identity::new("", "x");
        assert_eq!(identity.id(b"me"), Some(b"me".as_slice()));
        assert_eq!((identity.id(b""), identity.id(&[b'x'; MAX_ID + 1])), (None, None));
    }

    proptest! {
        #[test]
        fn nothing_made_up_is_known(value: Vec<u8>, digits in "[0-9a-f]{16}\\.[0-9a-f+-]{32}") {
            let identity = Identity::new(SECRET, "x");
            prop_assert_eq!(identity.id(&value), None);
            prop_assert_eq!(identity.id(digits.as_bytes()), None);
        }
    }
}

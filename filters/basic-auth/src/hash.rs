//! [`PasswordHash`]: the kinds of hashes that htpasswd writes.

mod apr1;
mod bcrypt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use self::apr1::Apr1;
use self::bcrypt::Bcrypt;
pub(crate) use self::bcrypt::BcryptCheck;

/// One user's.
#[derive(Clone, Debug)]
pub(crate) enum PasswordHash {
    /// `$2y$`, `$2b$`, `$2a$`.
    Bcrypt(Bcrypt),
    /// `$apr1$`: MD5, a thousand times.
    Apr1(Apr1),
    /// `{SHA}`: once, without salt.
    Sha1([u8; 20]),
}

impl PasswordHash {
    /// Reads one; the error does not quote it.
    pub(crate) fn read(text: &str, max_bcrypt_cost: u32) -> Result<Self, String> {
        let broken = |kind: &str| format!("the {kind} hash is broken");
        if let Some(rest) = text.strip_prefix("{SHA}") {
            let bytes = STANDARD.decode(rest).ok().and_then(|bytes| bytes.try_into().ok());
            return bytes.map(Self::Sha1).ok_or_else(|| broken("`{SHA}`"));
        }
        if let Some(rest) = text.strip_prefix("$apr1$") {
            return Apr1::read(rest).map(Self::Apr1).ok_or_else(|| broken("`$apr1$`"));
        }
        let bcrypt = ["$2y$", "$2b$", "$2a$"].iter().find_map(|start| text.strip_prefix(start));
        let Some(rest) = bcrypt else {
            return Err("the password is no bcrypt, `$apr1$` or `{SHA}` hash".into());
        };
        let hash = Bcrypt::read(rest).ok_or_else(|| broken("bcrypt"))?;
        if hash.cost() > max_bcrypt_cost {
            let cost = hash.cost();
            return Err(format!("bcrypt cost {cost} is above `maxBcryptCost`, {max_bcrypt_cost}"));
        }
        Ok(Self::Bcrypt(hash))
    }

    /// Begins to find out whether it is this password's.
    pub(crate) fn check<'h>(&'h self, password: &'h [u8]) -> Check<'h> {
        match self {
            Self::Bcrypt(hash) => Check::Slow(hash.check(password)),
            Self::Apr1(hash) => Check::Apr1(hash, password),
            Self::Sha1(hash) => Check::Sha1(hash, password),
        }
    }
}

/// What there is to do. Comparisons take the same time whatever differs.
pub(crate) enum Check<'h> {
    /// Half a millisecond.
    Apr1(&'h Apr1, &'h [u8]),
    /// A microsecond.
    Sha1(&'h [u8; 20], &'h [u8]),
    /// As long as its cost says, round by round.
    Slow(BcryptCheck),
}

impl Check<'_> {
    /// All of it: whether the password is the right one.
    pub(crate) fn finish(self) -> bool {
        match self {
            Self::Slow(mut check) => check.advance(u64::MAX).unwrap_or(false),
            Self::Apr1(hash, password) => hash.verify(password),
            Self::Sha1(hash, password) => Sha1::digest(password).as_slice().ct_eq(hash).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with libxcrypt and OpenSSL; the password is `secret`.
    const HASHES: [&str; 4] = [
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2b$06$abcdefghijklmnopqrstuuxLa0AkDDSrQ9VwNnETzOsObiucpMYgC",
        "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    ];

    impl PasswordHash {
        /// All of it at once.
        pub(crate) fn verify(&self, password: &[u8]) -> bool {
            self.check(password).finish()
        }
    }

    fn read(text: &str) -> PasswordHash {
        PasswordHash::read(text, 8).expect("a hash")
    }

    #[test]
    fn a_password_is_known_by_its_hash() {
        for text in HASHES {
            let hash = read(text);
            assert!(hash.verify(b"secret"), "{text}");
            for other in ["", "Secret", "secret ", "secre", "secrets"] {
                assert!(!hash.verify(other.as_bytes()), "{text} {other}");
            }
        }
    }

    #[test]
    fn long_and_empty_passwords_are_hashed_as_libxcrypt_and_openssl_do() {
        let cut = read("$2b$04$......................SZFhVdUK5wGKY4lx/QrgUMHG0XsWjbi");
        assert!(cut.verify(&[b'x'; 72]) && cut.verify(&[b'x'; 80]) && !cut.verify(&[b'x'; 71]));
        assert!(read("$2a$04$......................w74bL5gU7LSJClZClCa.Pkz14aTv/XO").verify(b""));
        assert!(read("$apr1$xyz$v6g1hMDKZKutq6Uh7X.tM0").verify(b"a longer pass:word, with 32 and more bytes"));
    }

    #[test]
    fn a_slow_hash_can_be_taken_in_steps() {
        let Check::Slow(mut check) = read(HASHES[0]).check(b"secret") else { panic!("bcrypt is slow") };
        for left in [32, 22, 12, 2] {
            assert_eq!(check.left(), left);
            let outcome = check.advance(10);
            assert_eq!(outcome, (left == 2).then_some(true));
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        for text in HASHES {
            for end in 0..text.len() {
                assert!(PasswordHash::read(&text[..end], 8).is_err(), "{}", &text[..end]);
            }
            assert!(PasswordHash::read(&format!("{text}x"), 8).is_err(), "{text}x");
        }
        for text in ["$2y$5$abc", "$2y$99$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a", "$5$a$b", "secret"] {
            assert!(PasswordHash::read(text, 8).is_err(), "{text}");
        }
        let costly = PasswordHash::read(HASHES[1], 5).err();
        assert_eq!(costly.as_deref(), Some("bcrypt cost 6 is above `maxBcryptCost`, 5"));
    }
}

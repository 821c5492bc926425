//! [`Users`]: the lines of an htpasswd file.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use portolan_sdk::ConfigError;

use crate::hash::PasswordHash;

/// Most users.
const MAX_USERS: usize = 10_000;

/// Who may come in.
pub(crate) struct Users {
    by_name: HashMap<Vec<u8>, PasswordHash>,
    /// The same hashes once more, for those whom nobody knows.
    hashes: Vec<PasswordHash>,
    random: RandomState,
}

impl Users {
    /// Reads `NAME:HASH` lines; blank ones and those that begin with `#` do not count. Messages never quote a hash.
    pub(crate) fn read(text: &str, max_bcrypt_cost: u32) -> Result<Self, ConfigError> {
        let mut by_name = HashMap::new();
        let mut hashes = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(place, line)| (place + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |what: &str| ConfigError::new(format!("`users` line {number}: {what}"));
            let (name, rest) = line.split_once(':').ok_or_else(|| fault("a line is `NAME:HASH`"))?;
            if name.is_empty() {
                return Err(fault("the name is missing"));
            }
            // A third field, as in other password files, is a comment.
            let hash = rest.split(':').next().unwrap_or_default();
            let hash = PasswordHash::read(hash, max_bcrypt_cost).map_err(|what| fault(&format!("`{name}`: {what}")))?;
            hashes.push(hash.clone());
            if by_name.insert(name.as_bytes().to_vec(), hash).is_some() {
                return Err(fault(&format!("`{name}` is there twice")));
            }
            if hashes.len() > MAX_USERS {
                return Err(fault("more than 10000 users"));
            }
        }
        if hashes.is_empty() {
            return Err(ConfigError::new("`users` names nobody"));
        }
        Ok(Self { by_name, hashes, random: RandomState::new() })
    }

    /// The hash to check this user's password with; false when there is no such user, whatever the check says. Whom nobody
    /// knows costs as much as somebody: it is some known user's hash, for a name always the same one's.
    pub(crate) fn find(&self, name: &[u8]) -> (&PasswordHash, bool) {
        let stranger = self.random.hash_one(name) as usize % self.hashes.len();
        self.by_name.get(name).map_or((&self.hashes[stranger], false), |hash| (hash, true))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_are_known_by_name_and_password() {
        let text =
            "# the team\n\nalice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n  bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/:Bob\n";
        let users = Users::read(text, 8).expect("all of it is fine");
        let verify = |name: &str, password: &str| {
            let (hash, is_known) = users.find(name.as_bytes());
            hash.verify(password.as_bytes()) && is_known
        };
        for name in ["alice", "bob"] {
            assert!(verify(name, "secret") && !verify(name, "secrets"));
        }
        assert!(!verify("carol", "secret") && !verify("", "secret"));
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number_and_without_its_hash() {
        for (text, expected) in [
            ("", "`users` names nobody"),
            ("# nobody", "`users` names nobody"),
            ("\nalice", "`users` line 2: a line is `NAME:HASH`"),
            (":x", "`users` line 1: the name is missing"),
            ("alice:plain", "`users` line 1: `alice`: the password is no bcrypt, `$apr1$` or `{SHA}` hash"),
            (
                "a:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\na:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
                "`users` line 2: `a` is there twice",
            ),
        ] {
            assert_eq!(Users::read(text, 8).err().map(|error| error.to_string()).as_deref(), Some(expected));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text: String, hash in "[$./A-Za-z0-9{}:]{0,70}") {
            let _ = Users::read(&text, 8);
            let _ = Users::read(&format!("a:{hash}"), 8);
        }
    }
}

//! Apache's variant of the MD5 crypt: what `htpasswd` writes unless told otherwise.

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

const MAGIC: &[u8] = b"$apr1$";
const ROUNDS: u32 = 1_000;

/// Longest salt.
const MAX_SALT: usize = 8;

/// The alphabet of crypt, lowest six bits first.
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which bytes of the digest make four digits together; the last one makes two alone.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
const LAST: usize = 11;

/// Salt, and the digest as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Apr1 {
    salt: Vec<u8>,
    digits: [u8; 22],
}

impl Apr1 {
    /// `SALT$DIGITS`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (salt, digits) = text.split_once('$')?;
        let digits: [u8; 22] = digits.as_bytes().try_into().ok()?;
        let is_fine = salt.len() <= MAX_SALT && digits.iter().all(|digit| ALPHABET.contains(digit));
        is_fine.then(|| Self { salt: salt.as_bytes().to_vec(), digits })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        write(&digest(password, &self.salt)).ct_eq(&self.digits).into()
    }
}

fn digest(password: &[u8], salt: &[u8]) -> [u8; 16] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(MAGIC).chain_update(salt);
    for part in password.chunks(inner.len()) {
        outer.update(&inner[..part.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        outer.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let mut digest: [u8; 16] = outer.finalize().into();
    for round in 0..ROUNDS {
        let mut hash = Md5::new();
        let (first, last): (&[u8], &[u8]) = if round & 1 == 1 { (password, &digest) } else { (&digest, password) };
        hash.update(first);
        if round % 3 != 0 {
            hash.update(salt);
        }
        if round % 7 != 0 {
            hash.update(password);
        }
        hash.update(last);
        digest = hash.finalize().into();
    }
    digest
}

fn write(digest: &[u8; 16]) -> [u8; 22] {
    let mut digits = [0; 22];
    let groups = GROUPS.iter().map(|group| group.iter().fold(0, |value, place| value << 8 | u32::from(digest[*place])));
    let values = groups.map(|value| (value, 4)).chain([(u32::from(digest[LAST]), 2)]);
    let all = values.flat_map(|(value, count)| (0..count).map(move |place| (value >> (6 * place)) as usize & 63));
    for (digit, value) in digits.iter_mut().zip(all) {
        *digit = ALPHABET[value];
    }
    digits
}

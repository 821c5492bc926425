//! bcrypt, on the cipher of the crate `blowfish`, in as many steps as one likes: it is slow on purpose, and a worker has
//! other requests.

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use blowfish::Blowfish;
use subtle::ConstantTimeEq;

/// Longest password in bytes, with its end; what follows does not count, for nobody who uses bcrypt.
const MAX_PASSWORD: usize = 72;

/// Digits of the salt.
const SALT: usize = 22;

/// What is encrypted 64 times.
const TEXT: &[u8; 24] = b"OrpheanBeholderScryDoubt";

/// Cost, salt and hash.
#[derive(Clone, Debug)]
pub(crate) struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    hash: [u8; 23],
}

impl Bcrypt {
    /// `COST$SALTHASH`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (cost, rest) = text.split_once('$')?;
        let (salt, hash) = rest.split_at_checked(SALT)?;
        let is_number = cost.len() == 2 && cost.bytes().all(|digit| digit.is_ascii_digit());
        let cost = cost.parse().ok().filter(|cost| is_number && (4..=31).contains(cost))?;
        Some(Self { cost, salt: bytes(salt)?, hash: bytes(hash)? })
    }

    pub(super) fn cost(&self) -> u32 {
        self.cost
    }

    /// Begins to hash a password.
    pub(super) fn check(&self, password: &[u8]) -> BcryptCheck {
        let mut key = password.to_vec();
        key.push(0);
        key.truncate(MAX_PASSWORD);
        let mut cipher: Box<Blowfish> = Box::new(Blowfish::bc_init_state());
        cipher.salted_expand_key(&self.salt, &key);
        BcryptCheck { cipher, key, salt: self.salt, hash: self.hash, left: 1 << self.cost }
    }
}

/// A password on its way into a hash.
pub(crate) struct BcryptCheck {
    cipher: Box<Blowfish>,
    key: Vec<u8>,
    salt: [u8; 16],
    hash: [u8; 23],
    left: u64,
}

impl BcryptCheck {
    /// Rounds that are left.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// So many rounds more; after the last one whether the password is the right one.
    pub(crate) fn advance(&mut self, rounds: u64) -> Option<bool> {
        for _ in 0..rounds.min(self.left) {
            self.cipher.bc_expand_key(&self.key);
            self.cipher.bc_expand_key(&self.salt);
            self.left -= 1;
        }
        (self.left == 0).then(|| self.digest()[..23].ct_eq(&self.hash).into())
    }

    fn digest(&self) -> [u8; 24] {
        let mut digest = [0; 24];
        for (block, text) in digest.chunks_exact_mut(8).zip(TEXT.chunks_exact(8)) {
            let mut halves = [word(&text[..4]), word(&text[4..])];
            for _ in 0..64 {
                halves = self.cipher.bc_encrypt(halves);
            }
            block[..4].copy_from_slice(&halves[0].to_be_bytes());
            block[4..].copy_from_slice(&halves[1].to_be_bytes());
        }
        digest
    }
}

/// The digits of bcrypt, whose last one has bits to spare.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let lenient = GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&BCRYPT, lenient).decode(digits).ok()?.try_into().ok()
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

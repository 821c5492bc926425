//! [`Table`]: the times of all keys, in the host's shared data, so that every worker sees the same ones.
//!
//! A fixed number of slots, each a value of at most 768 bytes: what a million keys need is known beforehand, and no key
//! makes the host allocate more. Two host calls for a decision; one when it is a refusal.

use std::hash::{BuildHasher, RandomState};

use portolan_sdk::{HostError, shared};
use siphasher::sip128::SipHasher13;

use crate::bucket::{Bucket, Verdict};
use crate::slot::{ENTRIES, Slot};

/// How often a decision starts again because another worker has changed the slot meanwhile.
const TRIES: usize = 8;

/// Key of the seed in the shared data. Slots have numbers.
const SEED: &str = "seed";

/// Where keys are kept. The hash is seeded: clients cannot look for keys that meet in a slot.
#[derive(Debug)]
pub(crate) struct Table {
    /// Number of slots less one; slots are a power of two.
    mask: u64,
    seed: [u8; 16],
}

/// What a decision came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) verdict: Verdict,
    /// A key was forgotten for it.
    pub(crate) evicted: bool,
    /// It is not written down: other workers were faster each time.
    pub(crate) contended: bool,
}

impl Table {
    /// A table for so many keys, rounded up; the seed is the first one that a VM of this plugin came up with.
    pub(crate) fn new(max_keys: u32) -> Result<Self, HostError> {
        let slots = u64::from(max_keys).div_ceil(ENTRIES as u64).next_power_of_two();
        Ok(Self { mask: slots - 1, seed: shared_seed()? })
    }

    /// Takes a token for `key` at the time `now`.
    pub(crate) fn take(&self, key: &[u8], bucket: &Bucket, now: u64) -> Result<Taken, HostError> {
        let (number, fingerprint) = self.place(key);
        let mut name = [0; 8];
        let name = slot_name(number, &mut name);
        let mut tries = 0;
        loop {
            tries += 1;
            let found = shared::value(name)?;
            let version = found.as_ref().map(|value| value.version);
            let mut slot = found.map_or_else(Slot::default, |value| Slot::new(value.bytes));
            let place = slot.find(fingerprint);
            let verdict = bucket.take(place.map_or(0, |place| slot.time(place)), now);
            if !verdict.allowed {
                return Ok(Taken { verdict, evicted: false, contended: false });
            }
            let evicted = match place {
                Some(place) => {
                    slot.set_time(place, verdict.full_at);
                    false
                }
                None => slot.insert(fingerprint, verdict.full_at, now),
            };
            let is_written = match version {
                Some(version) => shared::replace(name, slot.bytes(), version)?,
                None => shared::create(name, slot.bytes())?,
            };
            if is_written {
                return Ok(Taken { verdict, evicted, contended: false });
            }
            if tries == TRIES {
                // One token too many at most; a refusal would punish whoever came at a busy moment.
                return Ok(Taken { verdict, evicted: false, contended: true });
            }
        }
    }

    /// The slot, and what the key is known by in it.
    fn place(&self, key: &[u8]) -> (u64, u32) {
        let hash = SipHasher13::new_with_key(&self.seed).hash(key);
        (hash.h1 & self.mask, hash.h2 as u32)
    }
}

/// The name of a slot in hexadecimal digits. Done by hand: formatting costs as much as a host call.
fn slot_name(number: u64, into: &mut [u8; 8]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut start = into.len();
    let mut rest = number as u32;
    loop {
        start -= 1;
        into[start] = DIGITS[rest as usize % 16];
        rest /= 16;
        if rest == 0 {
            break;
        }
    }
    std::str::from_utf8(&into[start..]).unwrap_or_default()
}

fn shared_seed() -> Result<[u8; 16], HostError> {
    for _ in 0..TRIES {
        if let Some(seed) = shared::value(SEED)?.and_then(|value| value.bytes.try_into().ok()) {
            return Ok(seed);
        }
        // The standard library's hasher is seeded by the host's random numbers.
        let random = RandomState::new();
        let seed = [random.hash_one(1).to_le_bytes(), random.hash_one(2).to_le_bytes()].concat();
        shared::create(SEED, &seed)?;
    }
    Err(HostError { call: "proxy_get_shared_data", status: portolan_sdk::Status::CasMismatch })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use portolan_sdk::testing::TestHost;

    use super::*;
    use crate::RateLimit;

    const CONFIG: &str = r#"{"rules": [{"name": "r", "tokenBucket": {"maxTokens": 1, "fillInterval": "1h"}}]}"#;
    const HOUR: u64 = 3_600_000_000_000;
    const BUCKET: Bucket = Bucket { interval: HOUR, burst: HOUR };

    /// What Portolan counts for a value beside its bytes: 128, and the length and text of the VM id. 115 bytes of it,
    /// namespace and name of the plugin, make 16 MiB full.
    const BESIDE: usize = 128 + 8 + 115;

    /// What all slots take of the host's limit, and how many there are.
    fn stored(host: &TestHost<RateLimit>, table: &Table) -> (usize, usize) {
        let mut into = [0; 8];
        let sizes = (0..=table.mask).filter_map(|number| {
            let name = slot_name(number, &mut into);
            host.shared(name).map(|value| name.len() + value.len() + BESIDE)
        });
        sizes.fold((0, 0), |(bytes, slots), size| (bytes + size, slots + 1))
    }

    #[test]
    fn a_million_keys_stay_within_the_stated_memory() {
        let host = TestHost::<RateLimit>::start(CONFIG).unwrap();
        let table = Table::new(1 << 20).unwrap();
        let mut evicted = 0;
        for user in 0..1_000_000_u32 {
            let taken = table.take(&user.to_le_bytes(), &BUCKET, 1).unwrap();
            assert!(taken.verdict.allowed);
            evicted += u32::from(taken.evicted);
        }
        let (bytes, slots) = stored(&host, &table);
        assert_eq!(slots, 16_384);
        assert!(bytes <= 16 * 1024 * 1024, "{bytes}");
        // Nearly all of them are remembered at a time: what is lost is where a slot had more than its share.
        assert!(evicted < 50_000, "{evicted}");
        let refused = (0..1_000_000_u32).step_by(100).filter(|user| {
            let taken = table.take(&user.to_le_bytes(), &BUCKET, 2).unwrap();
            !taken.verdict.allowed
        });
        assert!(refused.count() > 9_000);
        println!("{bytes} bytes, {evicted} of 1,000,000 keys forgotten");
        // More keys change nothing: the oldest go.
        for user in 1_000_000..1_100_000_u32 {
            table.take(&user.to_le_bytes(), &BUCKET, 3).unwrap();
        }
        assert!(stored(&host, &table).0 <= 16 * 1024 * 1024);
    }

    #[test]
    fn a_client_that_is_refused_stays_so_while_others_flood_the_table() {
        let _host = TestHost::<RateLimit>::start(CONFIG).unwrap();
        let table = Table::new(64).unwrap();
        let greedy = Bucket { interval: HOUR, burst: 10 * HOUR };
        assert!((0..10).all(|_| table.take(b"greedy", &greedy, 1).unwrap().verdict.allowed));
        for other in 0..10_000_u32 {
            table.take(&other.to_le_bytes(), &BUCKET, 1).unwrap();
        }
        assert!(!table.take(b"greedy", &greedy, 1).unwrap().verdict.allowed);
    }

    #[test]
    fn slots_have_short_names() {
        let mut into = [0; 8];
        for (number, name) in [(0, "0"), (15, "f"), (16, "10"), (0xfffff, "fffff")] {
            assert_eq!(slot_name(number, &mut into), name);
        }
    }

    #[test]
    fn vms_share_their_seed() {
        let _host = TestHost::<RateLimit>::start(CONFIG).unwrap();
        assert_eq!(Table::new(64).unwrap().seed, Table::new(64).unwrap().seed);
    }
}

//! What Redis is asked: the same decision as [`Bucket::take`], in one script, on one key, by the clock of Redis.

use sha2::{Digest, Sha256};

use crate::bucket::{Bucket, Verdict};

/// `KEYS[1]`: when the bucket is full again, in microseconds; `ARGV`: a token's time and the burst, the same.
/// Answers allowed, remaining, retry after, full after. The key goes by itself when the bucket is full.
pub(crate) const SCRIPT: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full_at = tonumber(redis.call('GET', KEYS[1]) or 0)
local missing = math.min(math.max(full_at - now, 0), burst)
local after = missing + interval
if after > burst then return {0, 0, math.ceil(after - burst), math.ceil(missing)} end
redis.call('SET', KEYS[1], string.format('%.0f', now + after), 'PX', math.ceil(after / 1000))
return {1, math.floor((burst - after) / interval), 0, math.ceil(after)}";

/// Longest key that is written out; what is longer is known by its hash.
const MAX_KEY: usize = 200;

/// Microseconds, with what is below them.
pub(crate) fn microseconds(nanoseconds: u64) -> String {
    let fraction = nanoseconds % 1_000;
    let mut text = (nanoseconds / 1_000).to_string();
    if fraction > 0 {
        text.push('.');
        text.push_str(&(1_000 + fraction).to_string()[1..]);
    }
    text
}

/// The key of a rule's bucket: readable where the values are, and different for different values.
pub(crate) fn key<'v>(prefix: &str, rule: &str, values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
    let mut key = Vec::with_capacity(MAX_KEY);
    for value in values {
        key.push(b'|');
        for byte in value {
            match byte {
                b'%' | b'|' | ..=b' ' | 0x7f.. => key.extend_from_slice(&escape(*byte)),
                _ => key.push(*byte),
            }
        }
    }
    if key.len() > MAX_KEY {
        let hash = Sha256::digest(&key);
        key = b"#".to_vec();
        hash.iter().for_each(|byte| key.extend_from_slice(&escape(*byte)[1..]));
    }
    [prefix.as_bytes(), rule.as_bytes(), &key].concat()
}

fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// The verdict in the script's answer; none when it is another one's.
pub(crate) fn verdict(numbers: &[i64], bucket: &Bucket) -> Option<Verdict> {
    let nanoseconds = |microseconds: i64| u64::try_from(microseconds).ok()?.checked_mul(1_000);
    let [allowed, remaining, retry_after, full_after] = numbers else { return None };
    Some(Verdict {
        allowed: *allowed == 1,
        full_at: 0,
        remaining: u64::try_from(*remaining).ok()?,
        retry_after: nanoseconds(*retry_after)?,
        full_after: nanoseconds(*full_after)?.min(bucket.burst),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_readable_where_its_values_are() {
        let key = |values: &[&[u8]]| String::from_utf8(key("rl:", "login", values.iter().copied()));
        assert_eq!(key(&[]).as_deref(), Ok("rl:login"));
        assert_eq!(key(&[b"alice", b"/a b"]).as_deref(), Ok("rl:login|alice|/a%20b"));
        let long = key(&[&[b'x'; 500]]).expect("text");
        assert!(long.starts_with("rl:login#") && long.len() == 9 + 64, "{long}");
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        for (nanoseconds, text) in [(1_000, "1"), (1_500, "1.500"), (333_333_333, "333333.333"), (7, "0.007")] {
            assert_eq!(microseconds(nanoseconds), text);
        }
    }

    #[test]
    fn an_answer_of_something_else_is_none() {
        let bucket = Bucket { interval: 1_000, burst: 5_000 };
        assert_eq!(verdict(&[1, 4], &bucket), None);
        assert_eq!(verdict(&[1, -4, 0, 0], &bucket), None);
        let allowed = verdict(&[1, 4, 0, 1], &bucket).expect("an answer");
        assert_eq!((allowed.allowed, allowed.remaining, allowed.full_after), (true, 4, 1_000));
        let refused = verdict(&[0, 0, 2, 9], &bucket).expect("an answer");
        assert_eq!((refused.allowed, refused.retry_after, refused.full_after), (false, 2_000, 5_000));
    }

    proptest! {
        #[test]
        fn different_values_have_different_keys(
            one in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4),
            two in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..4),
        ) {
            let of = |values: &[Vec<u8>]| key("p", "r", values.iter().map(Vec::as_slice));
            prop_assert_eq!(one == two, of(&one) == of(&two));
        }
    }
}

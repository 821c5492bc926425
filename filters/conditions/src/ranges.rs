//! [`IpRanges`]: a set of addresses, written as a list of addresses and CIDR ranges.

use std::net::IpAddr;

use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use serde::{Deserialize, Deserializer, de};

/// Most entries of one list; more are refused.
const MAX_ENTRIES: usize = 100_000;

/// Addresses and ranges in CIDR notation, sorted and merged: a look-up is a binary search, however long the list is.
///
/// ```
/// use portolan_filter_conditions::IpRanges;
///
/// let ranges: IpRanges = serde_json::from_str(r#"["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]"#).expect("ranges");
/// assert!(ranges.contains("10.9.8.7".parse().expect("an address")));
/// assert!(!ranges.contains("192.0.2.8".parse().expect("an address")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpRanges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl IpRanges {
    /// From text, one entry each.
    ///
    /// # Errors
    /// What is wrong with the first entry that is no address and no range, or whose address has bits beyond its prefix.
    pub fn read<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut ranges = Self::default();
        for entry in entries {
            match range(entry)? {
                Range::V4(low, high) => ranges.v4.push((low, high)),
                Range::V6(low, high) => ranges.v6.push((low, high)),
            }
        }
        merge(&mut ranges.v4, |high| high.checked_add(1));
        merge(&mut ranges.v6, |high| high.checked_add(1));
        Ok(ranges)
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// True when this address is in it. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }
}

impl<'de> Deserialize<'de> for IpRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Vec::<String>::deserialize(deserializer)?;
        if entries.len() > MAX_ENTRIES {
            return Err(de::Error::custom(format!("{} entries are too many: at most {MAX_ENTRIES}", entries.len())));
        }
        Self::read(entries.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

impl ConfigSchema for IpRanges {
    const SCHEMA: Node = <Vec<String> as ConfigSchema>::SCHEMA;
}

/// First and last address.
enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

fn range(entry: &str) -> Result<Range, String> {
    let neither = || format!("`{entry}` is neither an address nor a range in CIDR notation");
    let (address, prefix) = match entry.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (entry, None),
    };
    let address: IpAddr = address.parse().map_err(|_| neither())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // `+8` and `08` are numbers for Rust.
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let prefix = match prefix {
        None => longest,
        Some(text) if plain(text) => text.parse().ok().filter(|bits| *bits <= longest).ok_or_else(neither)?,
        Some(_) => return Err(neither()),
    };
    let host_bits = longest - prefix;
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shr(prefix).unwrap_or(0);
            let low = v4.to_bits();
            aligned(entry, low & mask == 0, || IpAddr::V4((low & !mask).into()), prefix)?;
            Ok(Range::V4(low, low | mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shr(prefix).unwrap_or(0);
            let low = v6.to_bits();
            aligned(entry, low & mask == 0, || IpAddr::V6((low & !mask).into()), prefix)?;
            // Addresses are looked up as IPv4 when they are mapped, so ranges of mapped ones are IPv4 as well.
            match v6.to_ipv4_mapped() {
                Some(v4) if host_bits <= 32 => Ok(Range::V4(v4.to_bits(), v4.to_bits() | mask as u32)),
                _ => Ok(Range::V6(low, low | mask)),
            }
        }
    }
}

/// `10.0.0.13/8` lets sixteen million addresses in where somebody meant one.
fn aligned(entry: &str, is_aligned: bool, base: impl Fn() -> IpAddr, prefix: u32) -> Result<(), String> {
    if is_aligned {
        return Ok(());
    }
    Err(format!("`{entry}` has bits beyond its prefix: write `{}/{prefix}`, or the address alone", base()))
}

/// Sorts, and puts together what overlaps or touches.
fn merge<T: Copy + Ord>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges.drain(..) {
        match merged.last_mut() {
            Some((_, last)) if next(*last).is_none_or(|next| low <= next) => *last = high.max(*last),
            _ => merged.push((low, high)),
        }
    }
    *ranges = merged;
}

fn holds<T: Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(low, _)| *low <= address);
    after > 0 && ranges[after - 1].1 >= address
}

#[cfg(test)]
mod tests;

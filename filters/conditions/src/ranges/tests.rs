//! Ranges against a scan of the list, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::IpRanges;

fn ranges(entries: &[&str]) -> IpRanges {
    IpRanges::read(entries.iter().copied()).unwrap()
}

fn contains(ranges: &IpRanges, address: &str) -> bool {
    ranges.contains(address.parse().unwrap())
}

#[test]
fn a_range_holds_its_first_and_last_address_and_not_their_neighbours() {
    let ranges = ranges(&["10.1.0.0/16", "2001:db8::/33"]);
    for inside in ["10.1.0.0", "10.1.255.255", "2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"] {
        assert!(contains(&ranges, inside), "{inside}");
    }
    for outside in ["10.0.255.255", "10.2.0.0", "2001:db7:ffff::", "2001:db8:8000::", "::", "0.0.0.0"] {
        assert!(!contains(&ranges, outside), "{outside}");
    }
}

#[test]
fn everything_is_a_range_too() {
    assert!(contains(&ranges(&["0.0.0.0/0"]), "255.255.255.255"));
    assert!(!contains(&ranges(&["0.0.0.0/0"]), "::1"));
    assert!(contains(&ranges(&["::/0"]), "ffff::1"));
    assert!(!contains(&ranges(&["::/0"]), "10.0.0.1"));
    assert!(!contains(&ranges(&[]), "10.0.0.1"));
}

#[test]
fn a_mapped_address_is_its_ipv4_address_on_both_sides() {
    assert!(contains(&ranges(&["10.0.0.0/8"]), "::ffff:10.1.1.1"));
    assert!(contains(&ranges(&["::ffff:10.0.0.0/104"]), "10.1.1.1"));
    assert!(contains(&ranges(&["::ffff:10.0.0.1"]), "10.0.0.1"));
}

#[test]
fn what_overlaps_or_touches_becomes_one() {
    let merged = ranges(&["10.0.0.0/9", "10.128.0.0/9", "10.3.0.0/16", "11.0.0.0/8"]);
    assert_eq!(merged, IpRanges { v4: vec![(0x0a00_0000, 0x0bff_ffff)], v6: vec![] });
}

#[test]
fn what_is_no_range_is_refused_with_the_reason() {
    let refusal = |entry| IpRanges::read([entry]).unwrap_err();
    for entry in [
        "",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0",
        "::/129",
        "example.com",
        "10.0.0.1/8/8",
    ] {
        assert_eq!(refusal(entry), format!("`{entry}` is neither an address nor a range in CIDR notation"));
    }
    let text = "`10.0.0.13/8` has bits beyond its prefix: write `10.0.0.0/8`, or the address alone";
    assert_eq!(refusal("10.0.0.13/8"), text);
    assert!(refusal("2001:db8::1/32").contains("write `2001:db8::/32`"));
}

#[test]
fn a_list_of_ten_thousand_is_searched_in_few_steps() {
    let entries: Vec<String> = (0..10_000u32).map(|i| format!("{}/30", Ipv4Addr::from_bits(i << 3))).collect();
    let ranges = IpRanges::read(entries.iter().map(String::as_str)).unwrap();
    for i in 0..10_000u32 {
        assert!(ranges.contains(Ipv4Addr::from_bits((i << 3) + 3).into()));
        assert!(!ranges.contains(Ipv4Addr::from_bits((i << 3) + 4).into()));
    }
}

proptest! {
    #[test]
    fn a_look_up_finds_what_a_scan_finds(
        list in prop::collection::vec((any::<u8>(), 0u32..=8), 0..20),
        v6 in any::<bool>(),
        probe in any::<u8>(),
    ) {
        // The address space in small: only the last byte differs, so that ranges meet.
        let place = |last: u8| -> IpAddr {
            if v6 { Ipv6Addr::from_bits(u128::from(last)).into() } else { Ipv4Addr::new(10, 0, 0, last).into() }
        };
        let base = if v6 { 120 } else { 24 };
        let aligned = |last: u8, prefix: u32| last & !(u8::MAX.checked_shr(prefix).unwrap_or(0));
        let entries: Vec<String> = list.iter().map(|(b, p)| format!("{}/{}", place(aligned(*b, *p)), base + p)).collect();
        let scanned = list.iter().any(|(b, p)| aligned(*b, *p) == aligned(probe, *p));
        let ranges = IpRanges::read(entries.iter().map(String::as_str)).unwrap();
        prop_assert_eq!(ranges.contains(place(probe)), scanned);
    }
}

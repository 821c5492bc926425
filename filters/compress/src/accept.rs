//! [`choose`]: which coding a client wants, by its `accept-encoding` (RFC 9110, section 12.5.3).

use crate::config::Coding;

/// Weights are thousandths.
const WHOLE: u16 = 1_000;

/// The coding with the highest weight, of equal ones the first of `offered`; none when the client takes none of them,
/// or likes the plain body better.
pub(crate) fn choose<'v>(lines: impl Iterator<Item = &'v [u8]> + Clone, offered: &[Coding]) -> Option<Coding> {
    let weight = |coding: Coding| {
        let (mut named, mut any) = (None, None);
        for (name, weight) in lines.clone().flat_map(entries) {
            if is_named(coding, name) {
                named = named.or(Some(weight));
            } else if name == b"*" {
                any = any.or(Some(weight));
            }
        }
        named.or(any).unwrap_or(0)
    };
    let identity = lines.clone().flat_map(entries).find(|(name, _)| name.eq_ignore_ascii_case(b"identity"));
    let least = identity.map_or(0, |(_, weight)| weight);
    let mut best: Option<(u16, Coding)> = None;
    for coding in offered {
        let weight = weight(*coding);
        if weight > 0 && weight >= least && best.is_none_or(|(known, _)| weight > known) {
            best = Some((weight, *coding));
        }
    }
    best.map(|(_, coding)| coding)
}

fn is_named(coding: Coding, name: &[u8]) -> bool {
    let old = coding == Coding::Gzip && name.eq_ignore_ascii_case(b"x-gzip");
    old || name.eq_ignore_ascii_case(coding.token().as_bytes())
}

/// Names and weights of one line. An entry whose weight is none is left out.
fn entries(line: &[u8]) -> impl Iterator<Item = (&[u8], u16)> {
    line.split(|byte| *byte == b',').filter_map(|entry| {
        let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        Some((name, weight.map_or(Some(WHOLE), thousandths)?))
    })
}

/// `1`, `1.000`, `0`, `0.5`: at most three decimals.
fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, rest) = text.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => digits,
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => WHOLE,
        _ => return None,
    };
    for (place, digit) in digits.iter().enumerate() {
        weight += u16::from(digit - b'0') * [100, 10, 1][place];
    }
    (weight <= WHOLE).then_some(weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

    fn of(line: &str) -> Option<Coding> {
        choose(std::iter::once(line.as_bytes()), &BOTH)
    }

    #[test]
    fn the_highest_weight_wins_and_then_our_own_order() {
        for (line, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("GZIP ; Q=0.5 , br ; q=0.001", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("*", Some(Coding::Brotli)),
            ("br;q=0, *;q=0.1", Some(Coding::Gzip)),
            ("br;q=0,gzip;q=0", None),
            ("*;q=0", None),
            ("identity", None),
            ("identity;q=0.5, gzip;q=0.4", None),
            ("identity;q=0.5, gzip;q=0.5", Some(Coding::Gzip)),
            ("deflate, zstd", None),
            ("gzip;q=2, br;q=0.1234", None),
            ("", None),
            (",,;q=1", None),
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
    }

    #[test]
    fn several_lines_count_as_one() {
        let lines: [&[u8]; 2] = [b"deflate", b"gzip;q=0.1"];
        assert_eq!(choose(lines.into_iter(), &BOTH), Some(Coding::Gzip));
        assert_eq!(choose(std::iter::empty(), &BOTH), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(line: Vec<u8>, text in "[a-z*;=q0-9., ]{0,40}") {
            choose(std::iter::once(line.as_slice()), &BOTH);
            of(&text);
        }

        #[test]
        fn what_is_forbidden_is_never_chosen(others in "[a-z;=0-9., ]{0,20}") {
            prop_assert_eq!(of(&format!("br;q=0,gzip;q=0.000,{others}, *;q=1")), None);
        }
    }
}

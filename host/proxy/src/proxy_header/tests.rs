//! The answers are those of Envoy 1.40 for the same bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, payload].concat()
}

/// From 1.2.3.4:1000 to 5.6.7.8:80.
const V4: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 3, 232, 0, 80];

fn client(bytes: &[u8]) -> Option<String> {
    match read(bytes) {
        Read::Whole(Header { addresses, length, .. }) => {
            assert!(length <= bytes.len());
            Some(addresses.map_or_else(|| "own".to_owned(), |(from, _)| from.to_string()))
        }
        _ => None,
    }
}

#[test]
fn lines_of_version_1() {
    for (line, is) in [
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n", Some("1.2.3.4:1000")),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\nGET", Some("[2001:db8::1]:1")),
        ("PROXY UNKNOWN\r\n", Some("own")),
        ("PROXY UNKNOWN ffff::1 ::2 1 2\r\n", Some("own")),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 01 0\r\n", Some("1.2.3.4:1")),
        ("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", None),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 99999 80\r\n", None),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 +1 80\r\n", None),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\n", None),
        ("PROXY  TCP4 1.2.3.4 5.6.7.8 1000 80\r\n", None),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000\r\n", None),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80 9\r\n", None),
        ("PROXY TCP5 1.2.3.4 5.6.7.8 1000 80\r\n", None),
        ("PROXY TCP4 0.0.0.0 5.6.7.8 1000 80\r\n", None),
        ("PROXY TCP4 224.0.0.1 5.6.7.8 1000 80\r\n", None),
        ("PROXY TCP4 01.2.3.4 5.6.7.8 1000 80\r\n", None),
    ] {
        assert_eq!(client(line.as_bytes()).as_deref(), is, "{line:?}");
        assert!(is.is_some() || read(line.as_bytes()) == Read::Bad(1), "{line:?}");
    }
    assert_eq!(read(&[b"PROXY UNKNOWN ".as_slice(), &[b'a'; 100]].concat()), Read::Bad(1));
    assert_eq!(read(b"proxy TCP4 1.2.3.4 5.6.7.8 1000 80\r\n"), Read::Absent);
}

#[test]
fn headers_of_version_2() {
    assert_eq!(client(&v2(0x21, 0x11, &V4)).as_deref(), Some("1.2.3.4:1000"));
    assert_eq!(client(&v2(0x21, 0x12, &V4)).as_deref(), Some("1.2.3.4:1000"));
    assert_eq!(client(&v2(0x20, 0x11, &V4)).as_deref(), Some("own"));
    assert_eq!(client(&v2(0x20, 0, &[4, 255, 255])).as_deref(), Some("own"), "what a LOCAL one brings is skipped");
    assert_eq!(client(&v2(0x21, 0x11, &[&V4[..], &[4, 0, 3], b"abc"].concat())).as_deref(), Some("1.2.3.4:1000"));
    for bad in [
        v2(0x21, 0x00, b""),
        v2(0x21, 0x31, &[0; 216]),
        v2(0x21, 0x11, &V4[..8]),
        v2(0x22, 0x11, &V4),
        v2(0x31, 0x11, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x13, &V4),
        v2(0x21, 0x11, &[0; 12]),
    ] {
        assert_eq!(read(&bad), Read::Bad(2), "{bad:?}");
    }
}

#[test]
fn values_that_are_longer_than_what_is_there_are_wrong() {
    for values in [&[4, 255, 255][..], &[4, 0], &[4], &[4, 0, 4, 1, 2, 3], &[4, 0, 0, 5, 255, 254, 0]] {
        assert_eq!(read(&v2(0x21, 0x11, &[&V4[..], values].concat())), Read::Bad(2), "{values:?}");
    }
}

proptest! {
    /// However the bytes come, the same is read, and never earlier than the whole header is there.
    #[test]
    fn pieces_say_the_same_as_the_whole(rest in proptest::collection::vec(any::<u8>(), 0..40), values in 0_u8..40) {
        let value = [&[4, 0, values][..], &vec![7; usize::from(values)]].concat();
        for header in [
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            v2(0x21, 0x11, &[&V4[..], &value].concat()),
            v2(0x20, 0, &value),
        ] {
            let all = [&header[..], &rest].concat();
            for end in 0..header.len() {
                prop_assert_eq!(read(&all[..end]), Read::More);
            }
            let whole = read(&all);
            let is_whole = matches!(whole, Read::Whole(Header { length, .. }) if length == header.len());
            prop_assert!(is_whole);
            prop_assert_eq!(read(&header), whole);
        }
    }

    /// What was told of a part does not change with more of it.
    #[test]
    fn an_answer_stands(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0_usize..3) {
        let all = [[&b""[..], WORD, SIGNATURE][start], &bytes].concat();
        let mut told = Read::More;
        for end in 0..=all.len() {
            let now = read(&all[..end]);
            prop_assert!(told == Read::More || now == told, "{:?} became {:?}", told, now);
            told = now;
        }
    }
}

//! `compress` and `uncompress`: zlib, as in Envoy, within bounds.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::abi::Status;
use crate::guest::Answer;

/// Most bytes that are compressed in one call: about as much as a callback's deadline allows.
const MAX_INPUT: usize = 4 * 1024 * 1024;

/// Most bytes that come out of one call: a few bytes could become gigabytes otherwise.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// What the output grows by.
const STEP: usize = 64 * 1024;

/// Appends the zlib stream of `args`. Over 4 MiB: INTERNAL_FAILURE.
pub(super) fn compress(args: &[u8], value: &mut Vec<u8>) -> Answer {
    if args.len() > MAX_INPUT {
        return Err(Status::InternalFailure);
    }
    // zlib's own bound on what can come out.
    value.reserve(args.len() + (args.len() >> 12) + (args.len() >> 14) + (args.len() >> 25) + 64);
    let mut stream = Compress::new(Compression::default(), true);
    loop {
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let done = stream.compress_vec(&args[taken..], value, FlushCompress::Finish);
        match done.map_err(|_| Status::SerializationFailure)? {
            flate2::Status::StreamEnd => return Ok(()),
            flate2::Status::Ok | flate2::Status::BufError => value.reserve(STEP),
        }
    }
}

/// Appends what a zlib stream holds; what follows its end is ignored. Broken or cut off: SERIALIZATION_FAILURE. Over
/// 16 MiB: INTERNAL_FAILURE. (Envoy tries for ever on a stream that is cut off.)
pub(super) fn uncompress(args: &[u8], value: &mut Vec<u8>) -> Answer {
    let mut stream = Decompress::new(true);
    loop {
        value.reserve(STEP);
        let (taken, given) = (stream.total_in(), stream.total_out());
        let rest = &args[usize::try_from(taken).unwrap_or(usize::MAX)..];
        let done = stream.decompress_vec(rest, value, FlushDecompress::None);
        let done = done.map_err(|_| Status::SerializationFailure)?;
        if value.len() > MAX_OUTPUT {
            return Err(Status::InternalFailure);
        }
        if done == flate2::Status::StreamEnd {
            return Ok(());
        }
        if (stream.total_in(), stream.total_out()) == (taken, given) {
            return Err(Status::SerializationFailure);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        compress(bytes, &mut packed).unwrap();
        packed
    }

    fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, Status> {
        let mut unpacked = Vec::new();
        uncompress(bytes, &mut unpacked).map(|()| unpacked)
    }

    #[test]
    fn a_stream_of_zlib_s_is_read() {
        let hello = [0x78, 0x9c, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06, 0x2c, 0x02, 0x15];
        assert_eq!(unpacked(&hello).unwrap(), b"hello");
        assert_eq!(unpacked(&[&hello[..], b"rest"].concat()).unwrap(), b"hello");
        assert_eq!(packed(b"hello")[..2], [0x78, 0x9c]);
    }

    #[test]
    fn what_is_cut_off_or_broken_is_refused() {
        let packed = packed(&b"some text ".repeat(1000));
        for end in [0, 1, 2, 10, packed.len() - 1] {
            assert_eq!(unpacked(&packed[..end]), Err(Status::SerializationFailure), "{end}");
        }
        assert_eq!(unpacked(b"no zlib stream"), Err(Status::SerializationFailure));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut stream = Compress::new(Compression::best(), true);
        let (zeros, mut bomb) = (vec![0; MAX_OUTPUT + 1], Vec::with_capacity(1024 * 1024));
        stream.compress_vec(&zeros, &mut bomb, FlushCompress::Finish).unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(unpacked(&bomb), Err(Status::InternalFailure));
        assert_eq!(compress(&vec![0; MAX_INPUT + 1], &mut Vec::new()), Err(Status::InternalFailure));
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_back(bytes in vec(any::<u8>(), 0..5000)) {
            prop_assert_eq!(unpacked(&packed(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn unpacking_never_panics(bytes in vec(any::<u8>(), 0..300)) {
            let _ = unpacked(&[&[0x78, 0x9c][..], &bytes].concat());
        }
    }
}

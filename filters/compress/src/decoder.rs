//! [`Decoder`]: one request's body on its way out of its coding, never more than a bound.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// It is longer than the bound.
    TooLarge,
    /// It is none in this coding.
    Malformed,
}

/// One body.
pub(crate) struct Decoder {
    codec: Codec,
    any: bool,
}

enum Codec {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Deflate(Box<ZlibDecoder<Bounded>>),
    Brotli(Box<brotli::DecompressorWriter<Bounded>>),
}

/// What came out, and how much more may.
struct Bounded {
    bytes: Vec<u8>,
    left: u64,
    exceeded: bool,
}

impl Decoder {
    /// None when `content-encoding` names another coding, or several.
    pub(crate) fn new(coding: &[u8], max_bytes: u64) -> Option<Self> {
        let out = Bounded { bytes: Vec::new(), left: max_bytes, exceeded: false };
        let is = |name: &str| coding.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        let codec = if is("gzip") || is("x-gzip") {
            Codec::Gzip(Box::new(MultiGzDecoder::new(out)))
        } else if is("deflate") {
            Codec::Deflate(Box::new(ZlibDecoder::new(out)))
        } else if is("br") {
            Codec::Brotli(Box::new(brotli::DecompressorWriter::new(out, 4_096)))
        } else {
            return None;
        };
        Some(Self { codec, any: false })
    }

    /// What comes out for these bytes.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<Vec<u8>, DecodeError> {
        self.any |= !data.is_empty();
        let written = match &mut self.codec {
            Codec::Gzip(decoder) => decoder.write_all(data).and_then(|()| decoder.flush()),
            Codec::Deflate(decoder) => decoder.write_all(data).and_then(|()| decoder.flush()),
            Codec::Brotli(decoder) => decoder.write_all(data).and_then(|()| decoder.flush()),
        };
        self.taken(written)
    }

    /// What is left at the end; an error when the body is cut off. No body at all is fine.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, DecodeError> {
        if !self.any {
            return Ok(Vec::new());
        }
        let ended = match &mut self.codec {
            Codec::Gzip(decoder) => decoder.try_finish(),
            Codec::Deflate(decoder) => decoder.try_finish(),
            Codec::Brotli(decoder) => decoder.close(),
        };
        self.taken(ended)
    }

    fn taken(&mut self, outcome: io::Result<()>) -> Result<Vec<u8>, DecodeError> {
        let out = match &mut self.codec {
            Codec::Gzip(decoder) => decoder.get_mut(),
            Codec::Deflate(decoder) => decoder.get_mut(),
            Codec::Brotli(decoder) => decoder.get_mut(),
        };
        match outcome {
            _ if out.exceeded => Err(DecodeError::TooLarge),
            Ok(()) => Ok(std::mem::take(&mut out.bytes)),
            Err(_) => Err(DecodeError::Malformed),
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.left.checked_sub(data.len() as u64) {
            Some(left) => {
                self.left = left;
                self.bytes.extend_from_slice(data);
                Ok(data.len())
            }
            None => {
                self.exceeded = true;
                Err(io::ErrorKind::FileTooLarge.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plain bytes in a coding.
    fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match coding {
            "gzip" => flate2::read::GzEncoder::new(plain, flate2::Compression::fast()).read_to_end(&mut bytes),
            "deflate" => flate2::read::ZlibEncoder::new(plain, flate2::Compression::fast()).read_to_end(&mut bytes),
            _ => brotli::CompressorReader::new(plain, 4_096, 4, 18).read_to_end(&mut bytes),
        }
        .expect("memory does not fail");
        bytes
    }

    use std::io::Read;

    fn decode(coding: &str, bytes: &[u8], parts: usize, max: u64) -> Result<Vec<u8>, DecodeError> {
        let mut decoder = Decoder::new(coding.as_bytes(), max).expect("a known coding");
        let mut plain = Vec::new();
        for part in bytes.chunks(parts) {
            plain.append(&mut decoder.write(part)?);
        }
        plain.append(&mut decoder.finish()?);
        Ok(plain)
    }

    const CODINGS: [&str; 3] = ["gzip", "deflate", "br"];

    #[test]
    fn a_bomb_ends_at_its_bound() {
        let plain = vec![0; 10_000_000];
        for coding in CODINGS {
            let bytes = encode(coding, &plain);
            assert!(bytes.len() < 100_000);
            assert_eq!(decode(coding, &bytes, 65_536, 1_000_000), Err(DecodeError::TooLarge), "{coding}");
            assert_eq!(decode(coding, &bytes, 65_536, 10_000_000).map(|plain| plain.len()), Ok(10_000_000));
        }
    }

    #[test]
    fn a_body_that_is_cut_off_or_wrong_is_refused() {
        for coding in CODINGS {
            let bytes = encode(coding, b"some text, some more text, and some more text");
            assert_eq!(decode(coding, &bytes[..bytes.len() - 1], 7, 1_000), Err(DecodeError::Malformed), "{coding}");
            assert_eq!(
                decode(coding, b"\xff\xff\xff\xff no such thing", 7, 1_000),
                Err(DecodeError::Malformed),
                "{coding}"
            );
            assert_eq!(decode(coding, b"", 7, 1_000).as_deref(), Ok(b"".as_slice()));
        }
    }

    #[test]
    fn other_codings_are_none() {
        for coding in ["", "identity", "zstd", "gzip, br", "gzipped"] {
            assert!(Decoder::new(coding.as_bytes(), 1).is_none(), "{coding}");
        }
        assert!(Decoder::new(b" GZip ", 1).is_some());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(plain: Vec<u8>, parts in 1..50_usize) {
            for coding in CODINGS {
                prop_assert_eq!(decode(coding, &encode(coding, &plain), parts, 10_000), Ok(plain.clone()));
            }
        }

        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>, parts in 1..50_usize) {
            for coding in CODINGS {
                let _ = decode(coding, &bytes, parts, 1_000);
            }
        }
    }
}

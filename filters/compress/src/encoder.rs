//! [`Encoder`]: one body on its way into gzip or brotli. Each chunk comes out whole, so that what the upstream sends in
//! pieces arrives in pieces.

use std::io::Write;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::config::{Coding, Config};

/// Bytes of brotli's window as a power of two: 256 KiB, so that a body costs little memory.
const WINDOW: i32 = 18;

/// Longest stored block of gzip, and longest uncompressed one of brotli.
const BLOCK: usize = 0xffff;

/// A gzip header without a name or a time, from no particular system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// One body.
pub(crate) struct Encoder {
    codec: Codec,
    /// Nothing has been written yet.
    fresh: bool,
    /// From here on bytes go through as they are, in blocks of the coding.
    stored: bool,
}

enum Codec {
    Gzip { deflate: Box<Compress>, sum: Crc },
    Brotli(Box<CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    pub(crate) fn new(coding: Coding, config: &Config) -> Self {
        let codec = match coding {
            Coding::Gzip => {
                let deflate = Box::new(Compress::new(Compression::new(config.gzip_level), false));
                Codec::Gzip { deflate, sum: Crc::new() }
            }
            Coding::Brotli => {
                let quality = config.brotli_quality as i32;
                let params = BrotliEncoderParams { quality, lgwin: WINDOW, ..BrotliEncoderParams::default() };
                Codec::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), 4_096, &params)))
            }
        };
        Self { codec, fresh: true, stored: false }
    }

    /// Adds a part of the body. All of it can be read by the client from what was written until then.
    pub(crate) fn write(&mut self, data: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let fresh = std::mem::take(&mut self.fresh);
        match &mut self.codec {
            Codec::Gzip { deflate, sum } => {
                if fresh {
                    out.extend_from_slice(&GZIP_HEAD);
                }
                sum.update(data);
                if self.stored {
                    data.chunks(BLOCK).for_each(|block| store(block, false, out));
                    return Ok(());
                }
                run(deflate, data, FlushCompress::Sync, out)
            }
            Codec::Brotli(writer) => {
                if self.stored {
                    data.chunks(BLOCK).for_each(|block| uncompressed(block, out));
                    return Ok(());
                }
                writer.write_all(data)?;
                writer.flush()?;
                out.append(writer.get_mut());
                Ok(())
            }
        }
    }

    /// Lets the rest of the body through without work. Before the first part it changes nothing.
    pub(crate) fn store(&mut self) {
        self.stored = !self.fresh;
    }

    /// The end of the body.
    pub(crate) fn finish(self, out: &mut Vec<u8>) -> std::io::Result<()> {
        match self.codec {
            Codec::Gzip { mut deflate, sum } => {
                if self.fresh {
                    out.extend_from_slice(&GZIP_HEAD);
                }
                if self.stored {
                    store(b"", true, out);
                } else {
                    run(&mut deflate, b"", FlushCompress::Finish, out)?;
                }
                out.extend_from_slice(&sum.sum().to_le_bytes());
                out.extend_from_slice(&sum.amount().to_le_bytes());
            }
            // The last, empty block.
            Codec::Brotli(_) if self.stored => out.push(3),
            Codec::Brotli(writer) => out.append(&mut writer.into_inner()),
        }
        Ok(())
    }
}

/// Deflates all of `data` and what a flush leaves.
fn run(deflate: &mut Compress, data: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (start, mut rest) = (deflate.total_in(), data);
    loop {
        out.reserve((rest.len() / 2).max(256));
        let status = deflate.compress_vec(rest, out, flush)?;
        rest = &data[(deflate.total_in() - start) as usize..];
        // Room that is left says that nothing is kept back.
        let done = rest.is_empty() && out.len() < out.capacity();
        if status == flate2::Status::StreamEnd || done && !matches!(flush, FlushCompress::Finish) {
            return Ok(());
        }
    }
}

/// A stored block of deflate (RFC 1951, 3.2.4); begins at a whole byte, as after a flush.
fn store(block: &[u8], is_last: bool, out: &mut Vec<u8>) {
    let length = block.len() as u16;
    out.push(u8::from(is_last));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(block);
}

/// An uncompressed meta-block of brotli (RFC 7932, 9.2): not the last, four nibbles of length less one, uncompressed.
fn uncompressed(block: &[u8], out: &mut Vec<u8>) {
    let head = ((block.len() as u32 - 1) << 3) | 1 << 19;
    out.extend_from_slice(&head.to_le_bytes()[..3]);
    out.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn config() -> Config {
        serde_json::from_str("{}").expect("all has defaults")
    }

    /// What a client reads from these bytes, as far as it can.
    fn read(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut chunk = [0; 4_096];
        let mut reader: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4_096)),
        };
        while let Ok(length @ 1..) = reader.read(&mut chunk) {
            plain.extend_from_slice(&chunk[..length]);
        }
        plain
    }

    /// The body in its coding, stored from the part with this number on.
    fn encode(coding: Coding, parts: &[Vec<u8>], stored_from: usize) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(coding, &config()), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            if number == stored_from {
                encoder.store();
            }
            encoder.write(part, &mut out).expect("memory does not fail");
        }
        encoder.finish(&mut out).expect("memory does not fail");
        out
    }

    /// Reads all to its proper end, with checksums.
    fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let end = match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut plain),
        };
        end.expect("a whole body");
        plain
    }

    #[test]
    fn each_chunk_can_be_read_when_it_was_written() {
        for coding in [Coding::Gzip, Coding::Brotli] {
            let (mut encoder, mut out, mut plain) = (Encoder::new(coding, &config()), Vec::new(), Vec::new());
            for number in 0..50 {
                let part = format!("event {number}, and more of it\n").into_bytes();
                encoder.write(&part, &mut out).expect("memory does not fail");
                plain.extend_from_slice(&part);
                assert_eq!(read(coding, &out), plain, "{coding:?} {number}");
            }
        }
    }

    #[test]
    fn an_empty_body_is_a_whole_one() {
        for coding in [Coding::Gzip, Coding::Brotli] {
            assert_eq!(decode(coding, &encode(coding, &[], 0)), b"");
        }
    }

    #[test]
    fn text_gets_smaller() {
        let text = "the same words again and again, and other words in between. ".repeat(1_000).into_bytes();
        for coding in [Coding::Gzip, Coding::Brotli] {
            let parts: Vec<_> = text.chunks(16_384).map(<[u8]>::to_vec).collect();
            assert!(encode(coding, &parts, 99).len() < text.len() / 20);
        }
    }

    #[test]
    fn large_blocks_are_stored_in_several() {
        let parts = [vec![1; 10], (0..200_000_u32).map(|byte| byte as u8).collect(), vec![2; BLOCK]];
        for coding in [Coding::Gzip, Coding::Brotli] {
            let bytes = encode(coding, &parts, 1);
            assert_eq!(decode(coding, &bytes), parts.concat(), "{coding:?}");
            assert!(bytes.len() < parts.concat().len() + 100);
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2_000), 0..12),
            stored_from in 0..14_usize,
        ) {
            for coding in [Coding::Gzip, Coding::Brotli] {
                prop_assert_eq!(decode(coding, &encode(coding, &parts, stored_from)), parts.concat());
            }
        }
    }
}

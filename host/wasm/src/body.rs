//! `BodyBuffer`: the part of a body that the gateway holds and a filter may read and change.

use bytes::{Bytes, BytesMut};

/// Most bytes that filters may grow one buffer to. What the network brings is bounded by the proxy.
const MAX_WRITTEN: usize = 16 * 1024 * 1024;

/// Bytes of a body that wait in the gateway, as one piece.
#[derive(Debug, Default)]
pub struct BodyBuffer {
    bytes: BytesMut,
}

impl BodyBuffer {
    /// An empty buffer; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes held.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a chunk at the end. The first chunk is taken over without a copy when nobody else holds it.
    pub fn push(&mut self, chunk: Bytes) {
        if self.bytes.is_empty() {
            match chunk.try_into_mut() {
                Ok(chunk) => self.bytes = chunk,
                Err(chunk) => self.bytes.extend_from_slice(&chunk),
            }
        } else {
            self.bytes.extend_from_slice(&chunk);
        }
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }

    /// Puts `data` in place of `size` bytes from `start`, both clamped to what is held: start 0 and size 0 prepends,
    /// a start at or after the end appends. False when the buffer would grow beyond 16 MiB.
    pub(crate) fn splice(&mut self, start: usize, size: usize, data: &[u8]) -> bool {
        let start = start.min(self.bytes.len());
        let end = start.saturating_add(size).min(self.bytes.len());
        if self.bytes.len() - (end - start) + data.len() > MAX_WRITTEN {
            return false;
        }
        if start == self.bytes.len() {
            self.bytes.extend_from_slice(data);
            return true;
        }
        let tail = self.bytes.split_off(start);
        self.bytes.reserve(data.len() + tail.len() - (end - start));
        self.bytes.extend_from_slice(data);
        self.bytes.extend_from_slice(&tail[end - start..]);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spliced(start: usize, size: usize) -> Vec<u8> {
        let mut body = BodyBuffer::new();
        body.push(Bytes::from_static(b"abcdef"));
        assert!(body.splice(start, size, b"XY"));
        body.as_slice().to_vec()
    }

    #[test]
    fn splice_prepends_replaces_inserts_and_appends() {
        assert_eq!(spliced(0, 0), b"XYabcdef");
        assert_eq!(spliced(0, usize::MAX), b"XY");
        assert_eq!(spliced(2, 0), b"abXYcdef");
        assert_eq!(spliced(2, 3), b"abXYf");
        assert_eq!(spliced(6, 0), b"abcdefXY");
        assert_eq!(spliced(usize::MAX, usize::MAX), b"abcdefXY");
    }

    #[test]
    fn take_empties_the_buffer() {
        let mut body = BodyBuffer::new();
        body.push(Bytes::from_static(b"ab"));
        body.push(Bytes::from_static(b"cd"));
        assert_eq!(body.take(), "abcd");
        assert!(body.is_empty());
    }

    #[test]
    fn splice_refuses_to_grow_without_end() {
        let mut body = BodyBuffer::new();
        assert!(body.splice(0, 0, &vec![0; MAX_WRITTEN]));
        assert!(!body.splice(0, 0, b"x"));
        assert_eq!(body.len(), MAX_WRITTEN);
    }
}

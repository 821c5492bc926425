//! [`Draw`]: numbers for mutations, the same ones in every run.

/// xorshift64.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    /// A number below `end`; 0 for an end of 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap()
    }

    /// One to four edits of it: a piece put in, a span cut out, a span doubled, a bit turned over.
    pub(crate) fn mutate(&mut self, good: &[u8], pieces: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            let start = self.below(bytes.len() + 1);
            let end = (start + self.below(40)).min(bytes.len());
            match self.below(4) {
                0 => drop(bytes.splice(start..start, pieces[self.below(pieces.len())].as_ref().iter().copied())),
                1 => drop(bytes.drain(start..end)),
                2 => {
                    let span = bytes[start..end].to_vec();
                    drop(bytes.splice(start..start, span));
                }
                _ if start < bytes.len() => bytes[start] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

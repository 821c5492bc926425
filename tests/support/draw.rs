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
}

//! Chance that can be had again.

use std::time::Duration;

/// Names one run: the same seed, the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A stream of numbers that look random (SplitMix64, Steele et al. 2014), perhaps behind some that were
/// written down.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
    /// What is drawn first, the next byte last.
    script: Vec<u8>,
}

impl Chance {
    /// The stream of `seed`.
    pub fn new(Seed(seed): Seed) -> Self {
        Self { state: seed, script: Vec::new() }
    }

    /// A stream in which every choice is made by the next byte of `script`, as long as there are any.
    /// What is to be unique, such as keys, is drawn from the stream itself.
    pub fn scripted(script: &[u8]) -> Self {
        Self { state: 0, script: script.iter().rev().copied().collect() }
    }

    /// A stream of its own, so that one user's draws do not move another's.
    pub fn fork(&mut self) -> Self {
        Self::new(Seed(self.next()))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    fn choice(&mut self) -> u64 {
        match self.script.pop() {
            // Spread, so that small choices and long times both depend on it.
            Some(byte) => u64::from(byte).wrapping_mul(0x0101_0101_0101_0101),
            None => self.next(),
        }
    }

    /// A number from zero up to, but not including, `limit`; zero if that is zero.
    pub fn below(&mut self, limit: usize) -> usize {
        self.choice().checked_rem(limit as u64).unwrap_or(0) as usize
    }

    /// True `thousandths` times in a thousand.
    pub fn per_mille(&mut self, thousandths: u16) -> bool {
        self.below(1000) < usize::from(thousandths)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// From nothing up to `longest`, evenly.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        let limit = longest.as_nanos() as u64 + 1;
        Duration::from_nanos(self.choice() % limit)
    }

    /// As many bytes as asked for.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    /// Makes all of `bytes` look random.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let draw = self.next().to_le_bytes();
            chunk.copy_from_slice(&draw[..chunk.len()]);
        }
    }
}

//! The Internet checksum (RFC 1071): sums that combine, and the fields made of them.

use std::ops::Add;

/// A ones' complement sum of 16-bit words, not yet folded.
///
/// Sums of byte strings combine with `+` where each but the last has an even length. The words are
/// added in the byte order of the machine, which the sum does not mind (RFC 1071 §2 B): only
/// [`Sum::folded`] gives bytes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd last byte counts as if a zero followed it.
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks();
        let (words, tail) = rest.as_chunks();
        let (mut whole, mut upper) = sum_blocks(blocks);
        for word in words {
            let word = u64::from_ne_bytes(*word);
            whole = whole.wrapping_add(word);
            upper = upper.wrapping_add(word >> 32);
        }
        let lower = whole.wrapping_sub(upper << 32);
        let mut last = [0; 8];
        last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        Self([lower, upper, u64::from_ne_bytes(last)].map(|part| fold(part, 32)).iter().sum())
    }

    /// The sum of a single word, given as the number that it is on the wire.
    pub const fn word(value: u16) -> Self {
        Self(value.to_be() as u64)
    }

    /// This sum less `value`, a word that is part of it (RFC 1624 equation 3 subtracts by adding
    /// the complement).
    pub fn without(self, value: u16) -> Self {
        self + Self::word(!value)
    }

    /// The sum as a field: what CHECKSUM_PARTIAL expects to find where the checksum will be.
    pub fn folded(self) -> [u8; 2] {
        let words = fold(fold(fold(fold(self.0, 32), 16), 16), 16);
        (words as u16).to_ne_bytes()
    }

    /// The checksum over what was added: the complement of [`Sum::folded`].
    pub fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// The checksum as UDP sends it: zero means "none" there, so its other spelling, all ones,
    /// takes its place (RFC 768).
    pub fn udp_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            checksum => checksum,
        }
    }

    /// Whether bytes that contain their own checksum (and its pseudo-header) are intact.
    pub fn is_intact(self) -> bool {
        self.checksum() == [0, 0]
    }
}

/// The sum of all words, without its carries, and that of their upper halves. Together these still tell
/// the sum of the lower halves: `whole - (upper << 32)`. Two vector additions and a shift, for any
/// instruction set; eight sums side by side, since each addition has to wait for the one before.
fn sum_blocks(blocks: &[[u8; 64]]) -> (u64, u64) {
    let (mut wholes, mut uppers) = ([0_u64; 8], [0_u64; 8]);
    for block in blocks {
        for ((whole, upper), word) in wholes.iter_mut().zip(&mut uppers).zip(block.as_chunks().0) {
            let word = u64::from_ne_bytes(*word);
            *whole = whole.wrapping_add(word);
            *upper = upper.wrapping_add(word >> 32);
        }
    }
    let total = |sums: [u64; 8]| sums.into_iter().fold(0, u64::wrapping_add);
    (total(wholes), total(uppers))
}

/// Sums begin with at most 35 bits, so that no number of additions in one packet can overflow.
impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

/// Adds what is above the low `bits` of `sum` to the low ones, which keeps it the same modulo
/// 0xffff.
const fn fold(sum: u64, bits: u32) -> u64 {
    (sum & ((1 << bits) - 1)) + (sum >> bits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::super::samples::{Random, sum};
    use super::*;

    #[test]
    fn every_length_sums_like_the_definition() {
        let mut random = Random(1071);
        for length in (0..300).chain([1419, 1420, 65_535]) {
            let bytes = random.bytes(length);
            assert_eq!(Sum::of(&bytes).folded(), sum(&bytes).to_be_bytes(), "{length} bytes");
        }
        let ones = vec![0xff; 65_535];
        assert_eq!(Sum::of(&ones).folded(), sum(&ones).to_be_bytes());
    }

    #[test]
    fn sums_of_parts_make_the_sum_of_the_whole() {
        let bytes = Random(2).bytes(1500);
        for cut in (0..1500).step_by(2) {
            let parts = Sum::of(&bytes[..cut]) + Sum::of(&bytes[cut..]);
            assert_eq!(parts.folded(), Sum::of(&bytes).folded(), "cut at {cut}");
        }
        let many = (0..1_000_000).fold(Sum::default(), |all, _| all + Sum::word(0xffff));
        assert_eq!(many.folded(), [0xff, 0xff]);
    }

    #[test]
    fn a_word_can_be_taken_out_again() {
        let bytes = [0x12, 0x34, 0xab, 0xcd, 0x00, 0x07];
        let rest = Sum::of(&bytes).without(0xabcd);
        assert_eq!(rest.folded(), [0x12, 0x3b]);
        assert_eq!(Sum::word(0x123b).folded(), [0x12, 0x3b]);
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
        assert!((sum + Sum::word(0x220d)).is_intact());
        assert!(!(sum + Sum::word(0x220e)).is_intact());
    }

    #[test]
    fn udp_never_sends_the_checksum_that_means_none() {
        for (word, checksum) in [(0xffff, [0xff, 0xff]), (0, [0xff, 0xff]), (1, [0xff, 0xfe])] {
            assert_eq!(Sum::word(word).udp_checksum(), checksum, "{word:#x}");
        }
    }
}

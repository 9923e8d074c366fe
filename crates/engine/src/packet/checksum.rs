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
        let (words, tail) = bytes.as_chunks::<8>();
        // Adding whole words loses the carries, yet together with the sum of their upper halves it
        // still tells the sum of the lower ones: `whole - (upper << 32)`. Two vector additions and
        // a shift, for any instruction set.
        let (mut whole, mut upper) = (0_u64, 0_u64);
        for word in words {
            let word = u64::from_ne_bytes(*word);
            whole = whole.wrapping_add(word);
            upper = upper.wrapping_add(word >> 32);
        }
        let lower = whole.wrapping_sub(upper << 32);
        let mut last = [0; 8];
        last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        Self(lower) + Self(upper) + Self(u64::from_ne_bytes(last))
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

/// Sums stay below 34 bits, so that no number of additions in one packet can overflow.
impl Add for Sum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(fold(self.0, 32) + fold(other.0, 32))
    }
}

/// Adds what is above the low `bits` of `sum` to the low ones, which keeps it the same modulo
/// 0xffff.
const fn fold(sum: u64, bits: u32) -> u64 {
    (sum & ((1 << bits) - 1)) + (sum >> bits)
}

/// The pseudo-header of a TCP, UDP or ICMPv6 checksum: both `addresses` as they stand in the IP
/// header, the `protocol` and the `length` of the transport header and its payload (RFC 9293 §3.1,
/// RFC 8200 §8.1).
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: u16) -> Sum {
    Sum::of(addresses) + Sum::word(u16::from(protocol)) + Sum::word(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §1, word by word.
    fn reference(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_be_bytes()
    }
}

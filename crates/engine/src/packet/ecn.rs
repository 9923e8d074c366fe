//! Congestion marks across the tunnel (RFC 6040, as the kernel does it; spec §1.12).

use super::checksum::Sum;
use super::{Version, bytes_at, put, tos, u16_at};

/// The outer type of service for an inner one: its ECN bits and nothing else, so that the DSCP does
/// not tell strangers what is inside. A packet that has met congestion already starts again as
/// ECT(0): its mark travels inside.
pub const fn outer(inner: u8) -> u8 {
    match inner & MASK {
        CE => ECT_0,
        ecn => ecn,
    }
}

/// Marks the opened `packet` with what its datagram met on the way, which arrived with type of
/// service `outer`. Nothing happens to a packet that does not speak ECN. `None` if it is no IP packet.
pub fn decapsulate(outer: u8, packet: &mut [u8]) -> Option<()> {
    let version = Version::of(packet)?;
    // The traffic class of IPv6 lies across its first two bytes.
    let shift = if version == Version::V4 { 0 } else { 4 };
    let [first, second] = bytes_at(packet, 0)?;
    let marked = match (outer & MASK, second >> shift & MASK) {
        (CE, ECT_0 | ECT_1) => CE,
        (ECT_1, ECT_0) => ECT_1,
        _ => return Some(()),
    };
    let second_marked = second & !(MASK << shift) | marked << shift;
    put(packet, 1, [second_marked])?;
    if version == Version::V4 {
        // RFC 1624 equation 3: the header changed in one word.
        let [old, new] = [second, second_marked].map(|tos| u16::from_be_bytes([first, tos]));
        let sum = Sum::word(!u16_at(packet, 10)?).without(old) + Sum::word(new);
        put(packet, 10, sum.checksum())?;
    }
    Some(())
}

/// Marks `packet` as having met congestion. False if it does not speak ECN: then only a loss tells
/// its sender (RFC 3168 §5).
pub fn congested(packet: &mut [u8]) -> bool {
    let speaks = tos(packet).is_some_and(|tos| tos & MASK != 0);
    decapsulate(CE, packet);
    speaks
}

/// The four values of the ECN bits (RFC 3168 §5); the fourth, zero, says that the packet does not
/// speak ECN.
const MASK: u8 = 0b11;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn the_outer_packet_shows_ecn_and_nothing_else() {
        for (inner, expected) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
            for dscp in 0..64 {
                assert_eq!(outer(dscp << 2 | inner), expected, "inner {inner}, dscp {dscp}");
            }
        }
    }

    #[test]
    fn marks_of_the_way_reach_the_inner_packet() {
        // RFC 6040 figure 4, as the kernel reads it: outer, inner, result.
        for (outer, inner, result) in [
            (0, 0, 0),
            (0, 1, 1),
            (0, 2, 2),
            (0, 3, 3),
            (1, 0, 0),
            (1, 1, 1),
            (1, 2, 1),
            (1, 3, 3),
            (2, 0, 0),
            (2, 1, 1),
            (2, 2, 2),
            (2, 3, 3),
            (3, 0, 0),
            (3, 1, 3),
            (3, 2, 3),
            (3, 3, 3),
        ] {
            for dscp in 0..64 {
                for sample in [Sample::tcp(b"data"), Sample::tcp(b"data").v6()] {
                    let mut packet = Sample { tos: dscp << 2 | inner, ..sample.clone() }.build();
                    decapsulate(0xb8 | outer, &mut packet);
                    let expected = Sample { tos: dscp << 2 | result, ..sample }.build();
                    assert_eq!(packet, expected, "outer {outer}, inner {inner}, dscp {dscp}");
                }
            }
        }
    }

    #[test]
    fn a_wrong_header_checksum_stays_as_wrong_as_it_was() {
        let mut packet = Sample { tos: ECT_0, ..Sample::tcp(b"data") }.build();
        packet[10] ^= 0x40;
        decapsulate(CE, &mut packet);
        assert_eq!(tos(&packet), Some(CE));
        assert_ne!(packet, Sample { tos: CE, ..Sample::tcp(b"data") }.build());
    }

    #[test]
    fn what_is_no_packet_stays_as_it_is() {
        for garbage in [&[][..], &[0x45, 0x02], &[0x60, 0x20, 0, 0], &[0x72; 64]] {
            let mut bytes = garbage.to_vec();
            decapsulate(CE, &mut bytes);
            assert_eq!(bytes, garbage);
        }
    }
}

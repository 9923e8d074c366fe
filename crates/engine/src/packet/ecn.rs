//! Congestion marks across the tunnel (RFC 6040, as the kernel does it; spec §1.12).

use super::checksum::Sum;
use super::{Version, bytes_at, put, u16_at};

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
/// service `outer`. Nothing happens to a packet that does not speak ECN.
pub fn decapsulate(outer: u8, packet: &mut [u8]) {
    let _ = mark(outer & MASK, packet); // `None`: no IP packet, and nothing to mark.
}

fn mark(outer: u8, packet: &mut [u8]) -> Option<()> {
    let version = Version::of(packet)?;
    // The traffic class of IPv6 lies across its first two bytes.
    let shift = if version == Version::V4 { 0 } else { 4 };
    let [first, second] = bytes_at(packet, 0)?;
    let marked = match (outer, second >> shift & MASK) {
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

/// The four values of the ECN bits (RFC 3168 §5); the fourth, zero, says that the packet does not
/// speak ECN.
const MASK: u8 = 0b11;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

//! The packet inside a data message (paper §5.4.6).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What routing needs to know of a decrypted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Who claims to have sent it.
    pub source: IpAddr,
    /// The length by the packet's own header; what follows is padding.
    pub length: usize,
}

/// Reads the header of a decrypted packet, which must not claim more bytes than there are.
pub fn inner_packet(packet: &[u8]) -> Option<Inner> {
    let (source, length): (IpAddr, usize) = match packet.first()? >> 4 {
        4 => (Ipv4Addr::from(bytes_at(packet, 12)?).into(), u16_at(packet, 2)?.into()),
        6 => (Ipv6Addr::from(bytes_at(packet, 8)?).into(), 40 + usize::from(u16_at(packet, 4)?)),
        _ => return None,
    };
    // An IPv4 total length below its own header is as wrong as one beyond the message.
    (20..=packet.len()).contains(&length).then_some(Inner { source, length })
}

/// The `N` bytes from `at` on.
pub fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// The number in network byte order at `at`.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

/// Zero bytes to add to a packet of `length` bytes: to a multiple of 16, but never beyond the MTU.
pub fn padding(length: usize, mtu: usize) -> usize {
    // 0 is no limit.
    let mtu = if mtu == 0 { usize::MAX } else { mtu };
    // What exceeds the MTU was a super-packet of the kernel's: only its last piece counts.
    let last = if length > mtu { length % mtu } else { length };
    last.next_multiple_of(16).min(mtu) - last
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn padding_is_behind_the_claimed_length() {
        for (first, claimed, plaintext, expected) in [
            (0x45, 20, 20, Some(20)),
            (0x45, 20, 32, Some(20)),
            (0x45, 32, 32, Some(32)),
            (0x45, 33, 32, None),
            (0x45, 19, 32, None),
            (0x45, 0, 32, None),
            (0x60, 0, 40, Some(40)),
            (0x60, 8, 48, Some(48)),
            (0x60, 8, 47, None),
            (0x60, 0xffff, 1420, None),
            (0x70, 20, 64, None),
        ] {
            let mut packet = alloc::vec![0; plaintext];
            packet[0] = first;
            let at = if first == 0x60 { 4 } else { 2 };
            packet[at..at + 2].copy_from_slice(&u16::to_be_bytes(claimed));
            let found = inner_packet(&packet).map(|inner| inner.length);
            assert_eq!(found, expected, "{first:#x} {claimed} in {plaintext}");
        }
    }
}

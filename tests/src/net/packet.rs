//! The packets that travel inside: an IP header without options, then the payload.

use std::net::IpAddr;

/// "Use for experimentation and testing" (RFC 3692).
const PROTOCOL: u8 = 253;

/// A packet of the addresses' family.
pub fn packet(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = (20 + payload.len() as u16).to_be_bytes();
            let start = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, PROTOCOL, 0, 0];
            let addresses = [source.octets(), destination.octets()].concat();
            [&start[..], &addresses, payload].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = (payload.len() as u16).to_be_bytes();
            let start = [0x60, 0, 0, 0, length[0], length[1], PROTOCOL, 64];
            let addresses = [source.octets(), destination.octets()].concat();
            [&start[..], &addresses, payload].concat()
        }
        _ => panic!("a packet has one family"),
    }
}

/// Where a packet wants to go; `None` if it is none.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

/// Where a packet says that it comes from; `None` if it is none.
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => Some(IpAddr::from(*packet.get(12..)?.first_chunk::<4>()?)),
        6 => Some(IpAddr::from(*packet.get(8..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

/// How long a packet says that it is.
pub fn claimed_length(packet: &[u8]) -> usize {
    match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    }
}

/// What a packet carries.
pub fn payload(packet: &[u8]) -> &[u8] {
    &packet[if packet[0] >> 4 == 4 { 20 } else { 40 }..]
}

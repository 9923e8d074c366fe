//! Inner packets as bytes: what they say of themselves, how super-packets are cut and neighbours
//! joined.
//!
//! Pure: no I/O, no clock, no allocation per packet, and no bytes that make it panic. Packets to be
//! sealed pass [`segment`], opened ones [`ecn`] and [`coalesce`]; [`icmp`] answers those that have
//! nowhere to go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use proto::{bytes_at, u16_at};
use sys::tun::VnetHeader;

use checksum::Sum;

pub mod checksum;
pub mod coalesce;
pub mod ecn;
mod flow;
pub mod icmp;
pub mod segment;

#[cfg(test)]
pub(crate) mod samples;

/// Where `packet` wants to go; `None` if it is no IP packet.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match Version::of(packet)? {
        Version::V4 => Some(Ipv4Addr::from(bytes_at(packet, 16)?).into()),
        Version::V6 => Some(Ipv6Addr::from(bytes_at(packet, 24)?).into()),
    }
}

/// The type of service (IPv6: traffic class) of `packet`: DSCP in the upper six bits, ECN in the
/// lower two; `None` if it is no IP packet.
pub fn tos(packet: &[u8]) -> Option<u8> {
    match (Version::of(packet)?, bytes_at(packet, 0)?) {
        (Version::V4, [_, tos]) => Some(tos),
        (Version::V6, [high, low]) => Some(high << 4 | low >> 4),
    }
}

/// What `packet` carries, if it is UDP and no later fragment.
pub fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    let Outline { protocol, transport, .. } = Outline::of(packet)?;
    packet.get(transport + udp::HEADER..).filter(|_| protocol == protocol::UDP)
}

/// What tells the flows of TCP and UDP apart: addresses and ports. Where there are no ports, whatever
/// lies in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKey {
    /// Of IPv4: both addresses, both ports.
    V4([u8; 12]),
    /// Of IPv6, likewise.
    V6([u8; 36]),
}

impl FlowKey {
    /// `None` if `packet` is no IP packet, or ends before its ports.
    pub fn of(packet: &[u8]) -> Option<Self> {
        match Version::of(packet)? {
            Version::V4 => bytes_at(packet, 12).map(Self::V4),
            Version::V6 => bytes_at(packet, 8).map(Self::V6),
        }
    }
}

/// The shortest IPv4 header, and the fixed IPv6 one.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// IP protocol numbers (IPv6: next header), as IANA assigns them.
mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// The TCP header: its shortest length, where the fields are that are used here, bits of its flags
/// (RFC 9293 §3.1).
mod tcp {
    pub const HEADER: usize = 20;
    pub const SEQUENCE: usize = 4;
    pub const OFFSET: usize = 12;
    pub const FLAGS: usize = 13;
    pub const CHECKSUM: usize = 16;

    pub const FIN: u8 = 0x01;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const CWR: u8 = 0x80;
}

/// The UDP header (RFC 768).
mod udp {
    pub const HEADER: usize = 8;
    pub const LENGTH: usize = 4;
    pub const CHECKSUM: usize = 6;
}

/// What tells IPv4 from IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

impl Version {
    /// The version of a packet that is long enough for its fixed header.
    fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 if packet.len() >= IPV4_HEADER => Some(Version::V4),
            6 if packet.len() >= IPV6_HEADER => Some(Version::V6),
            _ => None,
        }
    }

    /// Where source and destination address are, one behind the other.
    const fn addresses(self) -> Range<usize> {
        match self {
            Version::V4 => 12..IPV4_HEADER,
            Version::V6 => 8..IPV6_HEADER,
        }
    }

    /// The length of the IP header without options or extension headers: it ends with the addresses.
    const fn header(self) -> usize {
        self.addresses().end
    }
}

/// What follows the IP header of a packet, and its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outline {
    version: Version,
    protocol: u8,
    /// Where the transport header starts. At most the packet's length.
    transport: usize,
    /// The packet is a datagram, and not the first fragment of one.
    is_whole: bool,
}

impl Outline {
    /// `None` if `packet` is no IP packet, ends within its headers, has more extension headers than
    /// are ever used, or is a later fragment: only the first has a transport header.
    fn of(packet: &[u8]) -> Option<Self> {
        let outline = match Version::of(packet)? {
            version @ Version::V4 => {
                let ([_, protocol], fragment) = (bytes_at(packet, 8)?, u16_at(packet, 6)?);
                let transport = usize::from(packet.first()? & 0x0f) * 4;
                let is_whole = is_whole(fragment & 0x1fff, fragment & 0x2000)?;
                Outline { version, protocol, transport, is_whole }
            }
            Version::V6 => Self::behind_extensions(packet)?,
        };
        (IPV4_HEADER..=packet.len()).contains(&outline.transport).then_some(outline)
    }

    /// Follows the chain of IPv6 extension headers (RFC 8200 §4). IPsec's end it: they are
    /// somebody's transport.
    fn behind_extensions(packet: &[u8]) -> Option<Self> {
        const MOST: usize = 8;
        let [mut protocol] = bytes_at(packet, 6)?;
        let (mut transport, mut is_whole) = (IPV6_HEADER, true);
        for _ in 0..=MOST {
            let length = match protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                    let [_, units] = bytes_at(packet, transport)?;
                    (usize::from(units) + 1) * 8
                }
                protocol::FRAGMENT => {
                    let fragment = u16_at(packet, transport + 2)?;
                    is_whole = self::is_whole(fragment >> 3, fragment & 1)?;
                    8
                }
                _ => return Some(Outline { version: Version::V6, protocol, transport, is_whole }),
            };
            [protocol] = bytes_at(packet, transport)?;
            transport += length;
        }
        None
    }
}

/// Whether a packet with this fragment offset and "more fragments" bit, both in any unit, is all of its
/// datagram. `None` if it is a later fragment.
fn is_whole(offset: u16, more: u16) -> Option<bool> {
    (offset == 0).then_some(more == 0)
}

/// TCP or UDP in a packet that is no fragment: what can be cut and joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    version: Version,
    is_tcp: bool,
    /// Where the TCP or UDP header starts.
    transport: usize,
    /// Where the payload does: the length of all headers.
    payload: usize,
}

impl Shape {
    /// `None` if the packet of this `outline` has no such header, or not all of it.
    fn of(packet: &[u8], outline: Outline) -> Option<Self> {
        let (transport, is_tcp) = (outline.transport, outline.protocol == protocol::TCP);
        let header = match outline.protocol {
            protocol::TCP => usize::from(packet.get(transport + tcp::OFFSET)? >> 4) * 4,
            protocol::UDP => udp::HEADER,
            _ => return None,
        };
        let payload = transport + header;
        let is_complete = payload <= packet.len() && (!is_tcp || header >= tcp::HEADER);
        let shape = Self { version: outline.version, is_tcp, transport, payload };
        (is_complete && outline.is_whole).then_some(shape)
    }

    /// Where the checksum is in the transport header.
    const fn checksum(self) -> usize {
        if self.is_tcp { tcp::CHECKSUM } else { udp::CHECKSUM }
    }

    /// The kind of super-packet that it is, or would be.
    const fn gso_type(self) -> u8 {
        match (self.is_tcp, self.version) {
            (true, Version::V4) => VnetHeader::GSO_TCPV4,
            (true, Version::V6) => VnetHeader::GSO_TCPV6,
            (false, _) => VnetHeader::GSO_UDP_L4,
        }
    }

    /// The pseudo-header, if the transport header and its payload are `length` bytes.
    fn pseudo_header(self, packet: &[u8], length: u16) -> Option<Sum> {
        let protocol = if self.is_tcp { protocol::TCP } else { protocol::UDP };
        pseudo_header(packet, protocol, length)
    }

    /// As [`number`], with the length of UDP. Returns the length of the transport header and its
    /// payload.
    fn number(self, headers: &mut [u8], total: usize, index: usize) -> Option<u16> {
        number(headers, total, index)?;
        let length = u16::try_from(total - self.transport).ok()?;
        if !self.is_tcp {
            put(headers, self.transport + udp::LENGTH, length.to_be_bytes())?;
        }
        Some(length)
    }
}

/// The pseudo-header of a TCP, UDP or ICMPv6 checksum: both addresses of `packet`, the `protocol` and
/// the `length` of the transport header and its payload (RFC 9293 §3.1, RFC 8200 §8.1).
pub fn pseudo_header(packet: &[u8], protocol: u8, length: u16) -> Option<Sum> {
    let addresses = packet.get(Version::of(packet)?.addresses())?;
    Some(Sum::of(addresses) + Sum::word(u16::from(protocol)) + Sum::word(length))
}

/// Makes the IP header at the start of `headers` that of a packet of `total` bytes, `index` packets
/// later: with IPv4's identification counted on, as the kernel does when it segments, and with its
/// header checksum. `None` if it cannot be that long.
fn number(headers: &mut [u8], total: usize, index: usize) -> Option<()> {
    if headers.first()? >> 4 == 6 {
        let payload = u16::try_from(total.checked_sub(IPV6_HEADER)?).ok()?;
        return put(headers, 4, payload.to_be_bytes());
    }
    let ip = headers.get_mut(..usize::from(headers.first()? & 0x0f) * 4)?;
    put(ip, 2, u16::try_from(total).ok()?.to_be_bytes())?;
    put(ip, 4, u16_at(ip, 4)?.wrapping_add(index as u16).to_be_bytes())?;
    put(ip, 10, [0; 2])?;
    put(ip, 10, Sum::of(ip).checksum())
}

/// Overwrites the bytes from `at` on with `value`; `None` if they are not there.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value;
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::samples::{Random, Sample, Transport};
    use super::*;

    #[test]
    fn a_packet_says_where_it_goes_and_how() {
        for sample in [Sample::tcp(b"data"), Sample::udp(b"data").v6()] {
            let packet = Sample { tos: 0xb9, ..sample.clone() }.build();
            let (headers, to) = if sample.v6 { (40, "fd00::2") } else { (20, "10.0.0.2") };
            let to = to.parse().unwrap();
            assert_eq!((destination(&packet), tos(&packet)), (Some(to), Some(0xb9)));
            assert_eq!(destination(&packet[..headers]), Some(to));
            assert_eq!(destination(&packet[..headers - 1]), None);
        }
        for strange in [&[][..], &[0x50; 60], &[0x45], &[0x60; 39]] {
            assert_eq!((destination(strange), tos(strange)), (None, None));
        }
    }

    #[test]
    fn extension_headers_are_followed_to_the_transport() {
        let hop_by_hop_then = |next| [next, 0, 1, 4, 0, 0, 0, 0];
        let fragment_then = |next, offset: u16| {
            let [high, low] = offset.to_be_bytes();
            [next, 0, high, low, 0, 0, 0, 1]
        };
        for (extension, options, expected) in [
            (None, vec![], Some((6, 40, true))),
            (Some(0), hop_by_hop_then(6).to_vec(), Some((6, 48, true))),
            (Some(0), [hop_by_hop_then(60), hop_by_hop_then(6)].concat(), Some((6, 56, true))),
            (Some(44), fragment_then(6, 0).to_vec(), Some((6, 48, true))),
            (Some(44), fragment_then(6, 1).to_vec(), Some((6, 48, false))),
            (Some(44), fragment_then(6, 8).to_vec(), None),
            (Some(50), vec![0; 8], Some((50, 40, true))),
            (Some(0), hop_by_hop_then(0).repeat(8), None),
            (Some(43), vec![6, 255, 0, 0, 0, 0, 0, 0], None),
        ] {
            let sample = Sample { extension, options, ..Sample::tcp(b"x").v6() };
            let outline = Outline::of(&sample.build());
            let found = outline.map(|found| (found.protocol, found.transport, found.is_whole));
            assert_eq!(found, expected, "{sample:?}");
        }
    }

    #[test]
    fn an_ipv4_outline_knows_options_and_fragments() {
        for (options, fragment, expected) in [
            (0, 0x4000, Some((20, true))),
            (8, 0x8000, Some((28, true))),
            (40, 0x2000, Some((60, false))),
            (0, 0x2001, None),
            (0, 0x0001, None),
        ] {
            let sample = Sample { options: vec![1; options], fragment, ..Sample::udp(b"x") };
            let outline = Outline::of(&sample.build());
            let found = outline.map(|found| (found.transport, found.is_whole));
            assert_eq!(found, expected);
        }
        let mut short = Sample { transport: Transport::Other(99), ..Sample::tcp(b"x") }.build();
        for (first, found) in [(0x45, true), (0x44, false), (0x40, false), (0x46, false)] {
            short[0] = first;
            assert_eq!(Outline::of(&short).is_some(), found, "{first:#x}");
        }
    }

    #[test]
    fn garbage_has_answers_too() {
        let mut random = Random(0xadd1_7000);
        for _ in 0..100_000 {
            let size = random.below(120);
            let mut packet = random.bytes(size);
            if let Some(first) = packet.first_mut() {
                *first = if *first & 1 == 0 { 0x45 } else { 0x60 };
            }
            if let Some(outline) = Outline::of(&packet) {
                assert!(outline.transport <= packet.len());
            }
        }
    }
}

//! What a packet with nowhere to go is answered with: host unreachable (spec §1.9).

use std::net::IpAddr;
use std::time::Duration;

use proto::inner_packet;

use super::checksum::Sum;
use super::{Outline, Version, destination, number, protocol, pseudo_header, put};

/// The longest answer: what every IPv6 link carries.
pub const LONGEST: usize = 1280;
/// No more are sent than the kernel would send (icmp_msgs_per_sec and icmp_msgs_burst): 1000 a second …
pub const COST: Duration = Duration::from_millis(1);
/// … after 50 at once.
pub const FULL: Duration = Duration::from_millis(50);

/// Writes to `answer` the error that tells the source of `packet` that nobody has its destination,
/// and returns its length: ICMP host unreachable or ICMPv6 address unreachable, quoting `packet`.
/// Its source is the destination that was asked for, since the machine discards one that claims to
/// come from itself.
///
/// `None` if `packet` must not be answered: it is an error itself, a later fragment, or not from
/// one host to another (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 e).
pub fn unreachable<'a>(packet: &[u8], answer: &'a mut [u8; LONGEST]) -> Option<&'a mut [u8]> {
    let outline = Outline::of(packet)?;
    let source = inner_packet(packet)?.source;
    let is_between_hosts = is_host(source) && is_host(destination(packet)?);
    if !is_between_hosts || is_error(&outline, packet) {
        return None;
    }
    let (start, longest, [kind, code]) = match outline.version {
        Version::V4 => (&V4_START[..], LONGEST_V4, [3, 1]),
        Version::V6 => (&V6_START[..], LONGEST, [1, 3]),
    };
    let header = outline.version.header();
    let quote = packet.get(..packet.len().min(longest - header - HEADER))?;
    let answer = answer.get_mut(..header + HEADER + quote.len())?;
    let (ip, icmp) = answer.split_at_mut_checked(header)?;
    ip.get_mut(..start.len())?.copy_from_slice(start);
    let addresses = ip.get_mut(outline.version.addresses())?;
    addresses.copy_from_slice(packet.get(outline.version.addresses())?);
    addresses.rotate_left(addresses.len() / 2);
    number(ip, header + icmp.len(), 0)?;
    let pseudo = match outline.version {
        Version::V4 => Sum::default(),
        Version::V6 => pseudo_header(ip, protocol::ICMPV6, icmp.len() as u16)?,
    };
    put(icmp, 0, [kind, code, 0, 0, 0, 0, 0, 0])?;
    icmp.get_mut(HEADER..)?.copy_from_slice(quote);
    put(icmp, 2, (pseudo + Sum::of(icmp)).checksum())?;
    Some(answer)
}

/// How an answer begins, but for its length.
const V4_START: [u8; 10] =
    [0x45, INTERNETWORK_CONTROL, 0, 0, 0, 0, DONT_FRAGMENT, 0, HOPS, protocol::ICMP];
const V6_START: [u8; 8] = [0x60, 0, 0, 0, 0, 0, protocol::ICMPV6, HOPS];
/// What a router of IPv4 may send at most (RFC 1812 §4.3.2.3).
const LONGEST_V4: usize = 576;
/// Type, code, checksum, and four bytes that are unused here.
const HEADER: usize = 1 + 1 + 2 + 4;
/// The precedence of errors (RFC 1812 §4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// With this flag the identification may stay zero (RFC 6864 §4.1).
const DONT_FRAGMENT: u8 = 0x40;
const HOPS: u8 = 64;

/// Whether an address can belong to exactly one host other than this one, as far as it tells.
fn is_host(address: IpAddr) -> bool {
    let is_reserved =
        matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [0 | 240.., _, _, _]));
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !is_reserved && !is_special
}

/// Whether `packet` is an ICMP error, a redirect, or ICMP of a kind that nobody knows.
fn is_error(outline: &Outline, packet: &[u8]) -> bool {
    match (outline.protocol, packet.get(outline.transport)) {
        (protocol::ICMP, kind) => matches!(kind, None | Some(3 | 4 | 5 | 11 | 12 | 19..)),
        (protocol::ICMPV6, kind) => matches!(kind, None | Some(0..128 | 137)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::super::samples::{Random, Sample, Transport, sum};
    use super::*;

    fn answer(packet: &[u8]) -> Option<Vec<u8>> {
        let mut room = [0xee; LONGEST];
        unreachable(packet, &mut room).map(|answer| answer.to_vec())
    }

    fn icmp(v6: bool, kind: u8) -> Sample {
        let protocol = if v6 { 58 } else { 1 };
        let payload = [&[kind, 0, 0, 0][..], &[0; 60]].concat();
        Sample { v6, transport: Transport::Other(protocol), payload, ..Sample::tcp(b"") }
    }

    #[test]
    fn ipv4_hears_host_unreachable_from_its_destination() {
        let asked = Sample::udp(b"anybody?").build();
        let error = answer(&asked).unwrap();
        assert_eq!(error.len(), 20 + 8 + asked.len());
        assert_eq!(error[..4], [0x45, 0xc0, 0, 64]);
        assert_eq!(error[4..10], [0, 0, 0x40, 0, 64, 1]);
        assert_eq!(error[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(error[20..22], [3, 1]);
        assert_eq!(error[24..28], [0; 4]);
        assert_eq!(error[28..], asked);
        assert_eq!([sum(&error[..20]), sum(&error[20..])], [0xffff; 2]);
    }

    #[test]
    fn ipv6_hears_address_unreachable_from_its_destination() {
        let asked = Sample::udp(b"anybody?").v6().build();
        let error = answer(&asked).unwrap();
        assert_eq!(error[..8], [0x60, 0, 0, 0, 0, 64, 58, 64]);
        assert_eq!([&error[8..24], &error[24..40]], [&asked[24..40], &asked[8..24]]);
        assert_eq!(error[40..42], [1, 3]);
        assert_eq!(error[48..], asked);
        let pseudo = [&error[8..40], &[0, 0, 0, 64, 0, 0, 0, 58]].concat();
        assert_eq!(sum(&[&pseudo, &error[40..]].concat()), 0xffff);
    }

    #[test]
    fn an_answer_quotes_what_fits() {
        for (v6, asked, expected) in [
            (false, 548, 576),
            (false, 549, 576),
            (false, 60_000, 576),
            (true, 1232, 1280),
            (true, 1233, 1280),
            (true, 1231, 1279),
        ] {
            let headers = if v6 { 48 } else { 28 };
            let sample = Sample { v6, ..Sample::udp(&vec![1; asked - headers]) };
            let error = answer(&sample.build()).unwrap();
            assert_eq!(error.len(), expected);
            assert_eq!(error[headers..], sample.build()[..expected - headers]);
        }
    }

    #[test]
    fn icmp_is_answered_unless_it_is_an_error() {
        for (v6, kind, answered) in [
            (false, 0, true),
            (false, 3, false),
            (false, 4, false),
            (false, 5, false),
            (false, 8, true),
            (false, 11, false),
            (false, 12, false),
            (false, 13, true),
            (false, 42, false),
            (true, 1, false),
            (true, 3, false),
            (true, 127, false),
            (true, 128, true),
            (true, 129, true),
            (true, 135, true),
            (true, 137, false),
        ] {
            assert_eq!(answer(&icmp(v6, kind).build()).is_some(), answered, "v6 {v6}, type {kind}");
        }
        let bare = Sample { payload: Vec::new(), ..icmp(false, 8) };
        assert_eq!(answer(&bare.build()), None);
        let hidden =
            Sample { extension: Some(60), options: vec![58, 0, 1, 4, 0, 0, 0, 0], ..icmp(true, 1) };
        assert_eq!(answer(&hidden.build()), None);
    }

    #[test]
    fn only_the_first_fragment_is_answered() {
        for (fragment, answered) in [(0x2000, true), (0x2001, false), (0x0010, false)] {
            let sample = Sample { fragment, ..Sample::udp(b"piece") };
            assert_eq!(answer(&sample.build()).is_some(), answered, "{fragment:#x}");
        }
        for (offset, answered) in [(1, true), (9, false)] {
            let options = vec![17, 0, 0, offset, 0, 0, 0, 1];
            let sample = Sample { extension: Some(44), options, ..Sample::udp(b"piece").v6() };
            assert_eq!(answer(&sample.build()).is_some(), answered, "{offset}");
        }
    }

    #[test]
    fn only_single_hosts_talk_to_each_other() {
        for (address, answered) in [
            ([192, 0, 2, 1], true),
            ([223, 255, 255, 255], true),
            ([0, 0, 0, 0], false),
            ([0, 1, 2, 3], false),
            ([127, 0, 0, 1], false),
            ([224, 0, 0, 1], false),
            ([239, 255, 255, 250], false),
            ([240, 0, 0, 1], false),
            ([255, 255, 255, 255], false),
        ] {
            for at in [12, 16] {
                let mut packet = Sample::udp(b"data").build();
                packet[at..at + 4].copy_from_slice(&address);
                assert_eq!(answer(&packet).is_some(), answered, "{address:?} at {at}");
            }
        }
        for (first, last, answered) in
            [(0, 0, false), (0, 1, false), (0xff, 2, false), (0xfe, 1, true)]
        {
            for at in [8, 24] {
                let mut packet = Sample::udp(b"data").v6().build();
                packet[at..at + 16].fill(0);
                (packet[at], packet[at + 15]) = (first, last);
                assert_eq!(answer(&packet).is_some(), answered, "{first:#x} {last} at {at}");
            }
        }
    }

    #[test]
    fn garbage_gets_no_answer_or_a_sound_one() {
        let mut random = Random(0x1c3f);
        for _ in 0..100_000 {
            let length = random.below(100);
            let mut packet = random.bytes(length);
            if let Some(first) = packet.first_mut() {
                *first = if *first & 1 == 0 { 0x45 } else { 0x60 };
            }
            if let Some(error) = answer(&packet) {
                assert_eq!(proto::inner_packet(&error).unwrap().length, error.len());
            }
        }
    }
}

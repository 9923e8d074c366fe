//! What a packet with nowhere to go is answered with: host unreachable (spec §1.9).

use std::net::IpAddr;
use std::time::Duration;

use super::checksum::{Sum, pseudo_header};
use super::{
    Fragment, IPV4_HEADER, IPV6_HEADER, Outline, Version, bytes_at, destination, protocol, put,
    set_length, source,
};

/// The longest answer: what every IPv6 link carries.
pub const LONGEST: usize = 1280;

/// Writes to `answer` the error that tells the source of `packet` that nobody has its destination,
/// and returns its length: ICMP host unreachable or ICMPv6 address unreachable, quoting `packet`.
/// Its source is the destination that was asked for, since the machine discards one that claims to
/// come from itself.
///
/// `None` if `packet` must not be answered: it is an error itself, a later fragment, or not from
/// one host to another (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 e).
pub fn unreachable<'a>(packet: &[u8], answer: &'a mut [u8; LONGEST]) -> Option<&'a mut [u8]> {
    let outline = Outline::of(packet)?;
    let is_between_hosts = is_host(source(packet)?) && is_host(destination(packet)?);
    if !is_between_hosts || outline.fragment == Fragment::Later || is_error(&outline, packet) {
        return None;
    }
    let (header, longest, kind_and_code) = match outline.version {
        Version::V4 => (IPV4_HEADER, LONGEST_V4, [3, 1]),
        Version::V6 => (IPV6_HEADER, LONGEST, [1, 3]),
    };
    let quote = packet.get(..packet.len().min(longest - header - HEADER))?;
    let answer = answer.get_mut(..header + HEADER + quote.len())?;
    let (ip, icmp) = answer.split_at_mut_checked(header)?;
    let pseudo = match outline.version {
        Version::V4 => {
            put(
                ip,
                0,
                [
                    0x45,
                    INTERNETWORK_CONTROL,
                    0,
                    0,
                    0,
                    0,
                    DONT_FRAGMENT,
                    0,
                    HOPS,
                    protocol::ICMP,
                ],
            )?;
            put::<4>(ip, 12, bytes_at(packet, 16)?)?;
            put::<4>(ip, 16, bytes_at(packet, 12)?)?;
            Sum::default()
        }
        Version::V6 => {
            put(ip, 0, [0x60, 0, 0, 0, 0, 0, protocol::ICMPV6, HOPS])?;
            put::<16>(ip, 8, bytes_at(packet, 24)?)?;
            put::<16>(ip, 24, bytes_at(packet, 8)?)?;
            pseudo_header(ip.get(8..)?, protocol::ICMPV6, icmp.len() as u16)
        }
    };
    set_length(ip, header + icmp.len())?;
    let [kind, code] = kind_and_code;
    put(icmp, 0, [kind, code, 0, 0, 0, 0, 0, 0])?;
    icmp.get_mut(HEADER..)?.copy_from_slice(quote);
    put(icmp, 2, (pseudo + Sum::of(icmp)).checksum())?;
    Some(answer)
}

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
    match address {
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            !(first == 0 || first >= 240 || address.is_loopback() || address.is_multicast())
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
        }
    }
}

/// Whether `packet` is an ICMP error, a redirect, or ICMP of a kind that nobody knows.
fn is_error(outline: &Outline, packet: &[u8]) -> bool {
    let kind = packet.get(outline.transport);
    match (outline.version, outline.protocol) {
        (Version::V4, protocol::ICMP) => {
            kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12 | 19..))
        }
        (Version::V6, protocol::ICMPV6) => kind.is_none_or(|kind| matches!(kind, 0..128 | 137)),
        _ => false,
    }
}

/// Lets the errors of a busy moment through, and then no more than the kernel would send
/// (icmp_msgs_per_sec and icmp_msgs_burst): 50 at once and 1000 a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct RateLimit {
    /// When everything let through so far would have been sent at the steady rate.
    settled: Duration,
}

impl RateLimit {
    const INTERVAL: Duration = Duration::from_millis(1);
    const BURST: u32 = 50;

    /// Whether another error may go out at `now`, on a clock that does not go back.
    pub fn allows(&mut self, now: Duration) -> bool {
        let settled = self.settled.max(now) + Self::INTERVAL;
        let allowed = settled <= now + Self::INTERVAL * Self::BURST;
        if allowed {
            self.settled = settled;
        }
        allowed
    }
}

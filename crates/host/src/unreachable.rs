//! What comes back instead of an answer: ICMP messages by which hosts and routers say that a datagram
//! did not get to where it should (RFC 792, RFC 4443).
//!
//! They are forged easily: whoever knows addresses and ports can say anything. They may be told to
//! people, and nothing may go by them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, ipproto, socket_with};
use sys::option;

/// As much as is looked at: an outer header, ICMP's own, and the quoted headers of IP and UDP.
const LONGEST: usize = 60 + 8 + 60 + 8;
/// A flood is not read to its end.
const MOST: usize = 512;
/// "Destination unreachable" in ICMP and in ICMPv6.
const V4_UNREACHABLE: u8 = 3;
const V6_UNREACHABLE: u8 = 1;

/// Hears what the machine is told. What nobody fetches waits in the kernel, as much as has room there,
/// and wakes nobody.
#[derive(Debug)]
pub struct Reports {
    // The standard library's datagram calls serve any datagram socket; ports do not occur.
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

/// Somebody says that a datagram of UDP did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who says so.
    pub by: IpAddr,
    /// The port that the datagram left from.
    pub port: u16,
    /// Where it should have arrived.
    pub to: (IpAddr, u16),
    /// How many bytes it carried.
    pub length: u16,
    /// Why it did not.
    pub reason: Reason,
}

/// What is in the way of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody listens on the port.
    Port,
    /// Nobody has the address.
    Host,
    /// No route leads there.
    Network,
    /// A packet filter forbids it.
    Prohibited,
}

impl Reports {
    /// Listens in the calling thread's network namespace, which needs CAP_NET_RAW there, from now on.
    ///
    /// # Errors
    ///
    /// EPERM and its like, if neither family can be heard.
    pub fn open() -> io::Result<Self> {
        let v6 = open(AddressFamily::INET6, ipproto::ICMPV6)
            .inspect(|socket| hear_only(socket, libc::SOL_ICMPV6, V6_UNREACHABLE));
        let v4 = open(AddressFamily::INET, ipproto::ICMP)
            .inspect(|socket| hear_only(socket, libc::SOL_RAW, V4_UNREACHABLE));
        let v6 = v6.ok();
        match v4 {
            Err(error) if v6.is_none() => Err(error),
            v4 => Ok(Self { v4: v4.ok(), v6 }),
        }
    }

    /// The sockets, to be handed to another process, IPv4's first.
    pub fn into_sockets(self) -> [Option<OwnedFd>; 2] {
        [self.v4, self.v6].map(|socket| socket.map(OwnedFd::from))
    }

    /// What was heard since the last time.
    pub fn fetch(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for (socket, read) in [(&self.v4, v4 as Reader), (&self.v6, v6)] {
            let mut message = [0; LONGEST];
            for _ in 0..MOST {
                let next = socket.as_ref().and_then(|it| it.recv_from(&mut message).ok());
                let Some((length, by)) = next else { break };
                let message = message.get(..length).unwrap_or_default();
                reports.extend(read(message, by.ip()));
            }
        }
        reports
    }
}

/// Takes over the sockets, IPv4's first, perhaps from another process.
impl From<[Option<OwnedFd>; 2]> for Reports {
    fn from(sockets: [Option<OwnedFd>; 2]) -> Self {
        let [v4, v6] = sockets.map(|socket| socket.map(UdpSocket::from));
        Self { v4, v6 }
    }
}

type Reader = fn(&[u8], IpAddr) -> Option<Report>;

fn open(family: AddressFamily, protocol: Protocol) -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::RAW, flags, Some(protocol))?.into())
}

/// Echoes and talk of neighbours take no room from what is waited for.
fn hear_only(socket: &UdpSocket, level: i32, kind: u8) {
    let mut others = [u32::MAX; 8];
    others[0] &= !(1 << kind);
    // Without, they are passed over when they are read.
    let _ = option::keep_out(socket, level, &others);
}

/// Reads a message as such a socket gives it: with the header of IPv4, but without that of IPv6.
pub(crate) fn v4(packet: &[u8], by: IpAddr) -> Option<Report> {
    let icmp = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
    let (&[kind, code, ..], quoted) = icmp.split_first_chunk::<8>()?;
    let reason = match (kind, code) {
        (V4_UNREACHABLE, 0 | 5 | 6 | 11) => Reason::Network,
        (V4_UNREACHABLE, 1 | 7 | 8 | 12) => Reason::Host,
        (V4_UNREACHABLE, 3) => Reason::Port,
        // Every host speaks UDP: who denies it is a filter.
        (V4_UNREACHABLE, 2 | 9 | 10 | 13) => Reason::Prohibited,
        _ => return None,
    };
    let header = quoted.first_chunk::<20>()?;
    let [first, .., to0, to1, to2, to3] = *header;
    let protocol = header.get(9)?;
    let to = Ipv4Addr::from([to0, to1, to2, to3]);
    let udp = quoted.get(usize::from(first & 0x0f) * 4..)?;
    of_udp(*protocol, udp, by, to.into(), reason)
}

pub(crate) fn v6(icmp: &[u8], by: IpAddr) -> Option<Report> {
    let (&[kind, code, ..], quoted) = icmp.split_first_chunk::<8>()?;
    let reason = match (kind, code) {
        (V6_UNREACHABLE, 0 | 2 | 6) => Reason::Network,
        (V6_UNREACHABLE, 1 | 5) => Reason::Prohibited,
        (V6_UNREACHABLE, 3) => Reason::Host,
        (V6_UNREACHABLE, 4) => Reason::Port,
        _ => return None,
    };
    let (header, udp) = quoted.split_first_chunk::<40>()?;
    let to = Ipv6Addr::from(*header.last_chunk::<16>()?);
    of_udp(*header.get(6)?, udp, by, to.into(), reason)
}

fn of_udp(protocol: u8, udp: &[u8], by: IpAddr, to: IpAddr, reason: Reason) -> Option<Report> {
    const UDP: u8 = 17;
    let &[from0, from1, to0, to1, length0, length1, ..] = udp.first_chunk::<8>()?;
    let port = u16::from_be_bytes([from0, from1]);
    let to = (to, u16::from_be_bytes([to0, to1]));
    let length = u16::from_be_bytes([length0, length1]).checked_sub(8)?;
    (protocol == UDP).then_some(Report { by, port, to, length, reason })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    /// A message about a datagram of 148 bytes from port 0x1234 to port 0x5678.
    fn message(is_v6: bool, kind: u8, code: u8) -> Vec<u8> {
        let udp = [0x12, 0x34, 0x56, 0x78, 0, 156, 0, 0];
        let icmp = [kind, code, 0, 0, 0, 0, 0, 0];
        let (outer, inner) = match is_v6 {
            false => {
                let mut inner = vec![0x46; 24];
                inner[9] = 17;
                inner[16..20].copy_from_slice(&[192, 0, 2, 1]);
                (vec![0x45; 20], inner)
            }
            true => {
                let mut inner = vec![0; 40];
                inner[6] = 17;
                inner[24..].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
                (vec![], inner)
            }
        };
        [&outer[..], &icmp, &inner, &udp].concat()
    }

    #[test]
    fn each_code_says_what_is_in_the_way() {
        let by = IpAddr::from([203, 0, 113, 1]);
        for (is_v6, kind, code, reason) in [
            (false, 3, 0, Some(Reason::Network)),
            (false, 3, 1, Some(Reason::Host)),
            (false, 3, 2, Some(Reason::Prohibited)),
            (false, 3, 3, Some(Reason::Port)),
            (false, 3, 4, None),
            (false, 3, 9, Some(Reason::Prohibited)),
            (false, 3, 10, Some(Reason::Prohibited)),
            (false, 3, 13, Some(Reason::Prohibited)),
            (false, 11, 0, None),
            (true, 1, 0, Some(Reason::Network)),
            (true, 1, 1, Some(Reason::Prohibited)),
            (true, 1, 3, Some(Reason::Host)),
            (true, 1, 4, Some(Reason::Port)),
            (true, 1, 5, Some(Reason::Prohibited)),
            (true, 1, 6, Some(Reason::Network)),
            (true, 2, 0, None),
        ] {
            let message = message(is_v6, kind, code);
            let read: Reader = if is_v6 { v6 } else { v4 };
            let address = if is_v6 { Ipv6Addr::LOCALHOST.into() } else { [192, 0, 2, 1].into() };
            let report =
                |reason| Report { by, port: 0x1234, to: (address, 0x5678), length: 148, reason };
            assert_eq!(read(&message, by), reason.map(report), "{is_v6} {kind} {code}");
            for length in 0..message.len() {
                assert_eq!(read(&message[..length], by), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn other_protocols_do_not_count() {
        let mut message = message(false, 3, 3);
        message[28 + 9] = 6;
        assert_eq!(v4(&message, Ipv4Addr::LOCALHOST.into()), None);
    }
}

//! From the TUN towards the tunnel: a packet with its virtio-net header becomes complete IP packets
//! (spec §1.13).

use sys::tun::VnetHeader;

use super::checksum::Sum;
use super::{Fragment, Outline, Version, bytes_at, protocol, put, set_length, tcp, u16_at, udp};

/// What a TUN delivered is no IP packet, or its header promises something that the packet does not
/// keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A packet as read from the TUN, as the IP packets that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'p> {
    /// What each segment starts with: all headers of a super-packet, nothing of any other packet.
    headers: &'p [u8],
    payload: &'p [u8],
    /// How much of the payload each segment takes; the last may get less.
    size: usize,
    work: Work,
}

/// What is left to do for each packet that goes out.
#[derive(Clone, Copy, Debug)]
enum Work {
    Nothing,
    /// To sum from `start` on; the sum goes to `field`.
    Checksum {
        start: usize,
        field: usize,
    },
    /// To make IP, TCP or UDP headers. `pseudo` is the sum of the pseudo-header but for the length
    /// in it.
    Headers {
        transport: usize,
        tcp: bool,
        pseudo: Sum,
    },
}

impl<'p> Segments<'p> {
    /// Reads what `header` says of `packet`. Its `hdr_len` is not looked at: on forwarded packets
    /// it is wrong.
    pub fn new(header: VnetHeader, packet: &'p [u8]) -> Result<Self, Malformed> {
        let needs_checksum = header.flags & VnetHeader::NEEDS_CSUM != 0;
        let start = usize::from(header.csum_start);
        let field = start + usize::from(header.csum_offset);
        match header.gso_type {
            VnetHeader::GSO_NONE => {
                Version::of(packet).ok_or(Malformed)?;
                let work = if needs_checksum {
                    Work::Checksum { start, field }
                } else {
                    Work::Nothing
                };
                if needs_checksum && field + 2 > packet.len() {
                    return Err(Malformed);
                }
                Ok(Self {
                    headers: &[],
                    payload: packet,
                    size: packet.len(),
                    work,
                })
            }
            _ if needs_checksum => Self::of_super_packet(header, packet).ok_or(Malformed),
            _ => Err(Malformed),
        }
    }

    fn of_super_packet(header: VnetHeader, packet: &'p [u8]) -> Option<Self> {
        let Outline {
            version,
            fragment,
            protocol,
            transport,
        } = Outline::of(packet)?;
        let is_tcp = protocol == protocol::TCP;
        let is_as_promised = match header.gso_type & !VnetHeader::GSO_ECN {
            VnetHeader::GSO_TCPV4 => is_tcp && version == Version::V4,
            VnetHeader::GSO_TCPV6 => is_tcp && version == Version::V6,
            _ => header.gso_type == VnetHeader::GSO_UDP_L4 && protocol == protocol::UDP,
        };
        let (header_len, field) = if is_tcp {
            (tcp::length(packet.get(transport..)?)?, tcp::CHECKSUM)
        } else {
            (udp::HEADER, udp::CHECKSUM)
        };
        let is_sound = is_as_promised
            && fragment == Fragment::Whole
            && (header.csum_start.into(), header.csum_offset.into()) == (transport, field);
        let (headers, payload) = packet
            .split_at_checked(transport + header_len)
            .filter(|_| is_sound)?;
        // The kernel left the folded sum of the pseudo-header there. It knows it better than the IP
        // header does, which names the next router instead of the destination if there is a routing
        // header.
        let length = u16::try_from(packet.len() - transport).ok()?;
        let pseudo = Sum::word(u16_at(packet, transport + field)?).without(length);
        let size = usize::from(header.gso_size);
        let work = Work::Headers {
            transport,
            tcp: is_tcp,
            pseudo,
        };
        (size > 0 && !payload.is_empty()).then_some(Self {
            headers,
            payload,
            size,
            work,
        })
    }

    /// How many packets there are: at least one.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// Bytes of packet `index`, zero if there is no such packet. All have the same length but the
    /// last, which may be shorter.
    pub fn length(&self, index: usize) -> usize {
        self.piece(index)
            .map_or(0, |piece| self.headers.len() + piece.len())
    }

    /// Writes packet `index`, complete with all lengths and checksums, to the start of `to`, and
    /// returns its length. `None` if there is no such packet, or not enough room for it.
    pub fn write(&self, index: usize, to: &mut [u8]) -> Option<usize> {
        let piece = self.piece(index)?;
        let length = self.headers.len() + piece.len();
        let packet = to.get_mut(..length)?;
        let (headers, payload) = packet.split_at_mut_checked(self.headers.len())?;
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(piece);
        match self.work {
            Work::Nothing => {}
            Work::Checksum { start, field } => {
                let checksum = Sum::of(packet.get(start..)?).udp_checksum();
                put(packet, field, checksum)?;
            }
            Work::Headers {
                transport,
                tcp,
                pseudo,
            } => {
                number(headers, index)?;
                set_length(headers, length)?;
                let header = headers.get_mut(transport..)?;
                let length = u16::try_from(length - transport).ok()?;
                let sum = pseudo + Sum::word(length) + Sum::of(payload);
                if tcp {
                    self.finish_tcp(header, index, sum)?;
                } else {
                    finish_udp(header, length, sum)?;
                }
            }
        }
        Some(length)
    }

    fn piece(&self, index: usize) -> Option<&'p [u8]> {
        self.payload.chunks(self.size).nth(index)
    }

    /// FIN and PSH belong to the end of the data, CWR was meant to be said once (RFC 3168 §6.1.2).
    fn finish_tcp(&self, header: &mut [u8], index: usize, sum: Sum) -> Option<()> {
        let sequence = u32::from_be_bytes(bytes_at(header, tcp::SEQUENCE)?);
        put(
            header,
            tcp::SEQUENCE,
            sequence
                .wrapping_add((index * self.size) as u32)
                .to_be_bytes(),
        )?;
        let not_last = if index + 1 < self.count() {
            tcp::FIN | tcp::PSH
        } else {
            0
        };
        let not_first = if index > 0 { tcp::CWR } else { 0 };
        let [flags] = bytes_at(header, tcp::FLAGS)?;
        put(header, tcp::FLAGS, [flags & !not_last & !not_first])?;
        put(header, tcp::CHECKSUM, [0; 2])?;
        put(header, tcp::CHECKSUM, (sum + Sum::of(header)).checksum())
    }
}

fn finish_udp(header: &mut [u8], length: u16, sum: Sum) -> Option<()> {
    put(header, udp::LENGTH, length.to_be_bytes())?;
    put(header, udp::CHECKSUM, [0; 2])?;
    put(
        header,
        udp::CHECKSUM,
        (sum + Sum::of(header)).udp_checksum(),
    )
}

/// Counts the IPv4 identification on, as the kernel does when it segments.
fn number(headers: &mut [u8], index: usize) -> Option<()> {
    match Version::of(headers)? {
        Version::V4 => {
            let identification = u16_at(headers, 4)?.wrapping_add(index as u16);
            put(headers, 4, identification.to_be_bytes())
        }
        Version::V6 => Some(()),
    }
}

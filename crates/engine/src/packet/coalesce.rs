//! From the tunnel towards the TUN: neighbours of one flow become a super-packet (spec §1.13),
//! described by a gather list. No payload is copied.

use std::io::IoSlice;

use sys::tun::VnetHeader;

use super::checksum::{Sum, pseudo_header};
use super::{
    Fragment, IPV4_HEADER, IPV6_HEADER, Outline, Version, addresses, bytes_at, length, protocol,
    put, set_length, tcp, u16_at, udp,
};

/// How many packets are joined at most: the kernel cuts no UDP super-packet into more.
pub const MOST_PACKETS: usize = 64;
/// How many pieces a delivery consists of at most.
pub const MOST_PIECES: usize = 1 + MOST_PACKETS;

/// Where bytes lie: in which of the caller's buffers, from where on, how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index of the buffer.
    pub buffer: u32,
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub length: u32,
}

impl Place {
    fn of<'b>(self, buffers: &[&'b [u8]]) -> Option<&'b [u8]> {
        buffers
            .get(self.buffer as usize)?
            .get(self.start as usize..)?
            .get(..self.length as usize)
    }
}

/// Joins the packets of a batch. Those of one flow never overtake each other; flows may.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    /// The first `used` are those of this batch, in the order of their first packets. Since a
    /// packet either joins the last delivery of its flow or starts a later one, this order is right
    /// for every flow.
    deliveries: Vec<Delivery>,
    used: usize,
    /// The deliveries that may still grow, the most recent first: at most one for each flow.
    open: Vec<(Flow, usize)>,
}

impl Coalescer {
    /// How many flows may be mixed in a batch without being cut short by each other.
    const OPEN_FLOWS: usize = 16;

    /// Joins TCP, and UDP if `udp`: whether the TUN takes [`VnetHeader::GSO_UDP_L4`].
    pub fn new(udp: bool) -> Self {
        Self {
            udp,
            deliveries: Vec::new(),
            used: 0,
            open: Vec::with_capacity(Self::OPEN_FLOWS),
        }
    }

    /// Adds the next packet: `packet` is what lies at `place`, an IP packet without anything behind
    /// it. It must stay there unchanged until it was delivered.
    pub fn push(&mut self, place: Place, packet: &[u8]) {
        match Kind::of(packet, self.udp) {
            Kind::Joinable(part) => self.join(place, &part),
            Kind::Single(flow) => {
                self.open.retain(|(open, _)| *open != flow);
                self.start(place, None);
            }
            Kind::Flowless => {
                self.start(place, None);
            }
            Kind::Obscure => {
                self.open.clear();
                self.start(place, None);
            }
        }
    }

    /// Ends the batch: what is to be written to the TUN, in this order.
    pub fn finish(&mut self) -> &[Delivery] {
        self.open.clear();
        let deliveries = self.deliveries.get_mut(..self.used).unwrap_or_default();
        for delivery in deliveries
            .iter_mut()
            .filter(|delivery| delivery.payloads.len() > 1)
        {
            delivery.complete();
        }
        deliveries
    }

    /// Forgets the batch, and keeps its memory for the next.
    pub fn clear(&mut self) {
        self.open.clear();
        self.used = 0;
    }

    fn join(&mut self, place: Place, part: &Part<'_>) {
        if let Some(at) = self.open.iter().position(|(flow, _)| *flow == part.flow) {
            let recent = self.open.get_mut(..=at).unwrap_or_default();
            recent.rotate_right(1);
            let index = recent.first().map(|(_, index)| *index);
            if let Some(delivery) = index.and_then(|index| self.deliveries.get_mut(index))
                && delivery.precedes(part)
            {
                delivery.append(place, part);
                if part.pushes || part.payload < delivery.size {
                    self.open.remove(0);
                }
                return;
            }
            self.open.remove(0);
        }
        let index = self.start(place, Some(part));
        if !part.pushes {
            self.open.truncate(Self::OPEN_FLOWS - 1);
            self.open.insert(0, (part.flow, index));
        }
    }

    /// Starts a delivery with a packet that may be joined by others, or with any other.
    fn start(&mut self, place: Place, part: Option<&Part<'_>>) -> usize {
        let index = self.used;
        if index == self.deliveries.len() {
            self.deliveries.push(Delivery::EMPTY);
        }
        if let Some(delivery) = self.deliveries.get_mut(index) {
            delivery.begin(place, part);
        }
        self.used += 1;
        index
    }
}

/// What one write to the TUN delivers: a packet, or several as one super-packet.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The virtio-net header, and behind it the headers of the packets, unless there is just one
    /// that nothing can join.
    head: [u8; VnetHeader::LEN + MOST_HEADERS],
    head_length: usize,
    transport: usize,
    is_tcp: bool,
    /// Payload bytes of the first packet, thus of each but the last.
    size: usize,
    /// Bytes of the headers and of all payloads.
    total: usize,
    payloads: Vec<Place>,
}

impl Delivery {
    const EMPTY: Self = Self {
        head: [0; VnetHeader::LEN + MOST_HEADERS],
        head_length: VnetHeader::LEN,
        transport: 0,
        is_tcp: false,
        size: 0,
        total: 0,
        payloads: Vec::new(),
    };

    /// How many packets it carries.
    pub fn packets(&self) -> usize {
        self.payloads.len()
    }

    /// Lists in `pieces` what a single `writev` has to write, virtio-net header first. `buffers`
    /// are those that the places of the batch refer to.
    pub fn gather<'p, 'b>(
        &'b self,
        buffers: &[&'b [u8]],
        pieces: &'p mut [IoSlice<'b>; MOST_PIECES],
    ) -> &'p [IoSlice<'b>] {
        let head = self.head.get(..self.head_length);
        let payloads = self.payloads.iter().map(|place| place.of(buffers));
        let bytes = std::iter::once(head).chain(payloads);
        for (piece, bytes) in pieces.iter_mut().zip(bytes) {
            *piece = IoSlice::new(bytes.unwrap_or_default());
        }
        pieces.get(..1 + self.payloads.len()).unwrap_or_default()
    }

    fn begin(&mut self, place: Place, part: Option<&Part<'_>>) {
        self.payloads.clear();
        self.head = Self::EMPTY.head;
        self.head_length = VnetHeader::LEN;
        let Some(part) = part else {
            return self.payloads.push(place);
        };
        let headers = part.headers;
        self.head_length += headers.len();
        self.head
            .iter_mut()
            .skip(VnetHeader::LEN)
            .zip(headers)
            .for_each(|(to, from)| *to = *from);
        self.transport = part.transport;
        self.is_tcp = part.is_tcp;
        self.size = part.payload;
        self.total = headers.len();
        self.append(place, part);
    }

    fn headers(&self) -> &[u8] {
        self.head
            .get(VnetHeader::LEN..self.head_length)
            .unwrap_or_default()
    }

    fn headers_mut(&mut self) -> &mut [u8] {
        self.head
            .get_mut(VnetHeader::LEN..self.head_length)
            .unwrap_or_default()
    }

    /// Whether `part` may join, by the rules of the kernel's own GRO (tcp_gro_receive,
    /// udp_gro_receive).
    fn precedes(&self, part: &Part<'_>) -> bool {
        self.payloads.len() < MOST_PACKETS
            && part.payload <= self.size
            && self.total + part.payload <= usize::from(u16::MAX)
            && self.is_continued_by(part.headers).unwrap_or(false)
    }

    /// Whether `next` are the headers that follow these: the same, and counted on where they count.
    fn is_continued_by(&self, next: &[u8]) -> Option<bool> {
        let headers = self.headers();
        let (ip, transport) = headers.split_at_checked(self.transport)?;
        let (next_ip, next_transport) = next.split_at_checked(self.transport)?;
        let ip_continues = match Version::of(headers)? {
            Version::V4 => {
                let [id, next_id] = [u16_at(ip, 4)?, u16_at(next_ip, 4)?];
                // A packet that is never fragmented needs no identification (RFC 6864 §4.1): many
                // senders leave it at zero, and the kernel lets it stand still.
                let may_stand_still = u16_at(ip, 6)? & 0x4000 != 0;
                are_alike(ip, next_ip, &same::IPV4)
                    && (next_id == id.wrapping_add(self.payloads.len() as u16)
                        || may_stand_still && next_id == id)
            }
            Version::V6 => are_alike(ip, next_ip, &same::IPV6),
        };
        let transport_continues = !self.is_tcp || {
            let sequence = u32::from_be_bytes(bytes_at(transport, tcp::SEQUENCE)?);
            let next_sequence = u32::from_be_bytes(bytes_at(next_transport, tcp::SEQUENCE)?);
            next_sequence == sequence.wrapping_add((self.total - headers.len()) as u32)
                && are_alike(transport, next_transport, &same::TCP)
                && transport.get(tcp::HEADER..) == next_transport.get(tcp::HEADER..)
        };
        Some(ip_continues && transport_continues)
    }

    fn append(&mut self, place: Place, part: &Part<'_>) {
        let start = place.start.saturating_add(part.headers.len() as u32);
        self.payloads.push(Place {
            start,
            length: part.payload as u32,
            ..place
        });
        self.total += part.payload;
        if part.pushes
            && let Some(flags) = self
                .head
                .get_mut(VnetHeader::LEN + self.transport + tcp::FLAGS)
        {
            *flags |= tcp::PSH;
        }
    }

    /// Makes the headers those of a super-packet: all lengths, the sum of the pseudo-header where
    /// the checksum will be (CHECKSUM_PARTIAL), and what the virtio-net header has to say.
    fn complete(&mut self) -> Option<()> {
        let (transport, is_tcp) = (self.transport, self.is_tcp);
        let field = if is_tcp { tcp::CHECKSUM } else { udp::CHECKSUM };
        let length = u16::try_from(self.total - transport).ok()?;
        let total = self.total;
        let headers = self.headers_mut();
        set_length(headers, total)?;
        if !is_tcp {
            put(headers, transport + udp::LENGTH, length.to_be_bytes())?;
        }
        let protocol = if is_tcp { protocol::TCP } else { protocol::UDP };
        let pseudo = pseudo_header(addresses(headers)?, protocol, length);
        put(headers, transport + field, pseudo.folded())?;
        let gso_type = match (is_tcp, Version::of(headers)?) {
            (true, Version::V4) => VnetHeader::GSO_TCPV4,
            (true, Version::V6) => VnetHeader::GSO_TCPV6,
            (false, _) => VnetHeader::GSO_UDP_L4,
        };
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type,
            hdr_len: headers.len() as u16,
            gso_size: self.size as u16,
            csum_start: transport as u16,
            csum_offset: field as u16,
        };
        put(&mut self.head, 0, header.encode())
    }
}

/// The longest headers that are joined: IPv6 and TCP with all its options.
const MOST_HEADERS: usize = IPV6_HEADER + 60;

/// What makes packets of TCP or UDP belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    protocol: u8,
    ports: [u8; 4],
    /// Both, one behind the other; those of IPv4 fill the first quarter.
    addresses: [u8; 32],
}

/// What a packet means for the packets of its flow.
enum Kind<'p> {
    /// It may be joined.
    Joinable(Part<'p>),
    /// It travels alone, and ends the run of its flow.
    Single(Flow),
    /// Nothing of its kind is ever joined, so there is no run that it could end.
    Flowless,
    /// It may be part of any flow.
    Obscure,
}

/// A packet that may be joined: TCP with data and no flags but ACK and PSH, or UDP with data, with
/// nothing unusual in its IP header and all checksums right.
struct Part<'p> {
    flow: Flow,
    headers: &'p [u8],
    transport: usize,
    is_tcp: bool,
    /// TCP's PSH, which ends a run.
    pushes: bool,
    /// Bytes of payload, at least one.
    payload: usize,
}

impl<'p> Kind<'p> {
    fn of(packet: &'p [u8], udp: bool) -> Self {
        match Outline::of(packet) {
            Some(Outline { protocol, .. })
                if protocol != protocol::TCP && (protocol != protocol::UDP || !udp) =>
            {
                Kind::Flowless
            }
            Some(outline) => Self::of_flow(packet, outline).unwrap_or(Kind::Obscure),
            None => Kind::Obscure,
        }
    }

    /// `None` unless the headers are complete and plain: no fragment, no IP options, no extension
    /// headers.
    fn of_flow(packet: &'p [u8], outline: Outline) -> Option<Self> {
        let Outline {
            version,
            fragment,
            protocol,
            transport,
        } = outline;
        let is_tcp = protocol == protocol::TCP;
        let ip = if version == Version::V4 {
            IPV4_HEADER
        } else {
            IPV6_HEADER
        };
        if fragment != Fragment::Whole || transport != ip || length(packet) != Some(packet.len()) {
            return None;
        }
        let segment = packet.get(transport..)?;
        let header = if is_tcp {
            tcp::length(segment)?
        } else {
            udp::HEADER
        };
        let (headers, payload) = packet.split_at_checked(transport + header)?;
        let addresses = addresses(packet)?;
        let flow = Flow::new(protocol, bytes_at(segment, 0)?, addresses);
        let (pushes, is_plain) = if is_tcp {
            let [flags] = bytes_at(segment, tcp::FLAGS)?;
            (flags & tcp::PSH != 0, flags & !tcp::PSH == tcp::ACK)
        } else {
            let [length, checksum] = [
                u16_at(segment, udp::LENGTH)?,
                u16_at(segment, udp::CHECKSUM)?,
            ];
            (false, usize::from(length) == segment.len() && checksum != 0)
        };
        let is_intact = || {
            let pseudo = pseudo_header(addresses, protocol, segment.len() as u16);
            let ip = packet.get(..transport).filter(|_| version == Version::V4);
            (pseudo + Sum::of(segment)).is_intact() && ip.is_none_or(|ip| Sum::of(ip).is_intact())
        };
        if is_plain && !payload.is_empty() && is_intact() {
            let payload = payload.len();
            Some(Kind::Joinable(Part {
                flow,
                headers,
                transport,
                is_tcp,
                pushes,
                payload,
            }))
        } else {
            Some(Kind::Single(flow))
        }
    }
}

impl Flow {
    fn new(protocol: u8, ports: [u8; 4], addresses: &[u8]) -> Self {
        let mut flow = Self {
            protocol,
            ports,
            addresses: [0; 32],
        };
        flow.addresses
            .iter_mut()
            .zip(addresses)
            .for_each(|(to, from)| *to = *from);
        flow
    }
}

/// Whether two headers are the same in the bits of `mask`.
fn are_alike(one: &[u8], other: &[u8], mask: &[u8]) -> bool {
    let differences = one
        .iter()
        .zip(other)
        .zip(mask)
        .map(|((one, other), mask)| (one ^ other) & mask);
    differences.fold(0, |all, bits| all | bits) == 0
}

/// Bits that are the same in all packets that are joined. Left out is what counts on, what is
/// computed, and the addresses, which the [`Flow`] compares.
mod same {
    /// All but length, identification and checksum.
    pub const IPV4: [u8; 12] = [A, A, 0, 0, 0, 0, A, A, A, A, 0, 0];
    /// All but the length.
    pub const IPV6: [u8; 8] = [A, A, A, A, 0, 0, A, A];
    /// All but sequence number, PSH and checksum; acknowledgement and window included.
    pub const TCP: [u8; 20] = [
        A,
        A,
        A,
        A,
        0,
        0,
        0,
        0,
        A,
        A,
        A,
        A,
        A,
        !super::tcp::PSH,
        A,
        A,
        0,
        0,
        A,
        A,
    ];
    const A: u8 = 0xff;
}

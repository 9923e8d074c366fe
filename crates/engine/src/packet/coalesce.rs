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

/// What the TUN takes as super-packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joins {
    /// [`VnetHeader::GSO_TCPV4`] and [`VnetHeader::GSO_TCPV6`].
    pub tcp: bool,
    /// [`VnetHeader::GSO_UDP_L4`].
    pub udp: bool,
}

impl Joins {
    /// Everything, as Linux 6.2 and later do.
    pub const ALL: Self = Self {
        tcp: true,
        udp: true,
    };
}

/// Joins the packets of a batch. Those of one flow never overtake each other; flows may.
#[derive(Debug)]
pub struct Coalescer {
    /// May be changed between batches: what the TUN takes can turn out not to be so.
    pub joins: Joins,
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

    /// An empty batch.
    pub fn new(joins: Joins) -> Self {
        Self {
            joins,
            deliveries: Vec::new(),
            used: 0,
            open: Vec::with_capacity(Self::OPEN_FLOWS),
        }
    }

    /// Adds the next packet: `packet` is what lies at `place`, an IP packet without anything behind
    /// it. It must stay there unchanged until it was delivered.
    pub fn push(&mut self, place: Place, packet: &[u8]) {
        match Kind::of(packet, self.joins) {
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

    /// The packets as they came, each by itself.
    pub fn packets_apart<'b>(&self, buffers: &[&'b [u8]]) -> impl Iterator<Item = &'b [u8]> {
        let headers = self.headers().len() as u32;
        self.payloads.iter().filter_map(move |payload| {
            let start = payload.start.checked_sub(headers)?;
            let length = payload.length.checked_add(headers)?;
            Place {
                start,
                length,
                ..*payload
            }
            .of(buffers)
        })
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
    fn of(packet: &'p [u8], joins: Joins) -> Self {
        let Some(outline) = Outline::of(packet) else {
            return Kind::Obscure;
        };
        match outline.protocol {
            protocol::TCP if !joins.tcp => Kind::Flowless,
            protocol::UDP if !joins.udp => Kind::Flowless,
            protocol::TCP | protocol::UDP => {
                Self::of_flow(packet, outline).unwrap_or(Kind::Obscure)
            }
            _ => Kind::Flowless,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use std::collections::HashMap;

    use super::super::samples::{Random, Sample, Transport};
    use super::super::segment::Segments;
    use super::*;

    /// What the TUN would get, write by write.
    fn deliver(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
        coalescer.clear();
        let buffers: Vec<_> = packets.chunks(3).map(<[_]>::concat).collect();
        for (buffer, packets) in packets.chunks(3).enumerate() {
            let mut start = 0;
            for packet in packets {
                let length = packet.len() as u32;
                coalescer.push(
                    Place {
                        buffer: buffer as u32,
                        start,
                        length,
                    },
                    packet,
                );
                start += length;
            }
        }
        let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
        let deliveries = coalescer.finish().iter().map(|delivery| {
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            let pieces = delivery.gather(&buffers, &mut pieces);
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            let (header, packet) = VnetHeader::decode(&bytes).unwrap();
            (header, packet.to_vec())
        });
        deliveries.collect()
    }

    fn split(deliveries: &[(VnetHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for (header, packet) in deliveries {
            let segments = Segments::new(*header, packet).unwrap();
            for index in 0..segments.count() {
                let mut packet = vec![0; segments.length(index)];
                segments.write(index, &mut packet).unwrap();
                packets.push(packet);
            }
        }
        packets
    }

    fn build(samples: &[Sample]) -> Vec<Vec<u8>> {
        samples.iter().map(Sample::build).collect()
    }

    /// How many packets each write carries.
    fn runs(samples: &[Sample]) -> Vec<usize> {
        let mut coalescer = Coalescer::new(Joins::ALL);
        deliver(&mut coalescer, &build(samples));
        coalescer.finish().iter().map(Delivery::packets).collect()
    }

    #[test]
    fn neighbours_become_the_super_packet_that_they_were_cut_from() {
        let payload = Random(3).bytes(10_000);
        for whole in [Sample::tcp(&payload), Sample::udp(&payload)] {
            for whole in [whole.clone(), whole.v6()] {
                let packets = build(&whole.split(1368));
                let deliveries = deliver(&mut Coalescer::new(Joins::ALL), &packets);
                let [(header, packet)] = &deliveries[..] else {
                    panic!("{} writes", deliveries.len())
                };
                assert_eq!(*packet, whole.build_partial());
                assert_eq!(split(&deliveries), packets);
                let (gso_type, csum_offset) = match (&whole.transport, whole.v6) {
                    (Transport::Udp, _) => (VnetHeader::GSO_UDP_L4, 6),
                    (_, false) => (VnetHeader::GSO_TCPV4, 16),
                    (_, true) => (VnetHeader::GSO_TCPV6, 16),
                };
                let expected = VnetHeader {
                    flags: VnetHeader::NEEDS_CSUM,
                    gso_type,
                    hdr_len: (packet.len() - payload.len()) as u16,
                    gso_size: 1368,
                    csum_start: whole.transport_offset() as u16,
                    csum_offset,
                };
                assert_eq!(*header, expected);
            }
        }
    }

    #[test]
    fn udp_is_left_alone_where_the_kernel_cannot_cut_it() {
        let packets = build(&Sample::udp(&[1; 4000]).split(1000));
        let deliveries = deliver(
            &mut Coalescer::new(Joins {
                udp: false,
                ..Joins::ALL
            }),
            &packets,
        );
        assert_eq!(deliveries.len(), 4);
        assert_eq!(split(&deliveries), packets);
    }

    #[test]
    fn a_delivery_that_the_kernel_refuses_can_be_taken_apart() {
        let mut packets = build(&Sample::tcp(&[1; 3000]).split(1000));
        packets.push(Sample::tcp(b"").v6().build());
        let buffer = packets.concat();
        let mut coalescer = Coalescer::new(Joins::ALL);
        let mut start = 0;
        for packet in &packets {
            let length = packet.len() as u32;
            coalescer.push(
                Place {
                    buffer: 0,
                    start,
                    length,
                },
                packet,
            );
            start += length;
        }
        let deliveries = coalescer.finish();
        let buffers = [&buffer[..]];
        let apart = deliveries
            .iter()
            .flat_map(|delivery| delivery.packets_apart(&buffers));
        assert_eq!(apart.map(<[u8]>::to_vec).collect::<Vec<_>>(), packets);
    }

    #[test]
    fn only_what_continues_a_packet_joins_it() {
        type Change = fn(Sample) -> Sample;
        let tcp: [(&str, Change, usize); 17] = [
            ("nothing", |s| s, 1),
            ("a gap", |s| s.with(|sequence, _, _, _| *sequence += 1), 2),
            (
                "a repetition",
                |s| s.with(|sequence, _, _, _| *sequence -= 1000),
                2,
            ),
            (
                "acknowledgement",
                |s| s.with(|_, acknowledgement, _, _| *acknowledgement += 1),
                2,
            ),
            ("window", |s| s.with(|_, _, _, window| *window += 1), 2),
            ("PSH", |s| s.with(|_, _, flags, _| *flags |= 0x08), 1),
            ("FIN", |s| s.with(|_, _, flags, _| *flags |= 0x01), 2),
            ("URG", |s| s.with(|_, _, flags, _| *flags |= 0x20), 2),
            ("CWR", |s| s.with(|_, _, flags, _| *flags |= 0x80), 2),
            ("no ACK", |s| s.with(|_, _, flags, _| *flags &= !0x10), 2),
            (
                "source port",
                |s| Sample {
                    ports: [1, s.ports[1]],
                    ..s
                },
                2,
            ),
            (
                "destination port",
                |s| Sample {
                    ports: [s.ports[0], 1],
                    ..s
                },
                2,
            ),
            (
                "less payload",
                |s| Sample {
                    payload: vec![1; 999],
                    ..s
                },
                1,
            ),
            (
                "more payload",
                |s| Sample {
                    payload: vec![1; 1001],
                    ..s
                },
                2,
            ),
            (
                "no payload",
                |s| Sample {
                    payload: vec![],
                    ..s
                },
                2,
            ),
            (
                "timestamps",
                |s| with_options(s, vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 2]),
                2,
            ),
            ("more options", |s| with_options(s, vec![1; 16]), 2),
        ];
        let ip: [(&str, Change, usize); 4] = [
            ("source", |s| Sample { hosts: [9, 2], ..s }, 2),
            ("destination", |s| Sample { hosts: [1, 9], ..s }, 2),
            ("type of service", |s| Sample { tos: 1, ..s }, 2),
            ("hops", |s| Sample { hops: 63, ..s }, 2),
        ];
        let v4: [(&str, Change, usize); 5] = [
            ("identification", |s| Sample { id: s.id + 1, ..s }, 2),
            ("DF", |s| Sample { fragment: 0, ..s }, 2),
            (
                "more fragments",
                |s| Sample {
                    fragment: 0x6000,
                    ..s
                },
                2,
            ),
            (
                "fragment offset",
                |s| Sample {
                    fragment: 0x4001,
                    ..s
                },
                2,
            ),
            (
                "options",
                |s| Sample {
                    options: vec![1; 4],
                    ..s
                },
                2,
            ),
        ];
        let v6: [(&str, Change, usize); 2] = [
            ("flow label", |s| Sample { flow_label: 9, ..s }, 2),
            (
                "extension",
                |s| Sample {
                    extension: Some(60),
                    options: vec![6, 0, 1, 4, 0, 0, 0, 0],
                    ..s
                },
                2,
            ),
        ];
        let check =
            |first: &Sample, second: &Sample, (what, change, writes): (&str, Change, usize)| {
                let samples = [first.clone(), change(second.clone())];
                assert_eq!(runs(&samples).len(), writes, "{what} in {second:?}");
                let deliveries = deliver(&mut Coalescer::new(Joins::ALL), &build(&samples));
                assert_eq!(split(&deliveries), build(&samples), "{what} in {second:?}");
            };
        for v in [false, true] {
            let whole = Sample {
                v6: v,
                ..Sample::tcp(&[1; 2000])
            };
            let [first, second] = &whole.split(1000)[..] else {
                panic!()
            };
            let of_version = if v { &v6[..] } else { &v4[..] };
            for case in tcp.iter().chain(&ip).chain(of_version) {
                check(first, second, *case);
            }
            let whole = Sample {
                v6: v,
                ..Sample::udp(&[1; 2000])
            };
            let [first, second] = &whole.split(1000)[..] else {
                panic!()
            };
            for case in tcp[10..14].iter().chain(&ip) {
                check(first, second, *case);
            }
        }
    }

    fn with_options(mut sample: Sample, new: Vec<u8>) -> Sample {
        if let Transport::Tcp { options, .. } = &mut sample.transport {
            *options = new;
        }
        sample
    }

    #[test]
    fn what_is_special_travels_alone_from_the_start() {
        let mut pieces = Sample::tcp(&[1; 4000]).split(1000);
        for flags in [0x02, 0x11, 0x14, 0x30, 0x50, 0x90, 0x00] {
            pieces[0] = pieces[0].clone().with(|_, _, set, _| *set = flags);
            assert_eq!(runs(&pieces), [1, 3], "flags {flags:#x}");
        }
    }

    #[test]
    fn a_push_or_a_short_packet_ends_a_run() {
        let push = |_: &mut u32, _: &mut u32, flags: &mut u8, _: &mut u16| *flags |= 0x08;
        let mut pieces = Sample::tcp(&[1; 6000]).split(1000);
        pieces[0] = pieces[0].clone().with(push);
        pieces[3] = pieces[3].clone().with(push);
        assert_eq!(runs(&pieces), [1, 3, 2]);
        let mut pieces = Sample::tcp(&[1; 2999]).split(1000);
        pieces.extend(
            Sample::tcp(&[1; 2000])
                .with(|s, _, _, _| *s += 2999)
                .split(1000),
        );
        (3..5).for_each(|index| pieces[index].id = 7 + index as u16);
        assert_eq!(runs(&pieces), [3, 2]);
    }

    #[test]
    fn an_identification_may_stand_still_where_nothing_is_fragmented() {
        for (fragment, id, writes) in [(0x4000, 0, 1), (0x4000, 9, 1), (0, 9, 3)] {
            let mut pieces = Sample {
                fragment,
                ..Sample::tcp(&[1; 3000])
            }
            .split(1000);
            pieces.iter_mut().for_each(|piece| piece.id = id);
            assert_eq!(runs(&pieces).len(), writes, "{fragment:#x}");
        }
        let pieces = Sample {
            fragment: 0,
            id: 0xffff,
            ..Sample::tcp(&[1; 3000])
        }
        .split(1000);
        assert_eq!(runs(&pieces), [3], "across the end");
    }

    #[test]
    fn damage_from_before_the_tunnel_arrives_as_it_is() {
        let mut random = Random(0xdada);
        for sample in [Sample::tcp(&[1; 3000]), Sample::udp(&[1; 3000])] {
            for sample in [sample.clone(), sample.v6()] {
                for _ in 0..200 {
                    let mut packets = build(&sample.split(1000));
                    let at = sample.transport_offset() + 8 + random.below(1000);
                    packets[1][at] ^= 1 << random.below(8);
                    let deliveries = deliver(&mut Coalescer::new(Joins::ALL), &packets);
                    assert_eq!(deliveries.len(), 3, "byte {at}");
                    assert_eq!(deliveries[1], (VnetHeader::default(), packets[1].clone()));
                    assert_eq!(split(&deliveries), packets);
                }
            }
        }
        for at in [8, 10, 11] {
            let mut packets = build(&Sample::tcp(&[1; 3000]).split(1000));
            packets[1][at] ^= 0x04;
            assert_eq!(
                split(&deliver(&mut Coalescer::new(Joins::ALL), &packets)),
                packets,
                "IPv4 byte {at}"
            );
        }
    }

    #[test]
    fn udp_without_a_checksum_is_never_joined() {
        let mut packets = build(&Sample::udp(&[1; 3000]).split(1000));
        packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
        let deliveries = deliver(&mut Coalescer::new(Joins::ALL), &packets);
        assert_eq!(
            deliveries
                .iter()
                .map(|(_, packet)| packet.clone())
                .collect::<Vec<_>>(),
            packets
        );
    }

    #[test]
    fn a_run_ends_where_a_super_packet_must() {
        assert_eq!(runs(&Sample::udp(&[1; 1000]).split(10)), [64, 36]);
        // 46 * 1420 = 65,320 is less than 65,535 - 52, and 46 * 1424 = 65,504 is more.
        for (size, expected) in [(1420, [46, 4]), (1424, [45, 5])] {
            let pieces: Vec<_> = (0..50_u16)
                .map(|index| {
                    let sample = Sample::tcp(&vec![1; size]).with(|sequence, _, _, _| {
                        *sequence += u32::from(index) * size as u32;
                    });
                    Sample {
                        id: index,
                        ..sample
                    }
                })
                .collect();
            assert_eq!(runs(&pieces), expected, "{size} bytes each");
        }
    }

    #[test]
    fn mixed_flows_are_joined_each_for_itself() {
        for (flows, expected) in [(1, 8), (2, 8), (16, 8), (17, 1)] {
            let pieces: Vec<_> = (0..flows)
                .map(|host| {
                    Sample {
                        hosts: [host, 9],
                        ..Sample::tcp(&[host; 8000])
                    }
                    .split(1000)
                })
                .collect();
            let mixed: Vec<_> = (0..8)
                .flat_map(|index| pieces.iter().map(move |flow| flow[index].clone()))
                .collect();
            assert!(
                runs(&mixed).iter().all(|&run| run == expected),
                "{flows} flows"
            );
        }
    }

    #[test]
    fn what_may_be_of_any_flow_overtakes_none() {
        let pieces = Sample::udp(&[1; 4000]).split(1000);
        let fragment = Sample {
            fragment: 0x00a0,
            ..Sample::udp(b"the rest")
        };
        let icmp = Sample {
            transport: Transport::Other(1),
            ..Sample::tcp(b"\x08\0\0\0")
        };
        let around = |stranger: Sample| [&pieces[..2], &[stranger], &pieces[2..]].concat();
        assert_eq!(runs(&around(fragment)), [2, 1, 2]);
        assert_eq!(runs(&around(icmp)), [4, 1], "ICMP is a flow of its own");
    }

    /// A flow that does all that flows do.
    struct Source {
        next: Sample,
        size: usize,
    }

    impl Source {
        fn new(random: &mut Random, index: u8) -> Self {
            let size = 1 + random.below(40);
            let sample = if random.chance(3) {
                Sample::udp(b"")
            } else {
                Sample::tcp(b"")
            };
            let fragment = if random.chance(2) { 0x4000 } else { 0 };
            let next = Sample {
                v6: random.chance(2),
                hosts: [index, 2],
                fragment,
                ..sample
            };
            Self { next, size }
        }

        fn packet(&mut self, random: &mut Random) -> Vec<u8> {
            let size = if random.chance(12) {
                random.below(self.size + 4)
            } else {
                self.size
            };
            self.next.payload = random.bytes(size);
            let mut sample = self.next.clone();
            self.next.id = self.next.id.wrapping_add(1);
            self.next = self
                .next
                .clone()
                .with(|sequence, _, _, _| *sequence += size as u32);
            match random.below(80) {
                0 => sample = sample.with(|_, _, flags, _| *flags |= 0x08),
                1 => sample = sample.with(|_, _, flags, _| *flags = 0x11),
                2 => self.next.tos ^= 2,
                3 => self.next.hops -= 1,
                4 => {
                    let next = self.next.clone();
                    self.next = next.with(|_, acknowledgement, _, _| *acknowledgement += 1);
                }
                5 => self.next = self.next.clone().with(|sequence, _, _, _| *sequence += 1),
                6 => self.next.id = self.next.id.wrapping_add(1),
                7 if !sample.v6 => sample.options = vec![1; 4],
                8 if !sample.v6 => sample.fragment = 0x2000 + random.below(3) as u16,
                _ => {}
            }
            let mut packet = sample.build();
            match random.below(60) {
                0 => *packet.last_mut().unwrap() ^= 1,
                1 if !sample.v6 => packet[10] ^= 1,
                2 if matches!(sample.transport, Transport::Udp) => {
                    let at = sample.transport_offset() + 6;
                    packet[at..at + 2].fill(0);
                }
                _ => {}
            }
            packet
        }
    }

    #[test]
    fn cutting_gives_back_each_flow_as_it_was() {
        let mut random = Random(0x1_0a5e);
        let mut coalescer = Coalescer::new(Joins::ALL);
        let (mut pushed, mut written) = (0, 0);
        for _ in 0..3000 {
            let flows = 1 + random.below(20) as u8;
            let mut sources: Vec<_> = (0..flows)
                .map(|index| Source::new(&mut random, index))
                .collect();
            let mut packets = Vec::new();
            let mut places: HashMap<Vec<u8>, Vec<(usize, usize)>> = HashMap::new();
            while packets.len() < 100 {
                let flow = random.below(sources.len());
                for _ in 0..=random.below(8) {
                    let packet = sources[flow].packet(&mut random);
                    places
                        .entry(packet.clone())
                        .or_default()
                        .push((flow, packets.len()));
                    packets.push(packet);
                }
            }
            let deliveries = deliver(&mut coalescer, &packets);
            (pushed, written) = (pushed + packets.len(), written + deliveries.len());
            let back = split(&deliveries);
            assert_eq!(back.len(), packets.len());
            let mut last = vec![None; sources.len()];
            for packet in back {
                let (flow, position) = places.get_mut(&packet).expect("was never pushed").remove(0);
                assert!(last[flow] < Some(position), "flow {flow} is out of order");
                last[flow] = Some(position);
            }
        }
        assert!(written * 2 < pushed, "{pushed} packets in {written} writes");
    }

    #[test]
    fn garbage_is_delivered_packet_by_packet() {
        let mut random = Random(0x6a4b);
        let mut coalescer = Coalescer::new(Joins::ALL);
        for _ in 0..1000 {
            let mut packets = build(&Sample::tcp(&random.bytes(600)).split(10));
            packets.extend(build(&Sample::udp(&random.bytes(400)).v6().split(10)));
            for packet in &mut packets {
                for _ in 0..random.below(3) {
                    let at = random.below(packet.len());
                    packet[at] = random.next() as u8;
                }
                if random.chance(8) {
                    packet.truncate(random.below(60));
                }
            }
            deliver(&mut coalescer, &packets);
            let delivered: usize = coalescer.finish().iter().map(Delivery::packets).sum();
            assert_eq!(delivered, packets.len());
        }
    }

    #[test]
    fn a_place_that_is_nowhere_holds_nothing() {
        let packet = Sample::tcp(b"data").build();
        let mut coalescer = Coalescer::new(Joins::ALL);
        for place in [
            Place {
                buffer: 7,
                start: 0,
                length: 56,
            },
            Place {
                buffer: 0,
                start: u32::MAX,
                length: 56,
            },
        ] {
            coalescer.push(place, &packet);
        }
        for delivery in coalescer.finish() {
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            assert!(
                delivery
                    .gather(&[&packet], &mut pieces)
                    .iter()
                    .skip(1)
                    .all(|piece| piece.is_empty())
            );
        }
    }
}

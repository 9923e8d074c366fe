//! From the tunnel towards the TUN: neighbours of one flow become a super-packet (spec §1.13),
//! described by a gather list. No payload is copied.

use std::io::IoSlice;
use std::iter;
use std::ops::Range;

use sys::tun::{Offload, VnetHeader};

use super::flow::{Kind, Part};
use super::{FlowKey, Shape, Version, bytes_at, put, tcp, u16_at};

/// How many packets are joined at most: the kernel cuts no UDP super-packet into more.
pub const MOST_PACKETS: usize = 64;
/// How many pieces a delivery consists of at most.
pub const MOST_PIECES: usize = 1 + MOST_PACKETS;

/// Joins the packets of a batch. Those of one flow never overtake each other; flows may.
#[derive(Debug, Default)]
pub struct Coalescer {
    /// What the TUN takes. May be changed between batches: that can turn out not to be so.
    pub joins: Offload,
    /// The first `used` are those of this batch, in the order of their first packets. Since a
    /// packet either joins the last delivery of its flow or starts a later one, this order is right
    /// for every flow.
    deliveries: Vec<Delivery>,
    used: usize,
    /// Those before are joined by nothing more, of whatever flow.
    first: usize,
}

impl Coalescer {
    /// How far back a packet looks for its flow: as many may be mixed without cutting each other short.
    const REACH: usize = 32;

    /// Adds the next packet: `packet` is what lies at `place` of the caller's bytes, an IP packet without
    /// anything behind it. It must stay there unchanged until it was delivered.
    pub fn push(&mut self, place: Range<usize>, packet: &[u8]) {
        match Kind::of(packet, self.joins) {
            Kind::Joinable(part) => self.join(place, &part),
            Kind::Single(flow) => self.start(place, flow, None),
            Kind::Obscure => {
                self.start(place, None, None);
                self.first = self.used;
            }
        }
    }

    /// Ends the batch: what is to be written to the TUN, in this order.
    pub fn finish(&mut self) -> &[Delivery] {
        let deliveries = self.deliveries.get_mut(..self.used).unwrap_or_default();
        for delivery in deliveries.iter_mut() {
            delivery.complete();
        }
        deliveries
    }

    /// Forgets the batch, and keeps its memory for the next.
    pub fn clear(&mut self) {
        (self.used, self.first) = (0, 0);
    }

    fn join(&mut self, place: Range<usize>, part: &Part<'_>) {
        let growing = self.deliveries.get_mut(self.first..self.used).unwrap_or_default();
        let mut recent = growing.iter_mut().rev().take(Self::REACH);
        match recent.find(|delivery| delivery.flow == Some(part.flow)) {
            Some(delivery) if delivery.precedes(part) => delivery.append(place, part),
            _ => self.start(place, Some(part.flow), Some(part)),
        }
    }

    /// Starts a delivery with a packet that may be joined by others, or with any other.
    fn start(&mut self, place: Range<usize>, flow: Option<FlowKey>, part: Option<&Part<'_>>) {
        if self.used == self.deliveries.len() {
            self.deliveries.push(Delivery::default());
        }
        if let Some(delivery) = self.deliveries.get_mut(self.used) {
            delivery.begin(place, flow, part);
        }
        self.used += 1;
    }
}

/// What one write to the TUN delivers: a packet, or several as one super-packet.
#[derive(Debug, Default)]
pub struct Delivery {
    /// The virtio-net header, and behind it the headers of the packets, unless there is just one
    /// that nothing can join.
    head: Vec<u8>,
    /// What those headers are, if they are there.
    shape: Option<Shape>,
    flow: Option<FlowKey>,
    /// Its last packet was one that ends a run.
    is_closed: bool,
    /// Payload bytes of the first packet, thus of each but the last.
    size: usize,
    packets: Vec<Range<usize>>,
    /// Bytes of all payloads.
    joined: usize,
}

impl Delivery {
    /// How many packets it carries.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Lists in `pieces` what a single `writev` has to write, virtio-net header first. `bytes`
    /// are those that the places of the batch refer to.
    pub fn gather<'p, 'b>(
        &'b self,
        bytes: &'b [u8],
        pieces: &'p mut [IoSlice<'b>; MOST_PIECES],
    ) -> &'p [IoSlice<'b>] {
        let headers = self.headers().len();
        let payloads = self.packets_apart(bytes).map(|packet| packet.get(headers..));
        let parts = iter::once(Some(self.head.as_slice())).chain(payloads);
        for (piece, part) in pieces.iter_mut().zip(parts) {
            *piece = IoSlice::new(part.unwrap_or_default());
        }
        pieces.get(..1 + self.packets.len()).unwrap_or_default()
    }

    /// The packets as they came, each by itself.
    pub fn packets_apart<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        self.packets.iter().map(|place| bytes.get(place.clone()).unwrap_or_default())
    }

    fn begin(&mut self, place: Range<usize>, flow: Option<FlowKey>, part: Option<&Part<'_>>) {
        self.packets.clear();
        self.packets.push(place);
        self.head.clear();
        self.head.extend(VnetHeader::default().encode());
        (self.flow, self.shape) = (flow, part.map(|part| part.shape));
        if let Some(part) = part {
            self.head.extend(part.headers);
            (self.size, self.joined) = (part.payload, part.payload);
            self.is_closed = part.pushes;
        }
    }

    fn headers(&self) -> &[u8] {
        self.head.get(VnetHeader::LEN..).unwrap_or_default()
    }

    /// Whether `part` may join, by the rules of the kernel's own GRO (tcp_gro_receive,
    /// udp_gro_receive).
    fn precedes(&self, part: &Part<'_>) -> bool {
        self.shape == Some(part.shape)
            && !self.is_closed
            && self.packets.len() < MOST_PACKETS
            && part.payload <= self.size
            && part.headers.len() + self.joined + part.payload <= usize::from(u16::MAX)
            && self.is_continued_by(part).unwrap_or(false)
    }

    /// Whether the headers of `part` are those that follow these: the same, and counted on where they
    /// count.
    fn is_continued_by(&self, part: &Part<'_>) -> Option<bool> {
        let (ip, transport) = self.headers().split_at_checked(part.shape.transport)?;
        let (next_ip, next_transport) = part.headers.split_at_checked(part.shape.transport)?;
        let ip_continues = match part.shape.version {
            Version::V4 => {
                let [id, next_id] = [u16_at(ip, 4)?, u16_at(next_ip, 4)?];
                let counted_on = id.wrapping_add(self.packets.len() as u16);
                // A packet that is never fragmented needs no identification (RFC 6864 §4.1): many
                // senders leave it at zero, and the kernel lets it stand still.
                let may_stand_still = u16_at(ip, 6)? & 0x4000 != 0;
                (next_id == counted_on || may_stand_still && next_id == id)
                    && are_alike(ip, next_ip, &same::IPV4)?
            }
            Version::V6 => are_alike(ip, next_ip, &same::IPV6)?,
        };
        let transport_continues = !part.shape.is_tcp || {
            let sequence = u32::from_be_bytes(bytes_at(transport, tcp::SEQUENCE)?);
            let next_sequence = u32::from_be_bytes(bytes_at(next_transport, tcp::SEQUENCE)?);
            next_sequence == sequence.wrapping_add(self.joined as u32)
                && are_alike(transport, next_transport, &same::TCP)?
                && transport.get(tcp::HEADER..) == next_transport.get(tcp::HEADER..)
        };
        Some(ip_continues && transport_continues)
    }

    fn append(&mut self, place: Range<usize>, part: &Part<'_>) {
        self.packets.push(place);
        self.joined += part.payload;
        self.is_closed = part.pushes || part.payload < self.size;
        let flags = VnetHeader::LEN + part.shape.transport + tcp::FLAGS;
        if let Some(flags) = self.head.get_mut(flags).filter(|_| part.pushes) {
            *flags |= tcp::PSH;
        }
    }

    /// Makes the headers those of a super-packet: all lengths, the sum of the pseudo-header where
    /// the checksum will be (CHECKSUM_PARTIAL), and what the virtio-net header has to say. `None`
    /// if there is just one packet: it stays as it is.
    fn complete(&mut self) -> Option<()> {
        let shape = self.shape.filter(|_| self.packets.len() > 1)?;
        let headers = self.head.get_mut(VnetHeader::LEN..)?;
        let total = headers.len() + self.joined;
        let length = shape.number(headers, total, 0)?;
        let pseudo = shape.pseudo_header(headers, length)?;
        put(headers, shape.transport + shape.checksum(), pseudo.folded())?;
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: shape.gso_type(),
            hdr_len: headers.len() as u16,
            gso_size: self.size as u16,
            csum_start: shape.transport as u16,
            csum_offset: shape.checksum() as u16,
        };
        put(&mut self.head, 0, header.encode())
    }
}

/// Whether two headers begin with the same bytes in the bits of `mask`.
fn are_alike<const N: usize>(one: &[u8], other: &[u8], mask: &[u8; N]) -> Option<bool> {
    // Of a length that is known, so that the compiler takes many at a time.
    let pairs = one.first_chunk::<N>()?.iter().zip(other.first_chunk::<N>()?).zip(mask);
    Some(pairs.fold(0, |all, ((one, other), mask)| all | (one ^ other) & mask) == 0)
}

/// Bits that are the same in all packets that are joined. Left out is what counts on, what is
/// computed, and the addresses, which the [`FlowKey`] compares.
mod same {
    /// All but length, identification and checksum.
    pub const IPV4: [u8; 12] = [A, A, 0, 0, 0, 0, A, A, A, A, 0, 0];
    /// All but the length.
    pub const IPV6: [u8; 8] = [A, A, A, A, 0, 0, A, A];
    /// All but sequence number, PSH and checksum; acknowledgement and window included.
    pub const TCP: [u8; 20] = [A, A, A, A, 0, 0, 0, 0, A, A, A, A, A, F, A, A, 0, 0, A, A];
    const F: u8 = !super::tcp::PSH;
    const A: u8 = 0xff;
}

#[cfg(test)]
mod tests;

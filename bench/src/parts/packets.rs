//! What happens to inner packets: cut, joined, summed.

use std::hint::black_box;
use std::io::IoSlice;

use engine::packet::checksum::Sum;
use engine::packet::coalesce::{Coalescer, MOST_PIECES};
use engine::packet::pseudo_header;
use engine::packet::segment::Segments;
use proto::limits::{DATA_HEADER, DATA_OVERHEAD};
use sys::tun::{Offload, VnetHeader};

use super::catalogue::Entry;
use crate::Outcome;

/// Packets of a train.
const COUNT: usize = 44;
const MTU: usize = 1420;
/// A TCP header with timestamps.
const TCP: usize = 20 + 12;

/// All of them.
pub fn entries() -> Vec<Entry> {
    vec![
        Entry::new("segment-tcp4", (COUNT, "segment"), || segment(IP4, COUNT)),
        Entry::new("segment-tcp6", (COUNT, "segment"), || segment(IP6, COUNT)),
        Entry::new("segment-single", (1, "packet"), || segment(IP4, 1)),
        Entry::new("coalesce-tcp4", (COUNT, "packet"), || coalesce(IP4, COUNT)),
        Entry::new("coalesce-tcp6", (COUNT, "packet"), || coalesce(IP6, COUNT)),
        Entry::new("coalesce-single", (1, "packet"), || coalesce(IP4, 1)),
        Entry::new("checksum-1420", (1, "sum"), || sum(1420)),
        Entry::new("checksum-64k", (1, "sum"), || sum(65_535)),
    ]
}

/// The IP header of one version, without lengths and checksum.
#[derive(Clone, Copy)]
struct Ip {
    header: &'static [u8],
    /// Where its length stands, and what of the packet that does not count.
    length: (usize, usize),
    gso_type: u8,
}

const IP4: Ip = Ip {
    header: &[0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
    length: (2, 0),
    gso_type: VnetHeader::GSO_TCPV4,
};
const IP6: Ip = Ip {
    header: &[
        0x60, 0, 0, 0, 0, 0, 6, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    ],
    length: (4, 40),
    gso_type: VnetHeader::GSO_TCPV6,
};

/// A super-packet of TCP as the kernel reads from it: `count` times as much data as fits.
struct SuperPacket {
    header: VnetHeader,
    packet: Vec<u8>,
}

impl SuperPacket {
    fn new(ip: Ip, count: usize) -> Outcome<Self> {
        let headers = ip.header.len() + TCP;
        let size = MTU - headers;
        let length = headers + count * size;
        let mut packet = ip.header.to_vec();
        let (at, without) = ip.length;
        let claimed = u16::try_from(length - without)?.to_be_bytes();
        packet.splice(at..at + 2, claimed);
        let pseudo = pseudo_header(&packet, 6, u16::try_from(length - ip.header.len())?)
            .ok_or("no IP packet")?;
        packet.extend([0x01, 0xbb, 0xc3, 0x50, 0, 0, 0, 1, 0, 0, 0, 2, 0x80, 0x10, 2, 0]);
        packet.extend(pseudo.folded());
        packet.extend([0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend((headers..length).map(|at| (at * 7) as u8));
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: if count > 1 { ip.gso_type } else { VnetHeader::GSO_NONE },
            hdr_len: u16::try_from(headers)?,
            gso_size: if count > 1 { u16::try_from(size)? } else { 0 },
            csum_start: u16::try_from(ip.header.len())?,
            csum_offset: 16,
        };
        Ok(Self { header, packet })
    }

    /// Writes the packets that it stands for where messages have room for them. Returns how many.
    fn cut(&self, messages: &mut [u8]) -> usize {
        let segments = Segments::new(self.header, black_box(&self.packet));
        let segments = segments.expect("a super-packet as the kernel makes them");
        for (index, message) in messages.chunks_mut(STRIDE).enumerate() {
            let room = message.get_mut(DATA_HEADER..).unwrap_or_default();
            let _ = black_box(segments.write(index, room));
        }
        segments.count()
    }
}

const STRIDE: usize = MTU + DATA_OVERHEAD;

fn segment(ip: Ip, count: usize) -> Outcome<impl FnMut()> {
    let super_packet = SuperPacket::new(ip, count)?;
    let mut messages = vec![0; count * STRIDE];
    Ok(move || assert_eq!(super_packet.cut(&mut messages), count, "all were cut"))
}

fn coalesce(ip: Ip, count: usize) -> Outcome<impl FnMut()> {
    let mut messages = vec![0; count * STRIDE];
    SuperPacket::new(ip, count)?.cut(&mut messages);
    let mut coalescer = Coalescer::default();
    coalescer.joins = Offload::ALL;
    Ok(move || {
        for (index, message) in messages.chunks(STRIDE).enumerate() {
            let start = index * STRIDE + DATA_HEADER;
            let packet = message.get(DATA_HEADER..DATA_HEADER + MTU).unwrap_or_default();
            coalescer.push(start..start + MTU, black_box(packet));
        }
        let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
        let [delivery] = coalescer.finish() else { return assert_eq!(count, 0, "all were joined") };
        black_box(delivery.gather(&messages, &mut pieces));
        coalescer.clear();
    })
}

fn sum(length: usize) -> Outcome<impl FnMut()> {
    let bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    Ok(move || {
        black_box(Sum::of(black_box(&bytes)).checksum());
    })
}

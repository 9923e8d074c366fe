//! From the TUN: packets and super-packets behind their virtio-net header, sound or not, cut into
//! packets that are complete and right.

use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use engine::packet::segment::Segments;
use engine::packet::{destination, tos};
use engine::packet::{ecn, icmp};
use proto::inner_packet;
use sys::tun::VnetHeader;

use super::packets::{Fields, is_intact};

pub fn run(bytes: &[u8]) {
    let _ = attempt(&mut Unstructured::new(bytes));
}

fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    if u.arbitrary()? {
        return super_packet(u);
    }
    let header: [u8; VnetHeader::LEN] = u.arbitrary()?;
    let mut packet = match u.arbitrary()? {
        true => Fields::draw(u)?.build(),
        false => Vec::new(),
    };
    packet.extend(u.bytes(u.len())?);
    let read = [&header[..], &packet].concat();
    let (header, rest) = VnetHeader::decode(&read).expect("it is long enough");
    assert_eq!((header.encode().as_slice(), rest), read.split_at(VnetHeader::LEN));
    if let Some(segments) = Segments::new(header, &packet) {
        cut(&segments);
    }
    anything(packet);
    Ok(())
}

/// Cuts a super-packet as the kernel makes them, and looks at each piece.
fn super_packet(u: &mut Unstructured<'_>) -> Result<()> {
    let mut fields = Fields { fragment: 0x4000, ..Fields::draw(u)? };
    if fields.payload.is_empty() {
        fields.payload.push(1);
    }
    let size = u.int_in_range(1..=fields.payload.len())?;
    let packet = fields.build_partial();
    let kind = match (fields.tcp, fields.v6) {
        (true, false) => VnetHeader::GSO_TCPV4,
        (true, true) => VnetHeader::GSO_TCPV6,
        (false, _) => VnetHeader::GSO_UDP_L4,
    };
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: kind,
        hdr_len: u.arbitrary()?,
        gso_size: size as u16,
        csum_start: fields.ip() as u16,
        csum_offset: fields.checksum() as u16,
    };
    let segments = Segments::new(header, &packet).expect("a sound super-packet");
    let pieces = cut(&segments);
    assert_eq!(pieces.len(), fields.payload.len().div_ceil(size));
    let payload: Vec<u8> =
        pieces.iter().flat_map(|piece| piece[fields.headers()..].to_vec()).collect();
    assert_eq!(payload, fields.payload);
    for (number, piece) in pieces.iter().enumerate() {
        assert!(is_intact(piece), "piece {number} of {fields:?}");
        assert_eq!(length(piece), Some(piece.len()));
        assert_eq!(tos(piece), Some(fields.tos));
        if fields.tcp {
            let at = fields.ip() + 4;
            let sequence = u32::from_be_bytes(piece[at..at + 4].try_into().expect("four"));
            assert_eq!(sequence, fields.sequence.wrapping_add((number * size) as u32));
        }
    }
    Ok(())
}

/// Every piece, with the length that was promised.
fn cut(segments: &Segments<'_>) -> Vec<Vec<u8>> {
    let count = segments.count();
    assert!(count > 0 && segments.length(count) == 0);
    let pieces = (0..count).map(|number| {
        let mut piece = vec![0; segments.length(number)];
        assert!(segments.write(number, &mut []).is_none() || piece.is_empty());
        // Headers may claim what cannot be: then there is no such piece, and nothing is sent.
        let written = segments.write(number, &mut piece);
        assert!(written.is_none_or(|length| length == piece.len()));
        piece
    });
    pieces.collect()
}

/// What is asked of a packet of which nobody knows anything.
fn anything(packet: Vec<u8>) {
    if let Some(inner) = inner_packet(&packet) {
        assert!((20..=packet.len()).contains(&inner.length));
        let to = destination(&packet).expect("whoever names a source names a destination");
        assert_eq!(inner.source.is_ipv4(), to.is_ipv4());
    }
    let mut room = [0; icmp::LONGEST];
    if let Some(answer) = icmp::unreachable(&packet, &mut room) {
        let source = |packet: &[u8]| inner_packet(packet).map(|inner| inner.source);
        let [asked, sender]: [Option<IpAddr>; 2] = [destination(&packet), source(&packet)];
        assert_eq!((source(answer), destination(answer)), (asked, sender));
        assert_eq!(length(answer), Some(answer.len()));
        assert!(answer.len() <= packet.len() + 48, "an answer that is much longer");
        let again = answer.to_vec();
        assert!(icmp::unreachable(&again, &mut [0; icmp::LONGEST]).is_none(), "errors in a circle");
    }
    for outer in 0..4 {
        let mut marked = packet.clone();
        ecn::decapsulate(outer, &mut marked);
        let changed = marked.iter().zip(&packet).filter(|(one, other)| one != other).count();
        assert!(changed <= 3 && marked.len() == packet.len());
        assert_eq!(tos(&marked).map(|tos| tos >> 2), tos(&packet).map(|tos| tos >> 2), "DSCP");
    }
}

/// What a packet says of its own length, if it does.
fn length(packet: &[u8]) -> Option<usize> {
    inner_packet(packet).map(|inner| inner.length)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        (1..=12).map(|step: u8| (0..80_u8).map(|at| at.wrapping_mul(step)).collect()).collect();
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let fields = Fields { v6, tcp, hops: 64, payload: vec![7; 30], ..Fields::default() };
        // Neither a super-packet nor one of our making.
        seeds.push([&[0][..], &[0; VnetHeader::LEN], &[0], &fields.build()].concat());
    }
    seeds
}

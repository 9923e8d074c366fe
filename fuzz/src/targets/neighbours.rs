//! From the tunnel: packets of several flows joined into super-packets, which stand for just those
//! packets, each flow in its order.

use std::collections::BTreeMap;
use std::io::IoSlice;

use arbitrary::{Result, Unstructured};
use engine::packet::coalesce::{Coalescer, MOST_PIECES};
use engine::packet::segment::Segments;
use sys::tun::{Offload, VnetHeader};

use super::packets::Fields;

pub fn run(bytes: &[u8]) {
    let _ = attempt(&mut Unstructured::new(bytes));
}

fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    let mut coalescer = Coalescer::default();
    coalescer.joins = Offload { tcp: u.ratio(9, 10)?, udp: u.ratio(9, 10)? };
    // Batches must not have to do with each other.
    for _ in 0..u.int_in_range(1..=2)? {
        let packets = draw(u)?;
        let mut start = 0;
        for packet in &packets {
            coalescer.push(start..start + packet.len(), packet);
            start += packet.len();
        }
        let bytes = packets.concat();
        let (mut apart, mut cut) = (Vec::new(), Vec::new());
        for delivery in coalescer.finish() {
            let as_they_came: Vec<_> = delivery.packets_apart(&bytes).map(<[u8]>::to_vec).collect();
            assert_eq!(as_they_came.len(), delivery.packets());
            apart.extend(as_they_came);
            cut.extend(pieces(delivery.gather(&bytes, &mut [IoSlice::new(&[]); MOST_PIECES])));
        }
        coalescer.clear();
        assert_eq!(by_flow(&packets, false), by_flow(&apart, false), "as they came");
        assert_eq!(by_flow(&packets, true), by_flow(&cut, true), "as the kernel cuts them");
    }
    Ok(())
}

/// A batch as it might come out of a tunnel: flows go on, end, and are damaged.
fn draw(u: &mut Unstructured<'_>) -> Result<Vec<Vec<u8>>> {
    let mut flows = [Fields::draw(u)?, Fields::draw(u)?, Fields::draw(u)?];
    let mut packets = Vec::new();
    for _ in 0..u.int_in_range(1..=80)? {
        let choice = u.int_in_range(0..=2)?;
        let flow: &mut Fields = &mut flows[choice];
        let mut packet = flow.build();
        let length = flow.payload.len() as u32;
        (flow.sequence, flow.identification) =
            (flow.sequence.wrapping_add(length), flow.identification.wrapping_add(1));
        match u.int_in_range(0..=15)? {
            0 => flow.sequence = u.arbitrary()?,
            1 => flow.identification = u.arbitrary()?,
            2 => flow.flags = u.arbitrary()?,
            3 => flow.window = u.arbitrary()?,
            4 => flow.payload.truncate(u.int_in_range(0..=100)?),
            5 => *flow = Fields::draw(u)?,
            6 => flow.tos = u.arbitrary()?,
            7 => flow.fragment = u.arbitrary()?,
            8 => {
                let at = u.int_in_range(0..=packet.len() - 1)?;
                packet[at] ^= u.arbitrary::<u8>()?;
            }
            9 => packet.truncate(u.int_in_range(1..=packet.len())?),
            _ => {}
        }
        packets.push(packet);
    }
    Ok(packets)
}

/// The packets that one write to the TUN stands for.
fn pieces(gathered: &[IoSlice<'_>]) -> Vec<Vec<u8>> {
    let written: Vec<u8> = gathered.iter().flat_map(|piece| piece.to_vec()).collect();
    let (header, packet) = VnetHeader::decode(&written).expect("every write begins with one");
    if header == VnetHeader::default() {
        return vec![packet.to_vec()];
    }
    let segments = Segments::new(header, packet).expect("a super-packet of ours is sound");
    let pieces = (0..segments.count()).map(|number| {
        let mut piece = vec![0; segments.length(number)];
        segments.write(number, &mut piece).expect("it fits into itself");
        piece
    });
    pieces.collect()
}

/// The packets of each flow, in order. Where the identification of a packet that is never fragmented
/// stands still, the kernel counts it on: `cut` leaves it out, and the sum over it.
fn by_flow(packets: &[Vec<u8>], cut: bool) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = BTreeMap::<_, Vec<Vec<u8>>>::new();
    for packet in packets {
        let (key, is_v4) = match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= 24 => (packet[9..10].iter().chain(&packet[12..24]), true),
            Some(6) if packet.len() >= 44 => (packet[6..7].iter().chain(&packet[8..44]), false),
            _ => (packet[..0].iter().chain(&[]), false),
        };
        let mut packet = packet.clone();
        let key: Vec<u8> = key.copied().collect();
        if cut && is_v4 && packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
            packet[10..12].fill(0);
        }
        flows.entry(key).or_default().push(packet);
    }
    flows
}

pub fn seeds() -> Vec<Vec<u8>> {
    (1..=16).map(|step: u8| (0..250_u8).map(|at| at.wrapping_mul(step)).collect()).collect()
}

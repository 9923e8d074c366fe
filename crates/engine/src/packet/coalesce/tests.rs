//! What joining promises.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::HashMap;

use super::*;
use crate::packet::samples::{Random, Sample, Transport};
use crate::packet::segment::Segments;

/// What the TUN would get, write by write.
fn joining(joins: Offload) -> Coalescer {
    Coalescer { joins, ..Coalescer::default() }
}

fn deliver(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VnetHeader, Vec<u8>)> {
    coalescer.clear();
    let bytes = push(coalescer, packets);
    let deliveries = coalescer.finish().iter().map(|delivery| {
        let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
        let pieces = delivery.gather(&bytes, &mut pieces);
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        let (header, packet) = VnetHeader::decode(&bytes).unwrap();
        (header, packet.to_vec())
    });
    deliveries.collect()
}

/// Adds packets that lie one behind the other. Returns the bytes in which they do.
fn push(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut start = 0;
    for packet in packets {
        coalescer.push(start..start + packet.len(), packet);
        start += packet.len();
    }
    packets.concat()
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
    let mut coalescer = joining(Offload::ALL);
    deliver(&mut coalescer, &build(samples));
    coalescer.finish().iter().map(Delivery::packets).collect()
}

#[test]
fn neighbours_become_the_super_packet_that_they_were_cut_from() {
    let payload = Random(3).bytes(10_000);
    for whole in [Sample::tcp(&payload), Sample::udp(&payload)] {
        for whole in [whole.clone(), whole.v6()] {
            let packets = build(&whole.split(1368));
            let deliveries = deliver(&mut joining(Offload::ALL), &packets);
            let [(header, packet)] = &deliveries[..] else { panic!("{} writes", deliveries.len()) };
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
    let deliveries = deliver(&mut joining(Offload { udp: false, ..Offload::ALL }), &packets);
    assert_eq!(deliveries.len(), 4);
    assert_eq!(split(&deliveries), packets);
}

#[test]
fn a_delivery_that_the_kernel_refuses_can_be_taken_apart() {
    let mut packets = build(&Sample::tcp(&[1; 3000]).split(1000));
    packets.push(Sample::tcp(b"").v6().build());
    let mut coalescer = joining(Offload::ALL);
    let bytes = push(&mut coalescer, &packets);
    let deliveries = coalescer.finish();
    let apart = deliveries.iter().flat_map(|delivery| delivery.packets_apart(&bytes));
    assert_eq!(apart.map(<[u8]>::to_vec).collect::<Vec<_>>(), packets);
}

#[test]
fn only_what_continues_a_packet_joins_it() {
    type Change = fn(Sample) -> Sample;
    let tcp: [(&str, Change, usize); 17] = [
        ("nothing", |s| s, 1),
        ("a gap", |s| s.with(|sequence, _, _, _| *sequence += 1), 2),
        ("a repetition", |s| s.with(|sequence, _, _, _| *sequence -= 1000), 2),
        ("acknowledgement", |s| s.with(|_, acknowledgement, _, _| *acknowledgement += 1), 2),
        ("window", |s| s.with(|_, _, _, window| *window += 1), 2),
        ("PSH", |s| s.with(|_, _, flags, _| *flags |= 0x08), 1),
        ("FIN", |s| s.with(|_, _, flags, _| *flags |= 0x01), 2),
        ("URG", |s| s.with(|_, _, flags, _| *flags |= 0x20), 2),
        ("CWR", |s| s.with(|_, _, flags, _| *flags |= 0x80), 2),
        ("no ACK", |s| s.with(|_, _, flags, _| *flags &= !0x10), 2),
        ("source port", |s| Sample { ports: [1, s.ports[1]], ..s }, 2),
        ("destination port", |s| Sample { ports: [s.ports[0], 1], ..s }, 2),
        ("less payload", |s| Sample { payload: vec![1; 999], ..s }, 1),
        ("more payload", |s| Sample { payload: vec![1; 1001], ..s }, 2),
        ("no payload", |s| Sample { payload: vec![], ..s }, 2),
        ("timestamps", |s| with_options(s, vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 2]), 2),
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
        ("more fragments", |s| Sample { fragment: 0x6000, ..s }, 2),
        ("fragment offset", |s| Sample { fragment: 0x4001, ..s }, 2),
        ("options", |s| Sample { options: vec![1; 4], ..s }, 2),
    ];
    let v6: [(&str, Change, usize); 2] = [
        ("flow label", |s| Sample { flow_label: 0x1235, ..s }, 2),
        (
            "extension",
            |s| Sample { extension: Some(60), options: vec![6, 0, 1, 4, 0, 0, 0, 0], ..s },
            2,
        ),
    ];
    let check = |first: &Sample, second: &Sample, (what, change, writes): (&str, Change, usize)| {
        let samples = [first.clone(), change(second.clone())];
        assert_eq!(runs(&samples).len(), writes, "{what} in {second:?}");
        let deliveries = deliver(&mut joining(Offload::ALL), &build(&samples));
        assert_eq!(split(&deliveries), build(&samples), "{what} in {second:?}");
    };
    for v in [false, true] {
        let whole = Sample { v6: v, ..Sample::tcp(&[1; 2000]) };
        let [first, second] = &whole.split(1000)[..] else { panic!() };
        let of_version = if v { &v6[..] } else { &v4[..] };
        for case in tcp.iter().chain(&ip).chain(of_version) {
            check(first, second, *case);
        }
        let whole = Sample { v6: v, ..Sample::udp(&[1; 2000]) };
        let [first, second] = &whole.split(1000)[..] else { panic!() };
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
    pieces.extend(Sample::tcp(&[1; 2000]).with(|s, _, _, _| *s += 2999).split(1000));
    (3..5).for_each(|index| pieces[index].id = 7 + index as u16);
    assert_eq!(runs(&pieces), [3, 2]);
}

#[test]
fn an_identification_may_stand_still_where_nothing_is_fragmented() {
    for (fragment, id, writes) in [(0x4000, 0, 1), (0x4000, 9, 1), (0, 9, 3)] {
        let mut pieces = Sample { fragment, ..Sample::tcp(&[1; 3000]) }.split(1000);
        pieces.iter_mut().for_each(|piece| piece.id = id);
        assert_eq!(runs(&pieces).len(), writes, "{fragment:#x}");
    }
    let pieces = Sample { fragment: 0, id: 0xffff, ..Sample::tcp(&[1; 3000]) }.split(1000);
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
                let deliveries = deliver(&mut joining(Offload::ALL), &packets);
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
            split(&deliver(&mut joining(Offload::ALL), &packets)),
            packets,
            "IPv4 byte {at}"
        );
    }
}

#[test]
fn udp_without_a_checksum_is_never_joined() {
    let alone = |packets: &[Vec<u8>]| {
        let deliveries = deliver(&mut joining(Offload::ALL), packets);
        assert!(deliveries.iter().map(|(_, packet)| packet).eq(packets));
    };
    let mut packets = build(&Sample::udp(&[1; 3000]).split(1000));
    packets.iter_mut().for_each(|packet| packet[26..28].fill(0));
    alone(&packets);
    // Even where zero happens to be the right one.
    let first = Sample::udp(&[0; 1000]).build();
    let payload = [&[0; 998], &first[26..28]].concat().repeat(3);
    let mut packets = build(&Sample::udp(&payload).split(1000));
    for packet in &mut packets {
        assert_eq!(packet[26..28], [0xff, 0xff]);
        packet[26..28].fill(0);
    }
    alone(&packets);
}

#[test]
fn unusual_headers_are_not_joined_even_if_they_are_alike() {
    let plain = [Sample::tcp(&[1; 2000]), Sample::udp(&[1; 2000])];
    for sample in plain.clone() {
        let v4 = Sample { options: vec![1; 4], ..sample.clone() };
        assert_eq!(runs(&v4.split(1000)), [1, 1], "IPv4 options");
        let next = if matches!(sample.transport, Transport::Udp) { 17 } else { 6 };
        let options = vec![next, 0, 1, 4, 0, 0, 0, 0];
        let v6 = Sample { extension: Some(60), options, ..sample.v6() };
        assert_eq!(runs(&v6.split(1000)), [1, 1], "IPv6 destination options");
    }
    // Lengths that contradict each other, in packets whose checksums are right.
    let mut short_ip = build(&plain[0].clone().v6().split(1000));
    short_ip.iter_mut().for_each(|packet| packet[5] -= 1);
    assert_eq!(deliver(&mut joining(Offload::ALL), &short_ip).len(), 2);
    let mut short_udp = build(&plain[1].split(1000));
    for packet in &mut short_udp {
        packet[25] -= 1;
        packet[27] += 1;
    }
    assert_eq!(deliver(&mut joining(Offload::ALL), &short_udp).len(), 2);
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
                Sample { id: index, ..sample }
            })
            .collect();
        assert_eq!(runs(&pieces), expected, "{size} bytes each");
    }
}

#[test]
fn mixed_flows_are_joined_each_for_itself() {
    for (flows, expected) in [(1, 8), (2, 8), (32, 8), (33, 1)] {
        let pieces: Vec<_> = (0..flows)
            .map(|host| Sample { hosts: [host, 9], ..Sample::tcp(&[host; 8000]) }.split(1000))
            .collect();
        let mixed: Vec<_> =
            (0..8).flat_map(|index| pieces.iter().map(move |flow| flow[index].clone())).collect();
        assert!(runs(&mixed).iter().all(|&run| run == expected), "{flows} flows");
    }
}

#[test]
fn tcp_and_udp_between_the_same_ports_are_not_joined() {
    let both = [Sample::tcp(&[1; 1000]), Sample::udp(&[1; 1000])];
    for samples in [both.clone(), both.map(Sample::v6)] {
        assert_eq!(runs(&samples), [1, 1]);
        let [tcp, udp] = samples;
        assert_eq!(runs(&[udp, tcp]), [1, 1]);
    }
}

#[test]
fn what_may_be_of_any_flow_overtakes_none() {
    let pieces = Sample::udp(&[1; 4000]).split(1000);
    let fragment = Sample { fragment: 0x00a0, ..Sample::udp(b"the rest") };
    let icmp = Sample { transport: Transport::Other(1), ..Sample::tcp(b"\x08\0\0\0") };
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
        let sample = if random.chance(3) { Sample::udp(b"") } else { Sample::tcp(b"") };
        let fragment = if random.chance(2) { 0x4000 } else { 0 };
        let next = Sample { v6: random.chance(2), hosts: [index, 2], fragment, ..sample };
        Self { next, size }
    }

    fn packet(&mut self, random: &mut Random) -> Vec<u8> {
        let size = if random.chance(12) { random.below(self.size + 4) } else { self.size };
        self.next.payload = random.bytes(size);
        let mut sample = self.next.clone();
        self.next.id = self.next.id.wrapping_add(1);
        self.next = self.next.clone().with(|sequence, _, _, _| *sequence += size as u32);
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
    let mut coalescer = joining(Offload::ALL);
    let (mut pushed, mut written) = (0, 0);
    for _ in 0..3000 {
        let flows = 1 + random.below(20) as u8;
        let mut sources: Vec<_> = (0..flows).map(|index| Source::new(&mut random, index)).collect();
        let mut packets = Vec::new();
        let mut places: HashMap<Vec<u8>, Vec<(usize, usize)>> = HashMap::new();
        while packets.len() < 100 {
            let flow = random.below(sources.len());
            for _ in 0..=random.below(8) {
                let packet = sources[flow].packet(&mut random);
                places.entry(packet.clone()).or_default().push((flow, packets.len()));
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
    let mut coalescer = joining(Offload::ALL);
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
    let mut coalescer = joining(Offload::ALL);
    for start in [packet.len(), usize::MAX - 56] {
        coalescer.push(start..start + 56, &packet);
    }
    for delivery in coalescer.finish() {
        let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
        assert!(delivery.gather(&packet, &mut pieces).iter().skip(1).all(|piece| piece.is_empty()));
    }
}

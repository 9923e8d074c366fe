//! From the TUN towards the tunnel: a packet with its virtio-net header becomes complete IP packets
//! (spec §1.13).

use sys::tun::VnetHeader;

use super::checksum::Sum;
use super::{Outline, Shape, Version, bytes_at, put, tcp, u16_at};

/// A packet as read from the TUN, as the IP packets that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'p> {
    /// What each segment starts with: all headers of a super-packet, nothing of any other packet.
    headers: &'p [u8],
    payload: &'p [u8],
    /// How much of the payload each segment takes; the last may get less.
    size: usize,
    /// From where on to sum, and where the checksum is to be, if that is left to do. The kernel has put
    /// the sum of the pseudo-header there.
    unfinished: Option<(usize, usize)>,
    /// The headers of a super-packet, and the length in its pseudo-header.
    whole: Option<(Shape, u16)>,
}

impl<'p> Segments<'p> {
    /// Reads what `header` says of `packet`. Its `hdr_len` is not looked at: on forwarded packets
    /// it is wrong. `None` if `packet` is no IP packet, or does not keep what `header` promises.
    pub fn new(header: VnetHeader, packet: &'p [u8]) -> Option<Self> {
        Version::of(packet)?;
        let start = usize::from(header.csum_start);
        let field = start + usize::from(header.csum_offset);
        let unfinished = (header.flags & VnetHeader::NEEDS_CSUM != 0).then_some((start, field));
        if header.gso_type == VnetHeader::GSO_NONE {
            if unfinished.is_some() {
                u16_at(packet, field)?;
            }
            let (payload, size) = (packet, packet.len());
            return Some(Self { headers: &[], payload, size, unfinished, whole: None });
        }
        let shape = Shape::of(packet, Outline::of(packet)?)?;
        let with_ecn = if shape.is_tcp { VnetHeader::GSO_ECN } else { 0 };
        let is_as_promised = header.gso_type & !with_ecn == shape.gso_type()
            && unfinished == Some((shape.transport, shape.transport + shape.checksum()));
        let (headers, payload) = packet.split_at_checked(shape.payload)?;
        let whole = Some((shape, u16::try_from(packet.len() - shape.transport).ok()?));
        let size = usize::from(header.gso_size);
        let is_sound = is_as_promised && size > 0 && !payload.is_empty();
        is_sound.then_some(Self { headers, payload, size, unfinished, whole })
    }

    /// How many packets there are: at least one.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size)
    }

    /// Bytes of packet `index`, zero if there is no such packet. All have the same length but the
    /// last, which may be shorter.
    pub fn length(&self, index: usize) -> usize {
        self.piece(index).map_or(0, |piece| self.headers.len() + piece.len())
    }

    /// Writes packet `index`, complete with all lengths and checksums, to the start of `to`, and
    /// returns its length. `None` if there is no such packet, or not enough room for it.
    pub fn write(&self, index: usize, to: &mut [u8]) -> Option<usize> {
        let piece = self.piece(index)?;
        let total = self.headers.len() + piece.len();
        let packet = to.get_mut(..total)?;
        let (headers, payload) = packet.split_at_mut_checked(self.headers.len())?;
        headers.copy_from_slice(self.headers);
        payload.copy_from_slice(piece);
        let mut sum = Sum::default();
        if let Some((shape, whole)) = self.whole {
            let length = shape.number(headers, total, index)?;
            // The rest of the pseudo-header is right as the kernel summed it. It knows it better than
            // the IP header does, which names the next router instead of the destination if there is
            // a routing header.
            sum = Sum::word(length).without(whole);
            if shape.is_tcp {
                self.place_in_stream(headers.get_mut(shape.transport..)?, index)?;
            }
        }
        if let Some((start, field)) = self.unfinished {
            sum = sum + Sum::of(packet.get(start..)?);
            let is_tcp = self.whole.is_some_and(|(shape, _)| shape.is_tcp);
            put(packet, field, if is_tcp { sum.checksum() } else { sum.udp_checksum() })?;
        }
        Some(total)
    }

    fn piece(&self, index: usize) -> Option<&'p [u8]> {
        self.payload.chunks(self.size).nth(index)
    }

    /// FIN and PSH belong to the end of the data, CWR was meant to be said once (RFC 3168 §6.1.2).
    fn place_in_stream(&self, header: &mut [u8], index: usize) -> Option<()> {
        let sequence = u32::from_be_bytes(bytes_at(header, tcp::SEQUENCE)?);
        let sequence = sequence.wrapping_add((index * self.size) as u32);
        put(header, tcp::SEQUENCE, sequence.to_be_bytes())?;
        let not_last = if index + 1 < self.count() { tcp::FIN | tcp::PSH } else { 0 };
        let not_first = if index > 0 { tcp::CWR } else { 0 };
        let [flags] = bytes_at(header, tcp::FLAGS)?;
        put(header, tcp::FLAGS, [flags & !not_last & !not_first])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

    use super::super::samples::{Random, Sample, Transport};
    use super::*;

    /// What the kernel says in front of a super-packet, but for `hdr_len`, where it may say anything.
    fn header_of(sample: &Sample, size: usize) -> VnetHeader {
        let (gso_type, csum_offset) = match (&sample.transport, sample.v6) {
            (Transport::Tcp { .. }, false) => (VnetHeader::GSO_TCPV4, 16),
            (Transport::Tcp { .. }, true) => (VnetHeader::GSO_TCPV6, 16),
            _ => (VnetHeader::GSO_UDP_L4, 6),
        };
        VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type,
            hdr_len: 0xffff,
            gso_size: size as u16,
            csum_start: sample.transport_offset() as u16,
            csum_offset,
        }
    }

    fn cut(header: VnetHeader, packet: &[u8]) -> Option<Vec<Vec<u8>>> {
        let segments = Segments::new(header, packet)?;
        let packets = (0..segments.count()).map(|index| {
            let mut room = vec![0xee; segments.length(index) + 40];
            let length = segments.write(index, &mut room).unwrap();
            assert_eq!(length, segments.length(index));
            assert!(room[length..].iter().all(|&byte| byte == 0xee), "wrote too far");
            room[..length].to_vec()
        });
        Some(packets.collect())
    }

    /// Cuts `sample` and compares with packets that were built one by one.
    fn check(sample: &Sample, size: usize) {
        let packets = cut(header_of(sample, size), &sample.build_partial()).unwrap();
        let expected: Vec<_> = sample.split(size).iter().map(Sample::build).collect();
        assert_eq!(packets, expected, "{size} bytes each of {sample:?}");
    }

    #[test]
    fn a_super_packet_becomes_the_packets_it_stands_for() {
        let payload = Random(1).bytes(10_000);
        for sample in [Sample::tcp(&payload), Sample::udp(&payload)] {
            for sample in [sample.clone(), sample.v6()] {
                for size in [1000, 1368, 1, 3333, 5000, 9_999, 10_000, 20_000] {
                    check(&sample, size);
                }
            }
        }
    }

    #[test]
    fn flags_of_the_whole_stay_where_they_belong() {
        for flags in 0..=255 {
            for size in [10, 20, 30, 40] {
                check(&Sample::tcp(&[7; 30]).with(|_, _, set, _| *set = flags), size);
            }
        }
    }

    #[test]
    fn numbers_count_past_their_end() {
        let sample = Sample { id: 0xffff, ..Sample::tcp(&[1; 5000]) };
        check(&sample.with(|sequence, _, _, _| *sequence = u32::MAX - 1500), 1000);
    }

    #[test]
    fn the_ecn_kinds_are_cut_alike() {
        let sample = Sample::tcp(&[1; 3000]).with(|_, _, flags, _| *flags = 0x90);
        for sample in [sample.clone(), sample.v6()] {
            let mut header = header_of(&sample, 1000);
            header.gso_type |= VnetHeader::GSO_ECN;
            let packets = cut(header, &sample.build_partial()).unwrap();
            let expected: Vec<_> = sample.split(1000).iter().map(Sample::build).collect();
            assert_eq!(packets, expected);
        }
    }

    #[test]
    fn options_and_extension_headers_come_along() {
        check(&Sample { options: vec![1; 12], ..Sample::tcp(&[9; 3000]) }, 1100);
        let options = vec![6, 0, 1, 4, 0, 0, 0, 0];
        check(&Sample { extension: Some(60), options, ..Sample::tcp(&[9; 3000]).v6() }, 1100);
    }

    #[test]
    fn random_super_packets_are_cut_right() {
        let mut random = Random(0x5e9);
        for _ in 0..2000 {
            let length = 1 + random.below(20_000);
            let payload = random.bytes(length);
            let mut sample =
                if random.chance(2) { Sample::tcp(&payload) } else { Sample::udp(&payload) };
            sample.v6 = random.chance(2);
            sample.id = random.next() as u16;
            sample.tos = random.next() as u8;
            sample.ports = [random.next() as u16, random.next() as u16];
            let [sequence, acknowledgement] = [random.next() as u32, random.next() as u32];
            let [flags, window] = [random.next() as u8 as u16, random.next() as u16];
            check(
                &sample.with(|s, a, f, w| {
                    (*s, *a, *f, *w) = (sequence, acknowledgement, flags as u8, window);
                }),
                1 + random.below(1500).max(length / 500),
            );
        }
    }

    #[test]
    fn a_plain_packet_stays_as_it_is() {
        for packet in [Sample::tcp(b"data").build(), Sample::udp(b"").v6().build(), vec![0x45; 20]]
        {
            assert_eq!(cut(VnetHeader::default(), &packet), Some(vec![packet]));
        }
    }

    #[test]
    fn an_unfinished_checksum_is_finished() {
        for sample in [Sample::tcp(b"data"), Sample::udp(b"odd"), Sample::tcp(b"").v6()] {
            let header = VnetHeader { gso_type: VnetHeader::GSO_NONE, ..header_of(&sample, 0) };
            assert_eq!(cut(header, &sample.build_partial()), Some(vec![sample.build()]));
        }
    }

    #[test]
    fn a_udp_checksum_of_zero_is_written_as_ones() {
        let mut payload = vec![0; 2000];
        // The last word of the first segment makes its sum all ones.
        let first = Sample::udp(&payload[..1000]).build();
        payload[998..1000].copy_from_slice(&first[26..28]);
        let sample = Sample::udp(&payload);
        let packets = cut(header_of(&sample, 1000), &sample.build_partial()).unwrap();
        assert_eq!(packets[0][26..28], [0xff, 0xff]);
        let single = Sample::udp(&payload[..1000]);
        let header = VnetHeader { gso_type: VnetHeader::GSO_NONE, ..header_of(&single, 0) };
        assert_eq!(cut(header, &single.build_partial()).unwrap()[0][26..28], [0xff, 0xff]);
    }

    #[test]
    fn the_kernels_sum_counts_where_a_routing_header_hides_the_destination() {
        let routing =
            vec![6, 2, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
        let sample =
            Sample { extension: Some(43), options: routing, ..Sample::tcp(&[5; 2500]).v6() };
        let reroute = |mut packet: Vec<u8>| {
            packet[39] = 77;
            packet
        };
        let packets = cut(header_of(&sample, 1000), &reroute(sample.build_partial()));
        let expected = sample.split(1000).iter().map(|packet| reroute(packet.build())).collect();
        assert_eq!(packets, Some(expected));
    }

    #[test]
    fn promises_that_the_packet_does_not_keep_are_refused() {
        type Spoil = fn(&mut VnetHeader, &mut Vec<u8>);
        let spoils: [(&str, Spoil); 16] = [
            ("no size", |header, _| header.gso_size = 0),
            ("no checksum to finish", |header, _| header.flags = 0),
            ("UFO", |header, _| header.gso_type = 3),
            ("UDP", |header, _| header.gso_type = VnetHeader::GSO_UDP_L4),
            ("IPv6", |header, _| header.gso_type = VnetHeader::GSO_TCPV6),
            ("only ECN", |header, _| {
                header.gso_type = VnetHeader::GSO_ECN;
            }),
            ("UDP with ECN", |header, _| header.gso_type = 0x85),
            ("checksum elsewhere", |header, _| header.csum_offset = 6),
            ("transport elsewhere", |header, _| header.csum_start = 24),
            ("no IP", |_, packet| packet[0] = 0x55),
            ("short IP header", |_, packet| packet[0] = 0x44),
            ("fragment", |_, packet| packet[6] = 0x20),
            ("short TCP header", |_, packet| packet[32] = 0x40),
            ("long TCP header", |_, packet| packet.truncate(51)),
            ("no payload", |_, packet| packet.truncate(52)),
            ("nothing at all", |_, packet| packet.clear()),
        ];
        let sample = Sample::tcp(&[3; 100]);
        for (what, spoil) in spoils {
            let (mut header, mut packet) = (header_of(&sample, 50), sample.build_partial());
            assert_eq!(cut(header, &packet).unwrap().len(), 2);
            spoil(&mut header, &mut packet);
            assert_eq!(cut(header, &packet), None, "{what}");
        }
        let large = [sample.build_partial(), vec![0; 65_500]].concat();
        assert_eq!(cut(header_of(&sample, 1000), &large), None, "longer than IP");
        let beyond =
            VnetHeader { flags: 1, csum_start: 150, csum_offset: 1, ..VnetHeader::default() };
        assert_eq!(cut(beyond, &sample.build()), None, "checksum behind the end");
        assert_eq!(cut(VnetHeader::default(), &[0x20; 40]), None, "no IP");
    }

    #[test]
    fn too_little_room_takes_nothing() {
        let (sample, mut room) = (Sample::tcp(&[3; 100]), [0; 102]);
        let packet = sample.build_partial();
        let segments = Segments::new(header_of(&sample, 50), &packet).unwrap();
        assert_eq!(segments.write(0, &mut room[..101]), None);
        assert_eq!(segments.write(0, &mut room), Some(102));
        assert_eq!((segments.write(2, &mut room), segments.length(2)), (None, 0));
    }

    #[test]
    fn garbage_is_cut_or_refused() {
        let mut random = Random(0xbad5eed);
        let mut accepted = 0;
        for _ in 0..100_000 {
            let mut sample =
                if random.chance(2) { Sample::tcp(&[1; 90]) } else { Sample::udp(&[1; 90]) };
            sample.v6 = random.chance(2);
            let size = random.below(60);
            let (mut header, mut packet) = (header_of(&sample, size), sample.build_partial());
            if random.chance(4) {
                let bytes: Vec<_> = random.bytes(10);
                header = VnetHeader::decode(&bytes).unwrap().0;
            }
            for _ in 0..random.below(4) {
                let at = random.below(60);
                packet[at] = random.next() as u8;
            }
            packet.truncate(random.below(300));
            if let Some(packets) = cut(header, &packet) {
                accepted += 1;
                assert!(!packets.is_empty());
            }
        }
        assert!(accepted > 1000, "only {accepted} got through");
    }
}

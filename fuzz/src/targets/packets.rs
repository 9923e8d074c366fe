//! TCP and UDP packets built field by field, with checksums of an implementation of their own.

use arbitrary::{Result, Unstructured};

/// TCP's header length and checksum, and UDP's.
const TCP_HEADER: usize = 20;
const TCP_CHECKSUM: usize = 16;
const UDP_HEADER: usize = 8;
const UDP_CHECKSUM: usize = 6;

/// A packet as its fields.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub v6: bool,
    pub tcp: bool,
    /// The last byte of the source address and of the source port.
    pub flow: u8,
    pub tos: u8,
    pub hops: u8,
    /// Flags and offset of IPv4.
    pub fragment: u16,
    pub identification: u16,
    pub sequence: u32,
    pub flags: u8,
    pub window: u16,
    /// Words of TCP options.
    pub options: u8,
    pub payload: Vec<u8>,
}

impl Fields {
    /// Mostly a packet as there are many.
    pub fn draw(u: &mut Unstructured<'_>) -> Result<Self> {
        let usual = u.ratio(7, 8)?;
        let length = u.int_in_range(0..=if usual { 100 } else { 1500 })?;
        Ok(Self {
            v6: u.arbitrary()?,
            tcp: u.arbitrary()?,
            flow: u.int_in_range(0..=2)?,
            tos: if usual { 0 } else { u.arbitrary()? },
            hops: 64,
            fragment: if usual { 0x4000 } else { u.arbitrary()? },
            identification: u.arbitrary()?,
            sequence: u.arbitrary()?,
            flags: if usual { 0x10 } else { u.arbitrary()? },
            window: 512,
            options: if usual { 3 } else { u.int_in_range(0..=10)? },
            payload: (0..length).map(|at: u16| at as u8).collect(),
        })
    }

    /// Bytes of all headers.
    pub fn headers(&self) -> usize {
        self.ip() + self.transport()
    }

    /// Bytes of the IP header, behind which the other begins.
    pub fn ip(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    fn transport(&self) -> usize {
        if self.tcp { TCP_HEADER + 4 * usize::from(self.options) } else { UDP_HEADER }
    }

    /// Where the checksum is in the transport header.
    pub fn checksum(&self) -> usize {
        if self.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM }
    }

    /// The packet, with every checksum right.
    pub fn build(&self) -> Vec<u8> {
        let mut packet = self.unsummed();
        let (ip, segment) = packet.split_at_mut(self.ip());
        let at = self.checksum();
        segment[at..at + 2].fill(0);
        let sum = !fold(self.pseudo(segment.len()) + sum(segment));
        let sum = if sum == 0 && !self.tcp { 0xffff } else { sum };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        if !self.v6 {
            let sum = !fold(sum_of_header(ip));
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// The packet as a TUN gives it to who has promised to do the rest: the sum of the pseudo-header
    /// where the checksum belongs.
    pub fn build_partial(&self) -> Vec<u8> {
        let mut packet = self.unsummed();
        let at = self.ip() + self.checksum();
        let pseudo = fold(self.pseudo(packet.len() - self.ip()));
        packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
        packet
    }

    fn addresses(&self) -> Vec<u8> {
        if self.v6 {
            let mut addresses = [0; 32];
            [addresses[0], addresses[16], addresses[31]] = [0xfd, 0xfd, 9];
            addresses[15] = self.flow;
            addresses.to_vec()
        } else {
            vec![10, 0, 0, self.flow, 10, 0, 0, 9]
        }
    }

    fn pseudo(&self, segment: usize) -> u64 {
        let protocol = if self.tcp { 6 } else { 17 };
        sum(&self.addresses()) + protocol + segment as u64
    }

    fn unsummed(&self) -> Vec<u8> {
        let segment = self.transport() + self.payload.len();
        let protocol = if self.tcp { 6 } else { 17 };
        let mut packet = if self.v6 {
            let [l0, l1] = (segment as u16).to_be_bytes();
            let [t0, t1] = [0x60 | self.tos >> 4, self.tos << 4];
            vec![t0, t1, 0, 0, l0, l1, protocol, self.hops]
        } else {
            let [l0, l1] = ((20 + segment) as u16).to_be_bytes();
            let [i0, i1] = self.identification.to_be_bytes();
            let [f0, f1] = self.fragment.to_be_bytes();
            vec![0x45, self.tos, l0, l1, i0, i1, f0, f1, self.hops, protocol, 0, 0]
        };
        packet.extend(self.addresses());
        packet.extend([1, self.flow, 2, 2]);
        if self.tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend([0, 0, 0, 5, (5 + self.options) << 4, self.flags]);
            packet.extend(self.window.to_be_bytes());
            packet.extend([0; 4]);
            packet.extend((0..4 * self.options).map(|_| 1));
        } else {
            packet.extend((segment as u16).to_be_bytes());
            packet.extend([0; 2]);
        }
        packet.extend(&self.payload);
        packet
    }
}

fn sum_of_header(ip: &[u8]) -> u64 {
    sum(&ip[..10]) + sum(&ip[12..])
}

/// The sum of the words of network order, an odd byte being the upper half of the last.
pub fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| (*low).into());
    bytes.chunks(2).map(word).sum()
}

pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether the checksums of a TCP or UDP packet without IP options and extension headers are right.
pub fn is_intact(packet: &[u8]) -> bool {
    let (header, addresses) = match packet[0] >> 4 {
        4 => (20, &packet[12..20]),
        _ => (40, &packet[8..40]),
    };
    let (ip, segment) = packet.split_at(header);
    let protocol = if header == 20 { ip[9] } else { ip[6] };
    let whole = sum(addresses) + u64::from(protocol) + segment.len() as u64 + sum(segment);
    fold(whole) == 0xffff && (header == 40 || fold(sum(ip)) == 0xffff)
}

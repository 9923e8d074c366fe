//! What the tests of packets share: packets built field by field, and a seeded generator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

/// A packet as its fields. Checksums are right in what is built, by an implementation of their own.
#[derive(Clone, Debug)]
pub struct Sample {
    pub v6: bool,
    pub hosts: [u8; 2],
    pub ports: [u16; 2],
    pub tos: u8,
    pub hops: u8,
    pub id: u16,
    /// Flags and offset of IPv4.
    pub fragment: u16,
    pub flow_label: u16,
    /// IPv4 options, or IPv6 extension headers behind a first one of type `Some(..)`.
    pub options: Vec<u8>,
    pub extension: Option<u8>,
    pub transport: Transport,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug)]
pub enum Transport {
    Tcp { sequence: u32, acknowledgement: u32, flags: u8, window: u16, options: Vec<u8> },
    Udp,
    Other(u8),
}

impl Sample {
    pub fn tcp(payload: &[u8]) -> Self {
        Self {
            v6: false,
            hosts: [1, 2],
            ports: [443, 50_000],
            tos: 0,
            hops: 64,
            id: 7,
            fragment: 0x4000,
            flow_label: 0x1234,
            options: Vec::new(),
            extension: None,
            transport: Transport::Tcp {
                sequence: 1000,
                acknowledgement: 2000,
                flags: 0x10,
                window: 512,
                options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            },
            payload: payload.to_vec(),
        }
    }

    pub fn udp(payload: &[u8]) -> Self {
        Self { transport: Transport::Udp, ..Self::tcp(payload) }
    }

    pub fn v6(self) -> Self {
        Self { v6: true, ..self }
    }

    /// Changes the TCP fields.
    pub fn with(mut self, change: impl FnOnce(&mut u32, &mut u32, &mut u8, &mut u16)) -> Self {
        if let Transport::Tcp { sequence, acknowledgement, flags, window, .. } = &mut self.transport
        {
            change(sequence, acknowledgement, flags, window);
        }
        self
    }

    pub fn addresses(&self) -> [Vec<u8>; 2] {
        self.hosts.map(|host| match self.v6 {
            false => vec![10, 0, 0, host],
            true => [&[0xfd][..], &[0; 14], &[host]].concat(),
        })
    }

    pub fn transport_offset(&self) -> usize {
        if self.v6 { 40 + self.options.len() } else { 20 + self.options.len() }
    }

    /// The packet on the wire.
    pub fn build(&self) -> Vec<u8> {
        self.build_with(|pseudo, segment| !sum(&[pseudo, segment].concat()))
    }

    /// The packet as the kernel hands it to a device that will finish its checksum.
    pub fn build_partial(&self) -> Vec<u8> {
        self.build_with(|pseudo, _| sum(pseudo))
    }

    fn build_with(&self, checksum: impl Fn(&[u8], &[u8]) -> u16) -> Vec<u8> {
        let (protocol, mut segment) = self.segment();
        let [source, destination] = self.addresses();
        let length = (segment.len() as u32).to_be_bytes();
        let pseudo = [&source[..], &destination, &length, &[0, 0, 0, protocol]].concat();
        let value = checksum(&pseudo, &segment);
        match self.transport {
            Transport::Tcp { .. } => segment[16..18].copy_from_slice(&value.to_be_bytes()),
            Transport::Udp if value == 0 => segment[6..8].fill(0xff),
            Transport::Udp => segment[6..8].copy_from_slice(&value.to_be_bytes()),
            Transport::Other(_) => {}
        }
        [self.ip(protocol, segment.len()), segment].concat()
    }

    fn segment(&self) -> (u8, Vec<u8>) {
        let ports = self.ports.map(u16::to_be_bytes).concat();
        match &self.transport {
            Transport::Tcp { sequence, acknowledgement, flags, window, options } => {
                let offset = ((20 + options.len()) / 4 * 16) as u8;
                let mut segment = ports;
                segment.extend(sequence.to_be_bytes());
                segment.extend(acknowledgement.to_be_bytes());
                segment.extend([offset, *flags]);
                segment.extend(window.to_be_bytes());
                segment.extend([0, 0, 0, 0]);
                segment.extend(options);
                segment.extend(&self.payload);
                (6, segment)
            }
            Transport::Udp => {
                let length = (8 + self.payload.len()) as u16;
                (17, [&ports[..], &length.to_be_bytes(), &[0, 0], &self.payload].concat())
            }
            Transport::Other(protocol) => (*protocol, self.payload.clone()),
        }
    }

    fn ip(&self, protocol: u8, segment: usize) -> Vec<u8> {
        let [source, destination] = self.addresses();
        let mut ip = Vec::new();
        if self.v6 {
            let first = 6 << 28 | u32::from(self.tos) << 20 | u32::from(self.flow_label);
            ip.extend(first.to_be_bytes());
            ip.extend(((self.options.len() + segment) as u16).to_be_bytes());
            ip.extend([self.extension.unwrap_or(protocol), self.hops]);
            ip.extend([source, destination].concat());
            ip.extend(&self.options);
        } else {
            let header = 20 + self.options.len();
            ip.extend([0x40 | (header / 4) as u8, self.tos]);
            ip.extend(((header + segment) as u16).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend(self.fragment.to_be_bytes());
            ip.extend([self.hops, protocol, 0, 0]);
            ip.extend([source, destination].concat());
            ip.extend(&self.options);
            let checksum = !sum(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        ip
    }

    /// What a super-packet of this content must become, each packet built on its own.
    pub fn split(&self, size: usize) -> Vec<Sample> {
        let last = self.payload.len().div_ceil(size) - 1;
        let pieces = self.payload.chunks(size).enumerate();
        pieces
            .map(|(index, piece)| {
                let id = self.id.wrapping_add(index as u16);
                let sample = Sample { id, payload: piece.to_vec(), ..self.clone() };
                sample.with(|sequence, _, flags, _| {
                    *sequence = sequence.wrapping_add((index * size) as u32);
                    if index < last {
                        *flags &= !0x09;
                    }
                    if index > 0 {
                        *flags &= !0x80;
                    }
                })
            })
            .collect()
    }
}

/// The ones' complement sum, word by word (RFC 1071 §4.1).
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// xorshift64: a seed is a whole test.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

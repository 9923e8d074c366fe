//! Cryptokey routing: which peer an inner address belongs to (paper §2).
//!
//! The longest prefix of *any* peer decides. Prefixes nest but never overlap otherwise: of those in order,
//! the last that begins at an address or before it covers that address, or only those around it can. So
//! the data plane's snapshot is the list of them, each of which knows the one around it, and a look-up is
//! one binary search.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::peer::PeerId;

/// An address with the bits behind `length` cleared. In order, it comes right before those that it
/// covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Masks off the host bits. `None` if `length` exceeds the address.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (bits, width) = bits(address);
        let masked = bits & !host_bits(width.checked_sub(length)?);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(masked as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(masked)),
        };
        Some(Self { address, length })
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// The allowed addresses of all peers of a device, each of which is known as a `P`.
#[derive(Clone, Debug)]
pub struct AllowedIps<P> {
    v4: Vec<Entry<P>>,
    v6: Vec<Entry<P>>,
}

/// A prefix, as the numbers of its first and last address.
#[derive(Clone, Debug)]
struct Entry<P> {
    first: u128,
    last: u128,
    owner: P,
    /// How many entries there are up to the longest prefix around this one, that included; 0 if none is.
    around: usize,
}

impl<P> AllowedIps<P> {
    /// Of the `owners` that are `known`.
    pub(crate) fn new(
        owners: &BTreeMap<Prefix, PeerId>,
        known: impl Fn(PeerId) -> Option<P>,
    ) -> Self {
        let [mut v4, mut v6] = [Vec::new(), Vec::new()];
        for (prefix, owner) in owners {
            let Some(owner) = known(*owner) else { continue };
            let entries = if prefix.address.is_ipv4() { &mut v4 } else { &mut v6 };
            let (first, width) = bits(prefix.address);
            let last = first | host_bits(width.saturating_sub(prefix.length));
            let around = longest(entries, entries.len(), first);
            entries.push(Entry { first, last, owner, around });
        }
        Self { v4, v6 }
    }

    /// The peer with the longest prefix that covers `address`.
    pub fn lookup(&self, address: IpAddr) -> Option<&P> {
        let entries = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let (bits, _) = bits(address);
        let behind = entries.partition_point(|entry| entry.first <= bits);
        let at = longest(entries, behind, bits).checked_sub(1)?;
        entries.get(at).map(|entry| &entry.owner)
    }
}

/// Of the first `count` entries, all of which begin at `bits` or before: how many there are up to the
/// longest that covers it, that included; 0 if none does.
fn longest<P>(entries: &[Entry<P>], mut count: usize, bits: u128) -> usize {
    while let Some(entry) = count.checked_sub(1).and_then(|at| entries.get(at))
        && entry.last < bits
    {
        count = entry.around;
    }
    count
}

/// An address as a number, and its width.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (v4.to_bits().into(), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The lower `count` bits.
fn host_bits(count: u8) -> u128 {
    !u128::MAX.checked_shl(count.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    fn table(owners: &BTreeMap<Prefix, PeerId>) -> AllowedIps<u64> {
        AllowedIps::new(owners, |PeerId(who)| Some(who))
    }

    /// The table of the kernel's own self-test (spec §5.2, S1).
    #[test]
    fn the_longest_prefix_of_any_peer_decides() {
        let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7];
        let owners = [
            (a, "192.168.4.0/24"),
            (b, "192.168.4.4/32"),
            (c, "192.168.0.0/16"),
            (d, "192.95.5.64/27"),
            (c, "192.95.5.65/27"),
            (d, "2607:5300:6000:6b00::c05f:543/128"),
            (c, "2607:5300:6000:6b00::/64"),
            (e, "0.0.0.0/0"),
            (e, "::/0"),
            (f, "::/0"),
            (g, "2404:6800::/32"),
            (h, "2404:6800:4004:800:dead:beef:dead:beef/64"),
            (a, "2404:6800:4004:800:dead:beef:dead:beef/128"),
            (c, "2444:6800:40e4:800:deae:beef:def:beef/128"),
            (b, "2444:6800:f0e4:800:eeae:beef::/98"),
            (g, "64.15.112.0/20"),
            (h, "64.15.123.211/25"),
            (a, "10.0.0.0/25"),
            (b, "10.0.0.128/25"),
            (a, "10.1.0.0/30"),
            (b, "10.1.0.4/30"),
            (c, "10.1.0.8/29"),
            (d, "10.1.0.16/29"),
        ];
        let table = table(&owners.map(|(who, text)| (prefix(text), PeerId(who))).into());
        for (address, expected) in [
            ("192.168.4.20", a),
            ("192.168.4.0", a),
            ("192.168.4.4", b),
            ("192.168.200.182", c),
            ("192.95.5.68", c),
            ("192.95.5.96", e),
            ("2607:5300:6000:6b00::c05f:543", d),
            ("2607:5300:6000:6b00::c02e:1ee", c),
            ("2607:5300:6000:6b01::", f),
            ("2404:6800:4004:806::1006", g),
            ("2404:6800:4004:806:0:1234:0:5678", g),
            ("2404:67ff:4004:806:0:1234:0:5678", f),
            ("2404:6801:4004:806:0:1234:0:5678", f),
            ("2404:6800:4004:800:0:1234:0:5678", h),
            ("2404:6800:4004:800::", h),
            ("2404:6800:4004:800:1010:1010:1010:1010", h),
            ("2404:6800:4004:800:dead:beef:dead:beef", a),
            ("64.15.116.26", g),
            ("64.15.127.3", g),
            ("64.15.123.1", g),
            ("64.15.123.128", h),
            ("64.15.123.129", h),
            ("10.0.0.52", a),
            ("10.0.0.220", b),
            ("10.1.0.2", a),
            ("10.1.0.6", b),
            ("10.1.0.10", c),
            ("10.1.0.20", d),
        ] {
            assert_eq!(table.lookup(address.parse().unwrap()), Some(&expected), "{address}");
        }
    }

    /// S1c: prefixes may nest 129 deep.
    #[test]
    fn every_length_of_one_address_can_be_told_apart() {
        let ones = Ipv6Addr::from_bits(u128::MAX);
        let owners = (0..=128)
            .map(|length| (Prefix::new(ones.into(), length).unwrap(), PeerId(length.into())));
        let table = table(&owners.collect());
        for bit in 0..128_u32 {
            let address = Ipv6Addr::from_bits(u128::MAX ^ (1 << (127 - bit)));
            assert_eq!(table.lookup(address.into()), Some(&bit.into()));
        }
        assert_eq!(table.lookup(ones.into()), Some(&128));
    }

    /// S1e, against a list that is searched from end to end.
    #[test]
    fn the_table_agrees_with_a_linear_search() {
        let mut state = 1_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        // Few distinct bits, so that prefixes nest and touch.
        let mut address = |v4| -> IpAddr {
            let number = random();
            if v4 {
                Ipv4Addr::from_bits((number as u32) & 0xf0f0_000f).into()
            } else {
                Ipv6Addr::from_bits(
                    (u128::from(number & 0xff) << 120) | u128::from(number >> 8 & 7),
                )
                .into()
            }
        };
        for step in 0..3000_u16 {
            let v4 = step % 2 == 0;
            let owners: BTreeMap<_, _> = (0..step as u8 % 40)
                .map(|who| {
                    let place = address(v4);
                    let [.., low, _] = Ipv6Addr::from_bits(bits(address(false)).0).octets();
                    let length = (low ^ who.wrapping_mul(37)) % if v4 { 33 } else { 129 };
                    (Prefix::new(place, length).unwrap(), PeerId(who.into()))
                })
                .collect();
            let table = table(&owners);
            for _ in 0..20 {
                let place = address(v4);
                let covers = |prefix: &Prefix| Prefix::new(place, prefix.length) == Some(*prefix);
                let expected = owners
                    .iter()
                    .filter(|(prefix, _)| covers(prefix))
                    .max_by_key(|entry| entry.0.length);
                assert_eq!(
                    table.lookup(place),
                    expected.map(|(_, PeerId(who))| who),
                    "step {step}"
                );
            }
        }
    }
}

//! Cryptokey routing: which peer an inner address belongs to (paper §2).
//!
//! One path-compressed binary trie per family over the whole device, so that the longest prefix of
//! *any* peer decides. Nodes live in one vector and refer to each other by position: a snapshot for
//! the data plane is one copy of memory, and nothing recurses.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::peer::PeerId;

/// An address with the bits behind `length` cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Masks off the host bits. `None` if `length` exceeds the address.
    #[must_use]
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        let (bits, width) = bits(address);
        let masked = bits & mask(length);
        let address = match address {
            // The upper 32 of the 128 bits; see `bits`.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((masked >> 96) as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(masked)),
        };
        (length <= width).then_some(Self { address, length })
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The allowed addresses of all peers of a device.
#[derive(Clone, Debug, Default)]
pub struct AllowedIps {
    v4: Trie,
    v6: Trie,
}

impl AllowedIps {
    /// The peer with the longest prefix that covers `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        let (bits, _) = bits(address);
        match address {
            IpAddr::V4(_) => self.v4.lookup(bits),
            IpAddr::V6(_) => self.v6.lookup(bits),
        }
    }

    /// Gives `prefix` to `peer` and returns who had exactly this prefix before.
    pub(crate) fn insert(&mut self, prefix: Prefix, peer: PeerId) -> Option<PeerId> {
        let (bits, _) = bits(prefix.address);
        self.trie(prefix).insert(bits, prefix.length, peer)
    }

    /// Removes exactly `prefix`, if it is `peer`'s; says whether it was.
    pub(crate) fn remove(&mut self, prefix: Prefix, peer: PeerId) -> bool {
        let (bits, _) = bits(prefix.address);
        self.trie(prefix).remove(bits, prefix.length, peer)
    }

    fn trie(&mut self, prefix: Prefix) -> &mut Trie {
        match prefix.address {
            IpAddr::V4(_) => &mut self.v4,
            IpAddr::V6(_) => &mut self.v6,
        }
    }
}

/// An address as the leading bits of 128, and its width.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

fn mask(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0)
}

/// Which child of a node of `length` bits leads towards `bits`; anything below a whole address.
fn side(bits: u128, length: u8) -> usize {
    // Shifting one half is half of the work.
    let half = if length < 64 { bits >> 64 } else { bits } as u64;
    (half.rotate_left(u32::from(length) + 1) & 1) as usize
}

/// Position of a node; `None` is encoded as `u32::MAX` to keep nodes small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link(u32);

const NOWHERE: Link = Link(u32::MAX);

#[derive(Clone, Copy, Debug)]
struct Node {
    bits: u128,
    children: [Link; 2],
    peer: Option<PeerId>,
    length: u8,
}

impl Node {
    fn covers(&self, bits: u128) -> bool {
        (self.bits ^ bits).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0
    }

    fn child(&self, side: usize) -> Link {
        self.children.get(side).copied().unwrap_or(NOWHERE)
    }
}

#[derive(Clone, Debug)]
struct Trie {
    nodes: Vec<Node>,
    /// Positions to use again.
    free: Vec<Link>,
    root: Link,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), root: NOWHERE }
    }
}

impl Trie {
    fn get(&self, link: Link) -> Option<&Node> {
        self.nodes.get(link.0 as usize)
    }

    fn get_mut(&mut self, link: Link) -> Option<&mut Node> {
        self.nodes.get_mut(link.0 as usize)
    }

    fn lookup(&self, bits: u128) -> Option<PeerId> {
        let mut best = None;
        let mut link = self.root;
        while let Some(node) = self.get(link) {
            // A fork without a peer decides nothing, whether it covers the address or not.
            if node.peer.is_some() {
                if !node.covers(bits) {
                    break;
                }
                best = node.peer;
            }
            link = node.child(side(bits, node.length));
        }
        best
    }

    /// The last link on the way to `bits`/`length` whose node covers it, and the link below it.
    fn descend(&self, bits: u128, length: u8) -> (Link, Link) {
        let (mut parent, mut link) = (NOWHERE, self.root);
        while let Some(node) = self.get(link) {
            if node.length >= length || !node.covers(bits) {
                break;
            }
            (parent, link) = (link, node.child(side(bits, node.length)));
        }
        (parent, link)
    }

    fn insert(&mut self, bits: u128, length: u8, peer: PeerId) -> Option<PeerId> {
        let (parent, link) = self.descend(bits, length);
        let Some(node) = self.get(link) else {
            let leaf = self.add(bits, length, Some(peer));
            self.attach(parent, bits, leaf);
            return None;
        };
        let (node_bits, node_length) = (node.bits, node.length);
        let common = ((node_bits ^ bits).leading_zeros() as u8).min(length).min(node_length);
        if common == node_length {
            // `descend` stopped at a node that is no shorter: it is this very prefix.
            return self.get_mut(link)?.peer.replace(peer);
        }
        let above = if common == length {
            self.add(bits, length, Some(peer))
        } else {
            let fork = self.add(bits & mask(common), common, None);
            let leaf = self.add(bits, length, Some(peer));
            self.set_child(fork, side(bits, common), leaf);
            fork
        };
        self.set_child(above, side(node_bits, common), link);
        self.attach(parent, bits, above);
        None
    }

    fn remove(&mut self, bits: u128, length: u8, peer: PeerId) -> bool {
        let (parent, link) = self.descend(bits, length);
        let Some(node) = self.get_mut(link) else {
            return false;
        };
        if node.length != length || node.bits != bits || node.peer != Some(peer) {
            return false;
        }
        node.peer = None;
        self.splice(link, parent, bits);
        // The parent may now be a fork without a reason.
        if let Some(node) = self.get(parent) {
            let (bits, length) = (node.bits, node.length);
            let (above, _) = self.descend(bits, length);
            self.splice(parent, above, bits);
        }
        true
    }

    /// Takes a node that holds no peer and at most one child out of the tree.
    fn splice(&mut self, link: Link, parent: Link, bits: u128) {
        let Some(node) = self.get(link) else { return };
        let only_child = match (node.peer, node.children) {
            (None, [NOWHERE, child] | [child, NOWHERE]) => child,
            _ => return,
        };
        self.attach(parent, bits, only_child);
        if let Some(node) = self.get_mut(link) {
            node.children = [NOWHERE; 2];
        }
        self.free.push(link);
    }

    fn add(&mut self, bits: u128, length: u8, peer: Option<PeerId>) -> Link {
        let node = Node { bits, children: [NOWHERE; 2], peer, length };
        if let Some(link) = self.free.pop()
            && let Some(slot) = self.get_mut(link)
        {
            *slot = node;
            return link;
        }
        self.nodes.push(node);
        Link((self.nodes.len() - 1) as u32)
    }

    /// Hangs `child` below `parent`, or at the root.
    fn attach(&mut self, parent: Link, bits: u128, child: Link) {
        match self.get(parent) {
            Some(node) => {
                let side = side(bits, node.length);
                self.set_child(parent, side, child);
            }
            None => self.root = child,
        }
    }

    fn set_child(&mut self, parent: Link, side: usize, child: Link) {
        if let Some(slot) = self.get_mut(parent).and_then(|node| node.children.get_mut(side)) {
            *slot = child;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn peer(n: u32) -> PeerId {
        PeerId::new(n, 1)
    }

    fn prefix(text: &str) -> Prefix {
        let (address, length) = text.split_once('/').unwrap();
        Prefix::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
    }

    /// The table of the kernel's own self-test (spec §5.2, S1).
    #[test]
    fn the_longest_prefix_of_any_peer_decides() {
        let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(peer);
        let mut table = AllowedIps::default();
        for (who, text) in [
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
        ] {
            table.insert(prefix(text), who);
        }
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
            assert_eq!(table.lookup(address.parse().unwrap()), Some(expected), "{address}");
        }
    }

    /// S1c: the tree may be 129 nodes deep.
    #[test]
    fn every_length_of_one_address_can_be_told_apart() {
        let mut table = AllowedIps::default();
        for length in 0..=128 {
            table.insert(
                Prefix::new(Ipv6Addr::from_bits(u128::MAX).into(), length).unwrap(),
                peer(length.into()),
            );
        }
        for bit in 0..128_u32 {
            let address = Ipv6Addr::from_bits(u128::MAX ^ (1 << (127 - bit)));
            assert_eq!(table.lookup(address.into()), Some(peer(bit)));
        }
        for length in (0..=128).rev() {
            let prefix = Prefix::new(Ipv6Addr::from_bits(u128::MAX).into(), length).unwrap();
            assert!(table.remove(prefix, peer(length.into())));
        }
        assert_eq!(table.v6.root, NOWHERE);
        assert_eq!(table.v6.free.len(), table.v6.nodes.len());
    }

    /// S1e, against a list that is searched from end to end.
    #[test]
    fn the_trie_agrees_with_a_linear_search() {
        let mut state = 1_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut table = AllowedIps::default();
        let mut list: Vec<(Prefix, PeerId)> = Vec::new();
        for step in 0..6000 {
            let v4 = random() % 2 == 0;
            // Few distinct bits, so that prefixes nest and collide.
            let address: IpAddr = if v4 {
                Ipv4Addr::from_bits((random() as u32) & 0xf0f0_000f).into()
            } else {
                Ipv6Addr::from_bits((u128::from(random() & 0xff) << 120) | u128::from(random() & 7))
                    .into()
            };
            let length = (random() % if v4 { 33 } else { 129 }) as u8;
            let prefix = Prefix::new(address, length).unwrap();
            let who = peer((random() % 20) as u32);
            if random() % 3 == 0 {
                let had = list.iter().position(|entry| *entry == (prefix, who));
                assert_eq!(table.remove(prefix, who), had.is_some());
                if let Some(at) = had {
                    list.remove(at);
                }
            } else {
                let before =
                    list.iter().position(|entry| entry.0 == prefix).map(|at| list.remove(at).1);
                assert_eq!(table.insert(prefix, who), before, "step {step}");
                list.push((prefix, who));
            }
            let expected = list
                .iter()
                .filter(|(prefix, _)| Prefix::new(address, prefix.length) == Some(*prefix))
                .max_by_key(|(prefix, _)| prefix.length)
                .map(|entry| entry.1);
            assert_eq!(table.lookup(address), expected, "step {step}");
        }
        for (prefix, who) in list {
            assert!(table.remove(prefix, who));
        }
        assert_eq!((table.v4.root, table.v6.root), (NOWHERE, NOWHERE));
    }
}

//! Cryptokey routing: which peer an address belongs to.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::{AllowedIpsChange, Change, PeerChange, Prefix};

use super::catalogue::Entry;
use super::control::{device, now, public_key};
use crate::Outcome;

const SIZES: [u32; 3] = [1, 100, 100_000];
const LOOK_UPS: usize = 1024;

/// All of them.
pub fn entries() -> Vec<Entry> {
    let table = |name: &'static str, address: fn(u32) -> IpAddr| {
        SIZES.iter().map(move |size| {
            let start = move || lookup(*size, address);
            Entry::new(format!("{name}-{size}"), (LOOK_UPS, "look-up"), start)
        })
    };
    table("route4", v4).chain(table("route6", v6)).collect()
}

/// Looks up addresses that are there, in no order that memory could follow.
fn lookup(size: u32, address: fn(u32) -> IpAddr) -> Outcome<impl FnMut()> {
    let prefixes = (0..size).filter_map(|number| host(address(number)));
    let peer = PeerChange {
        allowed_ips: prefixes.map(AllowedIpsChange::Insert).collect(),
        ..PeerChange::new(public_key(0))
    };
    let mut device = device();
    let change = Change { peers: vec![peer], ..Change::default() };
    device.configure(now(0), &change).map_err(|_| "too many peers")?;
    let routes = device.routes(Some);
    let wanted: Vec<_> =
        (0..LOOK_UPS as u32).map(|number| address(scattered(number) % size)).collect();
    Ok(move || {
        for address in &wanted {
            assert!(routes.lookup(*black_box(address)).is_some(), "all of them were added");
        }
    })
}

/// The prefix of just this address.
pub fn host(address: IpAddr) -> Option<Prefix> {
    Prefix::new(address, if address.is_ipv4() { 32 } else { 128 })
}

/// Within 10.0.0.0/8, as spread out as it can be.
pub fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(10 << 24 | scattered(number) >> 8).into()
}

/// Subnets of fd00::/8, an address in each.
fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from_bits(0xfd << 120 | u128::from(scattered(number)) << 64 | 1).into()
}

/// A different number for each, without order (Knuth's multiplicative hash).
pub fn scattered(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

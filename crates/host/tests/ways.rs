//! Which address the machine sends from, asked again and again with one socket.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};

use host::ways::{preferred_source, probe};
use host::{Family, Network, namespace};
use support::*;
use sys::tun::Tun;

fn ip(place: &OwnedFd, arguments: &str) {
    said(place, &format!("ip {arguments}")).expect("`ip' is there");
}

/// Two interfaces, up, each with addresses of its own, and their numbers.
fn two_ways(place: &OwnedFd) -> [(Tun, u32); 2] {
    [1, 2].map(|n| {
        let name = format!("tun{n}");
        let tun = namespace::within(place.as_fd(), || Tun::create(&name, 1).unwrap().remove(0));
        ip(place, &format!("link set tun{n} addrgenmode none up"));
        ip(place, &format!("address add 192.0.{n}.1/24 dev tun{n}"));
        ip(place, &format!("address add 2001:db8:{n}::1/64 dev tun{n} nodad"));
        ip(place, &format!("address add fe80::{n}/64 dev tun{n} nodad"));
        let number = Network::open_in(place.as_fd()).unwrap().link(&name).unwrap().index;
        (tun.unwrap(), number)
    })
}

#[test]
fn what_was_asked_before_changes_no_answer() {
    let Some(here) = a_namespace() else { return };
    let [(_first, one), (_second, two)] = two_ways(&here);
    let [v4, v6] = namespace::within(here.as_fd(), || {
        [Family::V4, Family::V6].map(|family| probe(family, 0).unwrap())
    })
    .unwrap();
    let near =
        |number| SocketAddr::from(SocketAddrV6::new("fe80::9".parse().unwrap(), 9, 0, number));
    let far = |text: &str| SocketAddr::new(text.parse().unwrap(), 9);
    let source = |text: &str| Ok(text.parse::<IpAddr>().unwrap());
    let asked = |to: SocketAddr| {
        let probe = if to.is_ipv4() { &v4 } else { &v6 };
        let answer = preferred_source(probe, to).map_err(|error| error.kind());
        let left = probe.local_addr().unwrap();
        assert!(left.ip().is_unspecified() && left.port() == 0, "{to} leaves {left}");
        answer
    };
    let every = |is_first_up| {
        let gone = Err(io::ErrorKind::NetworkUnreachable);
        let of_first = |text| if is_first_up { source(text) } else { gone };
        for _ in 0..2 {
            assert_eq!(asked(near(one)), of_first("fe80::1"));
            assert_eq!(asked(far("2001:db8:2::9")), source("2001:db8:2::1"));
            assert_eq!(asked(near(two)), source("fe80::2"));
            assert_eq!(asked(far("2001:db8:1::9")), of_first("2001:db8:1::1"));
            assert_eq!(asked(far("192.0.1.9")), of_first("192.0.1.1"));
            assert_eq!(asked(far("192.0.2.9")), source("192.0.2.1"));
        }
    };
    every(true);
    ip(&here, "link set tun1 down");
    every(false);
    ip(&here, "link set tun1 addrgenmode none up");
    ip(&here, "address add 2001:db8:1::1/64 dev tun1 nodad");
    ip(&here, "address add fe80::1/64 dev tun1 nodad");
    every(true);
}

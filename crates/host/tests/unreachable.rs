//! What the kernel says by ICMP of datagrams that did not arrive, however much else it says.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;

use host::namespace;
use host::unreachable::{Reason, Reports};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use support::{a_namespace, said};

/// More than any socket has room for.
const ECHOES: usize = 5000;

#[test]
fn echoes_take_no_room_from_reports() {
    let Some(namespace) = a_namespace() else { return };
    let Some(_) = said(&namespace, "ip link set lo up") else { return };
    namespace::within(namespace.as_fd(), || {
        for (address, family, protocol, echo) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), AddressFamily::INET, ipproto::ICMP, 8),
            (Ipv6Addr::LOCALHOST.into(), AddressFamily::INET6, ipproto::ICMPV6, 128),
        ] {
            let reports = Reports::open().unwrap();
            let raw =
                socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap();
            let raw = UdpSocket::from(raw);
            for _ in 0..ECHOES {
                raw.send_to(&[echo, 0, 0, 0, 0, 0, 0, 0], (address, 0)).unwrap();
            }
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.send_to(&[0; 148], (address, 9)).unwrap();
            // It is its own network, and has answered by now.
            let told: Vec<_> = reports.fetch().iter().map(|it| (it.to, it.reason)).collect();
            assert_eq!(told, [((address, 9), Reason::Port)]);
        }
    })
    .unwrap();
}

//! UDP where the machine's settings are part of the question: each test has a network namespace of
//! its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use support::*;
use sys::udp::{Family, Group, Outgoing};

/// What nobody waits for unless something is wrong.
const LONG: Duration = Duration::from_secs(60);

/// Runs `work` in a fresh network namespace with its loopback link up, or says why it cannot.
fn in_a_namespace(work: impl FnOnce() + Send) {
    elsewhere(|outcome| match outcome {
        Ok(()) => {
            ip("link set lo up");
            work();
        }
        Err(error) => eprintln!("skipped: no network namespace: {error}"),
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn link_local_addresses_keep_their_scope() {
    in_a_namespace(|| {
        ip("link add left type veth peer name right");
        for link in ["left", "right"] {
            ip(&format!("link set {link} addrgenmode none"));
            ip(&format!("link set {link} up"));
        }
        // Without the wait for duplicate address detection.
        ip("address add fe80::a/64 dev left nodad");
        ip("address add fe80::b/64 dev right nodad");
        let interface = |name: &str| {
            let path = format!("/proc/thread-self/net/dev_snmp6/{name}");
            let table = std::fs::read_to_string(path).unwrap();
            let index = table.split_whitespace().nth(1).unwrap();
            index.parse::<u32>().unwrap()
        };
        let (alice, bob) = (group(Family::V6), group(Family::V6));
        let (ip_a, ip_b): (Ipv6Addr, Ipv6Addr) =
            ("fe80::a".parse().unwrap(), "fe80::b".parse().unwrap());
        let scoped = |ip, port, scope| SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope));
        let source = Some((ip_a.into(), interface("left")));
        // Either says which link it is that the addresses are local to.
        for (scope, source) in [(interface("left"), None), (0, source)] {
            let to = scoped(ip_b, bob.port().unwrap(), scope);
            let datagram = plain(to, b"hello");
            alice.handshake.send(&Outgoing { source, ..datagram }).unwrap();
            let from = scoped(ip_a, alice.port().unwrap(), interface("right"));
            let local = (ip_b.into(), interface("right"));
            receive_all(&bob.handshake, 5, |received| {
                assert_eq!(received.from, from);
                assert_eq!(received.local, Some(local));
            });
        }
        ip("address add 169.254.0.2/16 dev right");
        let (bob, ip_b) = (group(Family::V4), IpAddr::from([169, 254, 0, 2]));
        let to = SocketAddr::new(ip_b, bob.port().unwrap());
        group(Family::V4).handshake.send(&plain(to, b"hello")).unwrap();
        receive_all(&bob.handshake, 5, |received| {
            let (local, interface) = received.local.unwrap();
            assert_eq!(local, ip_b);
            assert_ne!(interface, 0);
        });
    });
}

#[test]
fn a_mark_is_what_the_routing_rules_see() {
    in_a_namespace(|| {
        // Behind the rule for our own addresses, which comes first, no mark would matter.
        for family in ["-4", "-6"] {
            ip(&format!("{family} rule add pref 10 lookup local"));
            ip(&format!("{family} rule del pref 0"));
            ip(&format!("{family} rule add pref 5 fwmark 7 prohibit"));
        }
        for (family, ip) in LOOPBACKS {
            let bob = group(family);
            let to = address(ip, &bob);
            let alice = Group::bind(family, 0, 1, 7).unwrap();
            for (mark, passes) in
                [(None, false), (Some(0), true), (Some(7), false), (Some(8), true)]
            {
                if let Some(mark) = mark {
                    alice.set_mark(mark).unwrap();
                }
                for socket in alice.sockets() {
                    let sent = socket.send(&plain(to, b"hello"));
                    assert_eq!(sent.is_ok(), passes, "mark {mark:?}: {sent:?}");
                }
            }
        }
    });
}

#[test]
fn what_the_path_is_too_narrow_for_is_fragmented() {
    in_a_namespace(|| {
        ip("link set lo mtu 1280");
        for (family, ip) in LOOPBACKS {
            let (alice, bob) = (group(family), group(family));
            let bytes = [1; 4000];
            alice.handshake.send(&plain(address(ip, &bob), &bytes)).unwrap();
            receive_all(&bob.handshake, bytes.len(), |received| {
                assert_eq!(received.bytes, bytes);
            });
        }
    });
}

#[test]
fn room_in_a_full_socket_can_be_waited_for() {
    in_a_namespace(|| {
        ip("link add left type veth peer name right");
        ip("link set left up");
        ip("link set right up");
        ip("address add 10.9.0.1/24 dev left");
        let socket = group(Family::V4).handshake;
        sys::option::set_number(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, 1).unwrap();
        // Nobody says where this address is, and until then the machine keeps what goes there.
        let datagram = plain("10.9.0.2:9".parse().unwrap(), b"hello");
        let fill = || (0..1000).find_map(|_| socket.send(&datagram).err()).unwrap().kind();
        socket.wait_for_room(LONG);
        assert_eq!(fill(), ErrorKind::WouldBlock);
        let (start, patience) = (Instant::now(), Duration::from_millis(10));
        socket.wait_for_room(patience);
        assert!(start.elapsed() >= patience);
        assert_eq!(fill(), ErrorKind::WouldBlock);
        thread::scope(|scope| {
            scope.spawn(|| socket.wait_for_room(LONG));
            ip("neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:01 dev left");
        });
        socket.send(&datagram).unwrap();
        assert!(start.elapsed() < LONG);
    });
}

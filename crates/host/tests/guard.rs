//! The guard of a full tunnel, as the kernel takes it and as programs feel it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use host::guard::{Guard, OnLink};
use host::namespace;
use host::nft::{Change, Nftables};
use host::{Family, Network, Prefix, Route};
use support::{ALICE, BOB, a_namespace, prefix, said};

/// One with everything in it.
fn a_guard() -> Guard {
    Guard {
        tunnel: "wg0".into(),
        mark: 51820,
        port: Some(51820),
        inner: vec!["wg2".into()],
        outer: vec![(51819, 4500)],
        addresses: ["10.9.0.2/24", "fd00:9::2/64", "fe80::9/64"].map(prefix).into(),
        tunnelled: vec![Family::V4],
        on_link: vec![
            OnLink { link: "eth0".into(), network: prefix("192.168.1.0/24"), within: false },
            OnLink { link: "eth0".into(), network: prefix("fe80::/64"), within: false },
            OnLink { link: "docker0".into(), network: prefix("172.17.0.0/16"), within: true },
            OnLink { link: "docker0".into(), network: prefix("fd17::/64"), within: true },
        ],
        lan: true,
        excluded: vec![prefix("198.51.100.0/25"), prefix("2001:db8:1::/49")],
        name_servers: ["198.51.100.53", "10.9.0.1"].map(|it| it.parse().unwrap()).into(),
        resolvers: ["192.168.1.1", "2001:db8::53"].map(|it| it.parse().unwrap()).into(),
    }
}

/// Puts it up, or in the place of another for the same tunnel.
fn raise(guard: &Guard, filters: &mut Nftables) {
    filters.apply(&guard.tables().each_ref().map(Change::SetTable)).unwrap();
}

#[test]
fn the_guard_is_as_it_says() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let only_v6 = Guard { tunnelled: vec![Family::V6], lan: false, port: None, ..a_guard() };
    for guard in [a_guard(), only_v6] {
        raise(&guard, &mut filters);
        let Some(listed) = said(&namespace, "nft list ruleset") else { return };
        let tables = guard.tables();
        assert_eq!(
            listed.replace("counter packets 0 bytes 0", "counter").replace("srcnat + 1", "101"),
            tables.map(|table| format!("{table}\n")).concat()
        );
    }
    let names = filters.tables().unwrap();
    assert_eq!(names.len(), 2);
    let changes: Vec<_> =
        names.iter().map(|(family, name)| Change::DeleteTable(*family, name)).collect();
    filters.apply(&changes).unwrap();
    assert!(filters.tables().unwrap().is_empty());
}

#[test]
fn without_a_guard_the_tables_are_as_they_say() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let addresses = ["10.9.0.2", "fd00:9::2"].map(|it| it.parse().unwrap());
    for tunnelled in [&[Family::V4, Family::V6][..], &[Family::V6]] {
        let tables = host::guard::without("wg0", tunnelled, &addresses, 51821, 51820);
        filters.apply(&tables.iter().map(Change::SetTable).collect::<Vec<_>>()).unwrap();
        let Some(listed) = said(&namespace, "nft list ruleset") else { return };
        said(&namespace, "nft flush ruleset");
        let text: String = tables.iter().map(|table| format!("{table}\n")).collect();
        assert_eq!(listed.replace("mangle + 1", "-149"), text);
    }
}

#[test]
fn a_table_that_somebody_has_changed_is_not_intact() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let guard = a_guard();
    let tables = guard.tables();
    let intact =
        |filters: &mut Nftables| tables.each_ref().map(|it| filters.is_intact(it).unwrap());
    assert_eq!(intact(&mut filters), [false, false]);
    for (deed, expected) in [
        ("nft list ruleset", [true, true]),
        ("nft add table inet other", [true, true]),
        ("nft flush table inet adit-wg0", [false, true]),
        ("nft delete table arp adit-wg0", [true, false]),
        ("nft insert rule inet adit-wg0 output accept", [false, true]),
        ("nft add rule inet adit-wg0 forward accept", [false, true]),
        ("nft delete rule inet adit-wg0 output handle 15", [false, true]),
        ("nft add table inet adit-wg0 { flags dormant; }", [false, true]),
        ("nft flush ruleset", [false, false]),
    ] {
        raise(&guard, &mut filters);
        let Some(_) = said(&namespace, deed) else { return };
        assert_eq!(intact(&mut filters), expected, "{deed}");
    }
}

#[test]
fn only_private_networks_of_other_links_are_the_lan() {
    let Some(namespace) = a_namespace() else { return };
    let mut network = Network::open_in(namespace.as_fd()).unwrap();
    use host::Change::{AddAddress, CreateVeth, SetUp};
    network
        .apply_all(&[
            SetUp("lo"),
            CreateVeth("east", "west"),
            AddAddress("east", prefix("192.168.1.7/24")),
            AddAddress("east", prefix("192.168.1.8/24")),
            AddAddress("east", prefix("8.8.8.7/24")),
            AddAddress("east", prefix("10.0.0.1/7")),
            AddAddress("east", prefix("fd00:1::7/64")),
            AddAddress("east", prefix("2001:db8::7/64")),
            AddAddress("west", prefix("172.31.9.9/20")),
        ])
        .unwrap();
    let found = |network: &mut Network, tunnel| {
        let mut found = host::guard::on_link(network, tunnel).unwrap();
        found.sort_by_key(|it| it.link.clone());
        found.iter().map(|it| format!("{} {}", it.link, it.network)).collect::<Vec<_>>()
    };
    let east = ["east 192.168.1.0/24", "east fd00:1::/64"];
    assert_eq!(found(&mut network, "west"), east);
    assert_eq!(found(&mut network, "wg0"), [&east[..], &["west 172.31.0.0/20"]].concat());
}

#[test]
fn a_bridge_of_containers_alone_is_within_this_machine() {
    let Some(namespace) = a_namespace() else { return };
    let mut network = Network::open_in(namespace.as_fd()).unwrap();
    use host::Change::{AddAddress, CreateLink, CreateVeth, DeleteLink, SetUp};
    network
        .apply_all(&[
            CreateLink("docker0", "bridge"),
            CreateVeth("inner", "container"),
            // Of no kind that begins in a container.
            CreateLink("nic", "ifb"),
            AddAddress("docker0", prefix("172.17.0.1/16")),
            AddAddress("nic", prefix("192.168.1.7/24")),
            AddAddress("inner", prefix("192.168.2.7/24")),
            SetUp("docker0"),
            SetUp("inner"),
        ])
        .unwrap();
    let found = |network: &mut Network| {
        let found = host::guard::on_link(network, "wg0").unwrap();
        let within = found.into_iter().filter(|it| it.within && it.network.address.is_ipv4());
        within.map(|it| it.link).collect::<Vec<_>>()
    };
    assert_eq!(found(&mut network), ["docker0"]);
    let Some(_) = said(&namespace, "ip link set inner master docker0") else { return };
    assert_eq!(found(&mut network), ["docker0"]);
    said(&namespace, "ip link set nic master docker0");
    assert!(found(&mut network).is_empty(), "a way out is a port of it");
    network.apply(DeleteLink("nic")).unwrap();
    assert_eq!(found(&mut network), ["docker0"]);
    said(&namespace, "ip link set container up");
    said(&namespace, "ip route add 198.51.100.0/24 via 172.17.0.9");
    assert!(found(&mut network).is_empty(), "a router is behind it");
}

/// Alice, whose way to everybody is through bob.
fn alice_and_bob() -> Option<(OwnedFd, OwnedFd)> {
    use host::Change::{AddAddress, AddRoute, CreateVeth, MoveLink, SetUp};
    let (alice, bob) = (a_namespace()?, a_namespace()?);
    let (alice6, bob6) = (prefix("2001:db8::1/64"), prefix("2001:db8::2/64"));
    let mut network = Network::open_in(bob.as_fd()).unwrap();
    network.apply(SetUp("lo")).unwrap();
    let mut network = Network::open_in(alice.as_fd()).unwrap();
    network
        .apply_all(&[
            SetUp("lo"),
            CreateVeth("east", "west"),
            MoveLink("west", bob.as_fd()),
            AddAddress("east", ALICE),
            AddAddress("east", alice6),
            SetUp("east"),
        ])
        .unwrap();
    let mut there = Network::open_in(bob.as_fd()).unwrap();
    there.apply_all(&[AddAddress("west", BOB), AddAddress("west", bob6), SetUp("west")]).unwrap();
    for (destination, gateway) in [(Prefix::DEFAULT, BOB), (prefix("::/0"), bob6)] {
        let route = Route {
            destination,
            gateway: Some(gateway.address),
            link: "east".into(),
            table: host::MAIN_TABLE,
            origin: host::Origin::UNSPECIFIED,
        };
        network.apply(AddRoute(&route)).unwrap();
    }
    // The kernel makes an address of IPv6 usable when it finds the time.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !namespace::within(alice.as_fd(), || hears_itself("[2001:db8::1]:0", 100)).unwrap() {
        assert!(Instant::now() < deadline, "the address does not become usable");
    }
    Some((alice, bob))
}

/// Whether a datagram from an address to itself arrives before so many milliseconds have passed.
fn hears_itself(address: &str, patience: u64) -> bool {
    let Ok(here) = UdpSocket::bind(address) else { return false };
    here.set_read_timeout(Some(Duration::from_millis(patience))).unwrap();
    here.send_to(b"hello", here.local_addr().unwrap()).is_ok() && here.recv(&mut [0; 8]).is_ok()
}

const STRANGERS: [&str; 4] = ["203.0.113.7", "192.0.2.2", "2001:db8:7::7", "2001:db8::2"];

#[test]
fn a_program_learns_at_once_that_it_may_not_leave() {
    let Some((alice, _bob)) = alice_and_bob() else { return };
    let mut filters = Nftables::open_in(alice.as_fd()).unwrap();
    raise(&Guard { lan: false, ..a_guard() }, &mut filters);
    let attempts = || {
        for stranger in STRANGERS {
            let address: IpAddr = stranger.parse().unwrap();
            let to = SocketAddr::new(address, 443);
            let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let refused = UdpSocket::bind(any).unwrap().send_to(b"hello", to).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{stranger}");
            // Long before it would be tried again.
            let patience = Duration::from_millis(900);
            let refused = TcpStream::connect_timeout(&to, patience).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{stranger}");
        }
    };
    namespace::within(alice.as_fd(), attempts).unwrap();
}

#[test]
fn whoever_speaks_to_itself_is_left_alone() {
    let Some((alice, _bob)) = alice_and_bob() else { return };
    let mut filters = Nftables::open_in(alice.as_fd()).unwrap();
    raise(&a_guard(), &mut filters);
    for address in ["127.0.0.1:0", "[::1]:0", "192.0.2.1:0", "[2001:db8::1]:0"] {
        let heard = namespace::within(alice.as_fd(), || hears_itself(address, 10_000)).unwrap();
        assert!(heard, "{address}");
    }
}

#[test]
fn there_is_no_moment_without_while_one_takes_the_place_of_another() {
    let Some((alice, bob)) = alice_and_bob() else { return };
    let heard = namespace::within(bob.as_fd(), || UdpSocket::bind("[::]:4444")).unwrap().unwrap();
    let mouths = || ["0.0.0.0:0", "[::]:0"].map(|any| UdpSocket::bind(any).unwrap());
    let mouths = namespace::within(alice.as_fd(), mouths).unwrap();
    let shout = || {
        for (mouth, to) in mouths.iter().zip(["192.0.2.2:4444", "[2001:db8::2]:4444"]) {
            let _ = mouth.send_to(b"hello", to);
        }
    };
    let silence = |patience| {
        heard.set_read_timeout(Some(patience)).unwrap();
        heard.recv(&mut [0; 8]).is_err()
    };
    shout();
    // Of both: the later one may have waited for its neighbour.
    assert!((0..2).all(|_| !silence(Duration::from_secs(10))), "nothing can be heard");
    while !silence(Duration::from_millis(100)) {}
    let mut filters = Nftables::open_in(alice.as_fd()).unwrap();
    let guards = [Guard { lan: false, ..a_guard() }, a_guard()];
    raise(&guards[0], &mut filters);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                shout();
            }
        });
        for guard in guards.iter().cycle().take(300) {
            raise(guard, &mut filters);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(silence(Duration::from_millis(100)), "something was heard");
}

//! Every change, made in network namespaces of the test's own and read back from the kernel.
//! Needs root, or `unshare --user --map-root-user`; says so and passes where it has neither.

#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::Duration;

use host::namespace;
use host::ping::Ping;
use host::{Change, Link, MAIN_TABLE, Network, Origin, Prefix, Route};
use support::{ALICE, BOB, a_namespace, a_network};

fn names(links: &[Link]) -> Vec<&str> {
    links.iter().map(|link| link.name.as_str()).collect()
}

#[test]
fn two_machines_on_one_veth_answer_each_other() {
    let (Some(alice), Some(bob)) = (a_namespace(), a_namespace()) else {
        return;
    };
    let mut here = Network::open_in(alice.as_fd()).unwrap();
    here.apply_all(&[
        Change::CreateVeth("east", "west"),
        Change::MoveLink("west", bob.as_fd()),
        Change::AddAddress("east", ALICE),
        Change::SetUp("east"),
    ])
    .unwrap();
    let mut there = Network::open_in(bob.as_fd()).unwrap();
    there.apply_all(&[Change::AddAddress("west", BOB), Change::SetUp("west")]).unwrap();
    assert_eq!(names(&here.links().unwrap()), ["lo", "east"]);
    assert_eq!(names(&there.links().unwrap()), ["lo", "west"]);

    let ping = namespace::within(alice.as_fd(), || Ping::open(Ipv4Addr::new(192, 0, 2, 2)))
        .unwrap()
        .unwrap();
    let every = Duration::from_millis(2);
    let request = || ping.series(1, every, |_| Ok::<_, Box<dyn Error>>(())).unwrap();
    // A new link takes up to a second before it carries anything.
    assert!((0..10).any(|_| request().lost == 0), "nobody answers");
    let series = ping.series(5, every, |_| Ok::<_, Box<dyn Error>>(())).unwrap();
    assert_eq!((series.sent, series.lost), (5, 0));
    assert!(series.median.unwrap() < Duration::from_millis(500));

    let unplugged = ping.series(4, every, |request| {
        if request == 2 {
            there.apply(Change::SetDown("west"))?;
        }
        Ok::<_, Box<dyn Error>>(())
    });
    assert_eq!(unplugged.unwrap().lost, 2);
}

#[test]
fn a_link_is_renamed_resized_raised_and_deleted() {
    let Some(mut network) = a_network() else {
        return;
    };
    network.apply(Change::CreateVeth("a", "b")).unwrap();
    let before = network.link("a").unwrap();
    let changes = [Change::RenameLink("a", "c"), Change::SetMtu("c", 1420), Change::SetUp("c")];
    network.apply_all(&changes).unwrap();
    let after =
        Link { name: "c".into(), up: true, mtu: 1420, kind: "veth".into(), ..before.clone() };
    assert_eq!(network.link("c").unwrap(), after);

    network.apply(Change::SetDown("c")).unwrap();
    assert!(!network.link("c").unwrap().up);
    network.apply(Change::DeleteLink("c")).unwrap();
    assert_eq!(names(&network.links().unwrap()), ["lo"], "a veth takes its peer along");
}

#[test]
fn an_address_of_either_family_comes_and_goes() {
    let Some(mut network) = a_network() else {
        return;
    };
    network
        .apply_all(&[Change::CreateVeth("a", "b"), Change::SetUp("a"), Change::SetUp("b")])
        .unwrap();
    let v6 =
        Prefix { address: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), length: 64 };
    for address in [ALICE, v6] {
        let present = |network: &mut Network| {
            network.addresses().unwrap().iter().any(|it| it.address == address)
        };
        network.apply(Change::AddAddress("a", address)).unwrap();
        assert!(present(&mut network), "{address}");
        network.apply(Change::RemoveAddress("a", address)).unwrap();
        assert!(!present(&mut network), "{address}");
    }
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    let Some(namespace) = a_namespace() else {
        return;
    };
    let mut network = Network::open_in(namespace.as_fd()).unwrap();
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    network
        .apply_all(&[Change::CreateVeth("a", "b"), Change::SetUp("a"), Change::SetUp("b")])
        .unwrap();
    network.apply(Change::AddAddress("a", Prefix { address: address.into(), length: 64 })).unwrap();
    namespace::within(namespace.as_fd(), || std::net::UdpSocket::bind((address, 0)))
        .unwrap()
        .unwrap();
}

#[test]
fn a_route_is_read_back_as_it_was_added_until_it_is_removed() {
    let Some(mut network) = a_network() else {
        return;
    };
    network.apply_all(&[Change::CreateVeth("a", "b"), Change::SetUp("b")]).unwrap();
    network.apply_all(&[Change::SetUp("a"), Change::AddAddress("a", ALICE)]).unwrap();
    let ten = Prefix::v4(Ipv4Addr::new(10, 0, 0, 0), 8);
    let ula = Prefix { address: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0)), length: 8 };
    for (destination, gateway, table) in [
        (ten, None, MAIN_TABLE),
        (ten, Some(BOB.address), 51820),
        (Prefix::DEFAULT, Some(BOB.address), MAIN_TABLE),
        (ula, None, MAIN_TABLE),
    ] {
        let route = Route { destination, gateway, link: "a".into(), table, origin: Origin::BOOT };
        network.apply(Change::AddRoute(&route)).unwrap();
        assert!(network.routes().unwrap().contains(&route), "{route}");
        network.apply(Change::RemoveRoute(&route)).unwrap();
        assert!(!network.routes().unwrap().contains(&route), "{route}");
    }
}

#[test]
fn a_refusal_says_what_was_attempted_and_why() {
    let Some(mut network) = a_network() else {
        return;
    };
    let route = Route {
        destination: Prefix::DEFAULT,
        gateway: Some(BOB.address),
        link: "lo".into(),
        table: 7,
        origin: Origin::BOOT,
    };
    for (change, words) in [
        (Change::AddAddress("wg0", ALICE), "add address 192.0.2.1/24 to wg0: No such device"),
        (
            Change::AddRoute(&route),
            "add route 0.0.0.0/0 via 192.0.2.2 dev lo table 7: Network is unreachable",
        ),
        (Change::CreateVeth("lo", "b"), "create veth lo with peer b: File exists"),
        (
            Change::RenameLink("lo", "far-too-long-a-name"),
            "rename link lo to far-too-long-a-name: Numerical result",
        ),
    ] {
        let refusal = network.apply(change).unwrap_err().to_string();
        assert!(refusal.starts_with(words), "{refusal}");
    }
    assert_eq!(network.link("wg0").unwrap_err().to_string(), "find link wg0: No such device");
}

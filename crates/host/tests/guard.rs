//! The guard of a full tunnel, as the kernel takes it and as programs feel it.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::fd::AsFd;

use host::guard::{Guard, OnLink};
use host::nft::Nftables;
use host::{Family, Network};
use support::{a_namespace, prefix, said};

/// One with everything in it.
fn a_guard() -> Guard {
    Guard {
        tunnel: "wg0".into(),
        mark: 51820,
        port: Some(51820),
        addresses: ["10.9.0.2/24", "fd00:9::2/64", "fe80::9/64"].map(prefix).into(),
        tunnelled: vec![Family::V4],
        on_link: vec![
            OnLink { link: "eth0".into(), network: prefix("192.168.1.0/24") },
            OnLink { link: "eth0".into(), network: prefix("fe80::/64") },
        ],
        lan: true,
        excluded: vec![prefix("198.51.100.0/25"), prefix("2001:db8:1::/49")],
        name_servers: ["198.51.100.53", "10.9.0.1"].map(|it| it.parse().unwrap()).into(),
    }
}

#[test]
fn the_guard_is_as_it_says() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let only_v6 = Guard { tunnelled: vec![Family::V6], lan: false, port: None, ..a_guard() };
    for guard in [a_guard(), only_v6] {
        guard.raise(&mut filters).unwrap();
        let Some(listed) = said(&namespace, "nft list ruleset") else { return };
        let tables = guard.tables();
        assert_eq!(
            listed.replace("counter packets 0 bytes 0", "counter").replace("srcnat + 1", "101"),
            tables.map(|table| format!("{table}\n")).concat()
        );
    }
    Guard::lower("wg1", &mut filters).unwrap();
    assert_eq!(filters.tables().unwrap().len(), 2);
    Guard::lower("wg0", &mut filters).unwrap();
    assert!(filters.tables().unwrap().is_empty());
    Guard::lower("wg0", &mut filters).unwrap();
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

//! What is noticed of the changes that others make with the usual tools, and whom it is blamed on.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use host::nft;
use host::notice::{Deed, Event, Process, Watcher, What};
use host::{Family, Prefix};
use support::{a_namespace, prefix, said};
use sys::poll::Epoll;

/// All that comes until this does; fails when it does not come.
fn heard(watcher: &mut Watcher, what: &What, deed: Deed) -> Event {
    let epoll = Epoll::new().unwrap();
    for (token, descriptor) in (0..).zip(watcher.descriptors()) {
        epoll.add(descriptor, token).unwrap();
    }
    let mut all = Vec::new();
    loop {
        let ready = epoll.wait(Some(Duration::from_secs(20))).unwrap();
        assert!(ready.count() > 0, "{what:?} was not {deed}, but {all:?}");
        let events = watcher.receive().unwrap();
        if let Some(event) = events.iter().find(|it| it.what == *what && it.deed == deed) {
            return event.clone();
        }
        all.extend(events);
    }
}

fn a_watched_namespace() -> Option<(OwnedFd, Watcher)> {
    let namespace = a_namespace()?;
    let watcher = Watcher::open_in(namespace.as_fd()).unwrap();
    Some((namespace, watcher))
}

#[test]
fn whoever_deletes_a_table_is_named() {
    let Some((namespace, mut watcher)) = a_watched_namespace() else { return };
    let Some(_) = said(&namespace, "nft add table inet adit-wg0") else { return };
    let table = What::Table(nft::Family::Inet, "adit-wg0".into());
    heard(&mut watcher, &table, Deed::Made);
    said(&namespace, "nft add chain inet adit-wg0 some");
    heard(&mut watcher, &table, Deed::Changed);
    said(&namespace, "nft flush ruleset");
    let event = heard(&mut watcher, &table, Deed::Removed);
    let Some(Process { number, name: Some(name) }) = &event.by else { panic!("{event:?}") };
    assert_eq!(name, "nft");
    let text = format!("nft (process {number}) removed nftables table inet adit-wg0");
    assert_eq!(event.to_string(), text);
}

#[test]
fn what_becomes_of_links_addresses_routes_and_rules_is_noticed() {
    let Some((namespace, mut watcher)) = a_watched_namespace() else { return };
    use Deed::{Changed, Made, Removed};
    use What::{Address, Link, Route, Rule};
    const TABLE: u32 = 51820;
    let v4 = |address: &str| prefix(address);
    for (command, what, deed) in [
        ("ip link set lo up", Link("lo".into()), Changed),
        ("ip link add east type veth peer name west", Link("east".into()), Changed),
        ("ip link set west up", Link("west".into()), Changed),
        ("ip link set east up", Link("east".into()), Changed),
        ("ip address add 192.0.2.1/24 dev lo", Address(v4("192.0.2.1/24"), 1), Made),
        ("ip address del 192.0.2.1/24 dev lo", Address(v4("192.0.2.1/24"), 1), Removed),
        ("ip -6 address add fd00::1/64 dev lo", Address(v4("fd00::1/64"), 1), Made),
        ("ip route add default dev east table 51820", Route(Prefix::DEFAULT, TABLE), Made),
        ("ip route del default dev east table 51820", Route(Prefix::DEFAULT, TABLE), Removed),
        ("ip -6 rule add not fwmark 1 table 51820", Rule(Family::V6, TABLE), Made),
        ("ip -6 rule del not fwmark 1 table 51820", Rule(Family::V6, TABLE), Removed),
        ("ip -4 rule add not fwmark 1 table 51820", Rule(Family::V4, TABLE), Made),
        ("ip link del east", Link("east".into()), Removed),
    ] {
        if said(&namespace, command).is_none() {
            return;
        }
        heard(&mut watcher, &what, deed);
    }
}

#[test]
fn a_change_to_the_routes_is_blamed_on_the_process_that_made_it() {
    let Some((namespace, mut watcher)) = a_watched_namespace() else { return };
    let mut network = host::Network::open_in(namespace.as_fd()).unwrap();
    let rule = host::Rule::main_without_default(Family::V4);
    network.apply(host::Change::AddRule(&rule)).unwrap();
    let event = heard(&mut watcher, &What::Rule(Family::V4, host::MAIN_TABLE), Deed::Made);
    // The first netlink socket of a process has its number; other tests may have had it.
    if let Some(process) = event.by {
        assert_eq!(process.number, std::process::id());
        assert!(process.name.is_some());
    }
}

#[test]
fn too_much_at_once_is_told_as_such() {
    let Some((namespace, mut watcher)) = a_watched_namespace() else { return };
    let mut network = host::Network::open_in(namespace.as_fd()).unwrap();
    let rule = host::Rule::main_without_default(Family::V4);
    let changes = [host::Change::AddRule(&rule), host::Change::RemoveRule(&rule)];
    for _ in 0..5000 {
        network.apply_all(&changes).unwrap();
    }
    let events = watcher.receive().unwrap();
    assert_eq!(events.last().map(|event| &event.what), Some(&What::Unknown));
    network.apply_all(&changes).unwrap();
    heard(&mut watcher, &What::Rule(Family::V4, host::MAIN_TABLE), Deed::Removed);
}

#[test]
fn what_a_keeper_makes_of_the_packet_filters_at_once_is_not_too_much() {
    let Some((namespace, mut watcher)) = a_watched_namespace() else { return };
    let mut filters = nft::Nftables::open_in(namespace.as_fd()).unwrap();
    let addresses: Vec<_> = (1..=100).map(|it| std::net::Ipv4Addr::from(it).into()).collect();
    let table = nft::Table::of_tunnel("adit-wg0".into(), "wg0", Family::V4, &addresses, 51820);
    for _ in 0..10 {
        filters.apply(&[nft::Change::SetTable(&table)]).unwrap();
    }
    let events = watcher.receive().unwrap();
    assert!(events.iter().all(|it| it.what != What::Unknown), "{events:?}");
    assert_eq!(events.len(), 10);
}

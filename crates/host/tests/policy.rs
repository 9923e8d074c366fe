//! Rules, routing tables and settings, side by side with what ip(8) makes and tells of them.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;
use std::time::Instant;

use host::namespace;
use host::{Change, Family, MAIN_TABLE, Network, Origin, Path, Prefix, Route, Rule, sysctl};
use support::{ALICE, a_namespace, a_network, prefix, said};

const MARK: u32 = 51820;

/// A namespace with two links that are up, of which `a` is at 192.0.2.1/24.
fn a_host() -> Option<(OwnedFd, Network)> {
    let namespace = a_namespace()?;
    let mut network = Network::open_in(namespace.as_fd()).unwrap();
    network
        .apply_all(&[
            Change::CreateVeth("a", "b"),
            Change::SetUp("a"),
            Change::SetUp("b"),
            Change::AddAddress("a", ALICE),
        ])
        .unwrap();
    Some((namespace, network))
}

fn route(destination: &str, link: &str, table: u32) -> Route {
    let (destination, link) = (prefix(destination), link.into());
    Route { destination, gateway: None, link, table, origin: Origin::BOOT }
}

#[test]
fn rules_take_the_places_that_ip_gives_them() {
    let (Some(ours), Some(theirs)) = (a_namespace(), a_namespace()) else {
        return;
    };
    let mut network = Network::open_in(ours.as_fd()).unwrap();
    for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
        network
            .apply_all(&[
                Change::AddRule(&Rule::unless_marked(family, MARK, MARK)),
                Change::AddRule(&Rule::main_without_default(family)),
            ])
            .unwrap();
        let ip = |arguments: &str| said(&theirs, &format!("ip {flag} rule {arguments}"));
        let Some(_) = ip("add not fwmark 51820 table 51820") else {
            return;
        };
        ip("add table main suppress_prefixlength 0");
        let shown = said(&ours, &format!("ip {flag} rule show")).unwrap();
        assert_eq!(Some(&shown), ip("show").as_ref());
        for rule in network.rules().unwrap().iter().filter(|rule| rule.table == MARK) {
            assert!(shown.contains(&format!("{rule} \n")) || shown.contains(&format!("{rule}\n")));
        }
    }
}

#[test]
fn a_rule_is_read_back_until_it_is_removed() {
    let Some(mut network) = a_network() else {
        return;
    };
    for family in [Family::V4, Family::V6] {
        let before = network.rules().unwrap();
        for rule in [
            Rule::unless_marked(family, MARK, MARK),
            Rule::main_without_default(family),
            Rule { priority: Some(7), ..Rule::unless_marked(family, 1, 2) },
            Rule { priority: Some(7), ..Rule::marked(family, 1, 2) },
        ] {
            network.apply(Change::AddRule(&rule)).unwrap();
            let added: Vec<Rule> = network.rules().unwrap();
            let added = added.iter().find(|found| !before.contains(found)).unwrap();
            let priority = rule.priority.or(added.priority);
            assert_eq!(*added, Rule { priority, ..rule });
            network.apply(Change::RemoveRule(&rule)).unwrap();
            assert_eq!(network.rules().unwrap(), before);
        }
    }
}

#[test]
fn removing_a_rule_without_priority_takes_the_first_of_many_until_none_is_left() {
    let Some(mut network) = a_network() else {
        return;
    };
    let rule = Rule::main_without_default(Family::V4);
    let count = |network: &mut Network| {
        let rules = network.rules().unwrap();
        rules.iter().filter(|it| Rule { priority: None, ..**it } == rule).count()
    };
    network.apply_all(&[Change::AddRule(&rule), Change::AddRule(&rule)]).unwrap();
    for left in [1, 0] {
        network.apply(Change::RemoveRule(&rule)).unwrap();
        assert_eq!(count(&mut network), left);
    }
    let refusal = network.apply(Change::RemoveRule(&rule)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "remove IPv4 rule from all lookup main suppress_prefixlength 0: No such file or directory"
    );
}

#[test]
fn a_rule_that_asks_for_more_is_left_out() {
    let Some((namespace, mut network)) = a_host() else {
        return;
    };
    let before = network.rules().unwrap();
    for more in ["from 10.0.0.1", "iif a", "fwmark 1/3", "not fwmark 1/3", "not to 10.0.0.0/8"] {
        if said(&namespace, &format!("ip rule add {more} table 51820")).is_none() {
            return;
        }
        assert_eq!(network.rules().unwrap(), before, "{more}");
    }
}

#[test]
fn a_table_is_empty_without_a_route_of_any_kind() {
    let Some((namespace, mut network)) = a_host() else {
        return;
    };
    assert!(network.is_empty(MARK).unwrap());
    assert!(!network.is_empty(MAIN_TABLE).unwrap());
    for destination in ["0.0.0.0/0", "::/0", "2001:db8:1::/48"] {
        let route = route(destination, "a", MARK);
        network.apply(Change::AddRoute(&route)).unwrap();
        assert!(!network.is_empty(MARK).unwrap(), "{route}");
        assert_eq!(network.routes_of(MARK).unwrap(), slice::from_ref(&route));
        network.apply(Change::RemoveRoute(&route)).unwrap();
        assert!(network.is_empty(MARK).unwrap(), "{route}");
    }
    if said(&namespace, "ip -6 route add unreachable default table 51820").is_some() {
        assert!(!network.is_empty(MARK).unwrap());
        assert_eq!(network.routes_of(MARK).unwrap(), []);
    }
}

#[test]
fn the_routes_that_wg_quick_adds_are_those_of_ip() {
    let (Some((ours, mut network)), Some((theirs, _))) = (a_host(), a_host()) else {
        return;
    };
    for (destination, table) in
        [("0.0.0.0/0", MARK), ("::/0", MARK), ("10.0.0.0/8", MAIN_TABLE), ("fd00::/8", MAIN_TABLE)]
    {
        let route = route(destination, "b", table);
        network.apply(Change::AddRoute(&route)).unwrap();
        let flag = if destination.contains(':') { "-6" } else { "-4" };
        let Some(_) = said(&theirs, &format!("ip {flag} route add {route}")) else {
            return;
        };
        let show = format!("ip {flag} route show table {table}");
        // The kernel's own stand in the order in which the links came up, or are not there yet.
        let shown = |machine| {
            let lines = said(machine, &show)?;
            let added = lines.lines().filter(|line| !line.contains("proto kernel"));
            Some(added.map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(shown(&ours), shown(&theirs), "{route}");
        let refusal = network.apply(Change::AddRoute(&route)).unwrap_err();
        assert_eq!(refusal.to_string(), format!("add route {route}: File exists"));
    }
}

#[test]
fn a_link_leads_where_its_routes_in_main_do() {
    let Some((_, mut network)) = a_host() else {
        return;
    };
    network
        .apply_all(&[
            Change::AddAddress("b", prefix("2001:db8::1/64")),
            Change::AddRoute(&route("10.0.0.0/8", "b", MARK)),
        ])
        .unwrap();
    for (link, destinations) in [("a", &["192.0.2.0/24"][..]), ("b", &["2001:db8::/64"])] {
        let found = network.destinations(link).unwrap();
        let found = found.iter().map(Prefix::to_string).filter(|it| !it.starts_with("fe80:"));
        assert_eq!(found.collect::<Vec<_>>(), destinations, "{link}");
    }
}

#[test]
fn that_ipv6_is_disabled_is_not_called_a_lack_of_rights() {
    let Some((namespace, mut network)) = a_host() else {
        return;
    };
    let disable = || sysctl::set("net/ipv6/conf/b/disable_ipv6", "1");
    namespace::within(namespace.as_fd(), disable).unwrap().unwrap();
    let route = route("2001:db8::/32", "b", MARK);
    for change in [Change::AddAddress("b", prefix("2001:db8::1/64")), Change::AddRoute(&route)] {
        let refusal = network.apply(change).unwrap_err();
        assert_ne!(refusal.cause().kind(), ErrorKind::PermissionDenied, "{refusal}");
        let expected = format!("{change}: IPv6 is disabled (net.ipv6.conf.b.disable_ipv6)");
        assert!(refusal.to_string().starts_with(&expected), "{refusal}");
    }
}

#[test]
fn a_path_has_the_mtu_of_its_route_or_else_of_its_link() {
    let Some((namespace, mut network)) = a_host() else {
        return;
    };
    let path = |mtu| Path { link: "a".into(), mtu };
    let near: IpAddr = "192.0.2.9".parse().unwrap();
    let far: IpAddr = "198.51.100.1".parse().unwrap();
    let far6: IpAddr = "2001:db8::1".parse().unwrap();
    network.apply(Change::SetMtu("a", 1450)).unwrap();
    assert_eq!(network.path_to(near).unwrap(), path(1450));
    assert_eq!(network.default_path().unwrap(), None);
    for address in [far, far6] {
        let refusal = network.path_to(address).unwrap_err().to_string();
        assert_eq!(refusal, format!("find the route to {address}: Network is unreachable"));
    }

    network.apply(Change::AddRoute(&route("::/0", "a", MAIN_TABLE))).unwrap();
    assert_eq!(network.path_to(far6).unwrap(), path(1450));
    assert_eq!(network.default_path().unwrap(), Some(path(1450)));
    if said(&namespace, "ip route add default via 192.0.2.2 dev a mtu 1400").is_some() {
        assert_eq!(network.path_to(far).unwrap(), path(1400));
        assert_eq!(network.path_to(near).unwrap(), path(1450));
        assert_eq!(network.default_path().unwrap(), Some(path(1400)));
    }
}

#[test]
fn a_link_is_asked_for_its_own_addresses() {
    let Some((_, mut network)) = a_host() else {
        return;
    };
    assert!(network.has_link("a").unwrap() && !network.has_link("wg0").unwrap());
    let link = network.link("a").unwrap();
    assert_eq!(network.find_link_numbered(link.index).unwrap(), Some(link));
    assert_eq!(network.find_link_numbered(4711).unwrap(), None);
    network.apply(Change::AddAddress("a", prefix("2001:db8::1/64"))).unwrap();
    let mut addresses = network.addresses_of("a").unwrap();
    let link_local = addresses.iter().position(|it| it.to_string().starts_with("fe80:")).unwrap();
    addresses.remove(link_local);
    assert_eq!(addresses, [ALICE, prefix("2001:db8::1/64")]);
    assert_eq!(
        network.addresses_of("wg0").unwrap_err().to_string(),
        "find link wg0: No such device"
    );
}

#[test]
fn a_setting_of_the_namespace_is_read_back_as_it_was_written() {
    let Some(namespace) = a_namespace() else {
        return;
    };
    const PATH: &str = "net/ipv4/conf/all/src_valid_mark";
    namespace::within(namespace.as_fd(), || {
        for value in ["1", "0"] {
            sysctl::set(PATH, value).unwrap();
            assert_eq!(sysctl::get(PATH).unwrap(), value);
        }
        let refusal = sysctl::get("net/ipv4/no_such_thing").unwrap_err().to_string();
        assert_eq!(refusal, "read net/ipv4/no_such_thing: No such file or directory");
    })
    .unwrap();
}

#[test]
fn a_way_is_found_as_soon_on_a_machine_of_many_links() {
    let Some((_namespace, mut network)) = a_host() else {
        return;
    };
    let near = "192.0.2.77".parse().unwrap();
    // A busy machine makes the most of them slower, not the fastest.
    let fastest = |network: &mut Network| {
        let times = (0..200).map(|_| {
            let start = Instant::now();
            network.path_to(near).unwrap();
            start.elapsed()
        });
        times.min().unwrap()
    };
    let alone = fastest(&mut network);
    for number in 0..100 {
        let [one, other] = ["c", "d"].map(|end| format!("{end}{number}"));
        network.apply(Change::CreateVeth(&one, &other)).unwrap();
    }
    let among_many = fastest(&mut network);
    assert!(among_many < 5 * alone, "{among_many:?}, and without the others {alone:?}");
}

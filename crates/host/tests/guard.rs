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
use host::nft::{
    self, Base, Chain, Change, Expression, Field, Hook, Nftables, Refusal, Table, Transport,
};
use host::{Family, Network, Prefix, Route};
use support::{ALICE, BOB, a_namespace, prefix, said, succeeds};

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
        ("nft chain inet adit-wg0 output { policy accept; }", [false, true]),
        ("nft chain inet adit-wg0 forward { policy accept; }", [false, true]),
        ("nft chain arp adit-wg0 input { policy drop; }", [true, false]),
        ("nft rename chain inet adit-wg0 refuse other", [false, true]),
        ("nft add chain inet adit-wg0 other", [false, true]),
        (
            "nft add chain inet adit-wg0 other { type filter hook input priority 0; policy drop; }",
            [false, true],
        ),
        // Nothing goes by them.
        (
            "nft add set inet adit-wg0 some { type ipv4_addr; elements = { 1.2.3.4 }; }",
            [true, true],
        ),
        ("nft add counter inet adit-wg0 some", [true, true]),
        ("nft flush ruleset", [false, false]),
    ] {
        // Anew, so that each rule has its number.
        let Some(_) = said(&namespace, "nft flush ruleset") else { return };
        raise(&guard, &mut filters);
        let Some(_) = said(&namespace, deed) else { return };
        assert_eq!(intact(&mut filters), expected, "{deed}");
    }
}

/// The tables of a full tunnel, with a guard and without.
fn all_tables() -> Vec<Table> {
    let addresses = ["10.9.0.2", "fd00:9::2"].map(|it| it.parse().unwrap());
    let without = host::guard::without("wg0", &[Family::V4, Family::V6], &addresses, 51821, 51820);
    a_guard().tables().into_iter().chain(without).collect()
}

/// Each of these, and others of the same kind.
fn other_values(field: &Field) -> Vec<Field> {
    let next = |address: &IpAddr| match address {
        IpAddr::V4(it) => IpAddr::from((it.to_bits() ^ 1).to_be_bytes()),
        IpAddr::V6(it) => IpAddr::from((it.to_bits() ^ 1).to_be_bytes()),
    };
    let beside = |it: &Prefix| match it.address {
        IpAddr::V4(address) => IpAddr::from((address.to_bits() ^ 1 << 31).to_be_bytes()),
        IpAddr::V6(address) => IpAddr::from((address.to_bits() ^ 1 << 127).to_be_bytes()),
    };
    match field {
        Field::InputLink(name) => {
            vec![Field::InputLink(format!("{name}0")), Field::OutputLink(name.clone())]
        }
        Field::OutputLink(name) => {
            vec![Field::OutputLink(format!("{name}0")), Field::InputLink(name.clone())]
        }
        Field::Version(Family::V4) => vec![Field::Version(Family::V6)],
        Field::Version(Family::V6) => vec![Field::Version(Family::V4)],
        Field::Source(it) => vec![Field::Source(next(it)), Field::Destination(*it)],
        Field::Destination(it) => vec![Field::Destination(next(it)), Field::Source(*it)],
        Field::DestinationIn(it) => {
            let shorter = Prefix { length: it.length - 1, ..*it }.network();
            let other = Prefix { address: beside(it), ..*it };
            vec![Field::DestinationIn(shorter), Field::DestinationIn(other)]
        }
        Field::LocalSource => vec![Field::LocalDestination],
        Field::LocalDestination => vec![Field::LocalSource],
        Field::HopLimit(limit) => vec![Field::HopLimit(limit - 1)],
        Field::Protocol(number) => vec![Field::Protocol(number + 1)],
        Field::SourcePort(Transport::Udp, port) => vec![
            Field::SourcePort(Transport::Udp, port + 1),
            Field::SourcePort(Transport::Tcp, *port),
            Field::DestinationPort(Transport::Udp, *port),
        ],
        Field::DestinationPort(transport, port) => {
            let other = if *transport == Transport::Udp { Transport::Tcp } else { Transport::Udp };
            vec![
                Field::DestinationPort(*transport, port ^ 256),
                Field::DestinationPort(other, *port),
                Field::SourcePort(*transport, *port),
            ]
        }
        Field::Icmp6(kind) => vec![Field::Icmp6(kind + 1)],
        Field::ArpSender(it) => vec![Field::ArpTarget(*it)],
        Field::ArpTarget(it) => vec![Field::ArpSender(*it)],
        Field::Mark(mark) => vec![Field::Mark(mark ^ 1), Field::Mark(mark ^ 1 << 31)],
        other => vec![other.clone()],
    }
}

/// The same part of a rule with other values.
fn others(part: &Expression) -> Vec<Expression> {
    use Expression::{Goto, Is, IsNot, Refuse, RestoreMark, SaveMark, SetMark, Verdict};
    match part {
        Is(Field::Reply) => vec![IsNot(Field::Reply)],
        Is(field) => {
            let others = other_values(field).into_iter().map(Is);
            others.chain([IsNot(field.clone())]).collect()
        }
        IsNot(field) => {
            let others = other_values(field).into_iter().map(IsNot);
            others.chain([Is(field.clone())]).collect()
        }
        SaveMark => vec![RestoreMark],
        RestoreMark => vec![SaveMark],
        SetMark(mark) => vec![SetMark(mark ^ 1), SetMark(mark ^ 1 << 31)],
        Refuse(Refusal::Reset) => vec![Refuse(Refusal::Prohibited)],
        Refuse(Refusal::Prohibited) => vec![Refuse(Refusal::Reset)],
        Goto(chain) if chain == "refuse" => vec![Verdict(nft::Verdict::Accept)],
        Goto(_) => vec![Goto("refuse".into()), Verdict(nft::Verdict::Accept)],
        Verdict(nft::Verdict::Accept) => vec![Verdict(nft::Verdict::Drop)],
        Verdict(nft::Verdict::Drop) => vec![Verdict(nft::Verdict::Accept)],
        // Of no value.
        Expression::Count => Vec::new(),
    }
}

#[test]
fn a_table_with_any_other_value_is_not_intact() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let mut tried = 0;
    let mut differs = |table: &Table, change: &dyn Fn(&mut Table)| {
        let mut other = table.clone();
        change(&mut other);
        filters.apply(&[Change::SetTable(&other)]).unwrap();
        assert!(filters.is_intact(&other).unwrap(), "{other}");
        assert!(!filters.is_intact(table).unwrap(), "{other} instead of {table}");
        tried += 1;
    };
    for table in all_tables() {
        for (number, chain) in table.chains.iter().enumerate() {
            for (place, rule) in chain.rules.iter().enumerate() {
                for (part, expression) in rule.iter().enumerate() {
                    for other in others(expression) {
                        differs(&table, &|it| {
                            it.chains[number].rules[place][part] = other.clone();
                        });
                    }
                }
            }
            let Some(base) = chain.base else { continue };
            let policy = match base.policy {
                nft::Verdict::Accept => nft::Verdict::Drop,
                nft::Verdict::Drop => nft::Verdict::Accept,
            };
            for other in [Base { policy, ..base }, Base { priority: base.priority + 1, ..base }] {
                differs(&table, &|it| it.chains[number].base = Some(other));
            }
            let rules = chain.rules.len();
            for (one, another) in (1..rules).map(|it| (it - 1, it)) {
                if chain.rules[one] != chain.rules[another] {
                    differs(&table, &|it| it.chains[number].rules.swap(one, another));
                }
            }
        }
        let hooked = |it: &Chain| matches!(it.base, Some(base) if base.hook == Hook::Output);
        if let Some(number) = table.chains.iter().position(hooked) {
            let base = table.chains[number].base.map(|base| Base { hook: Hook::Input, ..base });
            differs(&table, &|it| it.chains[number].base = base);
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn chains_that_are_there_stay_and_get_other_rules() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let other = Guard { lan: false, mark: 7, port: None, excluded: Vec::new(), ..a_guard() };
    let chains = || {
        let listed = said(&namespace, "nft -a list ruleset")?;
        let is_chain = |line: &&str| line.starts_with("\tchain") || line.starts_with("table");
        Some(listed.lines().filter(is_chain).collect::<Vec<_>>().join("\n"))
    };
    raise(&a_guard(), &mut filters);
    let Some(before) = chains() else { return };
    for guard in [&other, &a_guard()] {
        raise(guard, &mut filters);
        assert!(guard.tables().iter().all(|table| filters.is_intact(table).unwrap()));
        assert_eq!(chains().unwrap(), before);
    }
    // Whatever somebody has made of it.
    for deed in [
        "nft chain inet adit-wg0 output { policy accept; }",
        "nft add table inet adit-wg0 { flags dormant; }",
        "nft add chain inet adit-wg0 some { type filter hook output priority 1; policy drop; }",
        "nft flush table inet adit-wg0",
        "nft delete table inet adit-wg0",
    ] {
        said(&namespace, deed).unwrap();
        raise(&other, &mut filters);
        assert!(other.tables().iter().all(|table| filters.is_intact(table).unwrap()), "{deed}");
    }
}

/// The rules of a table as nft lists them, each with its chain and number.
fn listed_rules(listed: &str) -> Vec<(&str, &str, &str)> {
    let mut chain = "";
    let mut rules = Vec::new();
    for line in listed.lines().map(str::trim) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["chain", name, ..] => chain = name,
            ["table", ..] => {}
            _ => {
                let rule = line.split_once(" # handle ");
                rules.extend(rule.map(|(rule, number)| (chain, rule, number)));
            }
        }
    }
    rules
}

#[test]
fn whatever_nft_changes_in_a_rule_is_noticed_but_for_comments() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    // In the words of nft: what is in a rule, and what else might be.
    const WORDS: [(&str, &str); 19] = [
        ("iifname", "oifname"),
        ("oifname", "iifname"),
        ("\"wg0\"", "\"wg1\""),
        ("\"lo\"", "\"eth0\""),
        ("0x0000ca6", "0x0100ca6"),
        ("!= ", ""),
        ("saddr", "daddr"),
        ("daddr", "saddr"),
        ("sport", "dport"),
        ("udp", "tcp"),
        ("accept", "drop"),
        ("drop", "accept"),
        ("ipv4", "ipv6"),
        ("10.9.0.2", "10.9.0.3"),
        ("hoplimit 255", "hoplimit 254"),
        ("goto refuse", "accept"),
        ("goto", "jump"),
        ("tcp reset", "icmpx admin-prohibited"),
        ("admin-prohibited", "no-route"),
    ];
    for table in all_tables() {
        let name = format!("{} {}", table.family, table.name);
        // Anew, so that each rule has its number again.
        let set = |filters: &mut Nftables| {
            said(&namespace, "nft flush ruleset");
            filters.apply(&[Change::SetTable(&table)]).unwrap();
        };
        set(&mut filters);
        let Some(listed) = said(&namespace, &format!("nft -a list table {name}")) else { return };
        for (chain, rule, number) in listed_rules(&listed) {
            let rule = rule.replace(" packets 0 bytes 0", "");
            let mut changes = 0;
            for (from, to) in WORDS.iter().filter(|(from, _)| rule.contains(from)) {
                let other = rule.replacen(from, to, 1);
                let deed = format!("nft replace rule {name} {chain} handle {number} {other}");
                set(&mut filters);
                // What nft does not take nobody can do.
                if succeeds(&namespace, &deed) == Some(true) {
                    assert!(!filters.is_intact(&table).unwrap(), "{deed}");
                    changes += 1;
                }
            }
            assert!(changes > 0, "{rule}");
            // Of more than one field nft makes other parts than we do.
            if rule.starts_with("oifname \"lo\"") || rule.starts_with("arp") {
                let deed =
                    format!("nft replace rule {name} {chain} handle {number} {rule} comment x");
                set(&mut filters);
                said(&namespace, &deed);
                assert!(filters.is_intact(&table).unwrap(), "{deed}");
            }
        }
    }
}

#[test]
fn a_chain_that_others_lead_to_must_not_see_packets_by_itself() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let chain = Chain { name: "idle".into(), base: None, rules: Vec::new() };
    let table = Table { family: nft::Family::Inet, name: "some".into(), chains: vec![chain] };
    filters.apply(&[Change::SetTable(&table)]).unwrap();
    assert!(filters.is_intact(&table).unwrap());
    let hooked =
        "nft add chain inet some idle { type filter hook output priority 0; policy drop; }";
    for deed in ["nft delete chain inet some idle", hooked] {
        let Some(_) = said(&namespace, deed) else { return };
        assert!(!filters.is_intact(&table).unwrap(), "{deed}");
    }
}

#[test]
fn a_table_that_nobody_changes_stays_intact_whatever_it_counts() {
    let Some(namespace) = a_namespace() else { return };
    let mut filters = Nftables::open_in(namespace.as_fd()).unwrap();
    let mut network = Network::open_in(namespace.as_fd()).unwrap();
    use host::Change::{AddAddress, CreateVeth, SetUp};
    network
        .apply_all(&[
            CreateVeth("east", "west"),
            AddAddress("east", ALICE),
            SetUp("east"),
            SetUp("west"),
        ])
        .unwrap();
    let guard = a_guard();
    raise(&guard, &mut filters);
    let socket = namespace::within(namespace.as_fd(), || UdpSocket::bind((ALICE.address, 0)));
    let socket = socket.unwrap().unwrap();
    for round in 0..200 {
        socket.send_to(b"x", (BOB.address, 9)).unwrap_err();
        for table in guard.tables() {
            assert!(filters.is_intact(&table).unwrap(), "{round}: {table}");
        }
    }
    let Some(listed) = said(&namespace, "nft list chain inet adit-wg0 refuse") else { return };
    assert!(listed.contains("packets 200 "), "{listed}");
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

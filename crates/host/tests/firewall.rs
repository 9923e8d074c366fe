//! Packet filters, side by side with what nft(8) makes and tells of them.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use host::namespace;
use host::nft::{
    self, Base, Chain, Change, Expression, Field, Hook, Nftables, Refusal, Table, Transport,
    Verdict,
};
use host::{Family, Network};
use support::{ALICE, BOB, a_namespace, prefix, said};

const MARK: u32 = 51820;
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn addresses() -> Vec<IpAddr> {
    ["10.0.0.1", "fd00::1", "192.0.2.1", "fe80::1:2"].map(|it| it.parse().unwrap()).to_vec()
}

fn tables(link: &str) -> [Table; 2] {
    FAMILIES.map(|family| wg_quick(link, family, &addresses()))
}

fn wg_quick(link: &str, family: Family, addresses: &[IpAddr]) -> Table {
    Table::of_tunnel(format!("wg-quick-{link}"), link, family, addresses, MARK)
}

/// A namespace with the packet filters in it, or a printed skip where the kernel has none.
fn a_firewall() -> Option<(OwnedFd, Nftables)> {
    let namespace = a_namespace()?;
    let mut firewall = Nftables::open_in(namespace.as_fd()).unwrap();
    match firewall.tables() {
        Err(error) => {
            println!("skipped: {error}");
            None
        }
        Ok(_) => Some((namespace, firewall)),
    }
}

/// The commands that Debian's wg-quick gives to nft for a default route of one family.
fn commands_of_wg_quick(link: &str, family: Family) -> String {
    let ip = if family == Family::V4 { "ip" } else { "ip6" };
    let table = format!("{ip} wg-quick-{link}");
    let drops: Vec<String> = addresses()
        .iter()
        .filter(|address| Family::of(**address) == family)
        .map(|address| {
            format!(
                "add rule {table} preraw iifname != \"{link}\" {ip} daddr {address} \
                 fib saddr type != local drop\n"
            )
        })
        .collect();
    let drops = drops.concat();
    format!(
        "add table {table}\n\
         add chain {table} preraw {{ type filter hook prerouting priority -300; }}\n\
         add chain {table} premangle {{ type filter hook prerouting priority -150; }}\n\
         add chain {table} postmangle {{ type filter hook postrouting priority -150; }}\n\
         {drops}\
         add rule {table} postmangle meta l4proto udp mark {MARK} ct mark set mark\n\
         add rule {table} premangle meta l4proto udp meta mark set ct mark\n"
    )
}

fn nft(namespace: &OwnedFd, commands: &str) {
    let run = || {
        let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
        child.stdin.take().unwrap().write_all(commands.as_bytes())?;
        child.wait()
    };
    assert!(namespace::within(namespace.as_fd(), run).unwrap().unwrap().success());
}

#[test]
fn nft_lists_the_same_table_whoever_made_it() {
    let (Some((ours, mut firewall)), Some(theirs)) = (a_firewall(), a_namespace()) else {
        return;
    };
    let tables = tables("wg-test_0.1");
    firewall.apply(&tables.each_ref().map(Change::SetTable)).unwrap();
    let Some(listed) = said(&ours, "nft list ruleset") else {
        return;
    };
    for family in FAMILIES {
        nft(&theirs, &commands_of_wg_quick("wg-test_0.1", family));
    }
    assert_eq!(Some(&listed), said(&theirs, "nft list ruleset").as_ref());
    assert_eq!(listed, tables.map(|table| format!("{table}\n")).concat());

    // What nft folds into its words, the kernel's own instructions show.
    let instructions = |namespace| {
        let listed = said(namespace, "nft --debug=netlink list ruleset").unwrap();
        listed.lines().filter(|line| line.starts_with("  [")).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(instructions(&ours), instructions(&theirs));
}

#[test]
fn every_hook_and_policy_is_as_nft_reads_it() {
    let Some((namespace, mut firewall)) = a_firewall() else {
        return;
    };
    use Expression::{Is, IsNot};
    for family in FAMILIES {
        let destination = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
        let fields = [
            Field::InputLink("fifteen-letters".into()),
            Field::Destination(destination.parse().unwrap()),
            Field::LocalSource,
            Field::Protocol(17),
            Field::Mark(1),
        ];
        let rules: Vec<_> = fields
            .into_iter()
            .flat_map(|field| [Is(field.clone()), IsNot(field)])
            .zip([Verdict::Accept, Verdict::Drop].into_iter().cycle())
            .map(|(field, verdict)| vec![field, Expression::Verdict(verdict)])
            .collect();
        for (hook, policy, priority) in [
            (Hook::Prerouting, Verdict::Accept, -301),
            (Hook::Input, Verdict::Drop, 0),
            (Hook::Forward, Verdict::Drop, -150),
            (Hook::Output, Verdict::Drop, 7),
            (Hook::Postrouting, Verdict::Accept, -300),
        ] {
            let chain = Chain {
                name: "all".into(),
                base: Some(Base { hook, priority, policy }),
                rules: rules.clone(),
            };
            let table = Table { family: family.into(), name: "adit".into(), chains: vec![chain] };
            firewall.apply(&[Change::SetTable(&table)]).unwrap();
            let Some(listed) = said(&namespace, "nft list ruleset") else {
                return;
            };
            // nft gives some numbers of priorities a name, relative to it.
            let listed = listed.replace("raw - 1;", "-301;").replace("filter + 7;", "7;");
            assert_eq!(listed, format!("{table}\n"));
        }
        firewall.apply(&[Change::DeleteTable(family.into(), "adit")]).unwrap();
    }
}

#[test]
fn a_table_for_both_versions_is_as_nft_reads_it() {
    let Some((namespace, mut firewall)) = a_firewall() else {
        return;
    };
    use Expression::{Count, Is, IsNot, Refuse, SetMark};
    let both = [
        Field::OutputLink("eth0".into()),
        Field::Source("192.0.2.1".parse().unwrap()),
        Field::Source("2001:db8::1".parse().unwrap()),
        Field::Destination("192.0.2.1".parse().unwrap()),
        Field::DestinationIn(prefix("10.64.0.0/10")),
        Field::DestinationIn(prefix("10.0.0.1/32")),
        Field::DestinationIn(prefix("2001:db8::/33")),
        Field::LocalDestination,
        Field::HopLimit(255),
        Field::Icmp6(135),
        Field::Icmp6(143),
        Field::SourcePort(Transport::Udp, 68),
        Field::DestinationPort(Transport::Tcp, 853),
    ];
    let mut rules: Vec<_> =
        both.into_iter().flat_map(|field| [vec![Is(field.clone())], vec![IsNot(field)]]).collect();
    rules.push(vec![Is(Field::Version(Family::V4)), Is(Field::Mark(1))]);
    rules.push(vec![Is(Field::Protocol(6)), Refuse(Refusal::Reset)]);
    rules.push(vec![Count, Refuse(Refusal::Prohibited)]);
    rules.push(vec![Is(Field::Mark(2)), Expression::Goto("refuse".into())]);
    rules.push(vec![SetMark(0xca6c), Expression::Verdict(Verdict::Accept)]);
    let chain = |hook, rules| Chain {
        name: "all".into(),
        base: Some(Base { hook, priority: nft::FILTER, policy: Verdict::Drop }),
        rules,
    };
    let refuse = Chain { name: "refuse".into(), base: None, rules: vec![vec![Count]] };
    let asked = |field: fn(std::net::Ipv4Addr) -> Field| vec![Is(field([10, 0, 0, 1].into()))];
    let arp = vec![asked(Field::ArpSender), asked(Field::ArpTarget)];
    for (family, chains) in [
        (nft::Family::Inet, vec![chain(Hook::Output, rules), refuse]),
        (nft::Family::Arp, vec![chain(Hook::Input, arp)]),
    ] {
        let table = Table { family, name: "adit".into(), chains };
        firewall.apply(&[Change::SetTable(&table)]).unwrap();
        let Some(listed) = said(&namespace, &format!("nft list table {family} adit")) else {
            return;
        };
        assert_eq!(listed.replace("counter packets 0 bytes 0", "counter"), format!("{table}\n"));
    }
    assert_eq!(firewall.tables().unwrap().len(), 2);
}

#[test]
fn setting_a_table_replaces_it_and_leaves_the_others() {
    let Some((namespace, mut firewall)) = a_firewall() else {
        return;
    };
    let [v4, v6] = tables("wg0");
    let [other, _] = tables("wg1");
    let stale = Table { chains: vec![], ..v4.clone() };
    firewall.apply(&[&stale, &other, &v6].map(Change::SetTable)).unwrap();
    firewall.apply(&[Change::SetTable(&v4)]).unwrap();
    if let Some(listed) = said(&namespace, "nft list table ip wg-quick-wg0") {
        assert_eq!(listed, format!("{v4}\n"));
    }
    let mut found = firewall.tables().unwrap();
    found.sort_by_key(|(_, name)| name.clone());
    let name = |table: &Table| (table.family, table.name.clone());
    assert_eq!(found.len(), 3);
    for table in [&v4, &v6, &other] {
        assert!(found.contains(&name(table)), "{found:?}");
    }

    let both = FAMILIES.map(|family| Change::DeleteTable(family.into(), "wg-quick-wg0"));
    firewall.apply(&both).unwrap();
    assert_eq!(firewall.tables().unwrap(), [name(&other)]);
}

#[test]
fn a_transaction_that_fails_changes_nothing_and_says_what_it_was() {
    let Some((_, mut firewall)) = a_firewall() else {
        return;
    };
    let [v4, _] = tables("wg0");
    let refusal = firewall
        .apply(&[Change::SetTable(&v4), Change::DeleteTable(nft::Family::Ip6, "none")])
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "set nftables table ip wg-quick-wg0, delete nftables table ip6 none: \
         No such file or directory"
    );
    assert_eq!(firewall.tables().unwrap(), []);
    firewall.apply(&[]).unwrap();
    firewall.apply(&[Change::SetTable(&v4)]).unwrap();
    assert_eq!(firewall.tables().unwrap(), [(nft::Family::Ip, "wg-quick-wg0".into())]);
}

#[test]
fn a_table_of_many_addresses_is_one_transaction() {
    let Some((_, mut firewall)) = a_firewall() else {
        return;
    };
    let addresses: Vec<IpAddr> =
        (0..500).map(|host| IpAddr::from([10, 0, (host >> 8) as u8, host as u8])).collect();
    let table = wg_quick("wg0", Family::V4, &addresses);
    firewall.apply(&[Change::SetTable(&table)]).unwrap();
}

#[test]
fn a_packet_to_the_tunnels_address_must_come_out_of_the_tunnel() {
    let (Some((alice, mut firewall)), Some(bob)) = (a_firewall(), a_namespace()) else {
        return;
    };
    use host::Change::{AddAddress, AddRoute, CreateVeth, MoveLink, SetUp};
    let mut here = Network::open_in(alice.as_fd()).unwrap();
    let tunnel = prefix("10.9.9.9/32");
    here.apply_all(&[
        CreateVeth("east", "west"),
        MoveLink("west", bob.as_fd()),
        AddAddress("east", ALICE),
        AddAddress("lo", tunnel),
        SetUp("lo"),
        SetUp("east"),
    ])
    .unwrap();
    let mut there = Network::open_in(bob.as_fd()).unwrap();
    let route = host::Route {
        destination: tunnel,
        gateway: Some(ALICE.address),
        link: "west".into(),
        table: host::MAIN_TABLE,
        origin: host::Origin::BOOT,
    };
    there.apply_all(&[AddAddress("west", BOB), SetUp("west"), AddRoute(&route)]).unwrap();

    let bind = |namespace: &OwnedFd, address: IpAddr| {
        namespace::within(namespace.as_fd(), || UdpSocket::bind((address, 0))).unwrap().unwrap()
    };
    let server = bind(&alice, tunnel.address);
    let server_address = server.local_addr().unwrap();
    let (outside, inside) = (bind(&bob, BOB.address), bind(&alice, tunnel.address));
    let arrives = |from: &UdpSocket, patience| {
        server.set_read_timeout(Some(patience)).unwrap();
        from.send_to(b"hello", server_address).unwrap();
        server.recv(&mut [0; 16]).is_ok()
    };
    const SURELY: Duration = Duration::from_secs(10);
    assert!(arrives(&outside, SURELY) && arrives(&inside, SURELY));
    let table = wg_quick("wg0", Family::V4, &[tunnel.address]);
    firewall.apply(&[Change::SetTable(&table)]).unwrap();
    assert!(!arrives(&outside, Duration::from_millis(300)), "not out of the tunnel");
    assert!(arrives(&inside, SURELY), "this machine's own");
    let table = wg_quick("east", Family::V4, &[tunnel.address]);
    let old = Change::DeleteTable(nft::Family::Ip, "wg-quick-wg0");
    firewall.apply(&[Change::SetTable(&table), old]).unwrap();
    assert!(arrives(&outside, SURELY), "now it comes out of the tunnel");
}

#[test]
fn a_table_may_be_longer_than_what_everybody_may_send_at_once() {
    let Some((_namespace, mut firewall)) = a_firewall() else { return };
    let rule = |port| {
        let query = Expression::Is(Field::DestinationPort(Transport::Udp, port));
        vec![query, Expression::Verdict(Verdict::Drop)]
    };
    let rules = (1..=3000).map(rule).collect();
    let chain = Chain { name: "many".into(), base: None, rules };
    let table = Table { family: nft::Family::Inet, name: "long".into(), chains: vec![chain] };
    firewall.apply(&[Change::SetTable(&table)]).unwrap();
    assert!(firewall.is_intact(&table).unwrap());
}

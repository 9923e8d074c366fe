//! What plans promise, before any of them is carried out.

#![allow(clippy::indexing_slicing)]

use std::net::Ipv4Addr;

use super::*;
use crate::{Address, Family, Link, MAIN_TABLE, Origin};

const WHY: &str = "a test wants it";

fn address(last: u8) -> Item {
    Item::Address("wg0".into(), Prefix::v4(Ipv4Addr::new(10, 0, 0, last), 24))
}

fn setting(value: &str) -> Item {
    Item::Setting("net/ipv4/conf/all/src_valid_mark".into(), value.into())
}

fn route() -> Route {
    let destination = Prefix::v4(Ipv4Addr::new(10, 9, 0, 0), 16);
    let (link, origin) = ("wg0".into(), Origin::ADIT);
    Route { destination, gateway: None, link, table: MAIN_TABLE, origin }
}

fn filter(chains: Vec<nft::Chain>) -> Item {
    Item::Filter(nft::Table { family: nft::Family::Inet, name: "adit-wg0".into(), chains })
}

fn dns() -> Item {
    let servers = ["10.0.0.53".to_owned()];
    let settings = dns::Settings::read(&servers, &[]).ok().flatten().expect("a server");
    Item::Dns(settings, "file wg0 /nowhere".parse().expect("a record"))
}

fn dns_by(record: &str) -> Item {
    let Item::Dns(settings, _) = dns() else { return dns() };
    Item::Dns(settings, record.parse().expect("a record"))
}

fn all() -> Vec<Wanted> {
    let link = || "wg0".to_owned();
    let rule = Rule { priority: Some(7), ..Rule::unless_marked(Family::V4, 1, 1) };
    [
        filter(Vec::new()),
        Item::Link(link()),
        address(1),
        Item::Mtu(link(), 1400),
        Item::Up(link()),
        setting("1"),
        Item::Rule(rule),
        Item::Route(route()),
        dns(),
    ]
    .map(|item| Wanted { item, why: WHY })
    .into()
}

/// A machine without a tunnel.
fn before() -> Observed {
    let settings = [("net/ipv4/conf/all/src_valid_mark".to_owned(), "0".to_owned())];
    Observed { settings: settings.into(), ..Observed::default() }
}

/// The machine when everything has been made.
fn after() -> Observed {
    let rule = Rule { priority: Some(7), ..Rule::unless_marked(Family::V4, 1, 1) };
    let prefix = Prefix::v4(Ipv4Addr::new(10, 0, 0, 1), 24);
    Observed {
        links: vec![Link {
            index: 3,
            name: "wg0".into(),
            up: true,
            mtu: 1400,
            kind: "tun".into(),
            bridge: None,
        }],
        addresses: vec![Address { link: 3, address: prefix }],
        routes: [route()].into(),
        rules: vec![rule],
        filters: vec![(nft::Family::Inet, "adit-wg0".into())],
        disturbed: Vec::new(),
        settings: [("net/ipv4/conf/all/src_valid_mark".to_owned(), "1".to_owned())].into(),
        dns: vec![dns()],
        shared: Vec::new(),
    }
}

fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|(step, _)| step.to_string()).collect()
}

#[test]
fn a_plan_for_an_empty_machine_makes_everything_in_its_order() {
    let plan = Plan::new(&all(), &[], &before());
    let expected = "\
+ packet filter adit-wg0
+ link wg0
+ address 10.0.0.1/24 dev wg0
+ MTU 1400 of wg0
+ wg0 up
~ net.ipv4.conf.all.src_valid_mark = 1 (was net.ipv4.conf.all.src_valid_mark = 0)
+ IPv4 rule 7: not from all fwmark 0x1 lookup 1
+ route 10.9.0.0/16 dev wg0
+ DNS: ask 10.0.0.53 for all names, by /etc/resolv.conf";
    assert_eq!(words(&plan).join("\n"), expected);
    assert!(plan.to_string().lines().all(|line| line.ends_with("# a test wants it")));
}

#[test]
fn a_second_plan_is_empty_and_keeps_what_the_first_has_made() {
    let first = Plan::new(&all(), &[], &before());
    let second = Plan::new(&all(), &first.entries, &after());
    assert_eq!((second.steps, second.entries), (vec![], first.entries));
}

#[test]
fn what_others_made_is_used_and_never_undone() {
    let plan = Plan::new(&all(), &[], &after());
    assert_eq!(words(&plan), ["~ packet filter adit-wg0"], "of this name it is ours");
    let undone = Plan::undo(&plan.entries, &after());
    assert_eq!(words(&undone), ["- packet filter adit-wg0"]);
}

#[test]
fn a_filter_that_others_have_changed_is_set_again() {
    let made = Plan::new(&all(), &[], &before()).entries;
    let disturbed = after().filters;
    let plan = Plan::new(&all(), &made, &Observed { disturbed, ..after() });
    assert_eq!(words(&plan), ["~ packet filter adit-wg0"]);
    assert_eq!(plan.entries, made);
}

#[test]
fn a_plan_that_fails_takes_back_what_is_new_and_leaves_what_was_only_put_back() {
    let first = Plan::new(&all(), &[], &before());
    let back: Vec<_> = first.way_back(3, &[]).iter().map(Step::to_string).collect();
    assert_eq!(back, ["- address 10.0.0.1/24 dev wg0", "- link wg0", "- packet filter adit-wg0"]);
    let again = Plan::new(&all(), &first.entries, &before());
    assert!(again.steps.len() > 3 && again.way_back(3, &first.entries).is_empty());
}

#[test]
fn what_others_took_away_is_made_again_and_nothing_else() {
    let made = Plan::new(&all(), &[], &before()).entries;
    for missing in 0..made.len() {
        let mut observed = after();
        match &made[missing].item {
            Item::Filter(_) => observed.filters.clear(),
            Item::Link(_) => continue,
            Item::Address(..) => observed.addresses.clear(),
            Item::Rule(_) => observed.rules.clear(),
            Item::Route(_) => observed.routes.clear(),
            Item::Up(_) => observed.links[0].up = false,
            Item::Mtu(..) => observed.links[0].mtu = 1500,
            Item::Setting(..) => observed.settings = before().settings,
            Item::Dns(..) => observed.dns.clear(),
        }
        let plan = Plan::new(&all(), &made, &observed);
        assert_eq!(plan.steps.len(), 1, "{plan}");
        assert!(plan.steps[0].0.to_string().contains(&made[missing].item.to_string()), "{plan}");
        assert_eq!(plan.entries, made);
    }
}

#[test]
fn a_changed_wish_makes_the_new_before_it_removes_the_old() {
    let made = Plan::new(&all(), &[], &before()).entries;
    let mut wanted = all();
    wanted[2].item = address(2);
    wanted[3].item = Item::Mtu("wg0".into(), 1380);
    wanted.remove(7);
    let plan = Plan::new(&wanted, &made, &after());
    let expected = [
        "+ address 10.0.0.2/24 dev wg0",
        "~ MTU 1380 of wg0 (was MTU 1400 of wg0)",
        "- route 10.9.0.0/16 dev wg0",
        "- address 10.0.0.1/24 dev wg0",
    ];
    assert_eq!(words(&plan), expected);
    let items: Vec<_> = plan.entries.into_iter().map(|entry| entry.item).collect();
    assert_eq!(items, wanted.into_iter().map(|wanted| wanted.item).collect::<Vec<_>>());
}

#[test]
fn whoever_was_told_of_name_servers_stays_told_until_there_are_none_or_the_tunnel_goes() {
    let ways = ["file wg0 /nowhere", "networkmanager wg0", "resolved wg0"].map(dns_by);
    let mut made = Vec::new();
    for way in [0, 1, 2, 0].map(|number| &ways[number]) {
        let wanted = [Wanted { item: way.clone(), why: WHY }];
        let plan = Plan::new(&wanted, &made, &Observed::default());
        assert_eq!(plan.steps, [(Step::Make(way.clone()), WHY)]);
        let journal = plan.under_way(&made);
        assert!(made.iter().all(|it: &Entry| journal.iter().any(|entry| entry.item == it.item)));
        made = plan.entries;
        assert_eq!(made[0].item, *way, "who answers now is the first");
    }
    let all: Vec<_> = made.iter().map(|entry| entry.item.clone()).collect();
    assert_eq!(all, [ways[0].clone(), ways[2].clone(), ways[1].clone()]);
    let observed = Observed { dns: vec![ways[0].clone()], ..Observed::default() };
    let wanted = [Wanted { item: ways[0].clone(), why: WHY }];
    let again = Plan::new(&wanted, &made, &observed);
    assert_eq!((again.steps, again.entries), (vec![], made.clone()));
    let removals: Vec<_> = made.iter().rev().map(|it| Step::Remove(it.item.clone())).collect();
    for plan in [Plan::new(&[], &made, &observed), Plan::undo(&made, &observed)] {
        let steps: Vec<_> = plan.steps.into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, removals, "the first who was told forgets first");
    }
}

#[test]
fn while_a_plan_is_under_way_the_journal_tells_of_old_and_new() {
    let made = Plan::new(&all(), &[], &before()).entries;
    let mut wanted = all();
    wanted[2].item = address(2);
    wanted[5].item = setting("2");
    let journal = Plan::new(&wanted, &made, &after()).under_way(&made);
    for item in [address(1), address(2), setting("2")] {
        assert!(journal.iter().any(|entry| entry.item == item), "{item}");
    }
    // Whether or not the change was made before the power failed, it is taken back.
    for value in ["1", "2"] {
        let mut observed = before();
        observed.settings.values_mut().for_each(|found| value.clone_into(found));
        let undone = Plan::undo(&journal, &observed);
        let name = "net.ipv4.conf.all.src_valid_mark";
        assert_eq!(words(&undone)[1..], [format!("~ {name} = 0 (was {name} = {value})")]);
    }
}

#[test]
fn a_change_that_failed_is_made_again_and_until_then_what_was_there_is_ours() {
    let made = Plan::new(&all(), &[], &before()).entries;
    let mut wanted = all();
    let table = nft::Table::of_tunnel("adit-wg0".into(), "wg0", Family::V4, &[], 1);
    wanted[0].item = filter(table.chains);
    wanted[5].item = setting("2");
    let plan = Plan::new(&wanted, &made, &after());
    assert_eq!(plan.steps.len(), 2, "{plan}");
    let left = plan.under_way(&made);
    let again = Plan::new(&wanted, &left, &after());
    assert_eq!((&again.steps, again.under_way(&left)), (&plan.steps, left.clone()));
    assert_eq!(words(&Plan::undo(&left, &after())), words(&Plan::undo(&made, &after())));
    // What was taken away meanwhile is put back, though nothing could be written down.
    let gone = Plan::new(&wanted, &left, &Observed { filters: Vec::new(), ..after() });
    assert_eq!(words(&gone)[0], "+ packet filter adit-wg0");
    assert_eq!(gone.under_way(&left), left);
    // What has succeeded is certain.
    assert_eq!(Plan { steps: Vec::new(), ..plan }.under_way(&left), again.entries);
}

#[test]
fn where_a_step_has_failed_nothing_opens_and_nothing_is_tried_in_vain() {
    let link = || "wg0".to_owned();
    let way_out = || Rule::to(Prefix::v4(Ipv4Addr::new(10, 9, 0, 0), 16), MAIN_TABLE);
    let make = |item| Step::Make(item);
    let failed =
        [filter(Vec::new()), Item::Link(link()), Item::Up(link()), dns(), setting("1")].map(make);
    for (step, needs) in [
        (make(Item::Rule(way_out())), [true, false, false, false, false]),
        (make(Item::Rule(Rule::marked(Family::V4, 1, 2))), [true, false, false, false, false]),
        (make(Item::Rule(Rule::unless_marked(Family::V4, 1, 1))), [false; 5]),
        (make(Item::Route(route())), [false, true, true, false, false]),
        (make(address(1)), [false, true, true, false, false]),
        (make(dns()), [false, true, true, false, false]),
        (make(setting("2")), [false; 5]),
        (Step::Remove(Item::Rule(way_out())), [true, false, false, false, false]),
        (Step::Remove(filter(Vec::new())), [true; 5]),
    ] {
        assert_eq!(failed.each_ref().map(|failed| step.needs(failed)), needs, "{step}");
    }
}

#[test]
fn only_what_is_still_ours_is_undone_and_a_link_takes_its_own_with_it() {
    let made = Plan::new(&all(), &[], &before()).entries;
    let all_of_it = [
        "- DNS: ask 10.0.0.53 for all names, by /etc/resolv.conf",
        "- IPv4 rule 7: not from all fwmark 0x1 lookup 1",
        "~ net.ipv4.conf.all.src_valid_mark = 0 (was net.ipv4.conf.all.src_valid_mark = 1)",
        "- link wg0",
        "- packet filter adit-wg0",
    ];
    assert_eq!(words(&Plan::undo(&made, &after())), all_of_it);
    let mut observed = after();
    observed.settings.values_mut().for_each(|value| "7".clone_into(value));
    observed.rules.clear();
    let rest = [
        "- DNS: ask 10.0.0.53 for all names, by /etc/resolv.conf",
        "- link wg0",
        "- packet filter adit-wg0",
    ];
    assert_eq!(words(&Plan::undo(&made, &observed)), rest);
    // What is left of DNS, its record knows.
    assert_eq!(words(&Plan::undo(&made, &before())), &rest[..1]);
}

#[test]
fn every_step_is_taken_back_by_its_inverse() {
    for step in
        [Step::Make(address(1)), Step::Remove(address(1)), Step::Change(setting("0"), setting("1"))]
    {
        assert_eq!(step.inverse().inverse(), step);
        assert_ne!(step.inverse(), step);
    }
}

#[test]
fn a_setting_of_two_tunnels_is_put_back_by_the_last() {
    let wanted = [Wanted { item: setting("1"), why: WHY }];
    let first = Plan::new(&wanted, &[], &before()).entries;
    let seen_by_the_second = Observed { shared: first.clone(), ..after() };
    let second = Plan::new(&wanted, &[], &seen_by_the_second);
    assert!(second.steps.is_empty());
    let seen_by_the_first = Observed { shared: second.entries.clone(), ..after() };
    assert!(Plan::undo(&first, &seen_by_the_first).steps.is_empty());
    assert_eq!(Plan::undo(&second.entries, &after()).steps.len(), 1);
}

#[test]
fn others_have_a_say_only_when_a_setting_comes_or_goes() {
    let (wanted, made) = (all(), Plan::new(&all(), &[], &before()).entries);
    assert!(!is_about_shared(&wanted, &made));
    assert!(is_about_shared(&wanted, &[]) && is_about_shared(&[], &made));
    let more = [&wanted[..], &[Wanted { item: address(2), why: WHY }]].concat();
    let other = vec![Wanted { item: setting("2"), why: WHY }];
    assert!(!is_about_shared(&more, &made));
    assert!(!is_about_shared(&other, &made), "what was there before is known");
}

#[test]
fn very_many_routes_take_no_longer_than_few_each() {
    const MANY: u32 = 50_000;
    let route = |n: u32| Route {
        destination: Prefix::v4(Ipv4Addr::from_bits(0x0a00_0000 | n), 32),
        ..route()
    };
    let wanted: Vec<_> =
        (0..MANY).map(|n| Wanted { item: Item::Route(route(n)), why: WHY }).collect();
    let entry = |n| Entry { item: Item::Route(route(n)), before: None, until_now: None };
    // One is not there, and one is not wanted any more.
    let made: Vec<_> = (0..=MANY).map(entry).collect();
    let observed = Observed { routes: (1..=MANY).map(route).collect(), ..Observed::default() };
    let start = std::time::Instant::now();
    let plan = Plan::new(&wanted, &made, &observed);
    let entries = plan.under_way(&made);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    let steps: Vec<_> = plan.steps.iter().map(|(step, _)| step.clone()).collect();
    let expected = [Step::Make(Item::Route(route(0))), Step::Remove(Item::Route(route(MANY)))];
    assert_eq!(steps, expected);
    assert_eq!(entries.len(), made.len());
}

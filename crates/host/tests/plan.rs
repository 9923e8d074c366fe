//! Plans carried out in a network namespace, step by step refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use host::namespace;
use host::plan::{Carrier, Item, Machine, Observed, OnFailure, Plan, Wanted};
use host::{Change, Error, Family, Journal, MAIN_TABLE, Network, Origin, Route, Rule, nft};
use support::{ALICE, a_namespace, prefix};

const LINK: &str = "a";
const MARK: u32 = 7;

fn all() -> Vec<Wanted> {
    let table = nft::Table::of_tunnel("adit-a".into(), LINK, Family::V4, &[ALICE.address], MARK);
    let rule = |priority, rule| Item::Rule(Rule { priority: Some(priority), ..rule });
    let route = Route {
        destination: prefix("0.0.0.0/0"),
        gateway: None,
        link: LINK.into(),
        table: MARK,
        origin: Origin::ADIT,
    };
    let items = [
        Item::Filter(table),
        Item::Setting("net/ipv4/conf/all/send_redirects".into(), "0".into()),
        Item::Link(LINK.into()),
        Item::Address(LINK.into(), ALICE),
        Item::Mtu(LINK.into(), 1400),
        Item::Up(LINK.into()),
        rule(9, Rule::to(prefix("192.168.0.0/16"), MAIN_TABLE)),
        rule(10, Rule::unless_marked(Family::V4, MARK, MARK)),
        Item::Route(route),
    ];
    items.map(|item| Wanted { item, why: "a test wants it" }).into()
}

/// Refuses one step, by its number.
struct Refusing {
    step: Option<usize>,
    asked: std::cell::Cell<usize>,
    /// Nor is a link ended.
    keeps_link: bool,
}

fn refusing(step: Option<usize>) -> Refusing {
    Refusing { step, asked: std::cell::Cell::new(0), keeps_link: false }
}

impl Carrier for Refusing {
    fn start(&mut self, link: &str) -> Result<(), Error> {
        Network::open()?.apply(Change::CreateVeth(link, "b"))
    }

    fn may_go_on(&self) -> Result<(), Error> {
        let number = self.asked.replace(self.asked.get() + 1);
        match self.step == Some(number) {
            true => Err(Error::new("go on", io::ErrorKind::Interrupted.into())),
            false => Ok(()),
        }
    }

    fn end(&mut self, link: &str, network: &mut Network) -> Result<(), Error> {
        match self.keeps_link {
            true => Err(Error::new("end it", io::ErrorKind::Other.into())),
            false => network.apply(Change::DeleteLink(link)),
        }
    }
}

struct Stage {
    machine: Machine,
    path: PathBuf,
}

impl Stage {
    fn new(test: &str) -> Self {
        let name = format!("adit-plan-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name).join("a.journal");
        Self { machine: Machine::open().unwrap(), path }
    }

    /// What the disk tells.
    fn journal(&self) -> Journal<()> {
        let journal = Journal::read(&self.path).unwrap();
        journal.unwrap_or_else(|| Journal::new(self.path.clone(), ()))
    }

    fn observe(&mut self) -> Observed {
        let wanted = all();
        let mut observed = self.machine.observe(wanted.iter().map(|it| &it.item)).unwrap();
        // Whether it was made or put back, a link has another number each time.
        observed.addresses.retain(|it| it.address == ALICE);
        observed
    }

    /// The same, with all links, and what goes through and is on them.
    fn everything(&mut self) -> Observed {
        let mut observed = self.observe();
        let network = &mut self.machine.network;
        observed.links = network.links().unwrap();
        observed.addresses = network.addresses().unwrap();
        observed.addresses.retain(|it| it.address == ALICE);
        observed.routes = network.routes().unwrap().into_iter().collect();
        observed
    }

    /// Makes what is missing, but for one step; whether that was all.
    fn apply(&mut self, refused: Option<usize>) -> bool {
        let (mut journal, observed) = (self.journal(), self.observe());
        let plan = Plan::new(&all(), &journal.entries, &observed);
        let carrier = &mut refusing(refused);
        let noted = plan.note(&mut journal).unwrap();
        self.machine.apply(noted, &mut journal, carrier, OnFailure::GoOn).is_ok()
    }

    fn missing(&mut self) -> Vec<String> {
        let observed = self.observe();
        let items = all().into_iter().map(|it| it.item);
        items.filter(|it| !observed.has(it)).map(|it| it.to_string()).collect()
    }

    /// Takes everything back, by the journal on the disk.
    fn undo(&mut self) {
        let mut journal = self.journal();
        self.machine.undo(&mut journal, Vec::new(), &mut refusing(None)).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.path.parent().unwrap());
    }
}

/// What is missing when a step was refused: itself, and what needs it.
const WHERE_REFUSED: [&[usize]; 9] =
    [&[0, 6], &[1], &[2, 3, 4, 5, 8], &[3], &[4], &[5, 8], &[6], &[7], &[8]];

#[test]
fn whichever_step_fails_the_others_are_taken_and_the_journal_tells_of_all_of_them() {
    let Some(namespace) = a_namespace() else { return };
    let play = || {
        let mut stage = Stage::new("others");
        let before = stage.everything();
        let words: Vec<String> = all().iter().map(|it| it.item.to_string()).collect();
        for (refused, missing) in WHERE_REFUSED.iter().enumerate() {
            let missing: Vec<_> = missing.iter().filter_map(|it| words.get(*it)).collect();
            assert!(!stage.apply(Some(refused)));
            assert_eq!(stage.missing().iter().collect::<Vec<_>>(), missing, "step {refused}");
            stage.undo();
            assert_eq!(stage.everything(), before, "step {refused}");

            assert!(!stage.apply(Some(refused)) && stage.apply(None), "step {refused}");
            assert_eq!(stage.missing(), [""; 0], "step {refused}");
            stage.undo();
            assert_eq!(stage.everything(), before, "step {refused}");
        }
    };
    namespace::within(namespace.as_fd(), play).unwrap();
}

#[test]
fn the_journal_tells_of_nothing_but_what_could_not_be_taken_back() {
    let Some(namespace) = a_namespace() else { return };
    let play = || {
        let mut stage = Stage::new("left");
        let before = stage.everything();
        assert!(stage.apply(None));
        let mut journal = stage.journal();
        let mut carrier = Refusing { keeps_link: true, ..refusing(None) };
        let failed = stage.machine.undo(&mut journal, Vec::new(), &mut carrier).unwrap_err();
        assert_eq!(failed.len(), 1, "{failed:?}");
        let left: Vec<_> = stage.journal().entries.iter().map(|it| it.item.to_string()).collect();
        let link_and_its_own = [
            "link a",
            "address 192.0.2.1/24 dev a",
            "MTU 1400 of a",
            "a up",
            "route 0.0.0.0/0 dev a table 7",
        ];
        assert_eq!(left, link_and_its_own);
        stage.undo();
        assert_eq!(stage.everything(), before);
    };
    namespace::within(namespace.as_fd(), play).unwrap();
}

#[test]
fn what_others_took_away_is_put_back_though_the_disk_is_full() {
    let Some(namespace) = a_namespace() else { return };
    let play = || {
        let mut stage = Stage::new("full");
        assert!(stage.apply(None));
        stage.machine.network.apply(Change::DeleteLink(LINK)).unwrap();
        let folder = stage.path.with_added_extension("new");
        // Nothing can be written there.
        fs::create_dir(&folder).unwrap();
        assert!(stage.apply(None));
        assert_eq!(stage.missing(), [""; 0]);
        fs::remove_dir(&folder).unwrap();
        stage.undo();
    };
    namespace::within(namespace.as_fd(), play).unwrap();
}

#[test]
fn nothing_is_asked_of_links_that_a_plan_is_not_about() {
    let Some(namespace) = a_namespace() else { return };
    let play = || {
        let mut stage = Stage::new("about");
        assert!(stage.apply(None));
        let network = &mut stage.machine.network;
        network.apply(Change::CreateVeth("c", "d")).unwrap();
        network.apply(Change::AddAddress("c", prefix("192.0.2.9/24"))).unwrap();
        network.apply(Change::SetUp("c")).unwrap();
        let through = |link: &str, destination| Route {
            destination: prefix(destination),
            gateway: None,
            link: link.into(),
            table: MARK,
            origin: Origin::ADIT,
        };
        for route in [through("c", "198.51.100.0/24"), through("c", "2001:db8::/32")] {
            network.apply(Change::AddRoute(&route)).unwrap();
        }
        let more = through(LINK, "2001:db8:1::/48");
        network.apply(Change::AddRoute(&more)).unwrap();

        let wanted = all();
        let observed = stage.machine.observe(wanted.iter().map(|it| &it.item)).unwrap();
        let network = &mut stage.machine.network;
        let own = network.link(LINK).unwrap();
        assert_eq!(observed.links, std::slice::from_ref(&own));
        let (mut addresses, mut routes) = (network.addresses().unwrap(), network.routes().unwrap());
        addresses.retain(|it| it.link == own.index);
        assert_eq!(observed.addresses, addresses);
        routes.retain(|it| it.link == LINK);
        assert!(routes.contains(&more));
        assert_eq!(observed.routes, routes.into_iter().collect());

        let up = Item::Up(LINK.into());
        let observed = stage.machine.observe([&up]).unwrap();
        assert!(observed.has(&up) && observed.routes.is_empty());
        stage.undo();
    };
    namespace::within(namespace.as_fd(), play).unwrap();
}

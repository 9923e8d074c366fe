//! Whoever answers for this machine's names changes while a tunnel is up: the tunnel is looked after
//! as its keeper does it, by plans and a journal.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use host::dns::{self, Patience};
use host::plan::{Carrier, Item, Machine, OnFailure, Plan, Step, Wanted};
use host::{Error, Journal, Network};

use crate::network_manager::{self, Manager};
use crate::stage::{
    BY_HAND, CHILD, RESOLV_CONF, Stage, eventually, is_child, killed_at_every_change, play,
    settings, write,
};
use crate::{resolvconf, resolved};

const KILLS: u32 = 50;
const JOURNAL: &str = "/var/lib/adit/wg0.journal";

/// The ways of which one is this machine's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    File,
    Resolved,
    NetworkManager,
    Openresolv,
}

/// A machine whose way changes.
struct Changing<'a> {
    stage: &'a mut Stage,
    manager: Option<Manager>,
    resolvectl: Option<resolved::Resolvectl>,
    openresolv: bool,
}

impl<'a> Changing<'a> {
    fn new(stage: &'a mut Stage) -> Self {
        Self { stage, manager: None, resolvectl: None, openresolv: false }
    }

    /// This way takes over, whatever was there before; false if it is not here. What ran goes on, as
    /// if somebody had only just installed something else.
    fn take(&mut self, way: Way) -> bool {
        match way {
            Way::File => write(BY_HAND),
            Way::Resolved => match &self.resolvectl {
                Some(_) => resolved::restart(self.stage),
                None => self.resolvectl = resolved::start(self.stage),
            },
            Way::NetworkManager => match &self.manager {
                Some(manager) => manager.write_again(),
                None => self.manager = network_manager::start(self.stage, ""),
            },
            Way::Openresolv => {
                self.openresolv = self.openresolv || resolvconf::install("openresolv");
                if !self.openresolv {
                    return false;
                }
                fs::write("/run/lan", BY_HAND).unwrap();
                let _ = fs::remove_file(RESOLV_CONF);
                resolvconf::tell_of_the_lan();
            }
        }
        match way {
            Way::Resolved => self.resolvectl.is_some(),
            Way::NetworkManager => self.manager.is_some(),
            Way::File | Way::Openresolv => true,
        }
    }
}

struct Tunnel {
    machine: Machine,
    journal: Journal<()>,
}

/// There is nothing but name servers.
struct Nobody;

impl Carrier for Nobody {
    fn start(&mut self, _: &str) -> Result<(), Error> {
        panic!("no link is wanted")
    }

    fn may_go_on(&self) -> Result<(), Error> {
        Ok(())
    }

    fn end(&mut self, _: &str, _: &mut Network) -> Result<(), Error> {
        panic!("no link was made")
    }
}

impl Tunnel {
    fn new() -> Self {
        let journal = Journal::new(PathBuf::from(JOURNAL), ());
        Self { machine: Machine::open().unwrap(), journal }
    }

    /// What somebody who was killed has left.
    fn left() -> Self {
        let journal = Journal::read(Path::new(JOURNAL)).unwrap();
        journal
            .map_or_else(Self::new, |journal| Self { machine: Machine::open().unwrap(), journal })
    }

    fn plan(&mut self) -> Plan {
        let chosen = dns::choose("wg0", &settings("10.0.1.53"), Patience::Long).unwrap();
        let item = Item::Dns(chosen.settings().clone(), chosen.record().clone());
        let wanted = [Wanted { item, why: "a test wants it" }];
        let made = self.journal.entries.iter().map(|entry| &entry.item);
        let observed = self.machine.observe(wanted.iter().map(|it| &it.item).chain(made)).unwrap();
        Plan::new(&wanted, &self.journal.entries, &observed)
    }

    /// Puts back what is not as it should be, until nothing is left to do; what could not be done.
    fn look(&mut self) -> Vec<Step> {
        let mut left = Vec::new();
        for _ in 0..4 {
            let plan = self.plan();
            let noted = plan.note(&mut self.journal).unwrap();
            let done = self.machine.apply(noted, &mut self.journal, &mut Nobody, OnFailure::GoOn);
            left = done.err().map(|failure| failure.left).unwrap_or_default();
            if plan.steps.is_empty() {
                break;
            }
        }
        left
    }

    fn down(&mut self) -> Result<(), Vec<Error>> {
        self.machine.undo(&mut self.journal, Vec::new(), &mut Nobody)
    }
}

/// From one way to another while a tunnel is up, and perhaps back again; then the tunnel goes, and
/// each of both is as if there had been none.
fn hand_over(stage: &mut Stage, from: Way, to: Way, and_back: bool) {
    let mut machine = Changing::new(stage);
    if !machine.take(from) {
        return;
    }
    let mut tunnel = Tunnel::new();
    assert_eq!(tunnel.look(), []);
    machine.stage.assert_asks("told.example", &machine.stage.tunnels[0]);
    if !machine.take(to) {
        return;
    }
    assert_eq!(tunnel.look(), []);
    machine.stage.assert_asks("handed.example", &machine.stage.tunnels[0]);
    if and_back {
        assert!(machine.take(from));
        assert_eq!(tunnel.look(), []);
        machine.stage.assert_asks("back.example", &machine.stage.tunnels[0]);
    }
    assert!(tunnel.down().is_ok());
    machine.stage.assert_asks("after.example", &machine.stage.lan);
    for way in [to, from] {
        assert!(machine.take(way));
        machine.stage.assert_asks(&format!("way-{}.example", way as u8), &machine.stage.lan);
    }
}

macro_rules! handovers {
    ($($name:ident: $from:ident to $to:ident, $back:expr;)*) => {$(
        #[test]
        fn $name() {
            play(concat!("handover::", stringify!($name)), |stage| {
                hand_over(stage, Way::$from, Way::$to, $back);
            });
        }
    )*};
}

handovers! {
    from_the_file_to_resolved: File to Resolved, false;
    from_the_file_to_network_manager: File to NetworkManager, false;
    from_the_file_to_openresolv: File to Openresolv, false;
    from_resolved_to_the_file: Resolved to File, false;
    from_resolved_to_network_manager: Resolved to NetworkManager, false;
    from_resolved_to_openresolv: Resolved to Openresolv, false;
    from_network_manager_to_resolved: NetworkManager to Resolved, false;
    from_network_manager_to_the_file: NetworkManager to File, false;
    from_openresolv_to_the_file: Openresolv to File, false;
    from_openresolv_to_resolved: Openresolv to Resolved, false;
    from_the_file_to_resolved_and_back: File to Resolved, true;
    from_the_file_to_network_manager_and_back: File to NetworkManager, true;
    from_the_file_to_openresolv_and_back: File to Openresolv, true;
    from_resolved_to_network_manager_and_back: Resolved to NetworkManager, true;
    from_resolved_to_openresolv_and_back: Resolved to Openresolv, true;
}

#[test]
fn what_somebody_has_put_aside_and_back_is_not_kept_for_afterwards() {
    play("handover::what_somebody_has_put_aside_and_back_is_not_kept_for_afterwards", |stage| {
        let mut machine = Changing::new(stage);
        let mut tunnel = Tunnel::new();
        tunnel.look();
        // As the package of systemd-resolved does it when it is installed, and then removed.
        let ours = fs::read_to_string(RESOLV_CONF).unwrap();
        if !machine.take(Way::Resolved) {
            return;
        }
        tunnel.look();
        write(&ours);
        machine.stage.kill_named("systemd-resolve");
        assert_eq!(tunnel.look(), []);
        machine.stage.assert_asks("during.example", &machine.stage.tunnels[0]);
        assert!(tunnel.down().is_ok());
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);

        // The same, but the tunnel goes before it is removed: the next one heals that.
        let mut tunnel = Tunnel::new();
        tunnel.look();
        let ours = fs::read_to_string(RESOLV_CONF).unwrap();
        machine.resolvectl = None;
        assert!(machine.take(Way::Resolved));
        tunnel.look();
        assert!(tunnel.down().is_ok());
        machine.stage.kill_named("systemd-resolve");
        write(&ours);
        let mut tunnel = Tunnel::new();
        tunnel.look();
        assert!(tunnel.down().is_ok());
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
    });
}

#[test]
fn network_manager_that_was_stopped_for_good_is_told_when_it_runs_or_is_gone() {
    play(
        "handover::network_manager_that_was_stopped_for_good_is_told_when_it_runs_or_is_gone",
        |stage| {
            let mut machine = Changing::new(stage);
            for is_removed in [false, true] {
                if !machine.take(Way::NetworkManager) {
                    return;
                }
                let mut tunnel = Tunnel::new();
                tunnel.look();
                machine.stage.kill_named("NetworkManager");
                machine.manager = None;
                assert!(machine.take(Way::File));
                assert_eq!(tunnel.look(), []);
                machine.stage.assert_asks("during.example", &machine.stage.tunnels[0]);
                if is_removed {
                    fs::remove_dir_all("/var/lib/NetworkManager").unwrap();
                    assert!(tunnel.down().is_ok());
                    assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
                    assert!(!Path::new("/var/lib/adit/dns/networkmanager").exists());
                    continue;
                }
                let left = tunnel.down().unwrap_err();
                assert!(left[0].to_string().contains("start it"), "{left:?}");
                assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
                machine.take(Way::NetworkManager);
                assert!(tunnel.down().is_ok());
                machine.stage.assert_asks("after.example", &machine.stage.lan);
            }
        },
    );
}

#[test]
fn what_resolved_has_read_in_the_file_is_told_of() {
    play("handover::what_resolved_has_read_in_the_file_is_told_of", |stage| {
        let mut machine = Changing::new(stage);
        if !machine.take(Way::Resolved) {
            return;
        }
        assert!(machine.take(Way::File));
        let mut tunnel = Tunnel::new();
        tunnel.look();
        // Whoever asks it makes it read.
        machine.resolvectl.as_ref().unwrap().run(&["query", "read.example"]);
        resolved::link();
        tunnel.look();
        assert!(tunnel.down().is_ok());
        let remark = "/etc/resolv.conf is left as somebody else has written it since; what it was \
                      before is in /var/lib/adit/dns/etc/original; systemd-resolved has read \
                      10.0.1.53 in /etc/resolv.conf, and asks it until you run `systemctl restart \
                      systemd-resolved'";
        let told = tunnel.machine.remarks.iter().filter(|it| *it == remark).count();
        assert_eq!(told, 1, "{:?}", tunnel.machine.remarks);
        resolved::restart(machine.stage);
        machine.stage.assert_asks("after.example", &machine.stage.lan);

        // One that has read nothing of it is not accused.
        tunnel.look();
        tunnel.machine.remarks.clear();
        assert!(tunnel.down().is_ok());
        assert_eq!(tunnel.machine.remarks, Vec::<String>::new());
    });
}

#[test]
fn a_resolvconf_that_was_removed_has_nothing_to_forget() {
    play("handover::a_resolvconf_that_was_removed_has_nothing_to_forget", |stage| {
        let mut machine = Changing::new(stage);
        if !machine.take(Way::Openresolv) {
            return;
        }
        let mut tunnel = Tunnel::new();
        tunnel.look();
        fs::remove_file("/usr/sbin/resolvconf").unwrap();
        assert!(machine.take(Way::File));
        assert_eq!(tunnel.look(), []);
        assert!(tunnel.down().is_ok());
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), BY_HAND);
    });
}

#[test]
fn whoever_is_killed_while_it_changes_leaves_a_journal_that_tells_everything() {
    const TEST: &str =
        "handover::whoever_is_killed_while_it_changes_leaves_a_journal_that_tells_everything";
    if is_child() {
        loop {
            hand_over_and_back();
        }
    }
    play(TEST, |stage| {
        let Some((resolvectl, before)) = resolved_beside_a_file(stage) else { return };
        for number in 0..KILLS {
            let mut victim = Command::new(env::current_exe().unwrap())
                .args(["--exact", TEST])
                .env(CHILD, "yes")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            eventually("the first change", || Path::new(JOURNAL).exists());
            thread::sleep(Duration::from_micros(u64::from(number) * 337 % 16_000));
            victim.kill().unwrap();
            victim.wait().unwrap();
            assert!(Tunnel::left().down().is_ok());
            assert_is_told_nothing(&resolvectl, &before, &format!("kill {number}"));
        }
    });
}

#[test]
fn whoever_is_killed_at_any_change_leaves_a_journal_that_tells_everything() {
    const TEST: &str =
        "handover::whoever_is_killed_at_any_change_leaves_a_journal_that_tells_everything";
    if is_child() {
        return hand_over_and_back();
    }
    play(TEST, |stage| {
        let Some((resolvectl, before)) = resolved_beside_a_file(stage) else { return };
        let mut comes_again = false;
        killed_at_every_change(TEST, |when| {
            let text = fs::read_to_string(RESOLV_CONF).unwrap();
            assert!(text.contains("nameserver"), "{when}: {text}");
            // Between two changes of one thing there are several calls: each way is tried.
            comes_again = !comes_again;
            if comes_again {
                assert_eq!(Tunnel::left().look(), [], "{when}");
            }
            assert!(Tunnel::left().down().is_ok(), "{when}");
            assert_is_told_nothing(&resolvectl, &before, when);
        });
    });
}

/// A machine on which systemd-resolved runs beside a file that somebody has written, and what it has been
/// told of `wg0`; none where it is not here.
fn resolved_beside_a_file(stage: &mut Stage) -> Option<(resolved::Resolvectl, String)> {
    let mut machine = Changing::new(stage);
    if !machine.take(Way::Resolved) {
        return None;
    }
    let resolvectl = machine.resolvectl?;
    let before = resolvectl.of("wg0");
    write(BY_HAND);
    Some((resolvectl, before))
}

fn assert_is_told_nothing(resolvectl: &resolved::Resolvectl, before: &str, when: &str) {
    let text = fs::read_to_string(RESOLV_CONF).unwrap();
    assert!(!text.contains("10.0.1.53"), "{when}: {text}");
    let stack = fs::read_to_string("/var/lib/adit/dns/etc/stack").unwrap_or_default();
    assert!(!stack.contains("wg0"), "{when}: {stack}");
    assert_eq!(resolvectl.of("wg0"), before, "{when}");
}

/// A tunnel comes, is handed over there and back, and goes.
fn hand_over_and_back() {
    write(BY_HAND);
    let mut tunnel = Tunnel::new();
    tunnel.look();
    resolved::link();
    tunnel.look();
    write(BY_HAND);
    tunnel.look();
    assert!(tunnel.down().is_ok());
}

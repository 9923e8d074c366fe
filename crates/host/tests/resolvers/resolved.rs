//! systemd-resolved itself, on a bus of its own.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use host::{Change, Network, dns};

use crate::stage::{RESOLV_CONF, Stage, eventually, package, plan, play, refusal, run, undo};

/// A machine where systemd-resolved answers, as distributions set it up: the network's own server is
/// that of `eth0`.
pub fn start(stage: &mut Stage) -> Option<Resolvectl> {
    let package = package("systemd-resolved", "lib/systemd/systemd-resolved")?;
    if !stage.start_bus() {
        return None;
    }
    let numbers = "systemd-resolve:x:991:991::/:/usr/sbin/nologin\n";
    append("/etc/passwd", numbers);
    append("/etc/group", "systemd-resolve:x:991:\n");
    fs::create_dir_all("/run/systemd/resolve").unwrap();
    chown("/run/systemd/resolve", Some(991), Some(991)).unwrap();
    link();
    Some(start_in(&package, stage))
}

/// Programs ask it, from one moment to the next, as `ln -sf` does it.
pub fn link() {
    const NEW: &str = "/etc/resolv.conf.new";
    let _ = fs::remove_file(NEW);
    symlink("../run/systemd/resolve/stub-resolv.conf", NEW).unwrap();
    fs::rename(NEW, RESOLV_CONF).unwrap();
}

/// It is restarted, as whoever links to it again does: what it has read in a file of others it forgets
/// in no other way.
pub fn restart(stage: &mut Stage) {
    link();
    stage.kill_named("systemd-resolve");
    let package = package("systemd-resolved", "lib/systemd/systemd-resolved").unwrap();
    start_in(&package, stage);
}

/// Or starts it again.
fn start_in(package: &Path, stage: &mut Stage) -> Resolvectl {
    let resolvectl = Resolvectl(package.join("usr/bin/resolvectl"));
    stage.start(&mut Command::new(package.join("lib/systemd/systemd-resolved")));
    eventually("systemd-resolved", || resolvectl.succeeds(&["status"]));
    resolvectl.run(&["dns", "eth0", "192.0.2.53"]);
    resolvectl
}

pub struct Resolvectl(PathBuf);

impl Resolvectl {
    pub fn run(&self, words: &[&str]) -> String {
        run(Command::new(&self.0).args(words))
    }

    fn succeeds(&self, words: &[&str]) -> bool {
        Command::new(&self.0).args(words).output().unwrap().status.success()
    }

    /// All that it knows of the link.
    pub fn of(&self, link: &str) -> String {
        let what = ["dns", "domain", "default-route"];
        what.iter().map(|what| self.run(&[what, link])).collect()
    }
}

fn append(file: &str, line: &str) {
    let text = fs::read_to_string(file).unwrap();
    if !text.contains("systemd-resolve:") {
        fs::write(file, text + line).unwrap();
    }
}

#[test]
fn all_names_go_through_a_full_tunnel() {
    play("resolved::all_names_go_through_a_full_tunnel", |stage| {
        let Some(resolvectl) = start(stage) else { return };
        let (lan, tunnel) = (&stage.lan, &stage.tunnels[0]);
        stage.assert_asks("before.example", lan);
        let before = resolvectl.of("wg0");
        let file = fs::read_link(RESOLV_CONF).unwrap();

        let plan = plan("wg0", "10.0.1.53 corp.example");
        let words = "ask 10.0.1.53 for all names, search in corp.example, by systemd-resolved, \
                     because /etc/resolv.conf leads to it";
        assert_eq!(plan.to_string(), words);
        assert!(!plan.is_applied().unwrap());
        stage.assert_asks("planned.example", lan);

        assert_eq!(plan.apply().unwrap(), "");
        assert!(plan.is_applied().unwrap());
        stage.assert_asks("during.example", tunnel);
        stage.assert_asks_for("intranet", "intranet.corp.example", tunnel);
        stage.assert_hangs_briefly(&plan);
        assert_eq!(plan.apply().unwrap(), "", "again");
        stage.assert_asks("again.example", tunnel);

        assert_eq!(undo(&plan), "");
        assert!(!plan.is_applied().unwrap());
        stage.assert_asks("after.example", lan);
        assert_eq!(undo(&plan), "", "again");
        assert_eq!(resolvectl.of("wg0"), before);
        assert_eq!(fs::read_link(RESOLV_CONF).unwrap(), file);
    });
}

#[test]
fn only_the_names_of_a_split_tunnel_go_through_it() {
    play("resolved::only_the_names_of_a_split_tunnel_go_through_it", |stage| {
        let Some(resolvectl) = start(stage) else { return };
        let before = resolvectl.of("wg0");
        let office = plan("wg0", "10.0.1.53 ~corp.example corp.example");
        let home = plan("wg1", "10.0.2.53 ~home.example");
        assert!(
            office.to_string().starts_with("ask 10.0.1.53 for names below corp.example, search in")
        );
        assert_eq!(office.apply().unwrap(), "");
        stage.assert_asks_for("intranet", "intranet.corp.example", &stage.tunnels[0]);
        assert_eq!(home.apply().unwrap(), "");

        stage.assert_asks("www.example", &stage.lan);
        stage.assert_asks("corp.example", &stage.tunnels[0]);
        stage.assert_asks("a.b.corp.example", &stage.tunnels[0]);
        stage.assert_asks("notcorp.example", &stage.lan);
        stage.assert_asks("nas.home.example", &stage.tunnels[1]);
        assert!(office.is_applied().unwrap() && home.is_applied().unwrap());

        assert_eq!(undo(&office), "");
        assert!(!office.is_applied().unwrap() && home.is_applied().unwrap());
        stage.assert_asks("later.corp.example", &stage.lan);
        stage.assert_asks("later.home.example", &stage.tunnels[1]);
        assert_eq!(undo(&home), "");
        assert_eq!(resolvectl.of("wg0"), before);
    });
}

#[test]
fn a_link_that_goes_takes_its_servers_with_it() {
    play("resolved::a_link_that_goes_takes_its_servers_with_it", |stage| {
        let Some(_) = start(stage) else { return };
        let plan = plan("wg0", "10.0.1.53");
        plan.apply().unwrap();
        Network::open().unwrap().apply(Change::DeleteLink("wg0")).unwrap();
        eventually("the link is forgotten", || !plan.is_applied().unwrap());
        stage.assert_asks("after.example", &stage.lan);
        assert_eq!(undo(&plan), "");
        let refusal = plan.apply().unwrap_err().to_string();
        assert_eq!(refusal, "set the DNS of wg0: No such device");
    });
}

#[test]
fn another_link_for_all_names_is_told_of() {
    play("resolved::another_link_for_all_names_is_told_of", |stage| {
        let Some(resolvectl) = start(stage) else { return };
        resolvectl.run(&["domain", "eth0", "~."]);
        let plan = plan("wg0", "10.0.1.53");
        assert_eq!(
            plan.apply().unwrap(),
            "all names are also asked of the servers of eth0: to end that, run `resolvectl domain \
             eth0 \"\"'"
        );
        resolvectl.run(&["domain", "eth0", ""]);
        stage.assert_asks("remedied.example", &stage.tunnels[0]);
        assert_eq!(plan.apply().unwrap(), "");
    });
}

#[test]
fn what_others_change_is_noticed() {
    play("resolved::what_others_change_is_noticed", |stage| {
        let Some(resolvectl) = start(stage) else { return };
        let plan = plan("wg0", "10.0.1.53 corp.example");
        for words in [
            ["dns", "wg0", "192.0.2.53"],
            ["domain", "wg0", "corp.example"],
            ["default-route", "wg0", "no"],
        ] {
            plan.apply().unwrap();
            assert!(plan.is_applied().unwrap());
            resolvectl.run(&words);
            assert!(!plan.is_applied().unwrap(), "{words:?}");
        }
    });
}

#[test]
fn a_resolver_that_does_not_answer_is_refused() {
    play("resolved::a_resolver_that_does_not_answer_is_refused", |stage| {
        let Some(_) = start(stage) else { return };
        let plan = plan("wg0", "10.0.1.53");
        plan.apply().unwrap();
        stage.kill();
        eventually("the bus has noticed", || !plan.is_applied().unwrap());
        assert_eq!(undo(&plan), "", "it has forgotten all");
        let remedy = "which does not answer (The name org.freedesktop.resolve1 was not provided by \
                      any .service files): run `systemctl restart systemd-resolved'";
        let refusal = refusal("wg0", "10.0.1.53");
        assert!(refusal.ends_with(remedy), "{refusal}");
    });
}

#[test]
fn programs_that_would_ask_two_are_not_left_so() {
    play("resolved::programs_that_would_ask_two_are_not_left_so", |stage| {
        let Some(_) = start(stage) else { return };
        fs::remove_file(RESOLV_CONF).unwrap();
        fs::write(RESOLV_CONF, "nameserver 192.0.2.53\n").unwrap();
        assert!(plan("wg0", "10.0.1.53").to_string().contains("by /etc/resolv.conf"));
        let nsswitch = "hosts: files resolve [!UNAVAIL=return] dns\n";
        fs::write("/etc/nsswitch.conf", nsswitch).unwrap();
        let refusal = refusal("wg0", "10.0.1.53");
        assert!(refusal.contains("run `ln -sf /run/systemd/resolve/stub-resolv.conf"), "{refusal}");
    });
}

#[test]
fn a_list_of_servers_is_replaced_and_comes_back() {
    play("resolved::a_list_of_servers_is_replaced_and_comes_back", |stage| {
        let Some(_) = start(stage) else { return };
        fs::remove_file(RESOLV_CONF).unwrap();
        symlink("/run/systemd/resolve/resolv.conf", RESOLV_CONF).unwrap();
        stage.assert_asks("before.example", &stage.lan);
        let plan = plan("wg0", "10.0.1.53");
        assert!(plan.to_string().ends_with("it leads to a list that others' servers are in, too"));
        plan.apply().unwrap();
        stage.assert_asks("during.example", &stage.tunnels[0]);
        undo(&plan);
        let target = fs::read_link(RESOLV_CONF).unwrap();
        assert_eq!(target.to_str(), Some("/run/systemd/resolve/resolv.conf"));
        stage.assert_asks("after.example", &stage.lan);
    });
}

#[test]
fn it_is_noticed_that_it_has_started_again_and_has_forgotten() {
    play("resolved::it_is_noticed_that_it_has_started_again_and_has_forgotten", |stage| {
        let Some(_) = start(stage) else { return };
        let plan = plan("wg0", "10.0.1.53");
        assert_eq!(plan.apply().unwrap(), "");
        let mut watch = dns::Watch::new().unwrap();
        assert!(plan.is_applied().unwrap());
        assert!(!watch.drain().unwrap(), "others speak on the bus, too");
        let mut hears = |what: &str| {
            let watch = RefCell::new(&mut watch);
            eventually(what, || watch.borrow_mut().drain().unwrap());
        };
        stage.kill();
        hears("word of its end");
        assert!(!plan.is_applied().unwrap());
        // What it remembers from one start to the next.
        fs::remove_dir_all("/run/systemd/resolve/netif").unwrap();
        let package = package("systemd-resolved", "lib/systemd/systemd-resolved").unwrap();
        start_in(&package, stage);
        hears("word of its start");
        assert!(!plan.is_applied().unwrap());
        assert_eq!(plan.apply().unwrap(), "");
        stage.assert_asks("again.example", &stage.tunnels[0]);
    });
}

//! NetworkManager itself, on a bus of its own, where it writes `/etc/resolv.conf`.

use std::env::consts::ARCH;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::stage::{RESOLV_CONF, Stage, eventually, package, plan, play, refusal, run, undo};

const PROFILES: &str = "/etc/NetworkManager/system-connections";
/// The LAN, whose server is its own.
const ETH0: &str = "[connection]\nid=lan\ntype=ethernet\ninterface-name=eth0\n\
                    [ipv4]\nmethod=manual\naddress1=192.0.2.2/24\ndns=192.0.2.53;\n\
                    dns-search=lan.example;\n[ipv6]\nmethod=disabled\n";

/// A machine where NetworkManager has the LAN, and leaves the tunnels alone.
fn start(stage: &mut Stage, more: &str) -> Option<Manager> {
    let package = package("network-manager", "usr/sbin/NetworkManager")?;
    if !stage.start_bus() {
        return None;
    }
    fs::create_dir_all(PROFILES).unwrap();
    let profile = format!("{PROFILES}/lan.nmconnection");
    fs::write(&profile, ETH0).unwrap();
    fs::set_permissions(&profile, Permissions::from_mode(0o600)).unwrap();
    let settings = "[main]\nplugins=keyfile\nno-auto-default=*\nauth-polkit=false\n\
                    [keyfile]\nunmanaged-devices=interface-name:wg*\n";
    fs::write("/run/nm.conf", format!("{settings}{more}")).unwrap();
    fs::remove_file(RESOLV_CONF).unwrap();
    let manager = Manager(package);
    if !manager
        .command("usr/sbin/NetworkManager")
        .arg("--version")
        .output()
        .unwrap()
        .status
        .success()
    {
        println!("skipped: NetworkManager lacks libraries here");
        return None;
    }
    let mut daemon = manager.command("usr/sbin/NetworkManager");
    stage.start(daemon.args(["--config=/run/nm.conf", "--debug"]));
    eventually("NetworkManager", || manager.knows("wg1"));
    manager.nmcli("connection up lan");
    Some(manager)
}

struct Manager(PathBuf);

impl Manager {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.0.join(program));
        command.env("LD_LIBRARY_PATH", self.0.join(format!("usr/lib/{ARCH}-linux-gnu")));
        command
    }

    fn knows(&self, device: &str) -> bool {
        let mut nmcli = self.command("usr/bin/nmcli");
        nmcli.args(["device", "show", device]).output().unwrap().status.success()
    }

    fn nmcli(&self, words: &str) -> String {
        run(self.command("usr/bin/nmcli").args(words.split(' ')))
    }
}

fn wrote() -> String {
    fs::read_to_string(RESOLV_CONF).unwrap_or_default()
}

#[test]
fn all_names_go_through_the_tunnel_until_it_is_undone() {
    play("network_manager::all_names_go_through_the_tunnel_until_it_is_undone", |stage| {
        let Some(manager) = start(stage, "") else { return };
        eventually("the LAN's server", || wrote().contains("192.0.2.53"));
        let before = wrote();
        stage.assert_asks_for("before", "before.lan.example", &stage.lan);
        let first = plan("wg0", "10.0.1.53 corp.example");
        assert!(
            first
                .to_string()
                .ends_with("by NetworkManager, because it has generated /etc/resolv.conf")
        );
        assert_eq!(first.apply().unwrap(), "");
        assert!(first.is_applied().unwrap());
        stage.assert_asks_for("during", "during.corp.example", &stage.tunnels[0]);

        // A network that comes and goes changes nothing.
        manager.nmcli("connection down lan");
        manager.nmcli("connection up lan");
        stage.assert_asks("roamed.example", &stage.tunnels[0]);

        // Another tunnel on top, and the lower one goes first.
        let second = plan("wg1", "10.0.2.53");
        second.apply().unwrap();
        assert!(second.is_applied().unwrap() && first.is_applied().unwrap());
        stage.assert_asks("second.example", &stage.tunnels[1]);
        assert_eq!(undo(&first), "");
        stage.assert_asks("still.example", &stage.tunnels[1]);
        assert_eq!(undo(&second), "");
        assert_eq!(wrote(), before);
        stage.assert_asks_for("after", "after.lan.example", &stage.lan);
        assert_eq!(undo(&second), "", "again");
    });
}

#[test]
fn what_somebody_else_has_set_is_left_alone() {
    play("network_manager::what_somebody_else_has_set_is_left_alone", |stage| {
        let global = "[global-dns-domain-*]\nservers=192.0.2.53\n";
        let Some(_) = start(stage, global) else { return };
        let refusal = refusal("wg0", "10.0.1.53");
        assert!(
            refusal.contains("a global DNS configuration already: take `[global-dns]'"),
            "{refusal}"
        );
        stage.assert_asks("untouched.example", &stage.lan);
    });
}

#[test]
fn only_some_names_are_refused_before_anything_is_touched() {
    play("network_manager::only_some_names_are_refused_before_anything_is_touched", |stage| {
        let Some(_) = start(stage, "") else { return };
        let refusal = refusal("wg0", "10.0.1.53 ~corp.example");
        let cause = "NetworkManager cannot send only the names below corp.example into the tunnel";
        assert!(refusal.contains(cause), "{refusal}");
        assert!(plan("wg0", "10.0.1.53 ~corp.example ~.").to_string().contains("all names"));
    });
}

#[test]
fn it_is_undone_after_a_restart_and_refused_without_it() {
    play("network_manager::it_is_undone_after_a_restart_and_refused_without_it", |stage| {
        let Some(manager) = start(stage, "") else { return };
        let first = plan("wg0", "10.0.1.53");
        first.apply().unwrap();
        stage.kill();
        eventually("the bus has noticed", || !first.is_applied().unwrap());
        let refusal = refusal("wg1", "10.0.2.53");
        assert!(refusal.contains("which does not run: start it"), "{refusal}");
        stage.assert_asks("dead.example", &stage.tunnels[0]);
        let failure = first.record().undo().unwrap_err().to_string();
        assert!(
            failure.starts_with("undo the DNS of wg0: NetworkManager does not answer ("),
            "{failure}"
        );
        let mut daemon = manager.command("usr/sbin/NetworkManager");
        stage.start(daemon.args(["--config=/run/nm.conf", "--debug"]));
        // It has its name before it answers.
        eventually("NetworkManager", || first.is_applied().unwrap_or(false));
        stage.assert_asks("restarted.example", &stage.tunnels[0]);
        assert_eq!(undo(&first), "");
        eventually("the LAN's server", || wrote().contains("192.0.2.53"));
        stage.assert_asks("after.example", &stage.lan);
    });
}

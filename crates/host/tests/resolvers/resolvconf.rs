//! The programs of the name `resolvconf`: openresolv, which can keep other servers out, and Debian's,
//! which cannot.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::stage::{BY_HAND, RESOLV_CONF, overlay, package, plan, play, run, undo};

/// Lays the program over those of the machine.
pub fn install(name: &str) -> bool {
    let Some(package) = package(name, "sbin/resolvconf") else { return false };
    overlay(Path::new("/usr/lib"), Some(&package.join("lib")));
    overlay(Path::new("/usr/sbin"), Some(&package.join("sbin")));
    true
}

/// What a DHCP client does with what the router says.
pub fn tell_of_the_lan() {
    let lan = fs::File::open("/run/lan").unwrap();
    let mut resolvconf = Command::new("/usr/sbin/resolvconf");
    run(resolvconf.args(["-a", "eth0"]).stdin(lan).stderr(Stdio::null()));
    // What it has heard before does not make it write.
    run(Command::new("/usr/sbin/resolvconf").arg("-u").stderr(Stdio::null()));
}

#[test]
fn openresolv_gives_all_names_to_the_tunnel() {
    play("resolvconf::openresolv_gives_all_names_to_the_tunnel", |stage| {
        if !install("openresolv") {
            return;
        }
        fs::write("/run/lan", BY_HAND).unwrap();
        let by_hand = plan("wg0", "10.0.1.53");
        assert!(
            by_hand.to_string().contains("by /etc/resolv.conf"),
            "installed, but not in charge"
        );
        tell_of_the_lan();
        let before = fs::read_to_string(RESOLV_CONF).unwrap();
        stage.assert_asks("before.example", &stage.lan);
        let plan = plan("wg0", "10.0.1.53 corp.example");
        assert!(
            plan.to_string().ends_with("by resolvconf, because it has generated /etc/resolv.conf")
        );
        plan.apply().unwrap();
        assert!(plan.is_applied().unwrap());
        stage.assert_asks_for("intranet", "intranet.corp.example", &stage.tunnels[0]);
        tell_of_the_lan();
        stage.assert_asks("renewed.example", &stage.tunnels[0]);
        undo(&plan);
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), before);
        stage.assert_asks("after.example", &stage.lan);
    });
}

#[test]
fn the_list_of_debians_resolvconf_is_replaced_and_comes_back() {
    play("resolvconf::the_list_of_debians_resolvconf_is_replaced_and_comes_back", |stage| {
        if !install("resolvconf") {
            return;
        }
        fs::write("/run/lan", BY_HAND).unwrap();
        let interfaces = "/run/resolvconf/interface";
        fs::create_dir_all(interfaces).unwrap();
        fs::write("/run/resolvconf/enable-updates", "").unwrap();
        fs::create_dir_all("/etc/resolvconf").unwrap();
        let updates = package("resolvconf", "sbin/resolvconf").unwrap().join("etc/resolvconf");
        run(Command::new("cp").arg("-rT").arg(updates).arg("/etc/resolvconf"));
        symlink("/run/resolvconf", "/etc/resolvconf/run").unwrap();
        fs::remove_file(RESOLV_CONF).unwrap();
        symlink("/run/resolvconf/resolv.conf", RESOLV_CONF).unwrap();
        tell_of_the_lan();
        stage.assert_asks("before.example", &stage.lan);

        let plan = plan("wg0", "10.0.1.53");
        assert!(plan.to_string().contains("by /etc/resolv.conf, because it leads to a list"));
        plan.apply().unwrap();
        tell_of_the_lan();
        stage.assert_asks("during.example", &stage.tunnels[0]);
        undo(&plan);
        stage.assert_asks("after.example", &stage.lan);
        assert!(fs::symlink_metadata(RESOLV_CONF).unwrap().is_symlink());
    });
}

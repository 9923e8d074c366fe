//! `adit@.service` and its other name.

use std::fs;

use crate::machine::{asked_for, await_sh, beside, installed, sh, snapshot, write_wg0};

#[test]
#[ignore = "in a guest"]
fn a_unit_starts_reloads_and_stops_and_leaves_nothing() {
    installed();
    let before = snapshot();
    write_wg0("DNS = 10.9.0.1, corp.example\nPostUp = echo %i > /run/hook");
    sh("systemctl start adit@wg0");
    let leaked = beside();
    assert_eq!(fs::read_to_string("/run/hook").expect("a hook ran"), "wg0\n");
    let domains = sh("resolvectl --no-pager domain wg0");
    assert!(domains.trim_end().ends_with("(wg0): corp.example ~."), "{domains}");
    assert_eq!(asked_for("first.test"), "inside");
    let main = sh("systemctl show -p MainPID adit@wg0");

    write_wg0("DNS = 10.9.0.1, other.example\nPostUp = echo %i > /run/hook");
    sh("systemctl reload adit@wg0");
    let domains = sh("resolvectl --no-pager domain wg0");
    assert!(domains.trim_end().ends_with("(wg0): other.example ~."), "{domains}");
    write_wg0("nonsense");
    sh("! systemctl reload adit@wg0");
    assert_eq!(asked_for("second.test"), "inside");
    assert_eq!(main, sh("systemctl show -p MainPID adit@wg0"), "the same process all the time");

    sh("systemctl restart systemd-resolved systemd-networkd");
    await_sh("resolvectl --no-pager domain wg0 | grep -q 'other.example ~'");
    assert_eq!(asked_for("third.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("systemctl stop adit@wg0; ! systemctl is-failed adit@wg0");
    await_sh("ip route | grep -q default");
    assert_eq!(snapshot(), before);
    assert_eq!(asked_for("fourth.test"), "outside");
}

/// Its walls stand inside of those of the unit.
#[test]
#[ignore = "in a guest"]
fn the_daemon_of_a_unit_gives_up_its_privileges() {
    const SETTINGS: &str = "/run/systemd/system/adit@.service.d";
    installed();
    write_wg0("");
    fs::create_dir_all(SETTINGS).expect("a folder");
    fs::write(format!("{SETTINGS}/log.conf"), "[Service]\nEnvironment=LOG_LEVEL=debug\n")
        .expect("a file");
    sh("systemctl daemon-reload; systemctl start adit@wg0");
    await_sh("journalctl --no-pager -u adit@wg0 | grep -q 'Interface is up'");
    sh("! journalctl --no-pager -u adit@wg0 | grep -E 'walls|ERROR'");
    let [daemon, broker] = ["[d]aemon -- wg0", "[b]roker wg0"].map(|what| {
        let status = sh(&format!("cat /proc/$(pgrep -f 'adit {what}')/status"));
        move |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.expect(name).trim().to_owned()
        }
    });
    assert_eq!(daemon("CapPrm"), "0000000000000000");
    // What the unit leaves of the five: CAP_NET_BIND_SERVICE, CAP_NET_ADMIN and CAP_NET_RAW.
    assert_eq!(broker("CapPrm"), "0000000000003400");
    assert_eq!(daemon("Uid"), "65521\t65521\t65521\t65521");
    assert_eq!(broker("Uid"), "0\t0\t0\t0");
    assert_eq!(daemon("Seccomp_filters"), broker("Seccomp_filters"));
    let manager = sh("cat /proc/$(pgrep -f '[a]dit up --foreground wg0')/status");
    assert!(!manager.contains(&format!("Seccomp_filters:\t{}\n", daemon("Seccomp_filters"))));
    sh("systemctl stop adit@wg0");
    fs::remove_dir_all(SETTINGS).expect("it is there");
    sh("systemctl daemon-reload");
}

/// A file that was meant for all other links takes the tunnel's as well.
#[test]
#[ignore = "in a guest"]
fn what_systemd_networkd_takes_away_is_put_back_and_told_of() {
    installed();
    let before = snapshot();
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl start adit@wg0");
    let leaked = beside();
    fs::write("/etc/systemd/network/zz-all.network", "[Match]\nName=!lo\n[Network]\nDHCP=ipv4\n")
        .expect("a file");
    sh("networkctl reload");
    // Its socket is one that systemd has opened for it, and the kernel knows no better.
    await_sh(
        "journalctl --no-pager -u adit@wg0 | grep 'put back: + address 10.9.0.2/24' \
            | grep -q 'systemd (process 1) removed address 10.9.0.2/24'",
    );
    await_sh("ip address show dev wg0 | grep -q 10.9.0.2/24");
    await_sh("getent hosts taken.test");
    assert_eq!(asked_for("taken.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("rm /etc/systemd/network/zz-all.network; networkctl reload; systemctl stop adit@wg0");
    await_sh("ip route | grep -q default");
    assert_eq!(snapshot(), before);
}

#[test]
#[ignore = "in a guest"]
fn what_is_killed_comes_back_and_nothing_leaves_meanwhile() {
    installed();
    let before = snapshot();
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl start adit@wg0");
    let leaked = beside();
    assert_eq!(asked_for("alive.test"), "inside");
    sh("kill -9 $(pgrep -f 'adit [d]aemon -- wg0')");
    await_sh("getent hosts daemon.test");
    assert_eq!(asked_for("daemon.test"), "inside");
    sh("kill -9 $(systemctl show -p MainPID --value adit@wg0)");
    // Whoever asks at once gets no answer, or one from inside.
    sh("getent hosts meanwhile.test || true; ! grep -s meanwhile /run/asked/outside");
    await_sh(
        "[ $(systemctl show -p NRestarts --value adit@wg0) = 1 ] && systemctl is-active adit@wg0",
    );
    await_sh("getent hosts main.test");
    assert_eq!(asked_for("main.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("systemctl stop adit@wg0");
    assert_eq!(snapshot(), before);
}

#[test]
#[ignore = "in a guest"]
fn the_name_wg_quick_is_the_same_unit_and_saves_what_was_changed() {
    installed();
    write_wg0("SaveConfig = true");
    sh("systemctl start wg-quick@wg0; systemctl is-active adit@wg0");
    let other = "ujjT8wLnSVrVJ8mM0qGq0hGcWnV4H6o5DyyJmXMa/Q0=";
    sh(&format!("wg set wg0 peer {other} allowed-ips 10.77.0.0/16"));
    sh("systemctl stop wg-quick@wg0; ! ip link show wg0");
    let saved = fs::read_to_string("/etc/wireguard/wg0.conf").expect("a file");
    assert!(saved.contains(other), "{saved}\n{}", sh("journalctl --no-pager -n 20 -u adit@wg0"));
}

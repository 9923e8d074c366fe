//! The packages for Debian, as dpkg installs, replaces, removes and purges them.

use std::collections::BTreeSet;

use crate::machine::{asked_for, await_sh, beside, sh, write_wg0};

/// Everything on the disk but what dpkg and systemd write about what they do.
fn files() -> BTreeSet<String> {
    let said = sh(
        "/adit/busybox find / -xdev ! -path '/var/lib/dpkg*' ! -path '/var/log/*' ! -path '/tmp/*' \
                   ! -path '/var/tmp/*' ! -path '/var/lib/systemd/*' ! -path '/etc/.pwd.lock'",
    );
    said.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "in a guest"]
fn packages_are_installed_and_replaced_and_leave_nothing_when_they_are_purged() {
    sh("/lib/systemd/systemd-networkd-wait-online -i out0 --timeout 60; chmod 700 /etc/wireguard");
    let before = files();
    sh("dpkg -i /adit/packages/adit_*.deb /adit/packages/adit-wireguard-tools_*.deb 2>&1");
    sh("[ -x /usr/bin/adit ] && [ \"$(wg --version)\" ]");
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl enable --now adit@wg0");
    let leaked = beside();
    assert_eq!(asked_for("package.test"), "inside");

    // Another one in its place: the tunnel goes on, also when its daemon has to be started again.
    let main = sh("systemctl show -p MainPID adit@wg0");
    sh("dpkg -i /adit/packages/adit_*.deb 2>&1");
    assert_eq!(main, sh("systemctl show -p MainPID adit@wg0"), "it was started again");
    assert_eq!(asked_for("replaced.test"), "inside");
    sh("systemctl reload adit@wg0; kill -9 $(pgrep -f 'adit [d]aemon -- wg0')");
    await_sh("getent hosts again.test");
    assert_eq!(asked_for("again.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");

    // Whoever is removed takes down what nobody else could.
    sh("dpkg -r adit-wireguard-tools adit 2>&1");
    sh("! systemctl is-active adit@wg0; ! ip link show wg0; ! nft list ruleset | grep adit");
    assert_eq!(asked_for("removed.test"), "outside");
    sh("[ -e /etc/wireguard/wg0.conf ] && rm /etc/wireguard/wg0.conf");
    sh("dpkg -P adit-wireguard-tools adit 2>&1");
    let after = files();
    let left: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(left.is_empty(), "{left:?}");
}

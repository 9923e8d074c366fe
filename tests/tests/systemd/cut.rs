//! Before the power fails: a tunnel that comes up with the machine has changed a file on the disk.

use std::fs;

use crate::machine::{asked_for, installed, sh, write_wg0};

#[test]
#[ignore = "in a guest"]
fn a_tunnel_is_up_that_is_enabled_and_has_the_file_of_name_servers() {
    installed();
    sh("systemctl mask --now systemd-resolved
        rm /etc/resolv.conf; echo 'nameserver 192.0.2.1' > /etc/resolv.conf
        sed -i 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf
        ! systemctl is-active systemd-resolved");
    assert_eq!(asked_for("before.test"), "outside");
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl enable --now adit@wg0");
    assert_eq!(asked_for("up.test"), "inside");
    let file = fs::read_to_string("/etc/resolv.conf").expect("a file");
    assert!(file.contains("nameserver 10.9.0.1\n"), "{file}");
}

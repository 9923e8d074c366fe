//! After the power has failed: the tunnel finds its peer by a name that only those know who were
//! asked before it.

use std::fs;

use crate::machine::{asked_for, await_sh, beside, sh};

#[test]
#[ignore = "in a guest"]
fn the_tunnel_comes_up_with_the_machine_and_gives_the_file_back() {
    await_sh("systemctl is-active adit@wg0");
    let leaked = beside();
    assert_eq!(asked_for("again.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("systemctl stop adit@wg0");
    let file = fs::read_to_string("/etc/resolv.conf").expect("a file");
    assert_eq!(file, "nameserver 192.0.2.1\n");
    assert_eq!(asked_for("down.test"), "outside");
}

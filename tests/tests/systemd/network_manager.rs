//! NetworkManager, which has the network and keeps `/etc/resolv.conf`.

use crate::machine::{asked_for, await_sh, beside, installed, sh, snapshot, write_wg0};

/// The link to the other machine.
const LAN: &str = r"
install -D -m 600 /dev/stdin /etc/NetworkManager/system-connections/lan.nmconnection <<END
[connection]
id=lan
type=ethernet
interface-name=out0
[ipv4]
method=manual
address1=192.0.2.2/24,192.0.2.1
dns=192.0.2.1;
[ipv6]
method=disabled
END
cat > /etc/NetworkManager/NetworkManager.conf <<END
[main]
plugins=keyfile
no-auto-default=*
dns=default
rc-manager=file
systemd-resolved=false
[device-lan]
match-device=interface-name:out0
managed=1
END
systemctl disable --now systemd-networkd systemd-networkd.socket
systemctl mask --now systemd-resolved
sed -i 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf
rm /etc/resolv.conf
systemctl start NetworkManager
nmcli connection up lan
";

#[test]
#[ignore = "in a guest"]
fn network_manager_is_told_of_name_servers_and_restarts() {
    installed();
    sh(LAN);
    await_sh("grep -q 192.0.2.1 /etc/resolv.conf && ip route | grep -q ^default");
    assert_eq!(asked_for("managed.test"), "outside");
    let before = snapshot();
    write_wg0("DNS = 10.9.0.1");
    sh("systemctl start adit@wg0");
    let leaked = beside();
    await_sh("grep -q 10.9.0.1 /etc/resolv.conf");
    sh("head -n 1 /etc/resolv.conf | grep NetworkManager");
    assert_eq!(asked_for("told.test"), "inside");
    sh("systemctl restart NetworkManager");
    await_sh("grep -q 10.9.0.1 /etc/resolv.conf && ip route | grep -q ^default");
    await_sh("getent hosts restarted.test");
    assert_eq!(asked_for("restarted.test"), "inside");
    sh("nmcli connection down lan; nmcli connection up lan");
    await_sh("getent hosts roamed.test");
    assert_eq!(asked_for("roamed.test"), "inside");
    assert_eq!(beside(), leaked, "something left beside the tunnel");
    sh("systemctl stop adit@wg0; ! systemctl is-failed adit@wg0");
    await_sh("! grep -q 10.9.0.1 /etc/resolv.conf");
    assert_eq!(snapshot(), before);
    assert_eq!(asked_for("left.test"), "outside");
}

//! The machine: one link to another one, `far`, which is the peer of its tunnel and has two name
//! servers, inside of the tunnel and outside of it.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What is on its disk besides Debian.
pub const FILES: [(&str, &str); 10] = [
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/etc/passwd", "root::0:0:root:/root:/bin/bash\nmessagebus:x:100:100::/:/usr/sbin/nologin\n"),
    ("/etc/group", "root:x:0:\nmessagebus:x:100:\nadm:x:4:\ndocker:x:101:\n"),
    ("/etc/hosts", "127.0.0.1 localhost guest\n"),
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files resolve [!UNAVAIL=return] dns\n",
    ),
    (
        "/etc/systemd/network/out0.network",
        "[Match]\nName=out0\n[Network]\nAddress=192.0.2.2/24\nGateway=192.0.2.1\nDNS=192.0.2.1\n\
         LinkLocalAddressing=no\n",
    ),
    ("/etc/systemd/system/outside.service", OUTSIDE),
    ("/etc/systemd/system/play.service", PLAY),
    ("/adit/outside", FAR),
    ("/etc/wireguard/far.key", "4GgaQCy68nzNsUE5aJ9fuLzHhB65tAlwbmA72MWnOm8=\n"),
];

/// And the links.
pub const LINKS: [(&str, &str); 12] = [
    ("/usr/sbin/iptables", "iptables-nft"),
    ("/usr/sbin/iptables-restore", "iptables-nft-restore"),
    ("/usr/sbin/ip6tables", "ip6tables-nft"),
    ("/usr/sbin/ip6tables-restore", "ip6tables-nft-restore"),
    ("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
    ("/etc/systemd/system/sysinit.target.wants/outside.service", "../outside.service"),
    ("/etc/systemd/system/multi-user.target.wants/play.service", "../play.service"),
    (
        "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
        "/lib/systemd/system/systemd-networkd.service",
    ),
    (
        "/etc/systemd/system/multi-user.target.wants/systemd-resolved.service",
        "/lib/systemd/system/systemd-resolved.service",
    ),
    (
        "/etc/systemd/system/dbus-org.freedesktop.resolve1.service",
        "/lib/systemd/system/systemd-resolved.service",
    ),
    (
        "/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service",
        "/lib/systemd/system/systemd-networkd-wait-online.service",
    ),
    // A terminal for nobody.
    ("/etc/systemd/system/getty.target", "/dev/null"),
];

const OUTSIDE: &str = "\
[Unit]
DefaultDependencies=no
Before=systemd-networkd.service
[Service]
Type=exec
ExecStartPre=/bin/bash /adit/outside
ExecStart=/sbin/ip netns exec far /adit/debug/deps/test --ignored --exact outside::names_are_answered
";
const PLAY: &str = "\
[Unit]
After=systemd-resolved.service dbus.service systemd-networkd.service
[Service]
Type=oneshot
ExecStart=/adit/play
";
/// The other machine. It counts what comes to it beside the tunnel.
const FAR: &str = r#"set -e
mkdir -p /run/netns /run/asked
ip netns add far
ip link add out0 type veth peer name eth0 netns far
ip -n far link set lo up
ip -n far addr add 192.0.2.1/24 dev eth0
ip -n far link set eth0 up
ip -n far link add far0 type wireguard
ip netns exec far /adit/debug/adit wg set far0 listen-port 51820 private-key /etc/wireguard/far.key \
    peer HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw= allowed-ips 10.9.0.2/32
ip -n far addr add 10.9.0.1/24 dev far0
ip -n far link set far0 up
far() { ip netns exec far nft "$@"; }
far add table inet far
far add chain inet far in '{ type filter hook prerouting priority -300; }'
far add rule inet far in iifname != eth0 accept
far add rule inet far in udp dport 51820 accept
far add rule inet far in meta l4proto icmp counter
far add rule inet far in meta l4proto tcp counter
far add rule inet far in meta l4proto udp counter
far add rule inet far in ip daddr 10.9.0.0/24 drop
"#;

/// Runs lines of bash, which must all succeed; what they print.
#[track_caller]
pub fn sh(script: &str) -> String {
    let mut bash = Command::new("timeout");
    bash.args(["60", "bash", "-e", "-o", "pipefail", "-c", script]);
    let output = bash.output().expect("bash runs");
    let [said, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    let log = || Command::new("journalctl").args(["--no-pager", "-n", "40"]).output();
    if !output.status.success() {
        let log = log().map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
        panic!("{script}\n{said}\n{errors}\n{}", log.unwrap_or_default());
    }
    said.into_owned()
}

/// Waits until lines of bash succeed.
#[track_caller]
pub fn await_sh(script: &str) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let deadline = Instant::now() + PATIENCE;
    while !Command::new("bash").args(["-c", script]).output().is_ok_and(|it| it.status.success()) {
        assert!(
            Instant::now() < deadline,
            "waited in vain for {script}: {}",
            sh("journalctl -n 40")
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// A full tunnel to a peer that is known by its name, and what is added to its `[Interface]`.
pub fn write_wg0(more: &str) {
    let text = format!(
        "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
         Address = 10.9.0.2/24\n{more}\n\
         [Peer]\nPublicKey = rlbInAj0qV69CysWPQY7KEBnKxpYCpaWqOs/dLevdWc=\n\
         AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = far.test:51820\n"
    );
    fs::write("/etc/wireguard/wg0.conf", text).expect("a file");
}

/// adit installed as its users do, and the network there.
pub fn installed() {
    sh("[ -e /usr/local/bin/adit ] || { /adit/debug/adit install; systemctl daemon-reload; }
        chmod 700 /etc/wireguard
        /lib/systemd/systemd-networkd-wait-online -i out0 --timeout 60");
}

/// Who answers for this name: `inside` of the tunnel, or `outside`.
#[track_caller]
pub fn asked_for(name: &str) -> &'static str {
    let address = sh(&format!("getent ahostsv4 {name} | head -n 1"));
    let asked = |place: &str| {
        let names = fs::read_to_string(format!("/run/asked/{place}")).unwrap_or_default();
        names.lines().any(|line| line == name)
    };
    match (asked("inside"), asked("outside")) {
        (true, false) if address.starts_with("10.9.0.77 ") => "inside",
        (false, true) if address.starts_with("192.0.2.99 ") => "outside",
        both => panic!("{name}: {address} {both:?}"),
    }
}

/// How many packets have come to the other machine beside the tunnel.
pub fn beside() -> u64 {
    let said = sh("ip netns exec far nft list chain inet far in");
    let mut words = said.split_whitespace();
    let mut packets = 0;
    while words.any(|word| word == "packets") {
        packets += words.next().and_then(|it| it.parse::<u64>().ok()).expect("a number of packets");
    }
    packets
}

/// Everything that a tunnel may change.
pub fn snapshot() -> String {
    sh(r"ip -o addr | sed 's/valid_lft.*//'; ip -4 rule; ip -6 rule
        { ip -4 route show table all; ip -6 route show table all; } | sort
        nft list ruleset
        cat /etc/resolv.conf; ls -l /etc/resolv.conf
        ! systemctl -q is-active systemd-resolved || { resolvectl --no-pager dns; resolvectl --no-pager domain; }
        sysctl -a 2> /dev/null | grep -E '^net\.ipv[46]\.(conf\.(all|default|out0|lo)|ip_forward)'
        ls -A /run/wireguard /run/adit /var/lib/adit 2> /dev/null | grep -vE '^(dns|/.*|.*\.lock)?$' || true")
}

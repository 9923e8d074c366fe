//! A machine for one play: namespaces of its own with two links, a default route, a resolvconf that
//! only takes notes, and as little else as possible.

use std::path::Path;
use std::process::{Command, Stdio};

use adit_tests::tools::Tools;

use crate::cases::Case;
use crate::record::Record;

pub const OURS: &str = env!("CARGO_BIN_EXE_adit");

#[derive(Clone, Copy)]
pub enum Program<'a> {
    Theirs(&'a Tools),
    Ours,
}

/// Whether the kernel carries the packets of tunnels, so that no daemon does.
pub fn has_wireguard() -> bool {
    Path::new("/sys/module/wireguard").exists()
}

/// That there can be one here.
pub struct Stage;

impl Stage {
    pub fn new() -> Option<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "true"]);
        let may = unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        let tools = ["/usr/bin/wg", "/usr/bin/wireguard-go", "/dev/net/tun"];
        let is_needed = |path: &str| !path.ends_with("-go") || !has_wireguard();
        let missing = tools.iter().find(|path| is_needed(path) && !Path::new(path).exists());
        if !may || missing.is_some() {
            eprintln!("skipped: this needs {tools:?} and the right to make namespaces");
            return None;
        }
        Some(Self)
    }

    /// All that is seen while one program plays a case.
    pub fn play(&self, program: Program<'_>, case: &Case) -> Record {
        let output = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", &script(program, case)])
            .env_remove("WG_QUICK_USERSPACE_IMPLEMENTATION")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && failed.is_empty(), "{}: {failed}", case.name);
        Record::read(&String::from_utf8_lossy(&output.stdout))
    }
}

const SETUP: &str = r#"
set -e
export LC_ALL=C
mount -t tmpfs none /run
mkdir -p /run/wireguard /run/bin /run/case /run/etc /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mkdir -p -m 700 /etc/wireguard
rm -rf /etc/wireguard/* /etc/resolvconf /etc/resolv.conf
echo '200 vpn' >> /etc/iproute2/rt_tables
printf '127.0.0.1 localhost\n192.0.2.7 peer.test\n' > /etc/hosts
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > /etc/resolv.conf
# Nobody has asked for link-local addresses; tunnels of the kernel have none.
sysctl -q net.ipv6.conf.default.addr_gen_mode=1
ip link set lo up
for number in 0 1; do
    ip link add eth$number type veth peer name far$number
    ip link set eth$number addrgenmode none up
    ip link set far$number addrgenmode none up
done
# The kernel notices some time later that both ends are up.
until [ "$(ip -6 route show table local type multicast | wc -l)" = 4 ]; do sleep 0.01; done
ip addr add 192.0.2.2/24 dev eth0
ip addr add 2001:db8::2/64 dev eth0 nodad
ip addr add 198.51.100.2/24 dev eth1
ip link set eth1 mtu 1400
ip link set far1 mtu 1400
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8::1
cat > /run/bin/resolvconf <<'END'
#!/bin/sh
echo "resolvconf $*" >> /run/resolvconf.log
case $1 in
    -a) cat > "/run/record.$2" && cat "/run/record.$2" >> /run/resolvconf.log ;;
    -l) cat "/run/record.$2" ;;
    -d) rm -f "/run/record.$2" ;;
esac
END
chmod +x /run/bin/resolvconf
export PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export WG_ENDPOINT_RESOLUTION_RETRIES=0
umask 077
cd /run/case
set +e

log() { echo "$*" >> /run/hooks.log; }
export -f log

section() { echo "== $*"; }

# What the machine looks like, after the step that the words tell.
state() {
    section "$1: links"
    ip -o link show | grep -Ev ': (lo|eth.*|far.*):' |
        sed -E 's/^[0-9]+: ([^:@]+).*<(.*)>.* mtu ([0-9]+).*/\1 \2 \3/'
    section "$1: addresses"
    ip -o addr show | grep -Ev '^[0-9]+: (lo|eth|far)' | sed -E 's/^[0-9]+: //; s/\\ .*//; s/ +/ /g'
    section "$1: rules"
    ip -4 rule show
    ip -6 rule show
    section "$1: routes"
    { ip -4 route show table all; ip -6 route show table all; } | sort
    section "$1: firewall"
    nft list ruleset
    section "$1: sysctl"
    for of in all default eth0; do
        grep -s . /proc/sys/net/ipv{4,6}/conf/$of/* /proc/sys/net/ipv4/ip_forward
    done
    section "$1: wireguard"
    for name in $(wg show interfaces); do
        # Tunnels go some time after their links.
        ip link show dev "$name" > /run/link 2>&1 && echo "$name" && wg showconf "$name"
    done
    section "$1: resolvconf"
    cat /run/resolvconf.log 2>&-
    section "$1: hooks"
    cat /run/hooks.log 2>&-
    section "$1: files"
    for file in /etc/wireguard/* *.conf*; do
        [ ! -f "$file" ] || { stat -c '%n %a' "$file"; cat "$file"; }
    done
}

# Daemons go some time after their links, and routes to addresses of v6 come some time after those, on
# a busy machine much later.
settle() {
    local socket name address
    for socket in /run/wireguard/*.sock; do
        name=${socket##*/}
        for _ in {1..100}; do
            [ -e "$socket" ] && ! ip link show dev "${name%.sock}" > /run/link 2>&1 || break
            sleep 0.05
        done
    done
    for address in $(ip -6 -o addr show | awk '{ print $4 }'); do
        for _ in {1..100}; do
            [ -z "$(ip -6 route show table local "${address%/*}")" ] || break
            sleep 0.01
        done
    done
}

step() {
    "$PROGRAM" "$@" > /run/out 2> /run/err
    code=$?
    settle
    section "$1: code"; echo "$code"
    section "$1: stdout"; cat /run/out
    section "$1: stderr"; cat /run/err
    state "$1"
}
"#;

fn script(program: Program<'_>, case: &Case) -> String {
    let mut script = String::from(SETUP);
    script += &format!("OURS=/run/ours/wg-quick; mkdir /run/ours; ln -s {OURS} $OURS\n");
    script += &match program {
        Program::Theirs(tools) => {
            format!("THEIRS={}; PROGRAM=$THEIRS\n", tools.wg_quick().display())
        }
        Program::Ours => String::from("PROGRAM=$OURS\n"),
    };
    for (path, content) in &case.files {
        script += &format!("printf %s {} > {}\n", quoted(content), quoted(path));
    }
    script += &case.setup;
    for step in &case.steps {
        script += &format!("\n{step}\n");
    }
    script + "exit 0\n"
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

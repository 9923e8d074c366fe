//! A machine for one play: namespaces of its own with two links, a default route, a peer behind the
//! first of them, and state directories that nobody else sees.

use std::path::Path;
use std::process::{Command, Stdio};

pub const OURS: &str = env!("CARGO_BIN_EXE_adit");

/// That there can be one here.
pub struct Stage;

impl Stage {
    pub fn new() -> Option<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--pid", "--fork", "true"]);
        let may = unshare.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        let tools = ["/usr/bin/wg", "/usr/sbin/nft", "/dev/net/tun"];
        let missing = tools.iter().find(|path| !Path::new(path).exists());
        if !may || missing.is_some() {
            eprintln!("skipped: this needs {tools:?} and the right to make namespaces");
            return None;
        }
        Some(Self)
    }

    /// Runs a script on a machine of its own; what it prints. It must end well: `check` and `fail`
    /// see to that.
    pub fn play(&self, script: &str) -> String {
        let script = format!("ADIT={OURS}\n{SETUP}\n{script}\nexit 0\n");
        let output = Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (said, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{said}\n{errors}");
        said.into_owned()
    }
}

/// What starts a bus and systemd-resolved on a machine; none if they are not here.
pub fn resolved() -> Option<String> {
    let resolvers = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/resolvers");
    let package = format!("{resolvers}/systemd-resolved");
    let daemon = format!("{package}/lib/systemd/systemd-resolved");
    if !Path::new(&daemon).exists() || !Path::new("/usr/bin/dbus-daemon").exists() {
        println!("skipped: this needs dbus-daemon, and systemd-resolved in target/resolvers");
        return None;
    }
    Some(format!("RESOLVED={package}\n{START}"))
}

const START: &str = r#"
resolvectl() { "$RESOLVED/usr/bin/resolvectl" "$@"; }
start_resolved() {
    umask 022
    mkdir -p /run/dbus /run/systemd/resolve
    # In a container it does not wait for udev.
    mount -t sysfs -o ro none /sys
    cat > /run/bus.conf <<'END'
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
<allow receive_type="signal"/></policy></busconfig>
END
    dbus-daemon --config-file=/run/bus.conf --nofork & bus=$!
    grep -q systemd-resolve: /etc/passwd || echo systemd-resolve:x:991:991::/:/bin/false >> /etc/passwd
    grep -q systemd-resolve: /etc/group || echo systemd-resolve:x:991: >> /etc/group
    chown 991:991 /run/systemd/resolve
    await test -S /run/dbus/system_bus_socket
    "$RESOLVED/lib/systemd/systemd-resolved" > /run/resolved.log 2>&1 & resolved=$!
    resolves() { test -e /run/systemd/resolve/stub-resolv.conf || { cat /run/resolved.log; false; }; }
    await resolves
    umask 077
}
"#;

const SETUP: &str = r#"
set -e
export LC_ALL=C
mount -t tmpfs none /run
mkdir -p /run/wireguard /run/etc /run/work /run/case
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
mount -t tmpfs none /var/lib
mkdir -p -m 700 /etc/wireguard
rm -rf /etc/wireguard/* /etc/resolv.conf /etc/resolvconf
printf '127.0.0.1 localhost\n192.0.2.1 peer.test\n' > /etc/hosts
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > /etc/resolv.conf
echo 'hosts: files dns' > /etc/nsswitch.conf
sysctl -q net.ipv6.conf.default.addr_gen_mode=1
ip link set lo up
# The peer is another machine.
ip netns add far
ip link add eth0 type veth peer name eth0 netns far
ip link set eth0 addrgenmode none up
ip link add eth1 type veth peer name far1
ip link set far1 addrgenmode none up
ip link set eth1 addrgenmode none up
ip addr add 192.0.2.2/24 dev eth0
ip addr add 2001:db8::2/64 dev eth0 nodad
ip addr add 192.168.7.2/24 dev eth1
ip route add default via 192.0.2.1
ip -6 route add default via 2001:db8::1
ip -n far link set lo up
ip -n far link set eth0 addrgenmode none up
ip -n far addr add 192.0.2.1/24 dev eth0
ip -n far addr add 2001:db8::1/64 dev eth0 nodad
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umask 077
cd /run/case
set +e
adit() { "$ADIT" "$@"; }

OUR_KEY=$(wg genkey); FAR_KEY=$(wg genkey); PSK=$(wg genpsk)
OURS=$(wg pubkey <<< "$OUR_KEY"); FAR=$(wg pubkey <<< "$FAR_KEY")
OTHER=$(wg genkey | wg pubkey)

fail() { echo "FAILED: $*" >&2; exit 1; }
# Runs a command that must succeed, or one that must end with a code.
check() { "$@" || fail "$*: $?"; }
code() { local code=$1 is=0; shift; "$@" 2> errors || is=$?; [ $is = $code ] || fail "$*: $is, not $code"; }

# The protocol's clock of daemons from here on runs five times as fast. The keepers' does not.
fast() { export ADIT_TIME_SCALE=5; }

# Waits until a command succeeds.
await() {
    local start=$SECONDS
    until "$@" > /dev/null 2>&1; do
        [ $((SECONDS - start)) -lt 20 ] || fail "waited in vain for: $* $("$@" 2>&1)"
        read -t 0.02 < /dev/zero || true
    done
}

# Everything that a tunnel may change. Whoever is killed leaves locks that nobody holds, and files
# that the next one writes over.
snapshot() {
    ip -d addr; ip -4 rule; ip -6 rule
    { ip -4 route show table all; ip -6 route show table all; } | sort
    nft list ruleset
    cat /etc/resolv.conf; ls -l /etc/resolv.conf
    sysctl -a 2> /dev/null | grep -E '^net\.ipv[46]\.(conf\.(all|default|eth0|eth1|lo)|ip_forward)'
    ls -A /run/adit /var/lib/adit /run/wireguard 2> /dev/null | grep -vE '^(dns|/run.*|/var.*|.*\.(lock|new))?$'
    # Who has ended is there until the first process has time for it.
    pgrep -a adit | grep -v defunct
    true
}
same() { diff "$1" <(snapshot) || fail "the machine is not as it was ($2)"; }

# A full tunnel, and what is added to its [Interface] and [Peer].
full() {
    printf '%s\n' '[Interface]' "PrivateKey = $OUR_KEY" 'Address = 10.9.0.2/24, fd09::2/64' \
        'DNS = 10.9.0.1, corp.example' "$1" '[Peer]' '# far' "PublicKey = $FAR" \
        'AllowedIPs = 0.0.0.0/0, ::/0' 'Endpoint = 192.0.2.1:51820' "$2" > /etc/wireguard/wg0.conf
}
split() {
    printf '%s\n' '[Interface]' "PrivateKey = $OUR_KEY" 'Address = 10.9.0.2/24' "$1" '[Peer]' \
        '# far' "PublicKey = $FAR" 'AllowedIPs = 10.9.0.0/24, 10.8.0.0/16' \
        'Endpoint = 192.0.2.1:51820' "$2" > /etc/wireguard/wg0.conf
}

# The tunnel on the peer's side.
far_up() {
    ip netns exec far "$ADIT" daemon far0 > /dev/null 2>&1
    wg set far0 listen-port 51820 private-key <(echo "$FAR_KEY") peer "$OURS" \
        allowed-ips 10.9.0.2/32,fd09::2/128
    ip -n far addr add 10.9.0.1/24 dev far0
    ip -n far addr add 10.8.0.1/16 dev far0
    ip -n far link set far0 up
}
"#;

/// A program in the place of openresolv. It sets no servers while there is /run/broken, nor takes any
/// away while there is /run/stuck; and once after /run/strike the daemon dies while somebody looks.
pub const OPENRESOLV: &str = r#"
        mount -t tmpfs none /usr/local/sbin
        cat > /usr/local/sbin/resolvconf <<'END'
#!/bin/bash
generate() { { echo '# Generated by resolvconf'; cat; } > /etc/new; mv /etc/new /etc/resolv.conf; }
refused() { [ -e /run/$1 ] && echo 'not today' >&2; }
case $1 in
-a) ! refused broken || exit 1; tee /run/record | generate ;;
-d) ! refused stuck || exit 1; rm -f /run/record; generate <<< 'nameserver 127.0.0.1' ;;
-l) if rm /run/strike 2> /dev/null; then
        pkill -9 -f 'adit daemon -- wg0'
        while ip link show wg0 > /dev/null 2>&1; do :; done
    fi
    cat /run/record ;;
esac
END
        chmod 755 /usr/local/sbin/resolvconf
        resolvconf -d
        # From now on it does this first.
        begins() {
            mv /usr/local/sbin/resolvconf /usr/local/sbin/openresolv
            printf '%s\n' '#!/bin/bash' "$1" 'exec openresolv "$@"' > /usr/local/sbin/resolvconf
            chmod 755 /usr/local/sbin/resolvconf
        }
"#;

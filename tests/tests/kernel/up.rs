//! `adit up --kernel`: the same tunnel, carried by the kernel.

use std::process::Command;

use adit_tests::lab::Implementation;

/// A machine with a link to another, on which the kernel is the peer.
const MACHINE: &str = r#"
mount -t tmpfs none /run
mount -t tmpfs none /var/lib 2> /dev/null || { mkdir -p /var/lib; mount -t tmpfs none /var/lib; }
mkdir -p /run/netns /run/etc /run/work /run/up
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc,workdir=/run/work none /etc
cd /run/up
printf 'nameserver 127.0.0.1\n' > /etc/resolv.conf
ip link set lo up
ip netns add far
ip link add eth0 type veth peer name eth0 netns far
ip link set eth0 addrgenmode none up
ip addr add 192.0.2.2/24 dev eth0
ip route add default via 192.0.2.1
ip -n far link set eth0 addrgenmode none up
ip -n far addr add 192.0.2.1/24 dev eth0
key=$(wg genkey); far_key=$(wg genkey)
peer=$(wg pubkey <<< "$far_key")
ip -n far link add far0 type wireguard
ip netns exec far wg set far0 listen-port 51820 private-key <(echo "$far_key") \
    peer "$(wg pubkey <<< "$key")" allowed-ips 10.9.0.2/32,10.9.0.3/32
ip -n far addr add 10.9.0.1/24 dev far0
ip -n far link set far0 up

fail() { echo "FAILED: $*" >&2; exit 1; }
snapshot() {
    ip -d addr; ip -4 rule; ip -6 rule
    { ip -4 route show table all; ip -6 route show table all; } | sort
    nft list ruleset
    cat /etc/resolv.conf
    sysctl -a 2> /dev/null | grep -E '^net\.ipv[46]\.(conf\.(all|default|eth0|lo)|ip_forward)'
    ls -A /run/adit /var/lib/adit /run/wireguard 2> /dev/null | grep -vE '^(dns|/run.*|/var.*|.*\.lock)?$' || true
}
same() { snapshot > now; cmp -s "$1" now || fail "not as it was ($2): $(grep -vxFf "$1" now; echo; grep -vxFf now "$1")"; }
write() {
    printf '%s\n' '[Interface]' "PrivateKey = $key" "Address = $1" 'DNS = 10.9.0.1' "$2" '[Peer]' \
        "PublicKey = $peer" 'AllowedIPs = 0.0.0.0/0, ::/0' 'Endpoint = 192.0.2.1:51820' "$3" \
        > /etc/wireguard/wg0.conf
}
umask 077
"#;

/// Runs a script on such a machine, in namespaces of its own. It must end well.
#[track_caller]
fn play(script: &str) {
    let adit = Implementation::Adit.program().expect("it is there");
    let script = format!("set -e\n{MACHINE}\nadit() {{ {} \"$@\"; }}\n{script}", adit.display());
    let output = Command::new("unshare")
        .args(["--mount", "--net", "bash", "-c", &script])
        .output()
        .expect("unshare runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
#[ignore = "in a guest"]
fn the_kernel_carries_a_tunnel_from_up_to_down() {
    play(
        r##"
        write 10.9.0.2/24
        snapshot > before
        adit up --kernel wg0
        ip -d link show wg0 | grep -q wireguard || fail 'it is not the kernel'
        [ ! -e /run/wireguard/wg0.sock ] || fail 'there is a daemon'
        busybox ping -c 1 -W 5 10.9.0.1 > /dev/null || fail 'no answer'
        adit status wg0 | grep -q 'by kernel' || fail "$(adit status wg0)"
        adit status --json wg0 | tr -d ' \n' | grep -q '"backend":"kernel"' || fail 'another backend'
        [ "$(cat /etc/resolv.conf | grep -c 10.9.0.1)" = 1 ] || fail "$(cat /etc/resolv.conf)"
        # Again: nothing is left to do, and the session goes on.
        snapshot > up
        handshake=$(wg show wg0 latest-handshakes)
        [ -z "$(adit up --kernel --dry-run wg0)" ] || fail "$(adit up --kernel --dry-run wg0)"
        adit up --kernel wg0
        adit up wg0
        same up 'after a second up'
        [ "$handshake" = "$(wg show wg0 latest-handshakes)" ] || fail 'another session'
        # As this kernel tells of the guard, it is as it should be until somebody changes a value in it.
        numbers() { nft -a list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'; }
        numbers > numbers
        adit up wg0
        numbers | cmp - numbers || fail 'the guard was written anew'
        nft chain inet adit-wg0 output '{ policy accept; }'
        for try in $(seq 100); do
            ! nft list chain inet adit-wg0 output | grep -q 'policy drop' || break
            [ $try -lt 100 ] || fail 'it stays open'
            read -t 0.1 < /dev/zero || true
        done
        adit down wg0
        same before 'after down'
        "##,
    );
}

#[test]
#[ignore = "in a guest"]
fn a_reload_changes_a_tunnel_of_the_kernel_under_way() {
    play(
        r##"
        write 10.9.0.2/24
        snapshot > before
        adit up --kernel wg0
        busybox ping -c 1 -W 5 10.9.0.1 > /dev/null || fail 'no answer'
        handshake=$(wg show wg0 latest-handshakes)
        other=$(wg genkey | wg pubkey)
        write 10.9.0.3/24 'ListenPort = 7777' "PersistentKeepalive = 21
[Peer]
PublicKey = $other
AllowedIPs = 10.77.0.0/16"
        adit reload wg0
        ip -4 addr show dev wg0 | grep -q 10.9.0.3/24 || fail 'no new address'
        ! ip -4 addr show dev wg0 | grep -q 10.9.0.2 || fail 'still the old address'
        [ "$(wg show wg0 listen-port)" = 7777 ] || fail 'another port'
        wg show wg0 allowed-ips | grep -q "^$other.10.77.0.0/16$" || fail 'no new peer'
        wg show wg0 persistent-keepalive | grep -q "^$peer.21$" || fail 'no keepalive'
        [ "$handshake" = "$(wg show wg0 latest-handshakes | grep "^$peer")" ] || fail 'another session'
        busybox ping -c 1 -W 5 10.9.0.1 > /dev/null || fail 'no answer any more'
        write 10.9.0.3/24
        adit reload wg0
        [ "$(wg show wg0 peers)" = "$peer" ] || fail 'the peer is still there'
        # What somebody takes away is put back, the link itself too.
        ip link delete wg0
        for try in $(seq 100); do
            ! busybox ping -c 1 -W 1 -I wg0 10.9.0.1 > /dev/null 2>&1 || break
            [ $try -lt 100 ] || fail 'it does not come back'
        done
        ip -d link show wg0 | grep -q wireguard || fail 'it is not the kernel any more'
        adit down wg0
        same before 'after down'
        "##,
    );
}

#[test]
#[ignore = "in a guest"]
fn a_link_of_the_kernel_that_was_renamed_has_its_name_back() {
    play(
        r##"
        write 10.9.0.2/24
        snapshot > before
        adit up --kernel wg0
        busybox ping -c 1 -W 5 10.9.0.1 > /dev/null || fail 'no answer'
        snapshot > up
        # Before Linux 6.2 only what is down can be renamed, before the keeper sets it up again.
        rename() {
            until printf 'link set wg0 down\nlink set wg0 name x\n' | ip -batch - 2> /dev/null; do :; done
            ip link set x up 2> /dev/null || true
        }
        rename
        for try in $(seq 100); do
            snapshot > now
            ! cmp -s up now || break
            [ $try -lt 100 ] || same up 'renamed'
            read -t 0.1 < /dev/zero || true
        done
        busybox ping -c 1 -W 5 10.9.0.1 > /dev/null || fail 'no answer any more'
        kill -9 "$(adit status --json wg0 | sed -n 's/.*"process": \([0-9]*\),.*/\1/p')"
        rename
        ip link show x > /dev/null || fail 'somebody keeps it'
        adit status wg0 | grep -q 'its link is called x' || fail "$(adit status wg0)"
        adit down wg0
        same before 'after down'
        "##,
    );
}

#[test]
#[ignore = "in a guest"]
fn another_port_and_mark_of_a_tunnel_of_the_kernel_are_noticed_before_long() {
    play(
        r##"
        write 10.9.0.2/24
        adit up --kernel wg0
        mark=$(wg show wg0 fwmark)
        # Somebody looks every 22 seconds.
        within() {
            SECONDS=0
            until "$@"; do
                [ $SECONDS -lt 45 ] || fail "in vain: $* $(nft list ruleset)"
                read -t 1 <> <(:) || true
            done
        }
        wg set wg0 listen-port 5555
        lets_out() { nft list table inet adit-wg0 | grep -q 'udp sport 5555 accept'; }
        within lets_out
        busybox ping -c 1 -W 5 -I wg0 10.9.0.1 > /dev/null || fail 'no answer'
        wg set wg0 fwmark 0
        marked() { [ "$(wg show wg0 fwmark)" = "$mark" ]; }
        within marked
        # Another one is carried by it, and has its port in its guard.
        # Its peer answers, so that its keeper has no other reason to look.
        inner=$(wg genkey)
        ip netns exec far wg set far0 peer "$(wg pubkey <<< "$inner")" allowed-ips 10.8.0.2/32
        ip -n far route add 10.8.0.2 dev far0
        sed "s|^PrivateKey.*|PrivateKey = $inner|; s|10.9.0.2/24|10.8.0.2/24|" /etc/wireguard/wg0.conf \
            > /etc/wireguard/wg1.conf
        adit up --kernel wg1
        busybox ping -c 1 -W 5 -I wg1 10.9.0.1 > /dev/null || fail 'no answer through both'
        is_let_out() { nft list table inet adit-wg1 | grep -q "udp sport $port"; }
        # The first time, it may be looking at everything anyway.
        for port in 6666 7777 8888; do
            wg set wg0 listen-port $port
            within is_let_out
        done
        adit down wg1
        adit down wg0
        "##,
    );
}

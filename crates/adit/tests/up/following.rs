//! What is around a tunnel becomes something else, and the tunnel follows: the network, its peer, its
//! file, and who answers for names.

use crate::stage::{self, Stage};

#[test]
fn another_network_is_told_of_as_such_and_not_as_damage() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        full '#! ExcludeIPs = lan' ''
        check adit up wg0
        told() { adit status --json wg0 | grep '"what"'; }
        # To a cable, through which less fits.
        ip link set eth1 mtu 1400
        ip addr add 192.168.8.2/24 dev eth1
        ip addr del 192.168.7.2/24 dev eth1
        ip route add 192.0.2.1 dev eth1
        narrow() { ip link show wg0 | grep -q 'mtu 1320 '; }
        await narrow
        excluded() { ip rule | grep -q 'to 192.168.8.0/24' && ! ip rule | grep 'to 192.168.7.0/24'; }
        await excluded
        followed() { told | grep -q 'the tunnel follows: .*~ MTU 1320' && told | grep -q 'follows: .*- IPv4 rule .*192.168.7.0/24'; }
        await followed
        told | grep 'put back' && fail 'nothing was damaged'
        # What somebody changes is damage still, with another network or without.
        ip link set wg0 mtu 1300
        await narrow
        damaged() { told | grep -q 'put back: ~ MTU 1320'; }
        await damaged
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_that_moved_away_and_fell_silent_is_looked_for_where_the_file_has_it() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        fast
        far_up
        split '' ''
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        ip -n far addr add 192.0.2.9/24 dev eth0
        ip -n far addr del 192.0.2.1/24 dev eth0
        ip -n far addr add 192.0.2.9/24 dev eth0 2> /dev/null
        moved() {
            ip netns exec far ping -c 1 -W 1 10.9.0.2 > /dev/null
            adit status wg0 | grep -q 'far  at 192.0.2.9:51820, though the file says 192.0.2.1:51820'
        }
        await moved
        # It is back, and does not know where we are.
        ip -n far link del far0
        await test ! -e /run/wireguard/far0.sock
        ip -n far addr add 192.0.2.1/24 dev eth0
        ip -n far addr del 192.0.2.9/24 dev eth0
        ip -n far addr add 192.0.2.1/24 dev eth0 2> /dev/null
        far_up
        SECONDS=0
        until ping -c 1 -W 1 10.9.0.1 > /dev/null; do
            [ $SECONDS -lt 45 ] || fail "nobody looks: $(adit status)"
        done
        adit status --json wg0 | grep -q 'looking for it at 192.0.2.1:51820 again' || fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}

#[test]
fn whoever_comes_to_answer_names_is_told_and_everybody_forgets_the_tunnel_with_it() {
    let Some(stage) = Stage::new() else { return };
    let Some(resolved) = stage::resolved() else { return };
    stage.play(&format!(
        "{resolved}{}",
        r##"
        full '' ''
        snapshot | grep -v resolv.conf > before
        check adit up wg0
        grep -q 10.9.0.1 /etc/resolv.conf || fail "$(cat /etc/resolv.conf)"
        start_resolved
        cp /etc/resolv.conf ours
        ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
        told() { resolvectl dns wg0 | grep -q 10.9.0.1 && resolvectl domain wg0 | grep -q '~.'; }
        await told
        adit status > said
        grep -q 'DNS 10.9.0.1$' said && ! grep 'missing' said || fail "$(cat said)"
        adit status --json | grep -q 'the tunnel follows: + DNS: .* by systemd-resolved' || fail "$(adit status --json)"
        # It forgets at any moment, and hears again at once.
        resolvectl revert wg0
        kill $resolved; wait $resolved
        "$RESOLVED/lib/systemd/systemd-resolved" > /run/resolved.log 2>&1 & resolved=$!
        await told
        # A reload that fails tells nobody else again.
        full 'PostUp = false' ''
        code 1 adit reload wg0
        [ -L /etc/resolv.conf ] || fail "$(cat /etc/resolv.conf)"
        full '' ''
        check told
        # And away again, with a copy of what the tunnel has written.
        mv ours /etc/resolv.conf
        kill $resolved; wait $resolved
        followed() { adit status > said; cat said; grep -q 'DNS 10.9.0.1$' said && ! grep -q 'missing\|cannot' said; }
        await followed
        grep -q 10.9.0.1 /etc/resolv.conf || fail "$(cat /etc/resolv.conf)"
        check adit down wg0
        [ "$(cat /etc/resolv.conf)" = $'nameserver 127.0.0.1\noptions timeout:1 attempts:1' ] || fail "$(cat /etc/resolv.conf)"
        diff before <(snapshot | grep -v resolv.conf) || fail 'the machine is not as it was'
        "##,
    ));
}

#[test]
fn a_guard_that_nobody_looks_after_is_told_of_to_whom_it_shuts_in() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        full '' ''
        sed -i '/^DNS/d' /etc/wireguard/wg0.conf
        KEY=$(wg genkey)
        sed "s|^Address.*|Address = 10.10.0.2/24|; s|^Endpoint.*|Endpoint = 10.9.0.1:51821|
            s|^PublicKey.*|PublicKey = $(wg pubkey <<< "$KEY")|" /etc/wireguard/wg0.conf > /etc/wireguard/wg1.conf
        ip netns exec far "$ADIT" daemon far1 > /dev/null 2>&1
        wg set far1 listen-port 51821 private-key <(echo "$KEY") peer "$OURS" allowed-ips 10.10.0.2/32
        ip -n far addr add 10.10.0.1/24 dev far1
        ip -n far link set far1 up
        says_of() { grep -q "nobody keeps $1, and its guard lets nothing of $2 out" errors; }
        check adit up wg0
        kill -9 $(pgrep -xf '[^ ]*adit keep wg0')
        check adit up wg1 2> errors
        says_of wg0 wg1 || fail "$(cat errors)"
        ping -c 1 -W 1 10.10.0.1 && fail 'it does not keep wg1 in'
        check adit up wg0 2> errors
        [ ! -s errors ] || fail "$(cat errors)"
        await ping -c 1 -W 1 10.10.0.1
        # Once it is known, nobody has to look.
        kill -9 $(pgrep -xf '[^ ]*adit keep wg0')
        check adit up wg1 2> errors
        [ ! -s errors ] || fail "$(cat errors)"
        check adit down wg1
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_is_called_at_the_next_address_of_its_name_when_it_does_not_answer_at_one() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        # There is a way by IPv6, and nothing comes through.
        ip netns exec far nft -f - <<'END'
table ip6 filter {
    chain input {
        type filter hook input priority 0
        udp dport 51820 drop
    }
}
END
        printf '2001:db8::1 both.test\n192.0.2.1 both.test\n' >> /etc/hosts
        split '' ''
        sed -i 's/192.0.2.1:51820/both.test:51820/' /etc/wireguard/wg0.conf
        check adit up wg0
        adit status wg0 | grep -qF 'far  at [2001:db8::1]:51820' || fail "$(adit status)"
        SECONDS=0
        until ping -c 1 -W 1 10.9.0.1 > /dev/null; do
            [ $SECONDS -lt 45 ] || fail "nobody looks: $(adit status)"
        done
        adit status --json wg0 | grep -qF 'found far at 192.0.2.1:51820, which is both.test:51820' ||
            fail "$(adit status --json)"
        check adit down wg0
        "##,
    );
}

#[test]
fn a_peer_on_a_link_is_called_there_when_the_link_has_become_another_one() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        far_up
        link_local() {
            check ip addr add fe80::2/64 dev eth0 nodad
            check ip -n far addr add fe80::1/64 dev eth0 nodad
        }
        link_local
        split '' ''
        sed -i 's|^Endpoint.*|Endpoint = [fe80::1%eth0]:51820|' /etc/wireguard/wg0.conf
        check adit up wg0
        check ping -c 1 -W 5 10.9.0.1 > /dev/null
        # As when an adapter is taken out and plugged in again.
        check ip link delete eth0
        await eval '! ip -n far link show eth0'
        check ip link add eth0 type veth peer name eth0 netns far
        check ip link set eth0 addrgenmode none up
        check ip -n far link set eth0 addrgenmode none up
        link_local
        await ping -c 1 -W 1 10.9.0.1
        adit status --json wg0 | grep -q 'the link to far is another one by now: calling it there' ||
            fail "$(adit status --json)"
        adit status wg0 | grep -qF 'far  at [fe80::1%eth0]:51820' || fail "$(adit status)"
        check adit down wg0
        "##,
    );
}

#[test]
fn names_by_the_hundred_take_no_more_than_a_process_has() {
    let Some(stage) = Stage::new() else { return };
    stage.play(
        r##"
        split '' ''
        for number in {1..300}; do
            printf '%s\n' '[Peer]' "PublicKey = $(head -c 32 /dev/urandom | base64)" "Endpoint = nobody$number.example:1"
        done >> /etc/wireguard/wg0.conf
        # Nobody answers, nor says that nobody does.
        printf 'nameserver 192.0.2.1\noptions timeout:10\n' > /etc/resolv.conf
        ip netns exec far nft 'add table ip deaf; add chain ip deaf input { type filter hook input priority 0; };
            add rule ip deaf input udp dport 53 drop'
        ulimit -Sn 200
        check adit up wg0
        keeper=$(pgrep -xf '[^ ]*adit keep wg0')
        asks() { [ $(ls /proc/$keeper/task | wc -l) -gt 60 ]; }
        await asks
        [ $(ls /proc/$keeper/fd | wc -l) -lt 120 ] || fail "$(ls -l /proc/$keeper/fd)"
        # It does everything else meanwhile.
        ip addr del 10.9.0.2/24 dev wg0
        back() { ip addr show wg0 | grep -q 10.9.0.2; }
        await back
        # All of them are found when somebody answers.
        for number in {1..300}; do echo "192.0.2.1 nobody$number.example"; done >> /etc/hosts
        check adit reload wg0
        found() { [ $(wg show wg0 endpoints | grep -c 192.0.2.1:1$) = 300 ]; }
        await found
        check adit down wg0
        "##,
    );
}
